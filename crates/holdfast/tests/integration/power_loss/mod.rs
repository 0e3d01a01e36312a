//! Power loss under load: the real hub over a fault layer (`powerloss/`) that knows what was synced. The hub is
//! killed, what was not synced is taken away, and the hub is started on the rest.
//!
//! After every start: what was acknowledged is in the stream, once; what any reader saw is where it saw it; no
//! sequence number stands for two events; the messages of a device are in order and without a hole within each of its
//! connections; changes of the registry that were acknowledged are there, and others whole or not at all; files that were
//! acknowledged are there byte for byte, and others whole or not at all; a device-bound message that was taken waits until it
//! is over, and never again after that; steps of a twin that were acknowledged are there, and no version went back; the
//! audit log is sound, and goes on from a checkpoint that was taken away just before the power went.
//!
//! `HOLDFAST_POWER_ROUNDS` and `HOLDFAST_POWER_SEED` choose how many rounds and which; each failure names its seed.

mod auditor;
mod correspondent;
mod faults;
mod ledger;
mod load;
mod registry;
mod talker;
mod uploader;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sim::Device;
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::auditor::Auditor;
use self::correspondent::{Correspondent, Tally};
use self::ledger::{Ledger, name};
use self::load::Life;
use self::registry::{BackEnd, key};
use self::talker::{Steps, TALKER};
use self::uploader::Uploader;
use crate::support::{Cut, Hub, Names, Random, Rest, Shim, Started, setting, until};

const DEVICES: u32 = 12;
const BACK_ENDS: u32 = 2;
/// How often one data directory loses power before the next one begins.
const ROUNDS_PER_DIRECTORY: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_under_load_loses_nothing_that_was_acknowledged_or_read() {
    let rounds = setting("HOLDFAST_POWER_ROUNDS", 20);
    let seed = setting("HOLDFAST_POWER_SEED", u64::from(std::process::id()));
    println!("{rounds} rounds, seed {seed}");
    let (begun, mut totals) = (Instant::now(), Totals::default());
    for directory in 0..rounds.div_ceil(ROUNDS_PER_DIRECTORY) {
        let mut site = Site::new(seed + directory);
        for round in 0..ROUNDS_PER_DIRECTORY.min(rounds - directory * ROUNDS_PER_DIRECTORY) {
            site.round = round;
            let milliseconds = 200 + site.random.below(1_000);
            let mut running = site.start().await;
            running.load(Duration::from_millis(milliseconds)).await;
            site.cut_power(running).await;
        }
        let running = site.start().await;
        site.cut_power(running).await;
        totals.add(&site);
    }
    println!(
        "figure: {rounds} losses of power and {} during a start, in {:.0} s: {} messages sent, {} acknowledged, {} changes of \
         the registry and {} files acknowledged, {} device-bound messages taken and {} settled, {} desired and {} reported \
         changes of a twin, {} calls answered; nothing lost; the audit log agreed with {} checkpoints taken away before",
        totals.starts_cut,
        begun.elapsed().as_secs_f64(),
        totals.sent,
        totals.acknowledged,
        totals.changes,
        totals.files,
        totals.correspondence.sent,
        totals.correspondence.settled,
        totals.correspondence.desired,
        totals.reported,
        totals.correspondence.calls,
        totals.compared,
    );
}

/// A data directory under the fault layer, and all that is known of it.
pub(crate) struct Site {
    pub(crate) shim: Shim,
    /// Whether sectors that were not synced may survive a loss of power.
    pub(crate) leftovers: bool,
    pub(crate) ledger: Arc<Ledger>,
    back_ends: Vec<BackEnd>,
    uploader: Option<Uploader>,
    correspondent: Option<Correspondent>,
    reported: Arc<Steps>,
    auditor: Auditor,
    random: Random,
    seed: u64,
    round: u64,
    log: PathBuf,
    connection_string: Option<String>,
    starts_cut: u64,
    _place: TempDir,
}

/// A hub on a site, with its clients.
pub(crate) struct Running {
    hub: Hub,
    pub(crate) rest: Arc<Rest>,
    pub(crate) life: Arc<Life>,
    ledger: Arc<Ledger>,
    devices: Vec<(u32, Device)>,
    back_ends: Vec<BackEnd>,
    uploader: Option<Uploader>,
    tasks: JoinSet<()>,
    threads: Vec<std::thread::JoinHandle<BackEnd>>,
    uploading: Option<std::thread::JoinHandle<Uploader>>,
    correspondent: Option<Correspondent>,
    corresponding: Option<std::thread::JoinHandle<Correspondent>>,
    reported: Arc<Steps>,
    random: Random,
}

#[derive(Default)]
struct Totals {
    sent: usize,
    acknowledged: usize,
    changes: u64,
    files: u64,
    correspondence: Tally,
    reported: u64,
    starts_cut: u64,
    compared: u64,
}

impl Totals {
    fn add(&mut self, site: &Site) {
        self.sent += site.ledger.sent();
        self.acknowledged += site.ledger.acknowledged();
        self.changes += site.back_ends.iter().map(|back_end| back_end.acknowledged).sum::<u64>();
        self.files += site.uploader.iter().map(|uploader| uploader.acknowledged).sum::<u64>();
        site.correspondent.iter().for_each(|correspondent| self.correspondence.add(correspondent.tally));
        self.reported += site.reported.acknowledged();
        self.starts_cut += site.starts_cut;
        self.compared += site.auditor.compared;
    }
}

impl Site {
    pub(crate) fn new(seed: u64) -> Self {
        let place = tempfile::Builder::new().prefix("holdfast-power-").tempdir().unwrap();
        let (mut random, reported) = (Random(seed), Arc::new(Steps::default()));
        Self {
            shim: Shim::new(place.path()),
            leftovers: true,
            ledger: Arc::default(),
            back_ends: (0..BACK_ENDS).map(|number| BackEnd::new(number, random.fork())).collect(),
            uploader: Some(Uploader::new(name(0), random.fork())),
            correspondent: Some(Correspondent::new(reported.clone(), random.fork())),
            reported,
            auditor: Auditor::new(place.path()),
            random,
            seed,
            round: 0,
            log: place.path().join("hub.log"),
            connection_string: None,
            starts_cut: 0,
            _place: place,
        }
    }

    /// Starts the hub, now and then after starts in whose middle the power goes, and judges what it finds.
    pub(crate) async fn start(&mut self) -> Running {
        let (running, problems) = self.start_and_judge().await;
        assert!(
            problems.is_empty(),
            "seed {}, round {}: {} problems, among them\n  {}\n{}",
            self.seed,
            self.round,
            problems.len(),
            problems[..problems.len().min(20)].join("\n  "),
            running.hub.log().lines().rev().take(30).collect::<Vec<_>>().join("\n"),
        );
        running
    }

    /// The same, giving what does not hold.
    pub(crate) async fn start_and_judge(&mut self) -> (Running, Vec<String>) {
        while self.random.once_in(3) {
            let started = Started::new(self.shim.data(), &self.log, &self.shim.hub_options());
            tokio::time::sleep(Duration::from_millis(self.random.below(400))).await;
            started.kill();
            self.starts_cut += 1;
            self.lose_unsynced();
        }
        let hub = Hub::start(self.shim.data(), &self.log, &self.shim.hub_options());
        let rest = Arc::new(Rest::new(&hub));
        let connection_string = hub.ready["service_connection_string"].as_str().unwrap().to_owned();
        let first = self.connection_string.is_none();
        let known = self.connection_string.get_or_insert_with(|| connection_string.clone());
        assert_eq!(*known, connection_string, "the keys of the policies changed");
        let asked = rest.clone();
        let mut back_ends = std::mem::take(&mut self.back_ends);
        let mut uploader = self.uploader.take();
        let mut correspondent = self.correspondent.take();
        let judged = tokio::task::spawn_blocking(move || {
            if first {
                (0..DEVICES).for_each(|number| asked.register(&name(number), &key(&name(number))));
                Correspondent::register(&asked);
            }
            back_ends.iter_mut().for_each(|back_end| back_end.judge(&asked));
            uploader.iter_mut().for_each(|uploader| uploader.judge(&asked));
            correspondent.iter_mut().for_each(|correspondent| correspondent.judge(&asked));
            (back_ends, uploader, correspondent)
        });
        let (back_ends, uploader, correspondent) = judged.await.unwrap();

        let life = Arc::new(Life::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(load::read(self.ledger.clone(), life.clone(), hub.reader()));
        let mut devices = Vec::new();
        for number in 0..DEVICES {
            let options = hub.device(&name(number), &key(&name(number)));
            devices.push((number, Device::connect(&options).await.unwrap()));
        }
        let mut running = Running {
            hub,
            rest,
            life,
            ledger: self.ledger.clone(),
            devices,
            back_ends,
            uploader,
            tasks,
            threads: Vec::new(),
            uploading: None,
            correspondent,
            corresponding: None,
            reported: self.reported.clone(),
            random: self.random.fork(),
        };
        // What the reader has seen when it sees the newest message of each device is everything.
        let fences = load::fence(&self.ledger, &mut running.devices).await;
        let begun = Instant::now();
        while !self.ledger.has_seen(&fences) && begun.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut problems = self.ledger.judge();
        problems.extend(self.auditor.judge(self.shim.data()));
        (running, problems)
    }

    /// Kills the hub and takes away what was not synced.
    pub(crate) async fn cut_power(&mut self, running: Running) {
        self.auditor.take(&running.hub);
        running.hub.kill();
        running.life.over.store(true, Ordering::SeqCst);
        self.lose_unsynced();
        running.tasks.join_all().await;
        self.back_ends = running.back_ends;
        for thread in running.threads {
            self.back_ends.push(thread.join().unwrap());
        }
        self.uploader = running.uploading.map(|thread| thread.join().unwrap()).or(running.uploader);
        self.correspondent =
            running.corresponding.map(|thread| thread.join().unwrap()).or(running.correspondent);
    }

    fn lose_unsynced(&mut self) {
        let names = if self.random.once_in(2) { Names::Directory } else { Names::Ordered };
        let cut = Cut { names, leftovers: self.leftovers && !self.random.once_in(3) };
        self.shim.cut_power(cut, &mut self.random);
    }
}

impl Running {
    /// Lets all clients loose; they go on until the life is over.
    pub(crate) fn begin_load(&mut self) {
        for (number, device) in self.devices.drain(..) {
            let options = self.hub.device(&name(number), &key(&name(number)));
            let (ledger, life) = (self.ledger.clone(), self.life.clone());
            self.tasks.spawn(load::send(ledger, life, number, options, device, self.random.fork()));
        }
        for mut back_end in self.back_ends.drain(..) {
            let (rest, life) = (self.rest.clone(), self.life.clone());
            self.threads.push(std::thread::spawn(move || {
                back_end.work(&rest, &life);
                back_end
            }));
        }
        if let Some(mut uploader) = self.uploader.take() {
            let (rest, life) = (self.rest.clone(), self.life.clone());
            self.uploading = Some(std::thread::spawn(move || {
                uploader.work(&rest, &life);
                uploader
            }));
        }
        let talker = self.hub.device(TALKER, &key(TALKER));
        self.tasks.spawn(talker::talk(talker, self.life.clone(), self.reported.clone()));
        if let Some(mut correspondent) = self.correspondent.take() {
            let (rest, life) = (self.rest.clone(), self.life.clone());
            self.corresponding = Some(std::thread::spawn(move || {
                correspondent.work(&rest, &life);
                correspondent
            }));
        }
    }

    async fn load(&mut self, time: Duration) {
        let before = self.ledger.acknowledged();
        self.begin_load();
        tokio::time::sleep(time).await;
        // A kill before anything was acknowledged proves little.
        let ledger = self.ledger.clone();
        until("acknowledgements", Duration::from_secs(30), || ledger.acknowledged() > before + 50).await;
    }
}
