//! How fast the journal is: producers that wait for each message to be durable before they send the next one, as
//! devices with one QoS 1 message in flight do, and readers at the tail, of old segments, and of memory.
//!
//! ```text
//! cargo run --release -p holdfast-store --example journal_bench -- [producers] [seconds] [body bytes] [gather µs] [more µs per sync] [directory]
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_store::journal::{Directory, Disk, DiskFile, Journal, JournalConfig};
use hub::identity::{DeviceId, Identity};
use hub::ports::event_log::EventLog;
use hub::telemetry::{Message, PropertyValue, Sender, Source, SystemProperty};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (producers, seconds, body) = (number(100), number(5), number(256));
    let (gather, delay) = (number(1_000), number(0));
    let micros = |n: usize| Duration::from_micros(n as u64);
    let directory = arguments.next().unwrap_or_else(|| "target/journal-bench".to_owned());
    let _ = std::fs::remove_dir_all(&directory);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime with two threads");
    let directory = Path::new(&directory);
    runtime.block_on(bench(
        directory,
        producers,
        Duration::from_secs(seconds as u64),
        body,
        micros(gather),
        micros(delay),
    ));
    let _ = std::fs::remove_dir_all(directory);
}

async fn bench(
    directory: &Path,
    producers: usize,
    time: Duration,
    body: usize,
    gather_max: Duration,
    delay: Duration,
) {
    let config = JournalConfig { gather_max, ..JournalConfig::default() };
    let open = || {
        let directory = Directory::open(directory).expect("the directory is ours");
        Journal::on_disk(Arc::new(Slow { disk: directory, delay }), config.clone())
            .expect("the journal opens")
    };
    let journal = Arc::new(open());
    println!("{producers} producers, one message of {body} bytes in flight each, {} s", time.as_secs());
    append(&journal, producers, time, body, false).await;
    println!("the same, with a reader at the tail of each partition");
    append(&journal, producers, time, body, true).await;
    journal.close();
    let bytes = journal.bytes();
    drop(journal);

    let start = Instant::now();
    let journal = open();
    println!("opening {} MB took {:.1} ms", bytes / 1_000_000, start.elapsed().as_secs_f64() * 1e3);
    for batch in [30, 300, 3_000] {
        let start = Instant::now();
        let mut events = 0_u64;
        for partition in 0..journal.partition_count() {
            let mut from = 0;
            while let Ok(read) = journal.read(partition, from, batch, 1 << 20).await
                && let Some(last) = read.last()
                && start.elapsed() < time
            {
                from = last.sequence + 1;
                events += read.len() as u64;
            }
        }
        let rate = events as f64 / start.elapsed().as_secs_f64();
        println!("reading old segments, {batch} at a time: {rate:.0} events/s");
    }
}

async fn append(journal: &Arc<Journal>, producers: usize, time: Duration, body: usize, readers: bool) {
    let stop = Arc::new(AtomicBool::new(false));
    let (sent, read, slowest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let mut tails = Vec::new();
    if readers {
        for partition in 0..journal.partition_count() {
            tails.push(tokio::spawn(tail(Arc::clone(journal), partition, Arc::clone(&read))));
        }
    }
    let cpu = cpu_seconds();
    let start = Instant::now();
    let tasks: Vec<_> = (0..producers)
        .map(|n| tokio::spawn(produce(Arc::clone(journal), n, body, Arc::clone(&stop), Arc::clone(&sent))))
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        let worst = task.await.expect("a producer does not panic");
        slowest.fetch_max(worst.as_micros() as u64, Ordering::Relaxed);
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    tails.iter().for_each(tokio::task::JoinHandle::abort);
    let sent = sent.load(Ordering::Relaxed) as f64;
    println!(
        "  {:.0} messages/s durable, mean wait {:.0} µs, worst {:.1} ms, {:.2} µs of CPU each{}",
        sent / seconds,
        seconds * 1e6 * producers as f64 / sent,
        slowest.load(Ordering::Relaxed) as f64 / 1e3,
        cpu * 1e6 / sent,
        if readers {
            format!(", {:.0} events/s read", read.load(Ordering::Relaxed) as f64 / seconds)
        } else {
            String::new()
        },
    );
}

async fn produce(
    journal: Arc<Journal>,
    n: usize,
    body: usize,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
) -> Duration {
    let device = DeviceId::parse(&format!("device-{n:05}")).expect("a legal id");
    let partition = journal.placement().partition_of(&device, journal.partition_count());
    let message = Message {
        enqueued: 1_700_000_000_000,
        sender: Arc::new(Sender {
            identity: Identity::device(device),
            generation: "638300000000000000".into(),
            auth_method: r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
                .into(),
            source: Source::Telemetry,
            model_id: None,
        }),
        system: vec![(SystemProperty::ContentType, "application/json".into())],
        application: vec![("level".into(), PropertyValue::Text("normal".into()))],
        body: vec![b'x'; body].into(),
    };
    let mut worst = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let ticket = journal.append(partition, std::slice::from_ref(&message)).expect("room in the queue");
        std::future::poll_fn(|cx| journal.poll_durable(ticket, cx)).await.expect("a disk that works");
        worst = worst.max(start.elapsed());
        sent.fetch_add(1, Ordering::Relaxed);
    }
    worst
}

async fn tail(journal: Arc<Journal>, partition: u16, read: Arc<AtomicU64>) {
    let mut from = journal.bounds(partition).map_or(0, |bounds| bounds.next_sequence);
    loop {
        std::future::poll_fn(|cx| journal.poll_readable(partition, from, cx)).await;
        let events = journal.read(partition, from, 300, 1 << 20).await.expect("a disk that works");
        let Some(last) = events.last() else { continue };
        from = last.sequence + 1;
        read.fetch_add(events.len() as u64, Ordering::Relaxed);
    }
}

/// What this process used so far, in seconds, as Linux counts it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

/// A disk whose syncs take longer than they would: a virtual disk is kinder than a real one without a battery.
struct Slow<T> {
    disk: T,
    delay: Duration,
}

impl Disk for Slow<Directory> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Slow { disk: self.disk.create(name)?, delay: self.delay }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Slow { disk: self.disk.open(name)?, delay: self.delay }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        Disk::sync(&self.disk)
    }
}

impl DiskFile for Slow<Arc<dyn DiskFile>> {
    fn size(&self) -> io::Result<u64> {
        self.disk.size()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.disk.write_at(bytes, position)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        self.disk.sync()
    }
}
