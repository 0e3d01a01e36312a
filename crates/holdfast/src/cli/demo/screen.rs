//! What the demo shows: a screen that is drawn anew in place on a terminal, a line now and then elsewhere.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::board::{Board, HISTORY, Row, State};
use crate::cli::terminal::{self, outln, visible};
use crate::config::Config;

/// How long each section is shown where not all of them fit.
const TURN: Duration = Duration::from_secs(8);
/// The width of lines that go to no terminal.
const WIDTH_DEFAULT: usize = 110;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is the same in every frame.
pub(super) struct Surroundings {
    heading: String,
    note: Option<String>,
    program: String,
    ready_file: PathBuf,
    is_temporary: bool,
}

impl Surroundings {
    /// The surroundings of a hub with this configuration.
    pub(super) fn new(config: &Config, ready_file: &Path, is_temporary: bool, note: Option<String>) -> Self {
        let heading = format!(
            "Holdfast demo: a hub on {} (MQTT {}, AMQP {}, HTTPS {}) and simulated devices, all over real TLS",
            config.listen, config.mqtt_port, config.amqp_port, config.https_port
        );
        Self { heading, note, program: program(), ready_file: ready_file.to_owned(), is_temporary }
    }

    fn commands(&self) -> Vec<String> {
        let program = &self.program;
        vec![
            format!("export HOLDFAST_READY_FILE={}", self.ready_file.display()),
            format!("{program} why meter-1"),
            format!("{program} posture                                 # what is left to fix"),
            format!("{program} device update tank-1 --status disabled   # watch it being thrown out"),
            format!("{program} why tank-1"),
            format!("{program} device update tank-1 --status enabled    # it comes back by itself"),
            format!("{program} send boiler-1 '{{\"temperature\":99.9}}'"),
            format!("{program} device show boiler-1 --keys              # for a device of your own"),
        ]
    }
}

/// How this program is called so that a shell finds it.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else { return "holdfast".to_owned() };
    let is_own = |folder: PathBuf| folder.join("holdfast").canonicalize().is_ok_and(|found| found == own);
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(is_own) {
        return "holdfast".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    own.strip_prefix(here).unwrap_or(&own).display().to_string()
}

/// Where the demo shows itself.
pub(super) struct Screen {
    surroundings: Surroundings,
    is_terminal: bool,
    /// The frame that is on the terminal.
    drawn: Vec<String>,
    explained: bool,
    /// How much of the guard's story was printed, where there is no terminal.
    told: usize,
}

impl Screen {
    /// Clears the terminal, or prints the heading.
    pub(super) fn open(surroundings: Surroundings) -> Self {
        let screen = Self {
            surroundings,
            is_terminal: terminal::is_terminal(),
            drawn: Vec::new(),
            explained: false,
            told: 0,
        };
        if screen.is_terminal {
            terminal::draw("\x1b[2J\x1b[H");
        } else {
            let mut lines = vec![screen.surroundings.heading.clone()];
            lines.extend(screen.surroundings.note.clone());
            lines.extend(screen.commands(WIDTH_DEFAULT));
            print(&lines);
        }
        screen
    }

    /// Whether it is drawn in place.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Shows the present state.
    pub(super) fn show(&mut self, board: &mut Board) {
        if self.is_terminal {
            let (width, height) = terminal_size();
            let frame = self.frame(board, width, height.saturating_sub(1));
            self.draw(frame, width);
            return;
        }
        let mut lines = Vec::new();
        if board.elapsed() > Duration::from_secs(1) {
            lines.push(summary(board));
            if !self.explained && board.why.is_some() {
                self.explained = true;
                lines.extend(explanation(board, WIDTH_DEFAULT));
            }
            let chapter = chapter(board);
            if chapter > self.told {
                self.told = chapter;
                lines.extend(posture(board, WIDTH_DEFAULT, &self.surroundings.program));
            }
        }
        print(&lines);
    }

    /// Shows the last state, and leaves it on the terminal.
    pub(super) fn close(&mut self, board: &mut Board) {
        if self.is_terminal {
            self.show(board);
            return;
        }
        let mut lines = table(board, WIDTH_DEFAULT);
        lines.push(summary(board));
        print(&lines);
    }

    /// Everything, or what fits: then the sections below the table are shown in turn.
    fn frame(&self, board: &mut Board, width: usize, height: usize) -> Vec<String> {
        let mut lines = wrapped("", &self.surroundings.heading, width);
        lines.extend(self.surroundings.note.iter().flat_map(|note| wrapped("", note, width)));
        lines.push(String::new());
        lines.extend(table(board, width));
        lines.push(String::new());
        lines.extend(totals(board));
        let program = &self.surroundings.program;
        let sections = [posture(board, width, program), explanation(board, width), self.commands(width)];
        let all: usize = sections.iter().map(|section| section.len() + 1).sum();
        if lines.len() + all <= height {
            for section in sections {
                lines.push(String::new());
                lines.extend(section);
            }
            return lines;
        }
        let turn = board.elapsed().as_secs() / TURN.as_secs();
        let shown = usize::try_from(turn).unwrap_or(0) % sections.len();
        lines.push(String::new());
        lines.extend(sections.into_iter().nth(shown).unwrap_or_default());
        lines.truncate(height.saturating_sub(1));
        lines.push("Ctrl-C ends the demo. A taller window shows all of it at once.".to_owned());
        lines
    }

    fn commands(&self, width: usize) -> Vec<String> {
        let end = match self.surroundings.is_temporary {
            true => "Ctrl-C ends the demo, and its data goes with it. Until then, in another terminal:",
            false => "Ctrl-C ends the demo. Until then, in another terminal:",
        };
        let mut lines = wrapped("", end, width);
        lines.extend(self.surroundings.commands().iter().map(|command| format!("  {command}")));
        lines
    }

    /// Writes only the lines that changed, so that a selection of the others stays.
    fn draw(&mut self, frame: Vec<String>, width: usize) {
        let frame: Vec<String> =
            frame.iter().map(|line| visible(line).chars().take(width).collect()).collect();
        let mut out = String::new();
        for (place, line) in frame.iter().enumerate() {
            if self.drawn.get(place) != Some(line) {
                out.push_str(&format!("\x1b[{};1H{line}\x1b[K", place + 1));
            }
        }
        if frame.len() < self.drawn.len() {
            out.push_str(&format!("\x1b[{};1H\x1b[J", frame.len() + 1));
        }
        out.push_str(&format!("\x1b[{};1H", frame.len() + 1));
        self.drawn = frame;
        terminal::draw(&out);
    }
}

fn print(lines: &[String]) {
    lines.iter().for_each(|line| outln!("{line}"));
}

fn table(board: &Board, width: usize) -> Vec<String> {
    let heading = format!(
        "{:<13} {:<10} {:>7} {:>7} {:>7}  {:<22} {}",
        "DEVICE", "STATE", "SENT", "ACKED", "READ", "LAST VALUE", "TREND"
    );
    let mut lines = vec![heading];
    for row in &board.rows {
        let member = row.member;
        let (state, rest) = match &row.state {
            State::Connecting => ("connecting", String::new()),
            State::Online => ("online", plot(row, width.saturating_sub(73))),
            State::Refused(code) => ("refused", format!("CONNACK {code}: not authorized{}", late(row))),
            State::Lost(why) => ("lost", why.clone()),
        };
        let value = row.history.back().map_or_else(String::new, |value| {
            let digits = member.quantity.digits;
            format!("{} {value:.digits$} {}", member.quantity.name, member.quantity.unit)
        });
        let Row { sent, acknowledged, read, .. } = row;
        lines.push(format!(
            "{:<13} {state:<10} {sent:>7} {acknowledged:>7} {read:>7}  {value:<22} {rest}",
            member.id
        ));
    }
    lines
}

fn late(row: &Row) -> String {
    match row.member.flaw.clock_behind().as_secs() / 3_600 {
        0 => String::new(),
        hours => format!("; its clock is {hours} h late"),
    }
}

fn plot(row: &Row, width: usize) -> String {
    let (low, high) = row.history.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let shown = width.clamp(8, HISTORY).min(row.history.len());
    let block = |value: &f64| {
        let part = if high > low { (value - low) / (high - low) } else { 0.0 };
        BLOCKS[((part * 8.0) as usize).min(7)]
    };
    row.history.iter().skip(row.history.len() - shown).map(block).collect()
}

fn totals(board: &mut Board) -> Vec<String> {
    let rate = board.read_per_second(Instant::now());
    let read = match &board.reader_trouble {
        None => format!("{} events, {rate:.1} a second", board.read),
        Some(trouble) => format!("{} events; reading stopped: {trouble}", board.read),
    };
    let acknowledged = board.latency().map_or_else(
        || "nothing yet".to_owned(),
        |(median, high)| {
            format!(
                "p50 {:.1} ms, p99 {:.1} ms, once on stable storage",
                median.as_secs_f64() * 1e3,
                high.as_secs_f64() * 1e3
            )
        },
    );
    vec![format!("Read back over AMQP   {read}"), format!("Acknowledged after    {acknowledged}")]
}

fn explanation(board: &Board, width: usize) -> Vec<String> {
    let Some(why) = &board.why else { return vec!["Nobody has been refused yet.".to_owned()] };
    let text = |name: &str| why[name].as_str().unwrap_or_default();
    let heading = format!("Why {} was refused, in the words of the hub (holdfast why):", text("identity"));
    let mut lines = wrapped("", &heading, width);
    lines.extend(wrapped("  ", text("explanation"), width));
    for name in ["presented", "expected", "change", "fix"] {
        lines.extend(wrapped(&format!("  {name:<9}  "), text(name), width));
    }
    lines
}

/// How far the guard's story is: found, planned, fixed.
fn chapter(board: &Board) -> usize {
    let posture = &board.posture;
    let found = posture.report.as_ref().and_then(|report| report["findings"].as_array()).map_or(0, Vec::len);
    match (found, &posture.dry_run, &posture.fixed) {
        (_, _, Some(_)) => 3,
        (_, Some(_), None) => 2,
        (0, None, None) => 0,
        (_, None, None) => 1,
    }
}

/// The score, what was found, and what was done about it.
fn posture(board: &Board, width: usize, program: &str) -> Vec<String> {
    let Some(report) = &board.posture.report else { return vec!["The guard is looking.".to_owned()] };
    let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let score = report["score"].as_f64().unwrap_or_default();
    let coverage = report["coverage"].as_f64().unwrap_or_default() * 100.0;
    let rise = match &board.posture.fixed {
        Some((before, _)) => format!(" (was {before:.1})"),
        None => String::new(),
    };
    let mut lines = wrapped(
        "",
        &format!(
            "What is unsafe here ({program} posture): score {score:.1} of 100{rise}, {coverage:.0} % known"
        ),
        width,
    );
    let command = |text: String| text.replacen("holdfast", program, 1);
    for finding in report["findings"].as_array().into_iter().flatten() {
        let heading = format!("  {:<9}  ", text(finding, "severity").to_uppercase());
        lines.extend(wrapped(&heading, &text(finding, "summary"), width));
        if text(finding, "check") == "auth-sas-ttl" {
            lines.extend(wrapped("             ", &command(text(&finding["fix"], "command")), width));
        }
    }
    let changes = |done: &serde_json::Value| {
        let changes = done["changes"].as_array().cloned().unwrap_or_default();
        let told = changes.iter().map(|c| format!("{}: {}", text(c, "target"), text(c, "change")));
        told.collect::<Vec<_>>().join("; ")
    };
    match (&board.posture.dry_run, &board.posture.fixed) {
        (_, Some((_, fixed))) => {
            lines.extend(wrapped("  FIXED      ", &changes(fixed), width));
            lines.extend(wrapped(
                "             ",
                &format!("take it back: {}", command(text(fixed, "undo"))),
                width,
            ));
        }
        (Some(plan), None) => lines.extend(wrapped("  DRY RUN    ", &changes(plan), width)),
        (None, None) => {}
    }
    lines
}

/// One line that says how far everything is.
fn summary(board: &mut Board) -> String {
    let rate = board.read_per_second(Instant::now());
    let online = board.rows.iter().filter(|row| row.state == State::Online).count();
    let refused = board.rows.iter().filter(|row| matches!(row.state, State::Refused(_))).count();
    let (sent, acknowledged) = board
        .rows
        .iter()
        .fold((0, 0), |(sent, acknowledged), row| (sent + row.sent, acknowledged + row.acknowledged));
    let latency = board.latency().map_or_else(String::new, |(median, high)| {
        format!(
            ", acknowledged after p50 {:.1} p99 {:.1} ms",
            median.as_secs_f64() * 1e3,
            high.as_secs_f64() * 1e3
        )
    });
    format!(
        "{:>4} s  {online} online, {refused} refused, {sent} sent, {acknowledged} acknowledged, {} read back \
         ({rate:.1} a second){latency}",
        board.elapsed().as_secs(),
        board.read
    )
}

/// A text behind a heading, broken between words; further lines stand below the text.
fn wrapped(heading: &str, text: &str, width: usize) -> Vec<String> {
    let indent = heading.chars().count();
    let mut lines = vec![heading.to_owned()];
    let mut column = indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > width {
            lines.push(" ".repeat(indent));
            column = indent;
        }
        if let Some(line) = lines.last_mut() {
            if column > indent {
                line.push(' ');
                column += 1;
            }
            line.push_str(word);
            column += length;
        }
    }
    lines
}

/// Columns and lines of the terminal.
fn terminal_size() -> (usize, usize) {
    terminal::size().filter(|(width, height)| *width > 0 && *height > 0).unwrap_or((WIDTH_DEFAULT, 50))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fleet::MEMBERS;
    use super::*;

    #[test]
    fn a_row_shows_the_newest_value_and_its_trend() {
        let mut board = Board::new(MEMBERS);
        board.row(0).state = State::Online;
        (0..8).for_each(|n| board.row(0).sent(80.0 + f64::from(n)));
        let lines = table(&board, 120);
        assert!(lines[1].starts_with("boiler-1      online           8"), "{}", lines[1]);
        assert!(lines[1].contains("temperature 87.0 °C"), "{}", lines[1]);
        assert!(lines[1].ends_with("▁▂▃▄▅▆▇█"), "{}", lines[1]);
    }

    #[test]
    fn a_refused_device_says_so() {
        let mut board = Board::new(MEMBERS);
        let wrong = board.rows.iter().position(Row::is_wrong).expect("one is wrong");
        board.row(wrong).state = State::Refused(5);
        board.why = Some(json!({
            "identity": "meter-1", "explanation": "The token has ended.", "presented": "a b", "fix": "Set the clock."
        }));
        assert!(table(&board, 120)[wrong + 1].ends_with("CONNACK 5: not authorized; its clock is 3 h late"));
        let lines = explanation(&board, 120);
        assert_eq!(lines[1], "  The token has ended.");
        assert_eq!(lines.last().map(String::as_str), Some("  fix        Set the clock."));
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        assert_eq!(wrapped("  fix  ", "one two three", 14), ["  fix  one two", "       three"]);
        assert_eq!(wrapped("", "incomprehensibilities", 5), ["incomprehensibilities"]);
        assert_eq!(wrapped("x", "", 5), ["x"]);
    }
}
