//! How commands print: tables for people, JSON for programs.

use super::terminal::{self, outln, visible};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A table for people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// Prints a list: the columns are a heading and the JSON pointer of what stands below it.
pub(super) fn list(format: Format, rows: &[Value], columns: &[(&str, &str)]) {
    match format {
        Format::Json => terminal::document(&Value::Array(rows.to_vec())),
        Format::Jsonl => rows.iter().for_each(terminal::document_line),
        Format::Table => {
            let mut table = Table::new();
            table.load_style(NOTHING).set_header(columns.iter().map(|(heading, _)| *heading));
            for row in rows {
                table.add_row(
                    columns.iter().map(|(_, pointer)| row.pointer(pointer).map_or_else(String::new, plain)),
                );
            }
            terminal::lines(&table.to_string());
        }
    }
}

/// Prints one record: the lines are a heading and the JSON pointer of what stands beside it; empty ones are left out.
pub(super) fn one(format: Format, record: &Value, lines: &[(&str, &str)]) {
    match format {
        Format::Json => terminal::document(record),
        Format::Jsonl => terminal::document_line(record),
        Format::Table => {
            let width = lines.iter().map(|(heading, _)| heading.len()).max().unwrap_or(0);
            for (heading, pointer) in lines {
                match record.pointer(pointer).map(plain) {
                    Some(text) if !text.is_empty() => outln!("{heading:width$}  {text}"),
                    _ => {}
                }
            }
        }
    }
}

/// A value as a cell: escaped here already, so that the widths of the columns are those of what is seen.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => visible(text).into_owned(),
        other => visible(&other.to_string()).into_owned(),
    }
}
