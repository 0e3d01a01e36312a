//! Whether an advisory is known of what the workspace links: `cargo xtask advisories`. The database is a repository on the network,
//! which a CI may not reach, so that this is no step of `cargo xtask test`; `cargo xtask prove` has it.

use anyhow::{Context as _, Result, bail};

use crate::steps::Steps;
use crate::tools;
use crate::workspace::Workspace;

/// What is there to do where the database cannot be had.
const CURE: &str = "Nothing was looked at. Run it where https://github.com/RustSec/advisory-db can be reached, or have git take a mirror of \
                    it: git config --global url.MIRROR.insteadOf https://github.com/RustSec/advisory-db";

/// What a look gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is known.
    Clean,
    /// The database could not be had.
    NoDatabase(String),
}

impl Outcome {
    /// A line for a table of figures.
    pub(crate) fn figure(&self) -> String {
        match self {
            Self::Clean => "advisories: none is known of any crate in Cargo.lock".to_owned(),
            Self::NoDatabase(why) => format!("advisories: NOT LOOKED AT, the database cannot be had: {why}"),
        }
    }
}

/// Runs it as a command of its own, which fails when nothing could be looked at.
pub(crate) fn run(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    steps.run("tools from PyPI", || tools::python(workspace))?;
    match look(workspace, steps)? {
        Outcome::Clean => Ok(()),
        Outcome::NoDatabase(why) => bail!("the advisory database cannot be had: {why}. {CURE}"),
    }
}

/// Looks; fails where an advisory is known. cargo-deny is there.
pub(crate) fn look(workspace: &Workspace, steps: &mut Steps) -> Result<Outcome> {
    let mut outcome = Outcome::Clean;
    steps.run("advisories", || {
        let mut command = tools::cargo_deny(workspace, &["advisories"]);
        let done = command.output().with_context(|| format!("could not run {command:?}"))?;
        let said = String::from_utf8_lossy(&done.stderr);
        eprint!("{said}");
        if done.status.success() {
            return Ok(());
        }
        match no_database(&said) {
            Some(why) => {
                eprintln!("{CURE}");
                outcome = Outcome::NoDatabase(why);
                Ok(())
            }
            None => bail!("an advisory is known of a crate, or cargo-deny failed; what it said stands above"),
        }
    })?;
    Ok(outcome)
}

/// Why cargo-deny has no database, if that is what it says.
fn no_database(said: &str) -> Option<String> {
    let at = said.find("failed to fetch advisory database")?;
    let mut lines = said[at..].lines().map(str::trim).filter(|line| !line.is_empty());
    // The first line is cargo-deny's, the last one git's.
    lines.next_back().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_cannot_be_had_is_told_from_an_advisory() {
        let unreachable = "2026-11-30 16:09:43 [ERROR] failed to fetch advisory database https://github.com/RustSec/advisory-db with cli: \
                           failed to clone\nCloning into '/x'...\nfatal: unable to access: Could not resolve host: github.com\n\n";
        let why = no_database(unreachable).expect("no database");
        assert_eq!(why, "fatal: unable to access: Could not resolve host: github.com");
        assert!(Outcome::NoDatabase(why).figure().contains("NOT LOOKED AT"));
        assert_eq!(no_database("error[vulnerability]: Marvin Attack\nadvisories FAILED"), None);
    }
}
