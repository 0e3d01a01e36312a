//! Runs the unmodified Azure SDKs against the release build, or against the binary that `HOLDFAST_BIN` names.

use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::Steps;
use crate::tools;
use crate::workspace::Workspace;

/// Runs one language or both; `parts` choose test files by a part of their names.
pub(crate) fn run(
    workspace: &Workspace,
    steps: &mut Steps,
    language: Option<&str>,
    parts: &[String],
) -> Result<()> {
    let (python_wanted, node_wanted) = match language {
        None => (true, true),
        Some("python") => (true, false),
        Some("node") => (false, true),
        Some(other) => bail!("`{other}` is no language of the conformance suite: python or node"),
    };
    if std::env::var_os("HOLDFAST_BIN").is_none() {
        let both = ["build", "--release", "--package", "holdfast", "--package", "audit-check"];
        steps.command("release build", workspace.cargo(&both))?;
    }
    steps.run("openssl and faketime", || tools::openssl().and_then(|()| tools::faketime()))?;
    if python_wanted {
        steps.run("Azure SDKs for Python", || tools::python(workspace))?;
        steps.tests("conformance: Python", python(workspace, parts))?;
    }
    if node_wanted {
        steps.run("Azure SDKs for Node", || tools::node(workspace))?;
        steps.tests("conformance: Node", node(workspace, parts))?;
    }
    Ok(())
}

/// Runs the tests that wait for minutes.
pub(crate) fn slow(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    steps.run("tools and SDKs", || {
        tools::openssl()?;
        tools::python(workspace)?;
        tools::node(workspace)
    })?;
    let mut python = python(workspace, &[]);
    python.args(["-m", "slow"]);
    steps.tests("conformance: Python, slow", python)?;
    steps.tests("conformance: Node, slow", node(workspace, &["--slow".to_owned()]))
}

fn python(workspace: &Workspace, parts: &[String]) -> Command {
    let mut command = Command::new(tools::venv(workspace).join("bin/python"));
    command
        .args(["-m", "pytest", "--numprocesses", "4", "--dist", "loadfile"])
        .current_dir(workspace.root().join("conformance/python"))
        .env("HOLDFAST_BIN", workspace.binary());
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
