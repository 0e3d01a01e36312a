//! The binary as a child process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sim::{Credential, DeviceOptions, ReaderOptions, SasKey, Start, TlsVersions, Trust};

/// How long a start may take on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Default)]
pub(crate) struct HubOptions {
    /// Variables for the process, over those of the test.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Run it by this shell command, in which `"$@"` stands for the hub.
    pub(crate) shell: Option<&'static str>,
}

/// A hub on ports of its own. Killed when dropped.
pub(crate) struct Hub {
    child: Child,
    log: PathBuf,
    ready_file: PathBuf,
    /// The ready file's content.
    pub(crate) ready: Value,
    /// The authority's certificate.
    pub(crate) authority: String,
}

/// A start that is under way.
pub(crate) struct Started {
    child: Child,
    log: PathBuf,
    ready_file: PathBuf,
}

impl Started {
    /// Starts `holdfast serve` on a data directory; the log goes behind what stands in the file.
    pub(crate) fn new(data: &Path, log: &Path, options: &HubOptions) -> Self {
        let ready_file = log.with_extension("ready.json");
        let _ = fs::remove_file(&ready_file);
        let binary =
            std::env::var_os("HOLDFAST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_holdfast").into());
        let mut command = match options.shell {
            None => Command::new(&binary),
            Some(shell) => {
                let mut command = Command::new("sh");
                command.args(["-c", shell, "sh"]).arg(&binary);
                command
            }
        };
        command.args(["serve", "--listen", "127.0.0.1", "--partitions", "4"]);
        command.args(["--https-port", "0", "--mqtt-port", "0", "--amqp-port", "0"]);
        command.arg("--data").arg(data).arg("--ready-file").arg(&ready_file);
        let output = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        command.env("HOLDFAST_LOG", "info");
        command.envs(options.environment.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().unwrap();
        Self { child, log: log.to_owned(), ready_file }
    }

    /// Waits until the hub is ready; panics with its log when it ends instead.
    pub(crate) fn ready(mut self) -> Hub {
        let begun = Instant::now();
        while !self.ready_file.exists() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the hub ended with {status} instead of starting:\n{}", tail(&self.log));
            }
            assert!(begun.elapsed() < START_TIMEOUT, "the hub does not get ready:\n{}", tail(&self.log));
            std::thread::sleep(Duration::from_millis(5));
        }
        let ready: Value = serde_json::from_slice(&fs::read(&self.ready_file).unwrap()).unwrap();
        let authority = fs::read_to_string(ready["ca_file"].as_str().unwrap()).unwrap();
        Hub { child: self.child, log: self.log, ready_file: self.ready_file, ready, authority }
    }

    /// Kills it at once, wherever it is.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert_no_panic(&self.log);
    }
}

impl Hub {
    /// The ready file, by which commands find the hub.
    pub(crate) fn ready_file(&self) -> &Path {
        &self.ready_file
    }

    pub(crate) fn start(data: &Path, log: &Path, options: &HubOptions) -> Self {
        Started::new(data, log, options).ready()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL and checks that it had not panicked.
    pub(crate) fn kill(mut self) {
        assert!(self.is_alive(), "the hub ended by itself:\n{}", tail(&self.log));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert_no_panic(&self.log);
    }

    /// Stops it as an operator does.
    pub(crate) fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the hub ended with {status}:\n{}", tail(&self.log));
        assert_no_panic(&self.log);
    }

    /// How much of it is in memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn host(&self) -> &str {
        self.ready["hostname"].as_str().unwrap()
    }

    pub(crate) fn address(&self, door: &str) -> SocketAddr {
        let port = self.ready["ports"][door].as_u64().unwrap();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), u16::try_from(port).unwrap())
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::in_pem(&self.authority, TlsVersions::Both).unwrap()
    }

    /// The key of the policy iothubowner.
    pub(crate) fn owner_key(&self) -> &str {
        let text = self.ready["service_connection_string"].as_str().unwrap();
        text.rsplit_once("SharedAccessKey=").unwrap().1
    }

    pub(crate) fn device(&self, device: &str, key: &str) -> DeviceOptions {
        DeviceOptions {
            address: self.address("mqtt"),
            server_name: self.host().to_owned(),
            host: self.host().to_owned(),
            device: device.to_owned(),
            credential: Credential::Sas {
                key: SasKey::of_device(key).unwrap(),
                lifetime: Duration::from_secs(3_600),
            },
            trust: self.trust(),
            clock: sim::Clock::default(),
            keep_alive_seconds: 60,
            clean_session: true,
        }
    }

    pub(crate) fn reader(&self) -> ReaderOptions {
        let text = self.ready["eventhub_connection_string"].as_str().unwrap();
        ReaderOptions {
            address: self.address("amqp"),
            server_name: self.host().to_owned(),
            host: self.host().to_owned(),
            event_hub: text.rsplit_once("EntityPath=").unwrap().1.to_owned(),
            key: SasKey::of_event_hubs("iothubowner", self.owner_key()),
            trust: self.trust(),
            consumer_group: "$Default".to_owned(),
            start: Start::Earliest,
            credit: 500,
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails when the log speaks of a panic.
pub(crate) fn assert_no_panic(log: &Path) {
    let text = fs::read_to_string(log).unwrap_or_default();
    if let Some(at) = text.find("panicked") {
        panic!("the hub panicked: {}", &text[at.saturating_sub(300)..text.len().min(at + 1_000)]);
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
