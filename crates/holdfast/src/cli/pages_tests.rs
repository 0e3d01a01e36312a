//! The commands that the pages of documentation name are commands that the program takes.

use clap::Parser as _;
use clap::error::ErrorKind;

use super::Args;
use super::shell_words::words_of;

macro_rules! pages {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../../../../", $name)))),*] };
}

const PAGES: [(&str, &str); 17] = pages!(
    "README.md"
    "SECURITY.md"
    "audit-check/README.md"
    "bench/README.md"
    "docs/demo.md"
    "docs/deviations.md"
    "docs/limits.md"
    "docs/migrating.md"
    "docs/mqtt5.md"
    "docs/operating.md"
    "docs/posture.md"
    "docs/proving.md"
    "docs/sdk-notes.md"
    "docs/sdk.md"
    "docs/security-model.md"
    "docs/simulate.md"
    "docs/why.md"
);

/// What stands before the name of the program where a line runs it.
const BEFORE: [&str; 4] = ["", "$ ", "$(", "target/release/"];

/// What ends a command within a line.
const AFTER: [&str; 4] = ["|", ">", "&", "#"];

/// The lines of the blocks of a page, with those that a backslash goes on in as one.
fn block_lines(page: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut fenced = false;
    for line in page.lines() {
        let fence = line.starts_with("```");
        fenced ^= fence;
        let Some(last) = lines.last_mut().filter(|_| fenced && !fence) else { continue };
        match line.strip_suffix('\\') {
            Some(begun) => last.push_str(begun),
            None => {
                last.push_str(line);
                lines.push(String::new());
            }
        }
    }
    lines
}

/// The commands that a line runs, in words.
fn commands(line: &str) -> Vec<Vec<String>> {
    let runs = |(at, _): &(usize, &str)| {
        let before = &line[..*at];
        BEFORE.iter().any(|mark| before.ends_with(mark) && (!mark.is_empty() || before.trim().is_empty()))
    };
    line.match_indices("holdfast ")
        .filter(runs)
        .map(|(at, _)| {
            let text = &line[at..];
            let inner = line[..at].ends_with("$(").then(|| text.find(')')).flatten();
            let words = words_of(&text[..inner.unwrap_or(text.len())]);
            words.into_iter().take_while(|word| !AFTER.iter().any(|end| word.starts_with(end))).collect()
        })
        .collect()
}

/// The commands that the sentences of a page name, perhaps without their arguments.
fn named(page: &str) -> Vec<Vec<String>> {
    let prose: String = page.split("```").step_by(2).collect();
    // Backticks are in pairs within a paragraph, unless they are doubled to hold one.
    let paragraphs = prose.split("\n\n").flat_map(|text| {
        let is_table = text.trim_start().starts_with('|');
        if is_table { text.lines().map(str::to_owned).collect() } else { vec![text.replace('\n', " ")] }
    });
    paragraphs
        .filter(|text| !text.contains("``"))
        .flat_map(|text| text.split('`').skip(1).step_by(2).map(words_of).collect::<Vec<_>>())
        .filter(|words| words.first().is_some_and(|word| word == "holdfast") && words.len() > 1)
        .filter(|words| !words.iter().any(|word| word.contains('|')))
        .collect()
}

#[test]
fn every_command_of_a_block_is_one_that_the_program_takes() {
    let mut checked = 0;
    for (name, page) in PAGES {
        for words in block_lines(page).iter().flat_map(|line| commands(line)) {
            checked += 1;
            if let Err(error) = Args::try_parse_from(&words) {
                panic!("{name}: `{}`: {error}", words.join(" "));
            }
        }
    }
    assert!(checked > 60, "the blocks are no longer read rightly: {checked}");
}

#[test]
fn every_command_that_a_sentence_names_exists() {
    let mut checked = 0;
    for (name, page) in PAGES {
        for words in named(page) {
            checked += 1;
            let Err(error) = Args::try_parse_from(&words) else { continue };
            let is_cut_short = matches!(
                error.kind(),
                ErrorKind::MissingRequiredArgument
                    | ErrorKind::MissingSubcommand
                    | ErrorKind::DisplayHelp
                    | ErrorKind::DisplayVersion
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            assert!(is_cut_short, "{name}: `{}`: {error}", words.join(" "));
        }
    }
    assert!(checked > 60, "the sentences are no longer read rightly: {checked}");
}

#[test]
fn commands_are_found_with_their_words_and_without_what_surrounds_them() {
    let found = |line: &str| commands(line).iter().map(|words| words.join(" ")).collect::<Vec<_>>();
    assert_eq!(found("holdfast why pump-1    # why"), ["holdfast why pump-1"]);
    assert_eq!(found("export A=$(holdfast device list -o json | jq .)"), ["holdfast device list -o json"]);
    assert_eq!(found("target/release/holdfast dev > out &"), ["holdfast dev"]);
    assert_eq!(found("run holdfast dev"), [""; 0]);
    let lines = block_lines("holdfast a\n```sh\nholdfast b \\\n  c\n```\nholdfast d\n");
    assert_eq!(lines, ["holdfast b   c", ""]);
}
