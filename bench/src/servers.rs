//! The servers, each started with an empty store on an address of its own, all with TLS 1.3 and ECDSA P-256.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use sim::Authority;

use crate::subject::Subject;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const MQTT_PORT: u16 = 8883;

/// The names of the servers in tables.
pub(crate) const HOLDFAST: &str = "holdfast";
/// Holdfast without its guard.
pub(crate) const UNWATCHED: &str = "holdfast, unwatched";
/// Mosquitto.
pub(crate) const MOSQUITTO: &str = "mosquitto";
/// NATS.
pub(crate) const NATS: &str = "nats, sync always";

/// A kind of server, and the program that is it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `holdfast serve` with its defaults: SAS, audit, a sync before each acknowledgement.
    Holdfast(PathBuf),
    /// The same without the guard: `holdfast dev --unwatched` drops all decisions and judges nothing.
    HoldfastUnwatched(PathBuf),
    /// Mosquitto in memory, as it comes.
    Mosquitto(PathBuf),
    /// NATS with its MQTT gateway and JetStream in files, synced before each acknowledgement.
    NatsSynced(PathBuf),
}

impl Kind {
    /// Its name in tables.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Holdfast(_) => HOLDFAST,
            Self::HoldfastUnwatched(_) => UNWATCHED,
            Self::Mosquitto(_) => MOSQUITTO,
            Self::NatsSynced(_) => NATS,
        }
    }

    /// Whether it is one of ours, which has to carry every load.
    pub(crate) fn is_holdfast(&self) -> bool {
        matches!(self, Self::Holdfast(_) | Self::HoldfastUnwatched(_))
    }

    /// What its program says of its version.
    pub(crate) fn version(&self) -> String {
        let (program, argument) = match self {
            Self::Holdfast(program) | Self::HoldfastUnwatched(program) | Self::NatsSynced(program) => {
                (program, "--version")
            }
            Self::Mosquitto(program) => (program, "-h"),
        };
        let output = Command::new(program).arg(argument).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
    }

    fn address(&self) -> IpAddr {
        IpAddr::V4(match self {
            Self::Holdfast(_) => Ipv4Addr::new(127, 50, 0, 1),
            Self::Mosquitto(_) => Ipv4Addr::new(127, 50, 0, 2),
            Self::NatsSynced(_) => Ipv4Addr::new(127, 50, 0, 3),
            Self::HoldfastUnwatched(_) => Ipv4Addr::new(127, 50, 0, 4),
        })
    }
}

/// A running server; it is ended with this.
pub(crate) struct Server {
    kind: Kind,
    child: Child,
    directory: tempfile::TempDir,
    subject: Subject,
}

impl Server {
    /// Starts a server with an empty store below this directory.
    pub(crate) fn start(kind: &Kind, below: &Path) -> Result<Self> {
        Self::start_with(kind, below, &[])
    }

    /// The same with these arguments more.
    pub(crate) fn start_with(kind: &Kind, below: &Path, arguments: &[String]) -> Result<Self> {
        fs::create_dir_all(below)?;
        let directory = tempfile::Builder::new().prefix("server-").tempdir_in(below)?;
        let (child, subject) = launch(kind, directory.path(), arguments)?;
        Ok(Self { kind: kind.clone(), child, directory, subject })
    }

    /// Stops it and starts it with the store that it has.
    pub(crate) fn restart(&mut self) -> Result<()> {
        stop(&mut self.child)?;
        (self.child, self.subject) = launch(&self.kind, self.directory.path(), &[])?;
        Ok(())
    }

    /// The server as clients see it.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The file that Holdfast wrote for its clients.
    pub(crate) fn ready_file(&self) -> PathBuf {
        self.directory.path().join("ready.json")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if stop(&mut self.child).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn stop(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a child has a pid")?;
    kill_process(pid, Signal::TERM)?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > STOP_TIMEOUT {
            bail!("the server did not stop within {STOP_TIMEOUT:?}");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn launch(kind: &Kind, directory: &Path, arguments: &[String]) -> Result<(Child, Subject)> {
    let address = kind.address();
    let mqtt = SocketAddr::new(address, MQTT_PORT);
    match kind {
        Kind::Holdfast(program) | Kind::HoldfastUnwatched(program) => {
            let ready_file = directory.join("ready.json");
            let _ = fs::remove_file(&ready_file);
            let mut command = Command::new(program);
            match kind {
                Kind::HoldfastUnwatched(_) => command.args(["dev", "--unwatched", "--hub-events", "none"]),
                _ => command.arg("serve"),
            };
            command.args(arguments).arg("--listen").arg(address.to_string());
            command.arg("--data").arg(directory.join("data")).arg("--ready-file").arg(&ready_file);
            let mut child = spawn(command, directory)?;
            wait_until(&mut child, directory, || ready_file.exists())?;
            let subject = Subject::holdfast(&ready_file, address)?;
            Ok((child, subject))
        }
        Kind::Mosquitto(program) => {
            let ca_pem = certificates(directory, address)?;
            let file = directory.join("mosquitto.conf");
            let text = format!(
                "listener {MQTT_PORT} {address}\ncertfile {0}/server.pem\nkeyfile {0}/server.key\n\
                 tls_version tlsv1.3\nallow_anonymous true\npersistence false\nmax_connections -1\nuser root\n",
                directory.display()
            );
            fs::write(&file, text)?;
            let mut command = Command::new(program);
            command.arg("-c").arg(&file).args(arguments);
            let child = started(command, directory, mqtt)?;
            let subject = Subject::plain(child.id(), mqtt, &ca_pem)?;
            Ok((child, subject))
        }
        Kind::NatsSynced(program) => {
            let ca_pem = certificates(directory, address)?;
            let file = directory.join("nats.conf");
            let text = format!(
                "listen: \"{address}:4222\"\nserver_name: bench\n\
                 jetstream {{ store_dir: \"{0}/store\", sync_interval: always, max_file_store: 64G }}\n\
                 mqtt {{ listen: \"{address}:{MQTT_PORT}\"\n\
                 tls {{ cert_file: \"{0}/server.pem\", key_file: \"{0}/server.key\", min_version: \"1.3\", timeout: 30 }}\n}}\n",
                directory.display()
            );
            fs::write(&file, text)?;
            let mut command = Command::new(program);
            command.arg("-c").arg(&file).args(arguments);
            let child = started(command, directory, mqtt)?;
            let subject = Subject::plain(child.id(), mqtt, &ca_pem)?;
            Ok((child, subject))
        }
    }
}

/// An authority and a server certificate that only this server has; gives what its clients trust.
fn certificates(directory: &Path, address: IpAddr) -> Result<String> {
    let authority = Authority::new("holdfast-bench")?;
    let issued = authority.issue_server(&[&address.to_string()])?;
    fs::write(directory.join("server.pem"), issued.chain)?;
    fs::write(directory.join("server.key"), issued.key)?;
    Ok(authority.pem().to_owned())
}

fn spawn(mut command: Command, directory: &Path) -> Result<Child> {
    let log = fs::File::create(directory.join("server.log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("could not start {command:?}"))
}

fn started(command: Command, directory: &Path, at: SocketAddr) -> Result<Child> {
    let mut child = spawn(command, directory)?;
    wait_until(&mut child, directory, || TcpStream::connect(at).is_ok())?;
    Ok(child)
}

fn wait_until(child: &mut Child, directory: &Path, is_up: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_up() {
        if child.try_wait()?.is_some() || begun.elapsed() > START_TIMEOUT {
            let _ = child.kill();
            let log = fs::read_to_string(directory.join("server.log")).unwrap_or_default();
            bail!("the server did not start:\n{log}");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
