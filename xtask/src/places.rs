//! Places in the code that the map names (`ARCHITECTURE.md`, `CONTRIBUTING.md`): each is there.
//!
//! A place is a path in backticks: with a slash in it, or with the ending of a source file. It may leave out the folders
//! above it, so `inbox/queue.rs` is any file whose path ends so; `{a,b}` stands for both, `*` for any part of a name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The pages that name places.
const MAPS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md"];

/// Endings of files that a page names without their folder.
const ENDINGS: &[&str] = &[".rs", ".py", ".js", ".md", ".toml", ".json"];

/// Stands for a name that the reader chooses.
const CHOSEN: &str = "NAME";

/// The places that the maps name and that are not there, one to a line.
pub(crate) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for map in MAPS {
        let text = fs::read_to_string(root.join(map)).with_context(|| format!("could not read {map}"))?;
        missing.extend(check_text(map, &text, files));
    }
    Ok(missing)
}

fn check_text(map: &str, text: &str, files: &[PathBuf]) -> Vec<String> {
    let mut missing = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let places = line.split('`').skip(1).step_by(2).filter(|name| is_place(name)).flat_map(alternatives);
        for place in places.filter(|place| !files.iter().any(|file| ends_in(file, place))) {
            missing.push(format!("{map}:{}: there is no `{place}`", number + 1));
        }
    }
    missing
}

fn is_place(name: &str) -> bool {
    let is_path = name.contains('/') || ENDINGS.iter().any(|ending| name.ends_with(ending));
    is_path && !name.starts_with('/') && !name.contains([' ', ':', '<']) && !name.contains(CHOSEN)
}

/// The paths that a place with `{a,b}` in it stands for.
fn alternatives(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let Some((choice, after)) = rest.split_once('}') else { return vec![name.to_owned()] };
    choice.split(',').map(|one| format!("{before}{one}{after}")).collect()
}

/// Whether the path of a file, or of a folder above it, ends in a place.
fn ends_in(file: &Path, place: &str) -> bool {
    let parts: Vec<&str> = place.split('/').filter(|part| !part.is_empty()).collect();
    let names: Vec<&str> = file.iter().filter_map(|name| name.to_str()).collect();
    names.windows(parts.len()).any(|window| window.iter().zip(&parts).all(|(name, part)| is_like(name, part)))
}

/// Whether a name is like a pattern, in which `*` stands for anything.
fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((begin, end)) => {
            name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<String> {
        let files = [
            "crates/hub/src/inbox/queue.rs",
            "crates/hub/src/inbox/mod.rs",
            "conformance/python/test_why_tls.py",
        ];
        check_text("ARCHITECTURE.md", text, &files.map(PathBuf::from))
    }

    #[test]
    fn places_by_their_end_their_folder_and_a_pattern_pass() {
        let text = "`inbox/{queue,mod}.rs`, `queue.rs`, `hub/src/inbox`, `inbox/` and `conformance/python/test_why_*.py`";
        assert_eq!(missing(text), [""; 0]);
    }

    #[test]
    fn a_place_that_is_not_there_is_named_with_its_line() {
        let found =
            ["ARCHITECTURE.md:2: there is no `inbox/gone.rs`", "ARCHITECTURE.md:2: there is no `gone.rs`"];
        assert_eq!(missing("# Map\n`inbox/{mod,gone}.rs` and `gone.rs`\n"), found);
    }

    #[test]
    fn what_is_no_place_is_passed_over() {
        assert_eq!(
            missing("`cargo xtask tidy`, `/holdfast/v1`, `store/src/NAME/`, `Hub`, `a -> b/c`"),
            [""; 0]
        );
    }
}
