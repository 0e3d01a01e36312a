//! Rules of this repository that no compiler and no linter knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::citations::Pages;
use crate::links::Links;
use crate::places;
use crate::workspace::Workspace;

/// Which crate may name which, dev-dependencies included. A crate that is not listed here is free.
const ARROWS: &[(&str, &[&str])] = &[
    ("holdfast", &["wire", "hub", "store", "posture", "sim"]),
    ("store", &["hub"]),
    ("posture", &["hub"]),
    ("sim", &["wire"]),
    ("wire", &[]),
    ("hub", &[]),
    ("audit-check", &[]),
];

const LINES_MAX: usize = 900;

/// Endings of files that people write and read.
const SOURCES: &[&str] = &["rs", "py", "js", "html", "css", "sql"];

// Written in pieces, so that this file does not find itself.
const LEFTOVERS_IN_RUST: &[&str] = &[concat!("dbg", "!("), concat!("todo", "!("), concat!("#[", "ignore]")];

/// A judge that steps aside is none: nothing in the conformance suite is skipped or expected to fail.
const LEFTOVERS_IN_CONFORMANCE: &[&str] = &[
    concat!("mark.", "skip"),
    concat!("mark.", "xfail"),
    concat!("pytest.", "skip"),
    concat!("test.", "skip"),
    concat!("test.", "only"),
    concat!("test.", "todo"),
    concat!("describe.", "skip"),
    concat!("describe.", "only"),
];

/// Fails with every broken rule, one to a line.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut broken = arrows(workspace.packages());
    broken.extend(undocumented(workspace)?);
    let (root, files) = (workspace.root(), workspace.files()?);
    let (pages, links) = (Pages::read(root, &files)?, Links::read(root, &files)?);
    broken.extend(places::check(root, &files)?);
    for path in &files {
        broken.extend(source(root, path)?);
        broken.extend(pages.check(root, path)?);
        broken.extend(links.check(root, path)?);
    }
    if !broken.is_empty() {
        bail!("{} broken rules:\n  {}", broken.len(), broken.join("\n  "));
    }
    println!("all rules hold");
    Ok(())
}

fn arrows(packages: &[Value]) -> Vec<String> {
    let mut broken = Vec::new();
    for package in packages {
        let from = crate_name(package);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else { continue };
        for dependency in dependencies(package).filter(|dependency| dependency["path"].is_string()) {
            let to = crate_name(dependency);
            if !allowed.contains(&to) {
                broken.push(format!("`{from}` names `{to}`: that arrow is not in the design"));
            }
        }
    }
    broken
}

fn undocumented(workspace: &Workspace) -> Result<Vec<String>> {
    const FILE: &str = "docs/dependencies.md";
    let used: BTreeSet<&str> = workspace
        .packages()
        .iter()
        .flat_map(dependencies)
        .filter(|dependency| !dependency["path"].is_string())
        .filter_map(|dependency| dependency["name"].as_str())
        .collect();
    let text =
        fs::read_to_string(workspace.root().join(FILE)).with_context(|| format!("could not read {FILE}"))?;
    let documented = rows(&text);
    let missing =
        used.difference(&documented).map(|name| format!("{FILE} does not say why `{name}` is used"));
    let stale =
        documented.difference(&used).map(|name| format!("{FILE} speaks of `{name}`, which nothing uses"));
    Ok(missing.chain(stale).collect())
}

/// The crates that a table of the form ``| `name` | reason |`` speaks of.
fn rows(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect()
}

fn source(root: &Path, path: &Path) -> Result<Vec<String>> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if !SOURCES.contains(&ending) {
        return Ok(Vec::new());
    }
    let text =
        fs::read_to_string(root.join(path)).with_context(|| format!("could not read {}", path.display()))?;
    let leftovers = match ending {
        "rs" => LEFTOVERS_IN_RUST,
        _ if path.starts_with("conformance") => LEFTOVERS_IN_CONFORMANCE,
        _ => &[],
    };
    Ok(check_source(path, &text, leftovers))
}

fn check_source(path: &Path, text: &str, leftovers: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        broken.push(format!("{}: {lines} lines, more than {LINES_MAX}: split it by noun", path.display()));
    }
    for (number, line) in text.lines().enumerate() {
        for leftover in leftovers.iter().filter(|leftover| line.contains(**leftover)) {
            broken.push(format!("{}:{}: `{leftover}` is left over", path.display(), number + 1));
        }
    }
    broken
}

fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    package["dependencies"].as_array().into_iter().flatten()
}

fn crate_name(package: &Value) -> &str {
    let name = package["name"].as_str().unwrap_or_default();
    name.strip_prefix("holdfast-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_arrow_outside_the_design_is_named_and_others_pass() {
        let dependency = |name: &str| json!({ "name": name, "path": "/somewhere" });
        let packages = [
            json!({ "name": "holdfast", "dependencies": [dependency("holdfast-hub"), dependency("holdfast-sim")] }),
            json!({ "name": "holdfast-wire", "dependencies": [{ "name": "hub", "path": null }] }),
            json!({ "name": "holdfast-hub", "dependencies": [dependency("holdfast-store")] }),
            json!({ "name": "xtask", "dependencies": [dependency("holdfast-store")] }),
        ];
        assert_eq!(arrows(&packages), ["`hub` names `store`: that arrow is not in the design"]);
    }

    #[test]
    fn a_leftover_is_named_with_its_line() {
        let found = check_source(Path::new("a.rs"), "fn f() {}\n    LEFT(1);\n", &["LEFT("]);
        assert_eq!(found, ["a.rs:2: `LEFT(` is left over"]);
    }

    #[test]
    fn a_file_of_the_longest_length_passes_and_one_line_more_does_not() {
        assert!(check_source(Path::new("a.rs"), &"x\n".repeat(LINES_MAX), &[]).is_empty());
        assert_eq!(check_source(Path::new("a.rs"), &"x\n".repeat(LINES_MAX + 1), &[]).len(), 1);
    }

    #[test]
    fn the_table_of_dependencies_is_read_by_its_first_column() {
        let text = "# Title\n| crate | reason |\n| --- | --- |\n| `serde` | `other` things |\n";
        assert_eq!(rows(text), BTreeSet::from(["serde"]));
    }
}
