//! Runs the unmodified Azure SDKs against the release build, or against the binary that `HOLDFAST_BIN` names.

use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::{Beside, Steps};
use crate::tools;
use crate::workspace::Workspace;

/// How long the soak takes in CI.
const SOAK_SECONDS: u32 = 180;

/// Runs one language, or the soak, or everything; `parts` choose test files by a part of their names.
pub(crate) fn run(
    workspace: &Workspace,
    steps: &mut Steps,
    language: Option<&str>,
    parts: &[String],
) -> Result<()> {
    let (python_wanted, node_wanted, soak_wanted) = match language {
        None => (true, true, true),
        Some("python") => (true, false, false),
        Some("node") => (false, true, false),
        Some("soak") => (false, false, true),
        Some(other) => bail!("`{other}` is no part of the conformance suite: python, node or soak"),
    };
    if std::env::var_os("HOLDFAST_BIN").is_none() {
        let both = ["build", "--release", "--package", "holdfast", "--package", "audit-check"];
        steps.command("release build", workspace.cargo(&both))?;
    }
    steps.run("openssl and faketime", || tools::openssl().and_then(|()| tools::faketime()))?;
    if python_wanted || soak_wanted {
        steps.run("Azure SDKs for Python", || tools::python(workspace))?;
    }
    if node_wanted || soak_wanted {
        steps.run("Azure SDKs for Node", || tools::node(workspace))?;
    }
    let soak = soak_wanted.then(|| soak(workspace, steps, SOAK_SECONDS)).transpose()?;
    if python_wanted {
        steps.tests("conformance: Python", python(workspace, parts))?;
    }
    if node_wanted {
        steps.tests("conformance: Node", node(workspace, parts))?;
    }
    soak.map_or(Ok(()), |soak| steps.join(soak).map(drop))
}

/// Begins the soak: devices of two SDKs that talk for so long while the hub is restarted. It takes little of the machine.
/// The SDKs are there.
pub(crate) fn soak(workspace: &Workspace, steps: &Steps, seconds: u32) -> Result<Beside> {
    let mut python = pytest(workspace);
    python.args(["-m", "soak", "test_soak.py"]).env("HOLDFAST_SOAK_SECONDS", seconds.to_string());
    steps.beside("soak", python, &workspace.target().join("soak.log"))
}

/// Gets the SDKs and what tests with them need.
pub(crate) fn provision(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    steps.run("tools and SDKs", || {
        tools::openssl()?;
        tools::python(workspace)?;
        tools::node(workspace)
    })
}

/// Runs the tests that wait for minutes. The SDKs are there.
pub(crate) fn slow(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    let mut python = python(workspace, &[]);
    python.args(["-m", "slow"]);
    steps.tests("conformance: Python, slow", python)?;
    steps.tests("conformance: Node, slow", node(workspace, &["--slow".to_owned()]))
}

fn pytest(workspace: &Workspace) -> Command {
    let mut command = Command::new(tools::venv(workspace).join("bin/python"));
    command
        .args(["-m", "pytest"])
        .current_dir(workspace.root().join("conformance/python"))
        .env("HOLDFAST_BIN", workspace.binary());
    command
}

fn python(workspace: &Workspace, parts: &[String]) -> Command {
    let mut command = pytest(workspace);
    command.args(["--numprocesses", "4", "--dist", "loadfile"]);
    if !parts.is_empty() {
        command.args(["-k", &parts.join(" or ")]);
    }
    command
}

fn node(workspace: &Workspace, parts: &[String]) -> Command {
    let mut command = Command::new("node");
    command
        .arg("run.js")
        .args(parts)
        .current_dir(workspace.root().join("conformance/node"))
        .env("HOLDFAST_BIN", workspace.binary());
    command
}
