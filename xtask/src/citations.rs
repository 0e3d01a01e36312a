//! Citations of the description of the protocol (`docs/protocol`): each leads to a page that there is, and to a section of it.
//!
//! A citation is the path of a page with `§` and a number behind it, or several. Within the pages a `§` without a page before it
//! means the page itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the pages are.
const FOLDER: &str = "docs/protocol";

/// Endings of files that cite.
const CITING: &[&str] = &["rs", "py", "js", "md", "toml"];

/// A folder that no reader has; its pages came into [`FOLDER`]. Written in pieces, so that this file does not find itself.
const FORMER: &str = concat!("spec", "/");

/// The sections of each page.
#[derive(Default)]
pub(crate) struct Pages(BTreeMap<String, BTreeSet<String>>);

impl Pages {
    /// Reads the pages among these files.
    pub(crate) fn read(root: &Path, files: &[PathBuf]) -> Result<Self> {
        let mut pages = BTreeMap::new();
        for path in files.iter().filter(|path| is_page(path)) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            pages.insert(name.to_owned(), sections(&text_of(root, path)?));
        }
        Ok(Self(pages))
    }

    /// What is wrong with the citations of a file, one to a line.
    pub(crate) fn check(&self, root: &Path, path: &Path) -> Result<Vec<String>> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !CITING.contains(&ending) {
            return Ok(Vec::new());
        }
        Ok(self.check_text(path, &text_of(root, path)?))
    }

    fn check_text(&self, path: &Path, text: &str) -> Vec<String> {
        let own = path.file_name().and_then(|name| name.to_str()).filter(|_| is_page(path));
        let flat = Flat::new(text);
        let no_page = |page: &str| format!("there is no page `{FOLDER}/{page}`");
        let former =
            former(&flat.text).map(|(at, name)| (at, format!("`{FORMER}{name}` is in no repository")));
        let pages = cited_pages(&flat.text)
            .filter(|(_, page)| !self.0.contains_key(*page))
            .map(|(at, page)| (at, no_page(page)));
        let sections =
            cited_sections(&flat.text, own).into_iter().filter_map(|(at, page, section)| {
                match self.0.get(page) {
                    None => Some((at, no_page(page))),
                    Some(sections) if sections.contains(section) => None,
                    Some(_) => Some((at, format!("`{FOLDER}/{page}` has no section {section}"))),
                }
            });
        // A page that there is not is found by its path and by its section.
        let broken: BTreeSet<_> =
            former.chain(pages).chain(sections).map(|(at, what)| (flat.line(at), what)).collect();
        broken.iter().map(|(line, what)| format!("{}:{line}: {what}", path.display())).collect()
    }
}

fn is_page(path: &Path) -> bool {
    path.parent() == Some(Path::new(FOLDER)) && path.extension().is_some_and(|ending| ending == "md")
}

fn text_of(root: &Path, path: &Path) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("could not read {}", path.display()))
}

/// The numbers of the headings of a page.
fn sections(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if fenced || heading.len() == line.len() {
            continue;
        }
        let (number, _) = number_at(heading.trim_start());
        if !number.is_empty() {
            found.insert(number.to_owned());
        }
    }
    found
}

/// The number of a section at the beginning of a text, and what follows it.
fn number_at(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].trim_end_matches('.');
    (number, &text[number.len()..])
}

/// A text in one line: a citation may stand in two, with the marks of a comment between them.
struct Flat {
    text: String,
    starts: Vec<usize>,
}

impl Flat {
    fn new(text: &str) -> Self {
        let mut flat = Self { text: String::with_capacity(text.len()), starts: Vec::new() };
        for line in text.lines() {
            flat.starts.push(flat.text.len());
            let line = line.trim();
            let rest = ["//!", "///", "//", "#"].into_iter().find_map(|mark| line.strip_prefix(mark));
            flat.text.push_str(rest.unwrap_or(line).trim_start());
            flat.text.push(' ');
        }
        flat
    }

    /// The number of the line of a place.
    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }
}

/// Pages of the former folder that a text names.
fn former(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices(FORMER).filter_map(|(at, _)| {
        let begins_word = !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'));
        Some((at, page_at(&text[at + FORMER.len()..])?)).filter(|_| begins_word)
    })
}

/// Pages of the description that a text names by their path.
fn cited_pages(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices(FOLDER)
        .filter_map(|(at, _)| Some((at, page_at(text[at + FOLDER.len()..].strip_prefix('/')?)?)))
}

/// The name of a page at the beginning of a text.
fn page_at(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))?;
    let name = text[..end].trim_end_matches('.');
    name.ends_with(".md").then_some(name)
}

/// The sections that a text cites, with their page. `own` is the page that the text is.
fn cited_sections<'a>(text: &'a str, own: Option<&'a str>) -> Vec<(usize, &'a str, &'a str)> {
    let mut found = Vec::new();
    let (mut page, mut end) = (None, None);
    for (at, mark) in text.match_indices('§') {
        let (number, rest) = number_at(&text[at + mark.len()..]);
        let goes_on =
            end.is_some_and(|end| matches!(text[end..at].trim(), "," | "and" | ", and" | "to" | "or"));
        if !goes_on {
            page = page_before(&text[..at], own);
        }
        end = Some(text.len() - rest.len());
        found.extend(page.map(|page| (at, page, number)));
    }
    found
}

/// The page that a `§` behind this text is of.
fn page_before<'a>(before: &'a str, own: Option<&'a str>) -> Option<&'a str> {
    let before = before.trim_end_matches([' ', '`', ')', ',']);
    if before.ends_with(".md") {
        let begin = before.rfind([' ', '`', '(', '[', '"']).map_or(0, |at| at + 1);
        let path = &before[begin..];
        return match path.rsplit_once('/') {
            Some((folder, page)) => folder.ends_with("protocol").then_some(page),
            None => own.map(|_| path),
        };
    }
    let mut words = before.rsplit(' ');
    let is_of_a_standard = words.next().is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
        && words.next().is_some_and(|name| name.trim_start_matches('(') == "RFC");
    own.filter(|_| !is_of_a_standard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        let amqp = sections(
            "# AMQP\n## 1. One\n```text\n# 9 is no heading\n```\n### 1.2 Two\n## 12. Twelve\n## Sources\n",
        );
        let limits = sections("# Limits\n\n## 3. Rates\n");
        Pages(BTreeMap::from([("amqp.md".to_owned(), amqp), ("limits.md".to_owned(), limits)]))
    }

    /// `~` stands for the folder in these texts, so that this file does not find itself.
    fn check(path: &str, text: &str) -> Vec<String> {
        pages().check_text(Path::new(path), &text.replace('~', "protocol"))
    }

    #[test]
    fn a_heading_with_a_number_is_a_section() {
        assert_eq!(pages().0["amqp.md"], BTreeSet::from(["1", "1.2", "12"].map(str::to_owned)));
    }

    #[test]
    fn citations_of_sections_that_there_are_pass() {
        for text in [
            "//! Links (`docs/~/amqp.md` §1, §1.2 and §12).",
            "//! Links (`docs/~/amqp.md`\n//! §1.2), and rates (`docs/~/limits.md` §3).",
            "//! Points (`docs/~/amqp.md` §1, point 9). RFC 9562 §5.4.",
            "[AMQP](docs/~/amqp.md) §1 to §12, and [rates](~/limits.md) §3.",
            "// §9 of something else, and all of `docs/~/amqp.md`.",
        ] {
            assert_eq!(check("a.rs", text), [""; 0], "{text}");
        }
        let page = "§1.2 is here, [limits.md](limits.md) §3 there; RFC 6455 §11.3.4 (RFC 5280 §6) and [x](../x.md) §7.\n";
        assert_eq!(check("docs/protocol/amqp.md", page), [""; 0]);
    }

    #[test]
    fn a_section_that_there_is_not_is_named_with_its_line() {
        let text = "//! First.\n//! Links (`docs/~/amqp.md` §1,\n//! §2.1, `docs/~/limits.md` §3, §4).";
        let found = [
            "a.rs:3: `docs/protocol/amqp.md` has no section 2.1",
            "a.rs:3: `docs/protocol/limits.md` has no section 4",
        ];
        assert_eq!(check("a.rs", text), found);
        let page = "See §3.\nSee [limits.md](limits.md) §1 to §3.\n";
        let found = [
            "docs/protocol/amqp.md:1: `docs/protocol/amqp.md` has no section 3",
            "docs/protocol/amqp.md:2: `docs/protocol/limits.md` has no section 1",
        ];
        assert_eq!(check("docs/protocol/amqp.md", page), found);
        assert_eq!(check("a.md", "[x](~/amqp.md) § 1"), ["a.md:1: `docs/protocol/amqp.md` has no section "]);
    }

    #[test]
    fn a_page_that_there_is_not_is_named_once() {
        let missing = |at: &str| [format!("{at}:1: there is no page `{FOLDER}/dps.md`")];
        assert_eq!(check("a.rs", "/// See `docs/~/dps.md`."), missing("a.rs"));
        assert_eq!(check("a.rs", "/// See `docs/~/dps.md` §1."), missing("a.rs"));
        assert_eq!(check("a.md", "[provisioning](~/dps.md) §1"), missing("a.md"));
        let page = "docs/protocol/amqp.md";
        assert_eq!(check(page, "[dps.md](dps.md) §1"), missing(page));
    }

    #[test]
    fn the_former_folder_is_cited_by_nobody() {
        let text = format!(
            "x\n/// See `{FORMER}amqp.md` §1, ../{FORMER}limits.md; in{FORMER}amqp.md and {FORMER}x.rs are others."
        );
        let found =
            ["amqp.md", "limits.md"].map(|page| format!("a.rs:2: `{FORMER}{page}` is in no repository"));
        assert_eq!(check("a.rs", &text), found);
    }
}
