//! All loads on all servers, several times over.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::apart;
use crate::load::{
    self, AMQP_PARTITIONS, AmqpIdle, AmqpIdleOptions, AttackOptions, Churn, ChurnOptions, Conversation,
    ConversationOptions, Flood, FloodOptions, Idle, IdleOptions, PublishOptions, Published, PythonReader,
    Read, ReadOptions, Reports, ReportsOptions, Storm, StormOptions, Through, ThroughOptions,
};
use crate::servers::{Kind, Server};

/// The rate at which latencies are measured.
const PACED: u32 = 2_000;
/// Bad tokens a second in a flood.
const BAD_TOKENS: u32 = 1_000;
/// Devices with the whole conversation, beside as many silent ones of the peers.
pub(crate) const CONVERSING: usize = 5_000;
/// How often what is measured in turns is measured on each server in a round.
const TURNS: usize = 3;
/// Connects of a slice, where two storms take turns: less than a tenth of a second.
const SLICE: usize = 500;
/// NATS keeps five files for each subscriber; with more of them, deleting its store takes longer than all that is measured.
const NATS_IDLE_MAX: usize = 5_000;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CompareOptions {
    /// The release build of Holdfast.
    #[arg(long, value_name = "FILE")]
    pub(crate) holdfast: PathBuf,
    /// The program mosquitto; left out when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) mosquitto: Option<PathBuf>,
    /// The program nats-server; left out when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) nats: Option<PathBuf>,
    /// A Python with azure-eventhub, which then reads too.
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
    /// Devices of the storm.
    #[arg(long, default_value_t = 15_000)]
    pub(crate) storm: usize,
    /// Handshakes of the storm under way at a time.
    #[arg(long, default_value_t = 32)]
    pub(crate) storm_concurrency: usize,
    /// Numbers of silent devices, each of which is measured on a fresh server.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,10000,15000")]
    pub(crate) devices: Vec<usize>,
    /// Silent AMQP connections.
    #[arg(long, default_value_t = 600)]
    pub(crate) amqp_connections: usize,
    /// Only this load, of those that are measured in turns.
    #[arg(long, value_enum, value_name = "LOAD")]
    pub(crate) only: Option<InTurns>,
    /// Write benchmarks.md and its plots into this directory too.
    #[arg(long, value_name = "DIR", conflicts_with = "only")]
    pub(crate) write: Option<PathBuf>,
}

/// A load that is measured several times in each round, in turns of seconds: what it takes follows what the machine is like at
/// the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InTurns {
    /// The storm, which all servers carry in turns.
    Storm,
    /// Window 1, which all servers carry in turns.
    #[value(name = "window-1")]
    Window1,
    /// 2,000 messages a second, alone and beside a flood of bad tokens, in turns.
    Flood,
    /// The storm, in slices by turns, and window 1, at the same moment, on Holdfast with its guard and without.
    Guard,
}

impl CompareOptions {
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Holdfast(self.holdfast.clone())];
        kinds.push(Kind::HoldfastUnwatched(self.holdfast.clone()));
        kinds.extend(self.mosquitto.clone().map(Kind::Mosquitto));
        kinds.extend(self.nats.clone().map(Kind::NatsSynced));
        kinds
    }
}

/// Everything that was measured on one server in one round. A load that is not for this server has no figure.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Round {
    pub(crate) number: usize,
    /// The turn that this is, from 1, of a load that is measured in turns; 0 where the other loads are.
    pub(crate) turn: usize,
    pub(crate) server: &'static str,
    pub(crate) storm: Option<Storm>,
    pub(crate) churn: Option<Churn>,
    /// With ever more devices, each time on a fresh server.
    pub(crate) idle: Vec<Idle>,
    pub(crate) window_1: Option<Published>,
    /// The same from devices whose packets come in at any processor.
    pub(crate) window_1_free: Option<Published>,
    /// How far apart the processors were: nanoseconds there and back.
    pub(crate) apart_ns: Option<f64>,
    /// The storm on Holdfast with its guard and without, in slices by turns.
    pub(crate) storm_on_both: Option<Storm>,
    /// Window 1 on both at the same time.
    pub(crate) window_1_on_both: Option<Published>,
    /// 2,000 messages a second, alone and beside bad tokens.
    pub(crate) flood: Option<Flood>,
    pub(crate) window_10: Option<Published>,
    /// 2,000 messages a second from 100 devices.
    pub(crate) paced: Option<Published>,
    pub(crate) amqp_idle: Option<AmqpIdle>,
    /// 5,000 devices with twins, called and changed.
    pub(crate) conversation: Option<Conversation>,
    /// Durable updates of twins as fast as they go.
    pub(crate) reports: Option<Reports>,
    /// 2,000 messages a second, read meanwhile.
    pub(crate) through: Option<Through>,
    /// The same, read by the unmodified azure-eventhub for Python.
    pub(crate) through_by_python: Option<Through>,
    pub(crate) read: Option<Read>,
    /// The same, by the unmodified azure-eventhub for Python.
    pub(crate) read_by_python: Option<Read>,
}

/// Runs all rounds; servers take turns, so that other work on the machine meets them alike.
pub(crate) async fn compare(options: &CompareOptions, below: &Path) -> Result<Vec<Round>> {
    let mut rounds = Vec::new();
    for number in 1..=options.runs {
        for kind in options.kinds().iter().filter(|_| options.only.is_none()) {
            eprintln!("round {number} of {}: {}", options.runs, kind.name());
            let bench = Bench { kind, options, below };
            rounds.push(bench.round(number).await.with_context(|| kind.name())?);
        }
        let wanted = |load| options.only.is_none_or(|only| only == load);
        if wanted(InTurns::Storm) {
            rounds.extend(storms(options, number, below).await?);
        }
        if wanted(InTurns::Window1) {
            rounds.extend(window_1(options, number, below).await?);
        }
        if wanted(InTurns::Guard) {
            rounds.extend(guard(options, number, below).await?);
        }
        if wanted(InTurns::Flood) {
            rounds.extend(floods(options, number, below).await?);
        }
    }
    Ok(rounds)
}

/// The storm in turns: what a connect costs follows what the machine is like at the moment.
async fn storms(options: &CompareOptions, number: usize, below: &Path) -> Result<Vec<Round>> {
    let mut turns = Vec::new();
    for turn in 1..=TURNS {
        for kind in &options.kinds() {
            eprintln!("round {number} of {}: storm, turn {turn}: {}", options.runs, kind.name());
            let bench = Bench { kind, options, below };
            turns.push(bench.storm_alone(number, turn).await.with_context(|| kind.name())?);
        }
    }
    Ok(turns)
}

/// Window 1 in turns of seconds: its rate follows what the machine is like at the moment, more than that of other loads.
async fn window_1(options: &CompareOptions, number: usize, below: &Path) -> Result<Vec<Round>> {
    let kinds = options.kinds();
    let benches: Vec<_> = kinds.iter().map(|kind| Bench { kind, options, below }).collect();
    let mut servers = Vec::new();
    for bench in &benches {
        servers.push(bench.publishing().await.with_context(|| bench.kind.name())?);
    }
    let mut turns = Vec::new();
    for turn in 1..=TURNS {
        for (bench, server) in benches.iter().zip(&servers) {
            eprintln!("round {number} of {}: window 1, turn {turn}: {}", options.runs, bench.kind.name());
            turns.push(bench.window_1(server, number, turn).await.with_context(|| bench.kind.name())?);
        }
    }
    Ok(turns)
}

/// What the guard takes: a small difference of two large numbers, each of which follows what the machine is like at the moment. So
/// both hubs carry messages at the same moment, and take half of the storm's devices each, in slices by turns.
async fn guard(options: &CompareOptions, number: usize, below: &Path) -> Result<Vec<Round>> {
    let with = Kind::Holdfast(options.holdfast.clone());
    let without = Kind::HoldfastUnwatched(options.holdfast.clone());
    let bench = |kind| Bench { kind, options, below };
    let (with, without) = (bench(&with), bench(&without));
    let mut turns = Vec::new();
    for turn in 1..=TURNS {
        eprintln!("round {number} of {}: the guard, turn {turn}: a storm on both", options.runs);
        let devices = options.storm / 2;
        let servers = (with.stormed(devices)?, without.stormed(devices)?);
        // What the guard reads of a new device it reads once, not with each of its connections.
        servers.0.subject().look()?;
        servers.1.subject().look()?;
        let options = StormOptions { devices, concurrency: options.storm_concurrency, look: true };
        let lock = Mutex::new(());
        let storms = tokio::try_join!(
            load::storm_by_turns(servers.0.subject(), options, SLICE, &lock),
            load::storm_by_turns(servers.1.subject(), options, SLICE, &lock),
        );
        let (watched, unwatched) = storms.context("a storm on both")?;
        let of = |bench: &Bench<'_>, storm| Round { storm_on_both: Some(storm), ..bench.turn(number, turn) };
        turns.extend([of(&with, watched), of(&without, unwatched)]);
    }
    let servers = (with.publishing().await?, without.publishing().await?);
    for turn in 1..=TURNS {
        eprintln!("round {number} of {}: the guard, turn {turn}: window 1 on both", options.runs);
        let published = tokio::try_join!(
            load::publish(servers.0.subject(), with.published()),
            load::publish(servers.1.subject(), without.published()),
        );
        let (watched, unwatched) = published.context("window 1 on both")?;
        let of = |bench: &Bench<'_>, one| Round { window_1_on_both: Some(one), ..bench.turn(number, turn) };
        turns.extend([of(&with, watched), of(&without, unwatched)]);
    }
    Ok(turns)
}

/// The flood in turns with the same traffic alone: only Holdfast asks devices who they are.
async fn floods(options: &CompareOptions, number: usize, below: &Path) -> Result<Vec<Round>> {
    let kind = Kind::Holdfast(options.holdfast.clone());
    let bench = Bench { kind: &kind, options, below };
    let server = bench.publishing().await?;
    let mut turns = Vec::new();
    for turn in 1..=TURNS {
        eprintln!("round {number} of {}: flood, turn {turn}: {}", options.runs, kind.name());
        turns.push(bench.flood(&server, number, turn).await.context("a flood")?);
    }
    Ok(turns)
}

/// One server in one round.
struct Bench<'a> {
    kind: &'a Kind,
    options: &'a CompareOptions,
    below: &'a Path,
}

impl Bench<'_> {
    async fn round(&self, number: usize) -> Result<Round> {
        let mut round = Round { number, server: self.kind.name(), ..Round::default() };
        let unwatched = matches!(self.kind, Kind::HoldfastUnwatched(_));
        if !unwatched {
            round.churn = self.carried("connects and disconnects", self.churn().await)?;
            for devices in self.idle_devices() {
                round.idle.extend(self.carried("silent devices", self.idle(devices).await)?);
            }
        }
        if let Kind::Holdfast(_) = self.kind {
            round.amqp_idle = Some(self.amqp_idle().await?);
            round.conversation = Some(self.conversation().await.context("the whole conversation")?);
            round.reports = Some(self.reports().await.context("updates of twins")?);
        }
        let server = self.publishing().await?;
        let publish = self.published();
        let paced = PublishOptions { rate: Some(PACED), ..publish };
        round.paced = self.carried("2,000 msg/s", load::publish(server.subject(), paced).await)?;
        if unwatched {
            return Ok(round);
        }
        if let Kind::Holdfast(_) = self.kind {
            // Something to read; what it costs is measured in turns.
            load::publish(server.subject(), publish).await.context("a stream to read")?;
            self.read(&server, &mut round).await?;
            self.through(&server, &mut round).await?;
        }
        let window_10 = PublishOptions { window: 10, ..publish };
        round.window_10 = self.carried("window 10", load::publish(server.subject(), window_10).await)?;
        Ok(round)
    }

    async fn window_1(&self, server: &Server, number: usize, turn: usize) -> Result<Round> {
        let before = apart::nanoseconds();
        let window_1 = self.carried("window 1", load::publish(server.subject(), self.published()).await)?;
        let free = PublishOptions { free: true, ..self.published() };
        let window_1_free = self.carried("window 1, free", load::publish(server.subject(), free).await)?;
        let apart_ns = before.zip(apart::nanoseconds()).map(|(before, after)| f64::midpoint(before, after));
        Ok(Round { window_1, window_1_free, apart_ns, ..self.turn(number, turn) })
    }

    async fn storm_alone(&self, number: usize, turn: usize) -> Result<Round> {
        let CompareOptions { storm: devices, storm_concurrency: concurrency, .. } = *self.options;
        let server = self.stormed(devices)?;
        let apart_ns = apart::nanoseconds();
        let options = StormOptions { devices, concurrency, look: false };
        let storm = self.carried("storm", load::storm(server.subject(), options).await)?;
        Ok(Round { storm, apart_ns, ..self.turn(number, turn) })
    }

    /// A server that knows the devices of a storm, none of which has been there yet.
    fn stormed(&self, devices: usize) -> Result<Server> {
        let server = Server::start(self.kind, self.below)?;
        server.subject().register(devices)?;
        Ok(server)
    }

    async fn flood(&self, server: &Server, number: usize, turn: usize) -> Result<Round> {
        let attack = AttackOptions { attempts: BAD_TOKENS, addresses: 50, devices: self.published().devices };
        let options = FloodOptions { attack, rate: PACED, seconds: self.options.seconds };
        let flood = load::flood(server.subject(), &server.ready_file(), options).await?;
        Ok(Round { flood: Some(flood), ..self.turn(number, turn) })
    }

    fn turn(&self, number: usize, turn: usize) -> Round {
        Round { number, turn, server: self.kind.name(), ..Round::default() }
    }

    /// A peer that cannot carry a load has no figure, and it is said why; Holdfast has to carry it.
    fn carried<T>(&self, what: &str, measured: Result<T>) -> Result<Option<T>> {
        match measured {
            Err(error) if !self.kind.is_holdfast() => {
                eprintln!("{} has no figure for {what}: {error:#}", self.kind.name());
                Ok(None)
            }
            measured => measured.map(Some).with_context(|| what.to_owned()),
        }
    }

    fn idle_devices(&self) -> impl Iterator<Item = usize> {
        let most = if let Kind::NatsSynced(_) = self.kind { NATS_IDLE_MAX } else { usize::MAX };
        self.options.devices.iter().copied().filter(move |devices| *devices <= most)
    }

    async fn churn(&self) -> Result<Churn> {
        let server = Server::start(self.kind, self.below)?;
        let churn = ChurnOptions { concurrency: 32, seconds: self.options.seconds };
        server.subject().register(churn.devices())?;
        load::churn(server.subject(), churn).await
    }

    async fn idle(&self, devices: usize) -> Result<Idle> {
        let mut server = Server::start(self.kind, self.below)?;
        let idle = IdleOptions { devices, hold: self.options.seconds, unsubscribed: false };
        server.subject().register(idle.devices)?;
        // What registering took must not hide what the connections take.
        server.restart()?;
        load::idle(server.subject(), idle).await
    }

    async fn amqp_idle(&self) -> Result<AmqpIdle> {
        let arguments = ["--partitions".to_owned(), AMQP_PARTITIONS.to_string()];
        let server = Server::start_with(self.kind, self.below, &arguments)?;
        let connections = self.options.amqp_connections;
        let idle = AmqpIdleOptions { connections, partitions: AMQP_PARTITIONS, hold: 2 };
        load::amqp_idle(server.subject(), idle).await
    }

    async fn conversation(&self) -> Result<Conversation> {
        let mut server = Server::start(self.kind, self.below)?;
        let seconds = self.options.seconds;
        let conversation = ConversationOptions { devices: CONVERSING, calls: 200, changes: 500, seconds };
        server.subject().register(conversation.devices)?;
        server.restart()?;
        load::conversation(server.subject(), conversation).await
    }

    async fn reports(&self) -> Result<Reports> {
        let server = Server::start(self.kind, self.below)?;
        let reports = ReportsOptions { devices: 200, seconds: self.options.seconds };
        server.subject().register(reports.devices)?;
        load::reports(server.subject(), reports).await
    }

    fn published(&self) -> PublishOptions {
        let seconds = self.options.seconds;
        PublishOptions { devices: 100, qos: 1, window: 1, seconds, warmup: 2, rate: None, free: false }
    }

    /// A server whose devices may publish.
    async fn publishing(&self) -> Result<Server> {
        let server = Server::start(self.kind, self.below)?;
        server.subject().register(self.published().devices)?;
        if let Kind::NatsSynced(_) = self.kind {
            server.subject().keep_messages().await?;
        }
        Ok(server)
    }

    fn python(&self, server: &Server) -> Option<PythonReader> {
        let python = self.options.python.clone()?;
        Some(PythonReader { python, ready_file: server.ready_file() })
    }

    async fn through(&self, server: &Server, round: &mut Round) -> Result<()> {
        let through = ThroughOptions { devices: 100, rate: PACED, seconds: self.options.seconds };
        round.through = Some(load::through(server.subject(), through).await?);
        if let Some(python) = self.python(server) {
            round.through_by_python = Some(load::through_by_python(python, server.subject(), through).await?);
        }
        Ok(())
    }

    async fn read(&self, server: &Server, round: &mut Round) -> Result<()> {
        let seconds = self.options.seconds;
        round.read = Some(load::read(server.subject(), ReadOptions { seconds, credit: 300 }).await?);
        if let Some(python) = self.python(server) {
            round.read_by_python = Some(load::read_by_python(python, server.subject(), seconds).await?);
        }
        Ok(())
    }
}
