//! `holdfast demo`: a hub, simulated devices on the real wire, and a back end that reads what they send.

mod back_end;
mod board;
mod fleet;
mod guard;
mod plant;
mod screen;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use sim::{TlsVersions, Trust};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::board::Board;
use self::screen::{Screen, Surroundings};
use super::hub::{HubOptions, Stop, run_hub};
use super::target::Target;
use crate::cli::terminal::errln;
use crate::config::Config;

/// `holdfast demo`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast demo
  holdfast demo --seconds 10          ends by itself; the exit code says whether all of it worked
  holdfast demo --listen 127.0.0.2    beside another hub")]
pub(crate) struct DemoArgs {
    /// End after so many seconds, with exit code 0 only if events were read back and the refusal was explained.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    #[command(flatten)]
    options: HubOptions,
}

/// What is served instead of 443 where that cannot be bound.
const HTTPS_PORT_FALLBACK: u16 = 8443;
/// How often the table is drawn anew.
const FRAME: Duration = Duration::from_millis(250);
/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(2);

/// Runs the demo.
pub(super) fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let (mut config, temporary) = args.options.for_development(None)?;
    let note = match args.options.https_port {
        Some(_) => None,
        None => choose_https_port(&mut config),
    };
    let ready_file = args.options.ready_file.clone().unwrap_or_else(|| config.data.join("ready.json"));
    crate::files::create_private_directory(&config.data)?;
    let (listen, seconds) = (config.listen, args.seconds.map(Duration::from_secs));
    let ready_file = std::path::absolute(ready_file)?;
    let surroundings = Surroundings::new(&config, &ready_file, temporary.is_some(), note);
    run_hub(&config, temporary, Some(&ready_file), "error", async |ready, stop| {
        Demo::start(ready, listen).await?.watch(surroundings, stop, seconds).await
    })
}

/// Serves HTTPS on 8443 where 443 cannot be bound, and says so.
fn choose_https_port(config: &mut Config) -> Option<String> {
    let wanted = config.https_port;
    let error = TcpListener::bind((config.listen, wanted)).err()?;
    config.https_port = HTTPS_PORT_FALLBACK;
    Some(format!("HTTPS is on {HTTPS_PORT_FALLBACK}, because {wanted} could not be bound: {error}."))
}

/// How the demo's own clients reach the hub.
#[derive(Clone)]
struct Way {
    mqtt: SocketAddr,
    amqp: SocketAddr,
    /// The name in the certificate that is asked for.
    server_name: String,
    /// The host of the connection strings.
    host: String,
    trust: Trust,
}

impl Way {
    fn new(ready: &Value, listen: IpAddr) -> anyhow::Result<Self> {
        let dialled = if listen.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen };
        let server_name = match dialled {
            IpAddr::V4(Ipv4Addr::LOCALHOST) => "localhost".to_owned(),
            other => other.to_string(),
        };
        let at = |door: &str| {
            let port = ready["ports"][door].as_u64().and_then(|port| u16::try_from(port).ok());
            port.map(|port| SocketAddr::new(dialled, port))
        };
        let (Some(mqtt), Some(amqp)) = (at("mqtt"), at("amqp")) else {
            bail!(
                "the demo needs both MQTT and AMQP. Stop what uses their ports, or give this hub an address of its \
                 own: --listen 127.0.0.2"
            );
        };
        let ca_file = ready["ca_file"].as_str().context("the hub names no CA")?;
        let pem = std::fs::read_to_string(ca_file).with_context(|| format!("could not read {ca_file}"))?;
        Ok(Self {
            mqtt,
            amqp,
            server_name,
            host: ready["hostname"].as_str().unwrap_or_default().to_owned(),
            trust: Trust::in_pem(&pem, TlsVersions::Both)?,
        })
    }
}

/// The running clients of the demo.
struct Demo {
    board: Shared,
    tasks: JoinSet<()>,
    stopping: watch::Sender<bool>,
}

/// What all of them write to and the screen shows.
#[derive(Clone)]
struct Shared(Arc<Mutex<Board>>);

impl Shared {
    /// Nothing awaits while holding it.
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Demo {
    /// Registers the devices, then starts the back end and them, in this order, so that every event is read back.
    async fn start(ready: &Value, listen: IpAddr) -> anyhow::Result<Self> {
        let way = Way::new(ready, listen)?;
        let target = Arc::new(Target::of_ready(ready, &way.server_name)?);
        let registering = target.clone();
        let keys = tokio::task::spawn_blocking(move || fleet::register(&registering)).await??;
        let board = Shared(Arc::new(Mutex::new(Board::new(fleet::MEMBERS))));
        let (stopping, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let reader = back_end::Reading::begin(&way, ready).await?;
        tasks.spawn(reader.run(board.clone(), stop.clone()));
        tasks.spawn(back_end::ask_why(target.clone(), board.clone(), stop.clone()));
        let mut hands = Vec::new();
        for (place, key) in keys.into_iter().enumerate() {
            let (hand, key) = watch::channel(key);
            hands.push(hand);
            tasks.spawn(fleet::live(place, way.clone(), key, board.clone(), stop.clone()));
        }
        tasks.spawn(guard::watch_over(target, hands, board.clone(), stop.clone()));
        Ok(Self { board, tasks, stopping })
    }

    /// Shows what happens until somebody or the time ends it.
    async fn watch(
        mut self,
        surroundings: Surroundings,
        stop: Stop,
        seconds: Option<Duration>,
    ) -> anyhow::Result<ExitCode> {
        let over = async {
            let by_itself = async {
                match seconds {
                    Some(seconds) => tokio::time::sleep(seconds).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = by_itself => true,
                () = stop.asked() => false,
            }
        };
        let ended_by_itself = show_until(over, surroundings, &self.board).await;
        self.stopping.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        let missing = self.board.lock().missing();
        for what in &missing {
            errln!("holdfast: {what}");
        }
        // Whoever ends the demo by hand may do so at any time.
        Ok(if ended_by_itself && !missing.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Draws the board until something is over, and gives what that came to.
async fn show_until<T>(over: impl Future<Output = T>, surroundings: Surroundings, board: &Shared) -> T {
    let mut screen = Screen::open(surroundings);
    let mut every = tokio::time::interval(if screen.is_terminal() { FRAME } else { LINE });
    let mut over = std::pin::pin!(over);
    loop {
        tokio::select! {
            result = &mut over => {
                screen.close(&mut board.lock());
                return result;
            }
            _ = every.tick() => screen.show(&mut board.lock()),
        }
    }
}
