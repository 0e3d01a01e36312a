//! How commands print: tables for people, JSON for programs.

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
        Format::Json => println!("{:#}", Value::Array(rows.to_vec())),
        Format::Jsonl => rows.iter().for_each(|row| println!("{row}")),
        Format::Table => {
            let mut table = Table::new();
            table.load_style(NOTHING).set_header(columns.iter().map(|(heading, _)| *heading));
            for row in rows {
                table.add_row(
                    columns.iter().map(|(_, pointer)| row.pointer(pointer).map_or_else(String::new, plain)),
                );
            }
            println!("{table}");
        }
    }
}

/// Prints one record: the lines are a heading and the JSON pointer of what stands beside it; empty ones are left out.
pub(super) fn one(format: Format, record: &Value, lines: &[(&str, &str)]) {
    match format {
        Format::Json => println!("{record:#}"),
        Format::Jsonl => println!("{record}"),
        Format::Table => {
            let width = lines.iter().map(|(heading, _)| heading.len()).max().unwrap_or(0);
            for (heading, pointer) in lines {
                match record.pointer(pointer).map(plain) {
                    Some(text) if !text.is_empty() => println!("{heading:width$}  {text}"),
                    _ => {}
                }
            }
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text for a terminal: much of it is a client's own choice, and control characters in it would be obeyed.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}
