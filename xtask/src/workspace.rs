//! The checkout: where it is, what cargo says of it, and commands that run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub(crate) struct Workspace {
    root: PathBuf,
    metadata: Value,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?.to_owned();
        let mut command = Command::new("cargo");
        command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(&root);
        let metadata = serde_json::from_str(&output(&mut command)?).context("cargo metadata is not JSON")?;
        Ok(Self { root, metadata })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The ignored folder for what the checkout installs for itself.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join(".tools")
    }

    pub(crate) fn packages(&self) -> &[Value] {
        self.metadata["packages"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> &Path {
        Path::new(self.metadata["target_directory"].as_str().unwrap_or("target"))
    }

    /// The binary under judgement: the release build, unless `HOLDFAST_BIN` names another.
    pub(crate) fn binary(&self) -> PathBuf {
        match std::env::var_os("HOLDFAST_BIN") {
            Some(named) => named.into(),
            None => self.target().join("release/holdfast"),
        }
    }

    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        self.command("cargo", arguments)
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// Files that git tracks or would track, relative to the root.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let listed =
            output(&mut self.command("git", &["ls-files", "--cached", "--others", "--exclude-standard"]))?;
        // A tracked file that was just deleted is still listed.
        Ok(listed.lines().map(PathBuf::from).filter(|path| self.root.join(path).is_file()).collect())
    }
}

/// What a command prints, once it has succeeded.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("could not run {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?} ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    String::from_utf8(done.stdout).with_context(|| format!("{command:?} did not print UTF-8"))
}
