//! The one way out for text: everything that a command prints goes through this module.
//!
//! Much of what a command prints was chosen by a client: a payload, a property, the policy name in a refused token. A terminal
//! obeys control characters in it, and a reader is deceived by line breaks and by marks that reverse the direction of text. So a
//! line is escaped as a whole on its way out, and a command prints line by line: no text can end a line but [`outln!`] itself.
//! Clippy refuses any other output of this crate (`clippy.toml`, and the lints in `main.rs`).

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use serde_json::Value;

/// Prints one line on standard output. Line breaks inside it are escaped.
macro_rules! outln {
    () => { $crate::cli::terminal::line(format_args!("")) };
    ($($argument:tt)*) => { $crate::cli::terminal::line(format_args!($($argument)*)) };
}

/// Prints one line on standard error. Line breaks inside it are escaped.
macro_rules! errln {
    ($($argument:tt)*) => { $crate::cli::terminal::error_line(format_args!($($argument)*)) };
}

pub(crate) use {errln, outln};

/// The exit status of a program that died of SIGPIPE, which Rust programs ignore.
const DIED_OF_SIGPIPE: i32 = 128 + 13;

/// Prints a line on standard output; [`outln!`] calls it.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    print(&format!("{}\n", visible(&text.to_string())));
}

/// Prints a line on standard error; [`errln!`] calls it. There is nobody to tell when standard error is closed.
#[expect(clippy::disallowed_methods, reason = "this module is the way out")]
pub(crate) fn error_line(text: fmt::Arguments<'_>) {
    let line = format!("{}\n", visible(&text.to_string()));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Prints a text of several lines that this program wrote itself: a report, a signed note. Line breaks stay; every other control
/// character is escaped.
pub(crate) fn lines(text: &str) {
    text.lines().for_each(|line| outln!("{line}"));
}

/// Prints a JSON document on several lines.
pub(crate) fn document(value: &Value) {
    print(&format!("{}\n", json(&format!("{value:#}"))));
}

/// Prints a JSON document on one line.
pub(crate) fn document_line(value: &Value) {
    print(&format!("{}\n", json(&value.to_string())));
}

/// Prints the beginning of a line, and leaves the cursor behind it for an answer.
pub(crate) fn prompt(text: &str) {
    print(&visible(text));
}

/// Draws a frame: the caller wrote the sequences that move the cursor, and passed all other text through [`visible`].
pub(crate) fn draw(frame: &str) {
    print(frame);
}

/// Copies bytes to standard output as they are, for a file or a pipe.
///
/// # Errors
/// Where reading or writing fails, and where standard output is a terminal, which would obey what the bytes say.
#[expect(clippy::disallowed_methods, reason = "this module is the way out")]
pub(crate) fn copy(from: &mut impl io::Read) -> anyhow::Result<()> {
    if is_terminal() {
        anyhow::bail!(
            "the content could command this terminal: name a file with --out, or send the output to a pipe"
        );
    }
    let mut out = io::stdout().lock();
    io::copy(from, &mut out)?;
    Ok(out.flush()?)
}

/// Whether standard output is a terminal.
#[expect(clippy::disallowed_methods, reason = "this module is the way out")]
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
#[expect(clippy::disallowed_methods, reason = "this module is the way out")]
pub(crate) fn is_error_terminal() -> bool {
    io::stderr().is_terminal()
}

/// The width and height of the terminal, in characters.
#[expect(clippy::disallowed_methods, reason = "this module is the way out")]
pub(crate) fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// Writes log lines on standard error. The formatter writes each event at once, with one line break at its end; whatever else a
/// client put into it is escaped.
pub(crate) struct LogWriter {
    is_json: bool,
}

impl LogWriter {
    /// A writer of JSON lines, or of lines for people.
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json }
    }
}

impl io::Write for LogWriter {
    #[expect(clippy::disallowed_methods, reason = "this module is the way out")]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = if self.is_json { json(line) } else { visible(line) };
        io::stderr().write_all(format!("{line}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text for a terminal: characters that the terminal or the reader would obey are escaped as Rust escapes them (`\n`,
/// `\u{1b}`).
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |out, character| out.extend(character.escape_default()))
}

/// The text of a JSON document: the same characters are escaped as JSON does. The line breaks of a document on several lines
/// stay: inside a string of the document serde_json has escaped them.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    escaped(text, |out, character| match character {
        '\n' => out.push('\n'),
        other => {
            for unit in other.encode_utf16(&mut [0; 2]) {
                // Writing to a `String` does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    })
}

fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_obeyed(character) {
            true => escape(&mut out, character),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal or a reader obeys the character instead of seeing it: the general categories Cc (controls), Cf (format
/// characters: marks of direction, tags, characters without width), and the separators of lines and paragraphs.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}')
        || FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

/// The general category Cf of Unicode 16.
const FORMAT: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// `holdfast … | head` ends the reader early, and that is nobody's fault: the command ends as one that died of SIGPIPE.
#[expect(clippy::disallowed_methods, reason = "this module is the way out")]
fn print(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(DIED_OF_SIGPIPE),
        Err(error) => {
            errln!("holdfast: standard output could not be written: {error}");
            std::process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        for character in [
            '\u{1b}', '\u{7}', '\u{7f}', '\u{9b}', '\r', '\n', '\u{202e}', '\u{2066}', '\u{2028}', '\u{feff}',
        ] {
            let text = format!("a{character}b");
            assert_eq!(visible(&text), format!("a{}b", character.escape_default()));
            let document = json!({ &text: &text }).to_string();
            let shown = json(&document);
            assert!(!shown.contains(is_obeyed), "{shown}");
            assert_eq!(serde_json::from_str::<Value>(&shown).ok(), Some(json!({ &text: &text })));
        }
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        let text = "Grüße, ठंडा, e\u{301}, 温度 21 °C, 🌡\u{fe0f} \"quoted\" \\ back";
        assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn a_character_beyond_the_first_plane_is_two_escapes_in_json() {
        assert_eq!(json("\u{e0041}"), "\\udb40\\udc41");
    }

    /// The standard library prints no character of Cf as it is either (`char::escape_debug`).
    #[test]
    fn the_table_names_only_characters_that_are_not_seen() {
        let listed = FORMAT.iter().flat_map(|(first, last)| *first..=*last);
        for character in listed {
            assert!(character.escape_debug().count() > 1, "{character:?}");
        }
    }
}
