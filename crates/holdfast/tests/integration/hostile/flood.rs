//! A flood of refusals beside good traffic: those who behave do not feel it, the log says what it was in few records,
//! memory stays flat, and whoever waits for the answers is slowed down.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use rustix::process::nice;
use serde_json::Value;
use sim::{Device, Message, QoS, SimError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::bytes;
use crate::support::{Hub, HubOptions, Rest, Tls, sas_token, setting};

const KEY: &str = "Z29vZCBnb29kIGdvb2QgZ29vZCBnb29k";
const WRONG_KEY: &str = "YmFkIGJhZCBiYWQgYmFkIGJhZCBiYWQ=";
/// Devices that behave; each sends every 50 ms.
const FLEET: u64 = 100;
const PAUSE: Duration = Duration::from_millis(50);
/// Addresses that attack.
const ATTACKERS: u8 = 50;
/// Attempts of one address at once: those who wait for answers are no more than may wait.
const AT_ONCE: usize = 16;
/// How long the hasty wait for an answer.
const HASTE: Duration = Duration::from_millis(100);
/// Below this an acknowledgement is quick, however quick it was before.
const QUICK: Duration = Duration::from_millis(50);
/// How often calm and flood take turns.
const ROUNDS: u32 = 3;
/// What the last round of the flood may leave in memory.
const GROWTH_MAX: u64 = 12 * 1024 * 1024;
/// What those who wait for their answer may take: 50 times 16 connections.
const WAITING_MAX: u64 = 64 * 1024 * 1024;
/// Records of one address and cause in a minute, and the one with the rest.
const RECORDS_MAX: u64 = 21;

/// Where attackers run: on threads of the lowest priority, because they stand for clients elsewhere, which take no time of
/// this machine.
static ELSEWHERE: LazyLock<Runtime> = LazyLock::new(|| {
    let lower = || {
        nice(19).expect("everybody may lower a priority");
    };
    Builder::new_multi_thread().worker_threads(2).on_thread_start(lower).enable_all().build().unwrap()
});

/// `HOLDFAST_FLOOD_SECONDS` is how long each part takes, `HOLDFAST_FLOOD_RATE` how many bad tokens come in a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bad_tokens_is_not_felt_by_others_and_is_slowed_down() {
    let length = Duration::from_secs(setting("HOLDFAST_FLOOD_SECONDS", 3));
    let rate = setting("HOLDFAST_FLOOD_RATE", 250);
    let (started, place) = (Instant::now(), tempfile::tempdir().unwrap());
    // Nobody on this machine is slowed down unless it is asked for.
    let environment = vec![("HOLDFAST_REFUSALS_PER_MINUTE", "10".into())];
    let options = HubOptions { environment, ..HubOptions::default() };
    let hub = Hub::start(&place.path().join("data"), &place.path().join("hub.log"), &options);
    let rest = Arc::new(Rest::new(&hub));
    let register = rest.clone();
    let registered = tokio::task::spawn_blocking(move || {
        (0..FLEET).for_each(|number| register.register(&device(number), KEY));
    });
    registered.await.unwrap();
    let hub = Arc::new(hub);
    let attack = Arc::new(Attack::new(&hub));
    // What the first connections make the allocator take is no growth.
    attack.hasty(rate, length / 3).await;

    let fleet = Fleet::start(&hub).await;
    let (mut calm, mut flooded, mut resident) = (Vec::new(), Vec::new(), vec![hub.resident()]);
    let mut attempts = 0;
    for _ in 0..ROUNDS {
        fleet.figures();
        tokio::time::sleep(length / ROUNDS).await;
        calm.push(fleet.figures());
        attempts += attack.hasty(rate, length / ROUNDS).await;
        flooded.push(fleet.figures());
        resident.push(hub.resident());
    }
    // Whatever else the machine does only makes it slower, so that the quickest round says most of the hub.
    let (calm, flooded) = (calm.into_iter().min().unwrap(), flooded.into_iter().min().unwrap());
    println!("figure: flood: before: {calm}");
    println!("figure: flood: during: {flooded}");
    println!(
        "figure: flood: {:.0} bad tokens a second from {ATTACKERS} addresses; resident, round by round: {:?} KiB",
        attempts as f64 / length.as_secs_f64(),
        resident.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>(),
    );
    let [start, .., before_last, last] = resident[..] else { panic!("too few rounds") };
    assert!(last <= before_last + GROWTH_MAX, "the last round left {} bytes behind", last - before_last);
    let bound = QUICK.max(2 * calm.most);
    assert!(flooded.most <= bound, "acknowledged in {:?}, that is more than {bound:?}", flooded.most);

    let (begun, attempts) = (Instant::now(), attack.patient(length).await);
    let waiting = hub.resident();
    println!("figure: flood: while attackers wait: {}", fleet.figures());
    println!(
        "figure: flood: {} clients that wait for their answer make {attempts} attempts in {:.1?}; resident: {} KiB",
        usize::from(ATTACKERS) * AT_ONCE,
        begun.elapsed(),
        waiting / 1024,
    );
    let waits = begun.elapsed().as_secs() / 8 + 1;
    assert!(
        attempts <= waits * u64::from(ATTACKERS) * AT_ONCE as u64,
        "{attempts} attempts: they are not slowed"
    );
    assert!(waiting <= start + WAITING_MAX, "who waits takes {} bytes", waiting - start);

    // From the address of an attacker, in a name that all of them guess at.
    let begun = Instant::now();
    fleet.stop().await;
    assert_eq!(attack.connect(attacker(1), 0, KEY, Duration::from_secs(10)).await, [0x20, 2, 0, 0]);
    assert!(begun.elapsed() < Duration::from_secs(5), "a good token waited {:?}", begun.elapsed());

    let hub = Arc::into_inner(hub).unwrap();
    drop(attack);
    judge_the_log(hub, &place, rest, started).await;
}

/// After a stop, which ends the minute of folding, the log accounts for every refusal in few records.
async fn judge_the_log(hub: Hub, place: &TempDir, rest: Arc<Rest>, begun: Instant) {
    let metrics = tokio::task::spawn_blocking(move || {
        // Its answer waits until all that came before is looked into, and so counted.
        rest.own("/holdfast/v1/why?limit=1").unwrap();
        rest.own("/metrics").unwrap()
    });
    let metrics = metrics.await.unwrap();
    let Value::String(metrics) = metrics.body else { panic!("{metrics:?}") };
    let counted = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    let failures = metrics.lines().filter(|line| line.starts_with("holdfast_auth_failures_total{"));
    let (causes, refused) =
        failures.map(counted).fold((0, 0), |(causes, sum), count| (causes + 1, sum + count));
    hub.stop();
    let windows = begun.elapsed().as_secs() / 60 + 1;

    let options = HubOptions::default();
    let hub = Hub::start(&place.path().join("data"), &place.path().join("hub.log"), &options);
    let rest = Rest::new(&hub);
    let of = |address: IpAddr| {
        let answer = rest.own(&format!("/holdfast/v1/why?limit=1000&address={address}")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body.as_array().unwrap().clone()
    };
    let found: Vec<Vec<Value>> =
        tokio::task::block_in_place(|| (1..=ATTACKERS).map(|number| of(attacker(number))).collect());
    let records = found.iter().map(Vec::len).sum::<usize>();
    let told: u64 = found.iter().flatten().map(|record| record["count"].as_u64().unwrap()).sum();
    println!("figure: flood: {refused} refusals are {records} records, which account for {told}");
    assert_eq!(told, refused, "the log does not account for all");
    let most = found.iter().map(Vec::len).max().unwrap() as u64;
    assert!(most <= RECORDS_MAX * windows * causes, "an address has {most} records");
    let slowed = found.iter().flatten().find(|record| record["facts"]["slowed"].is_object());
    let text = slowed.expect("a refusal was slowed down")["explanation"].as_str().unwrap();
    assert!(text.contains("of this address or in this name"), "{text}");
    let explained = |what: &str| {
        found.iter().flatten().any(|record| record["explanation"].as_str().unwrap().contains(what))
    };
    assert!(explained("nor with one of the keys that it may have been mistaken for"));
    assert!(explained("Whose key made it was not looked for"));
    hub.kill();
}

/// Devices that behave.
struct Fleet {
    over: Arc<AtomicBool>,
    devices: Vec<JoinHandle<Result<(), SimError>>>,
    /// Since when, and how long each acknowledgement took.
    latencies: Arc<Mutex<(Instant, Vec<Duration>)>>,
}

impl Fleet {
    async fn start(hub: &Hub) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let latencies = Arc::new(Mutex::new((Instant::now(), Vec::new())));
        let mut devices = Vec::new();
        for number in 0..FLEET {
            let mut connection = Device::connect(&hub.device(&device(number), KEY)).await.unwrap();
            let (over, latencies) = (over.clone(), latencies.clone());
            devices.push(tokio::spawn(async move {
                let mut ticks = interval(PAUSE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                while !over.load(Ordering::SeqCst) {
                    ticks.tick().await;
                    let begun = Instant::now();
                    let message = Message { body: b"all is well"[..].into(), properties: &[] };
                    connection.publish(&message, QoS::AtLeastOnce).await?;
                    latencies.lock().unwrap().1.push(begun.elapsed());
                }
                connection.disconnect().await;
                Ok(())
            }));
        }
        Self { over, devices, latencies }
    }

    /// How it went since the last call.
    fn figures(&self) -> Figures {
        let mut state = self.latencies.lock().unwrap();
        let (since, mut latencies) = std::mem::replace(&mut *state, (Instant::now(), Vec::new()));
        drop(state);
        latencies.sort();
        let at = |share: usize| latencies.get(latencies.len().saturating_sub(1) * share / 100).copied();
        let per_second = latencies.len() as f64 / since.elapsed().as_secs_f64();
        Figures {
            most: at(99).unwrap_or_default(),
            median: at(50).unwrap_or_default(),
            longest: at(100).unwrap_or_default(),
            per_second: per_second as u64,
        }
    }

    async fn stop(self) {
        self.over.store(true, Ordering::SeqCst);
        for device in self.devices {
            device.await.unwrap().expect("no device is disturbed");
        }
    }
}

/// How quickly messages were acknowledged. The least is where 99 % were acknowledged soonest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Figures {
    most: Duration,
    median: Duration,
    longest: Duration,
    per_second: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { most, median, longest, per_second } = self;
        write!(f, "{per_second} good messages a second, acknowledged in {median:.1?} (median), ")?;
        write!(f, "{most:.1?} (99 %), {longest:.1?} (longest)")
    }
}

/// Those who try wrong keys in the names of the fleet.
struct Attack {
    address: SocketAddr,
    host: String,
    tls: Tls,
}

impl Attack {
    fn new(hub: &Hub) -> Self {
        Self { address: hub.address("mqtt"), host: hub.host().to_owned(), tls: Tls::new(hub) }
    }

    /// So many attempts a second by clients that do not wait for the answer; gives how many were made.
    async fn hasty(self: &Arc<Self>, rate: u64, length: Duration) -> u64 {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut attempts, mut made) = (JoinSet::new(), 0);
        while begun.elapsed() < length {
            ticks.tick().await;
            let attack = self.clone();
            let source = attacker(u8::try_from(made % u64::from(ATTACKERS)).unwrap() + 1);
            let attempt = async move { attack.connect(source, made % FLEET, WRONG_KEY, HASTE).await };
            attempts.spawn_on(attempt, ELSEWHERE.handle());
            made += 1;
            while attempts.try_join_next().is_some() {}
        }
        attempts.join_all().await;
        made
    }

    /// Clients of every address that wait for the answer and try again at once.
    async fn patient(self: &Arc<Self>, length: Duration) -> u64 {
        let (begun, made) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for number in 0..usize::from(ATTACKERS) * AT_ONCE {
            let (attack, made) = (self.clone(), made.clone());
            let source = attacker(u8::try_from(number % usize::from(ATTACKERS)).unwrap() + 1);
            let client = async move {
                // Not all in one moment.
                tokio::time::sleep(Duration::from_millis(number as u64)).await;
                while begun.elapsed() < length {
                    made.fetch_add(1, Ordering::SeqCst);
                    let left = length.saturating_sub(begun.elapsed());
                    attack.connect(source, number as u64 % FLEET, WRONG_KEY, left).await;
                }
            };
            clients.spawn_on(client, ELSEWHERE.handle());
        }
        clients.join_all().await;
        made.load(Ordering::SeqCst)
    }

    /// One connection; gives what the hub answered within a time.
    async fn connect(&self, source: IpAddr, number: u64, key: &str, patience: Duration) -> Vec<u8> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source, 0)).unwrap();
        let Ok(stream) = socket.connect(self.address).await else {
            panic!("the hub does not accept any more")
        };
        let mut stream = self.tls.connect(stream).await.unwrap();
        let device = device(number);
        let token = sas_token(&format!("{}/devices/{device}", self.host), key, None);
        let user_name = format!("{}/{device}/?api-version=2021-04-12", self.host);
        stream.write_all(&bytes::connect(&device, &user_name, &token)).await.unwrap();
        let mut answer = vec![0; 4];
        match timeout(patience, stream.read_exact(&mut answer)).await {
            Ok(Ok(_)) => answer,
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

fn device(number: u64) -> String {
    format!("fleet-{number}")
}

fn attacker(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 50, number))
}
