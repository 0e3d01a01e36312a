//! Links of the Markdown pages: each leads to a file or folder of the repository, and to a heading of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

/// The files of the repository, and the headings of its pages.
#[derive(Default)]
pub(crate) struct Links {
    files: BTreeSet<PathBuf>,
    headings: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Links {
    /// Reads the headings of the pages among these files.
    pub(crate) fn read(root: &Path, files: &[PathBuf]) -> Result<Self> {
        let mut links = Self { files: files.iter().cloned().collect(), ..Self::default() };
        for path in files.iter().filter(|path| is_page(path)) {
            links.headings.insert(path.clone(), headings(&text_of(root, path)?));
        }
        Ok(links)
    }

    /// The links of a page that lead nowhere, one to a line.
    pub(crate) fn check(&self, root: &Path, path: &Path) -> Result<Vec<String>> {
        if !is_page(path) {
            return Ok(Vec::new());
        }
        Ok(self.check_text(path, &text_of(root, path)?))
    }

    fn check_text(&self, path: &Path, text: &str) -> Vec<String> {
        let mut broken = Vec::new();
        for (number, line) in prose(text) {
            for target in targets(line) {
                broken.extend(
                    self.fault(path, target).map(|what| format!("{}:{number}: {what}", path.display())),
                );
            }
        }
        broken
    }

    /// What is wrong with a link of a page.
    fn fault(&self, page: &Path, target: &str) -> Option<String> {
        if target.contains("://") || target.starts_with("mailto:") {
            return None;
        }
        let (file, heading) = target.split_once('#').map_or((target, None), |(file, at)| (file, Some(at)));
        let file = match file {
            "" => page.to_owned(),
            file => plain(&page.parent().unwrap_or(Path::new("")).join(file)),
        };
        let is_there = self.files.contains(&file) || self.files.iter().any(|known| known.starts_with(&file));
        if !is_there {
            return Some(format!("the link `{target}` leads to no file"));
        }
        let known = self.headings.get(&file)?;
        heading
            .filter(|heading| !known.contains(*heading))
            .map(|heading| format!("`{}` has no heading `#{heading}`", file.display()))
    }
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "md")
}

fn text_of(root: &Path, path: &Path) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("could not read {}", path.display()))
}

/// The lines of a page outside of its code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence && !fenced).then_some((at + 1, line))
    })
}

/// Where the links of a line lead.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, mark)| {
        let rest = &line[at + mark.len()..];
        rest.find(')').map(|end| &rest[..end]).filter(|target| !target.contains(' '))
    })
}

/// The headings of a page as links name them: in lower case, without marks, a dash for each blank.
fn headings(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let words = line.trim_start_matches('#');
        let is_heading = words.len() < line.len() && words.starts_with(' ');
        is_heading.then(|| anchor(words.trim()))
    };
    prose(text).filter_map(|(_, line)| heading(line)).collect()
}

fn anchor(words: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    words.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            component => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        let files = ["README.md", "docs/why.md", "crates/hub/src/lib.rs"].map(PathBuf::from);
        let why = headings("# Why\n## The hub's `own` causes\n```sh\n# no heading\n```\n");
        Links { headings: [(files[1].clone(), why)].into(), files: files.into_iter().collect() }
    }

    #[test]
    fn headings_are_named_as_links_name_them() {
        let why = &links().headings[Path::new("docs/why.md")];
        assert_eq!(*why, BTreeSet::from(["why", "the-hubs-own-causes"].map(str::to_owned)));
    }

    #[test]
    fn links_to_files_folders_headings_and_elsewhere_pass() {
        let page = "[a](../README.md), [b](#the-hubs-own-causes), [c](../crates/hub/), [d](why.md#why)\n\
                    [e](https://example.com/x.md#y)\n```sh\n[f](nowhere.md)\n```\n";
        assert_eq!(links().check_text(Path::new("docs/why.md"), page), [""; 0]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_line() {
        let page = "# T\n[a](docs/gone.md) and [b](docs/why.md#gone)\n[c](../crates)\n";
        let found = [
            "README.md:2: the link `docs/gone.md` leads to no file",
            "README.md:2: `docs/why.md` has no heading `#gone`",
        ];
        assert_eq!(links().check_text(Path::new("README.md"), page), found);
    }
}
