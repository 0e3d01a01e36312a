//! The wiring: opens what lasts, makes what is missing, starts the listeners, and stops in order.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hub::decision::{Door, Origin};
use hub::hub::{Hub, SECURITY_PARTITIONS, Settings};
use hub::hub_events::EventStream;
use hub::ports::bus::Ending;
use hub::ports::clock::Clock;
use hub::ports::registry::{Committed, Registry};
use hub::ports::secrets::Secrets;
use hub::positions::Positions;
use hub::record::Key;
use hub::registry::By;
use jiff::Timestamp;
use store::{
    Directory, Journal, JournalConfig, MemoryBus, ObjectBlobs, OnCommit, SqliteConfig, SqliteRegistry,
};
use tokio::sync::{mpsc, watch};

use crate::belongings::{self, Keeper};
use crate::certificate_duty::CertificateDuty;
use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::drain::Drain;
use crate::files::create_private_directory;
use crate::fronts::amqp::{self, AmqpFront};
use crate::fronts::https::HttpsFront;
use crate::fronts::mqtt::MqttFront;
use crate::guard::{Guard, Place};
use crate::lanes::{Entry, Lanes};
use crate::listen::{self, Seen};
use crate::management::Management;
use crate::master_key::GivenKey;
use crate::metrics::Metrics;
use crate::notary::Notary;
use crate::outgoing::Outgoing;
use crate::positions;
use crate::recorder::{NoRecorder, QueueRecorder};
use crate::remote::HttpsFiles;
use crate::retention::Retention;
use crate::scrub::Scrub;
use crate::secrets::{KeyRing, SystemRandom};
use crate::tls::{ServerCertificate, server_config};
use crate::unadmitted;
use crate::upkeep::Upkeep;

/// Changes that may wait for their connections to be rechecked; beyond it everything is.
const CHANGES_MAX: usize = 10_000;

/// A running hub.
pub(crate) struct App {
    /// The rules and their ports.
    pub(crate) hub: Arc<Hub>,
    /// The posture engine.
    pub(crate) guard: Arc<Guard>,
    /// The figures.
    metrics: Arc<Metrics>,
    /// The file of the authority that clients must trust.
    pub(crate) authority_file: PathBuf,
    /// The file of the management credential.
    pub(crate) credential_file: PathBuf,
    /// The ports that are served.
    pub(crate) ports: Ports,
    /// What could not be served, and why.
    pub(crate) not_served: Vec<(Door, SocketAddr, io::Error)>,
    journal: Arc<Journal>,
    registry: Arc<SqliteRegistry>,
    recorder: Arc<QueueRecorder>,
    notary: Arc<Notary>,
    keeper: Arc<Keeper>,
    drain: Drain,
    drain_deadline: Duration,
    /// Removed with the hub when it is a temporary one.
    _temporary: Option<tempfile::TempDir>,
}

/// The ports that are served; `None` where one could not be bound.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ports {
    /// HTTPS and WebSockets.
    pub(crate) https: Option<u16>,
    /// MQTT.
    pub(crate) mqtt: Option<u16>,
    /// AMQP.
    pub(crate) amqp: Option<u16>,
}

/// The clock of the machine.
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl App {
    /// Opens everything and starts to listen; MQTT is served on these lanes.
    pub(crate) async fn start(
        config: &Config,
        master_key: Option<&GivenKey>,
        temporary: Option<tempfile::TempDir>,
        lanes: Lanes,
    ) -> anyhow::Result<Self> {
        config.check()?;
        create_private_directory(&config.data)?;
        // Before anything is read or written: another hub may run on this directory.
        let journal_directory = open_journal_directory(&config.data)?;
        let losses = belongings::check_files(&config.data, config.accept_loss)?;
        let management = Arc::new(Management::open(&config.data)?);
        let hosts = config.hosts();
        let certificate = Arc::new(ServerCertificate::open(&config.data, &hosts, Timestamp::now())?);
        let secrets: Arc<dyn Secrets> = Arc::new(KeyRing::open(&config.data, master_key)?);
        let registry: Arc<SqliteRegistry> = Arc::new(SqliteRegistry::open(
            &config.data.join("registry.db"),
            &SqliteConfig { decisions_max: config.decisions_kept, ..SqliteConfig::default() },
        )?);
        let found = belongings::Found::look(&config.data, &registry, losses, config.accept_loss)?;
        let metrics = Metrics::new(hosts.first().map_or("", String::as_str));
        let journal = Arc::new(
            Journal::on_disk(
                Arc::new(journal_directory),
                JournalConfig {
                    partitions: config.partitions + SECURITY_PARTITIONS,
                    retention: config.retention(),
                    bytes_max: config.retention_bytes(),
                    reserve_bytes: config.reserve_bytes(),
                    known: found.reached(),
                    accept_loss: config.accept_loss,
                    on_commit: Some(OnCommit({
                        let syncs = metrics.syncs.clone();
                        Arc::new(move |length| syncs.observe(length))
                    })),
                    ..JournalConfig::default()
                },
            )
            .map_err(|error| found.journal_refused(error))?,
        );
        let uploads = config.data.join("uploads");
        create_private_directory(&uploads)?;
        let blobs =
            ObjectBlobs::in_folder(&uploads).context("the folder of uploaded files could not be opened")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let host = hosts.first().map_or("hub", String::as_str);
        let notary = Notary::open(&config.data, &*secrets, host, registry.clone(), clock.clone())?;
        let recorder =
            QueueRecorder::start(registry.clone(), secrets.clone(), clock.clone(), config.decisions_kept);
        let hub = Arc::new(Hub {
            registry: registry.clone(),
            log: journal.clone(),
            events: Arc::new(EventStream::new(journal.clone())),
            secrets,
            blobs: Arc::new(blobs),
            remote: Arc::new(HttpsFiles::default()),
            bus: Arc::new(MemoryBus::new()),
            clock,
            random: Arc::new(SystemRandom),
            recorder: if config.unwatched { Arc::new(NoRecorder) } else { recorder.clone() },
            readers: Arc::default(),
            positions: Positions::default(),
            backoff: Arc::new(config.backoff()),
            calls: Arc::default(),
            rechecks: AtomicU64::default(),
            staging: Arc::default(),
            settings: Settings {
                hosts,
                event_hub_name: config.event_hub_name(),
                modules_per_device_max: config.modules_per_device,
                security_messages_in_events: config.security_messages_in_events,
                events: config.hub_events.unwrap_or_default(),
                upload_bytes_max: config.upload_megabytes_max * 1024 * 1024,
            },
        });
        let by = By { actor: "first start".to_owned(), origin: Origin::default() };
        hub.ensure_default_policies(&by).await.context("the default policies could not be made")?;
        let keeper = found.settle(&hub, registry.clone(), journal.clone()).await?;
        let retention = Arc::new(Retention::open(&config.data, journal.clone(), keeper.clone()));
        let upkeep = Arc::new(Upkeep {
            scrub: Arc::new(Scrub::new(hub.clone(), journal.clone(), registry.clone())),
            certificate: Arc::new(CertificateDuty::new(hub.clone(), certificate.clone(), retention.clone())),
            retention,
        });
        upkeep.certificate.look().await;
        let guard = Guard::new(
            hub.clone(),
            Place::new(&config.data),
            certificate.clone(),
            upkeep.clone(),
            config.secrets(),
        );
        recorder.observe_with({
            let guard = guard.clone();
            let metrics = metrics.clone();
            Arc::new(move |decision| {
                metrics.observe(decision);
                guard.observe(decision);
            })
        });
        let outgoing = Arc::new(Outgoing::default());
        let policy_changes = follow_changes(&hub, &*registry, &guard, &outgoing);
        outgoing.start(&hub);
        hub.load_positions().await.context("the positions of readers could not be read")?;
        positions::keep(&hub);
        upkeep.keep();
        if !config.unwatched {
            notary.start();
        }

        let mut app = Self {
            hub,
            guard,
            metrics,
            authority_file: certificate.authority.clone(),
            credential_file: management.file.clone(),
            ports: Ports::default(),
            not_served: Vec::new(),
            journal,
            registry,
            recorder,
            notary,
            keeper,
            drain: Drain::new(),
            drain_deadline: Duration::from_secs(config.drain_seconds),
            _temporary: temporary,
        };
        app.listen(config, &certificate, management, (policy_changes, outgoing), lanes).await?;
        if !config.unwatched {
            app.guard.watch();
        }
        Ok(app)
    }

    async fn listen(
        &mut self,
        config: &Config,
        certificate: &Arc<ServerCertificate>,
        management: Arc<Management>,
        (policy_changes, outgoing): (watch::Receiver<u64>, Arc<Outgoing>),
        lanes: Lanes,
    ) -> anyhow::Result<()> {
        let (hub, drain, shared) = (self.hub.clone(), self.drain.clone(), Lanes::default());
        let seen = Seen {
            hub: hub.clone(),
            metrics: self.metrics.clone(),
            unadmitted: unadmitted::start(&hub, drain.clone()),
            descriptors: Descriptors::of_process(),
        };
        let amqp = Arc::new(AmqpFront {
            hub: hub.clone(),
            metrics: self.metrics.clone(),
            config: amqp::config(),
            policy_changes,
            outgoing,
            drain: drain.clone(),
        });
        if let Some((entries, port)) = self.bind(Door::Https, config, config.https_port, &shared).await {
            let front = HttpsFront {
                hub: hub.clone(),
                management,
                recorder: self.recorder.clone(),
                guard: self.guard.clone(),
                metrics: self.metrics.clone(),
                public_port: config.public_https_port.unwrap_or(port),
                metrics_are_open: config.local_metrics,
                notary: self.notary.clone(),
                amqp: amqp.clone(),
                drain: drain.clone(),
            };
            let tls = server_config(certificate, &[b"http/1.1"])?;
            listen::open(entries, Door::Https, &tls, &seen, &Arc::new(front), &drain);
            self.ports.https = Some(port);
        }
        if let Some((entries, port)) = self.bind(Door::Mqtt, config, config.mqtt_port, &lanes).await {
            let front = MqttFront { hub: hub.clone(), metrics: self.metrics.clone(), drain: drain.clone() };
            let tls = server_config(certificate, &[b"mqtt"])?;
            listen::open(entries, Door::Mqtt, &tls, &seen, &Arc::new(front), &drain);
            self.ports.mqtt = Some(port);
        }
        if let Some((entries, port)) = self.bind(Door::Amqp, config, config.amqp_port, &shared).await {
            let tls = server_config(certificate, &[b"amqp"])?;
            listen::open(entries, Door::Amqp, &tls, &seen, &amqp, &drain);
            self.ports.amqp = Some(port);
        }
        if self.ports.https.is_none() && self.ports.mqtt.is_none() && self.ports.amqp.is_none() {
            let (_, address, error) = self.not_served.remove(0);
            return Err(error).with_context(|| format!("could not listen on any port of {}", address.ip()));
        }
        Ok(())
    }

    async fn bind(
        &mut self,
        door: Door,
        config: &Config,
        port: u16,
        lanes: &Lanes,
    ) -> Option<(Vec<Entry>, u16)> {
        let address = SocketAddr::new(config.listen, port);
        match lanes.listen(address) {
            Ok(entries) => {
                let bound = entries.first().and_then(|entry| entry.listener.local_addr().ok());
                Some((entries, bound.map_or(port, |address| address.port())))
            }
            Err(error) => {
                self.not_served.push((door, address, error));
                None
            }
        }
    }

    /// Stops: no new connections, the old ones end, what they sent becomes durable, what was decided is written.
    pub(crate) async fn stop(self) {
        let begun = Instant::now();
        self.drain.begin();
        for holder in self.hub.bus.holders() {
            holder.end(Ending::Draining);
        }
        if !self.drain.finish(self.drain_deadline).await {
            tracing::warn!(seconds = self.drain_deadline.as_secs(), "connections did not end in time");
        }
        self.recorder.finish().await;
        self.guard.stop().await;
        if let Err(error) = self.hub.write_positions(&[]).await {
            tracing::error!(%error, "the positions of readers could not be written down");
        }
        if let Err(error) = self.notary.checkpoint_if_grown().await {
            tracing::error!(%error, "the last checkpoint of the audit log could not be signed");
        }
        if let Err(error) = self.keeper.remember(None).await {
            tracing::error!(%error, "how far the journal reaches could not be written down");
        }
        let (journal, registry) = (self.journal.clone(), self.registry.clone());
        let closed = tokio::task::spawn_blocking(move || {
            journal.close();
            registry.close();
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "the journal or the registry did not close well");
        }
        tracing::info!(milliseconds = begun.elapsed().as_millis() as u64, "stopped");
    }
}

/// Tells connections what a change announces, in the order of the commits, and rechecks those whose right it concerns, off
/// the message path. What is returned counts the changes of policies.
fn follow_changes(
    hub: &Arc<Hub>,
    registry: &dyn Registry,
    guard: &Arc<Guard>,
    outgoing: &Arc<Outgoing>,
) -> watch::Receiver<u64> {
    let (policies, policy_changes) = watch::channel(0_u64);
    let (changes, mut changed) = mpsc::channel::<Vec<Key>>(CHANGES_MAX);
    let crowded = Arc::new(AtomicBool::new(false));
    let too_many = crowded.clone();
    let guard = Arc::downgrade(guard);
    let (bus, stream, outgoing) = (hub.bus.clone(), hub.events.clone(), outgoing.clone());
    registry.watch(Arc::new(move |Committed { keys, announces, events }| {
        stream.publish(events);
        if let Some(change) = announces
            && let Some(holder) = bus.holder(&change.identity)
        {
            holder.desired_changed(change);
        }
        outgoing.committed(keys);
        if keys.iter().any(|key| matches!(key, Key::Policy(_))) {
            policies.send_modify(|count| *count += 1);
        }
        let concerns = |key: &&Key| {
            matches!(
                key,
                Key::Device(_) | Key::Module(..) | Key::Policy(_) | Key::Authority(_) | Key::Settings
            )
        };
        let keys: Vec<Key> = keys.iter().filter(concerns).cloned().collect();
        if !keys.is_empty()
            && let Some(guard) = guard.upgrade()
        {
            guard.changed(&keys);
        }
        if !keys.is_empty() && changes.try_send(keys).is_err() {
            crowded.store(true, Ordering::SeqCst);
            // A queue that is still full has something to wake up for.
            let _ = changes.try_send(Vec::new());
        }
    }));
    let hub = hub.clone();
    tokio::spawn(async move {
        while let Some(keys) = changed.recv().await {
            hub.recheck(&keys).await;
            if too_many.swap(false, Ordering::SeqCst) {
                hub.recheck_all().await;
            }
        }
    });
    policy_changes
}

/// Opens the directory of the journal, whose lock is that of the whole data directory.
fn open_journal_directory(data: &Path) -> anyhow::Result<Directory> {
    match Directory::open(&data.join("journal")) {
        Ok(directory) => Ok(directory),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            bail!(
                "{} is in use by another hub; stop that one, or give this one another --data",
                data.display()
            )
        }
        Err(error) => Err(error).context("the directory of the journal could not be opened"),
    }
}
