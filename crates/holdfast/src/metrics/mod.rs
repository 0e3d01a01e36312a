//! The figures of a hub for Prometheus, named as in `docs/operating.md`. Counters are kept while the hub works, gauges
//! are taken when somebody asks. No label grows with the fleet: none holds a device, an address or a topic.

mod latency;
mod process;
mod scrape;

use std::sync::Arc;

use hub::authenticate::Basis;
use hub::decision::{Act, Decision, Door};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub(crate) use self::latency::Latency;
pub(crate) use self::scrape::{MEDIA_TYPE, scrape};

/// Labels of which neither name nor value is made at run time.
type Labels = Vec<(&'static str, &'static str)>;

/// The counters of a hub.
pub(crate) struct Metrics {
    registry: Registry,
    doors: [Arc<DoorMetrics>; DOORS.len()],
    connections: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    handshakes: Family<Labels, Counter>,
    operations: Family<Labels, Counter>,
    twins: Family<Labels, Counter>,
    methods: Family<Labels, Counter>,
    /// How long the journal took to make a batch durable.
    pub(crate) syncs: Latency,
}

/// The doors that devices come through.
const DOORS: [Door; 5] = [Door::Mqtt, Door::MqttWs, Door::Amqp, Door::AmqpWs, Door::Https];

/// What is counted with each message: found once for a connection, not with each message.
pub(crate) struct DoorMetrics {
    accepted: Counter,
    too_large: Counter,
    full: Counter,
    bytes: Counter,
    /// From taking a message to its acknowledgement; of several that wait together the first one.
    pub(crate) acknowledged: Latency,
    /// By token, and by certificate.
    connected: [Gauge; 2],
    lasted: Latency,
    /// Twin operations of devices, which failed and which succeeded.
    twin_reads: [Counter; 2],
    twin_updates: [Counter; 2],
}

impl DoorMetrics {
    /// A message was taken, so many bytes long.
    pub(crate) fn accepted(&self, messages: u64, bytes: u64) {
        self.accepted.inc_by(messages);
        self.bytes.inc_by(bytes);
    }

    /// A message was over the limit.
    pub(crate) fn too_large(&self) {
        self.too_large.inc();
    }

    /// There was no room for a message, and its sender has to wait or to come again.
    pub(crate) fn full(&self) {
        self.full.inc();
    }

    /// A device has read its twin, or could not.
    pub(crate) fn twin_read(&self, succeeded: bool) {
        self.twin_reads[usize::from(succeeded)].inc();
    }

    /// A device has changed its reported properties, or could not.
    pub(crate) fn twin_update(&self, succeeded: bool) {
        self.twin_updates[usize::from(succeeded)].inc();
    }

    /// A connection of a device begins; it ends when what is returned is dropped.
    pub(crate) fn connected(self: &Arc<Self>, basis: &Basis) -> Connected {
        let by_certificate = matches!(basis, Basis::Thumbprint(..) | Basis::Authority(..));
        self.connected[usize::from(by_certificate)].inc();
        Connected { door: self.clone(), by_certificate, begun: std::time::Instant::now() }
    }
}

/// A connection of a device, for as long as it lasts.
pub(crate) struct Connected {
    door: Arc<DoorMetrics>,
    by_certificate: bool,
    begun: std::time::Instant,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.door.connected[usize::from(self.by_certificate)].dec();
        self.door.lasted.observe(self.begun.elapsed());
    }
}

impl Metrics {
    /// All counters at zero. `host` is the label `hub` of each.
    pub(crate) fn new(host: &str) -> Arc<Self> {
        let labels = [("hub".into(), host.to_owned().into())];
        let mut registry = Registry::with_prefix_and_labels("holdfast", labels.into_iter());
        let doors = DoorFamilies::registered(&mut registry);
        let connections = Family::default();
        registry.register(
            "connections",
            "Connections and requests of devices, by outcome",
            Family::clone(&connections),
        );
        let failures = Family::default();
        registry.register("auth_failures", "Refusals, by cause (docs/why.md)", Family::clone(&failures));
        let handshakes = Family::default();
        registry.register("tls_handshakes", "TLS handshakes", Family::clone(&handshakes));
        let operations = Family::default();
        registry.register("service_operations", "Operations of services", Family::clone(&operations));
        let syncs = Latency::of_moments();
        registry.register(
            "store_fsync_seconds",
            "How long the journal took to make a batch durable",
            syncs.clone(),
        );
        let twins = Family::default();
        registry.register("twin_operations", "Reads and updates of twins", Family::clone(&twins));
        let methods = Family::default();
        registry.register("direct_methods", "Calls of direct methods", Family::clone(&methods));
        let doors = DOORS.map(|door| Arc::new(doors.of(door, &twins)));
        Arc::new(Self {
            registry,
            doors,
            connections,
            failures,
            handshakes,
            operations,
            twins,
            methods,
            syncs,
        })
    }

    /// The counters of a door.
    pub(crate) fn door(&self, door: Option<Door>) -> Arc<DoorMetrics> {
        let place = DOORS.iter().position(|have| Some(*have) == door).unwrap_or(0);
        self.doors[place].clone()
    }

    /// A handshake succeeded.
    pub(crate) fn handshake(&self, version: &'static str, cipher: &'static str) {
        let labels = vec![("version", version), ("cipher", cipher), ("result", "success")];
        self.handshakes.get_or_create(&labels).inc();
    }

    /// A service that may has read or updated a twin, or could not.
    pub(crate) fn service_twin(&self, operation: &'static str, succeeded: bool) {
        self.twins.get_or_create(&twin_labels("service", operation, succeeded)).inc();
    }

    /// A call of a direct method by a service that may was answered by its device, or was not.
    pub(crate) fn method(&self, succeeded: bool) {
        self.methods.get_or_create(&vec![("result", result_of(succeeded))]).inc();
    }

    /// Counts a decision. Called by the writer of decisions, after the one who asked has gone on.
    pub(crate) fn observe(&self, decision: &Decision) {
        let door = decision.origin.door.map_or("none", Door::as_str);
        let result = result_of(decision.refusal.is_none());
        if let Some(refusal) = &decision.refusal {
            self.failures.get_or_create(&vec![("reason", refusal.cause())]).inc_by(decision.count);
        }
        match &decision.act {
            Act::Connect => {
                let labels = vec![("protocol", door), ("result", result), ("auth", credential(decision))];
                self.connections.get_or_create(&labels).inc();
            }
            Act::Handshake if decision.refusal.is_some() => {
                let labels = vec![("version", "none"), ("cipher", "none"), ("result", "failure")];
                self.handshakes.get_or_create(&labels).inc();
            }
            // A device that is refused for its token gets no further; one that is admitted connects with its first link.
            Act::Token if decision.identity.is_some() && decision.refusal.is_some() => {
                let labels = vec![("protocol", door), ("result", result), ("auth", credential(decision))];
                self.connections.get_or_create(&labels).inc();
            }
            Act::Operation { .. } | Act::Token if decision.identity.is_none() => {
                self.operations.get_or_create(&vec![("protocol", door), ("result", result)]).inc();
            }
            _ => {}
        }
    }
}

fn result_of(succeeded: bool) -> &'static str {
    if succeeded { "success" } else { "failure" }
}

fn twin_labels(origin: &'static str, operation: &'static str, succeeded: bool) -> Labels {
    vec![("origin", origin), ("op", operation), ("result", result_of(succeeded))]
}

fn credential(decision: &Decision) -> &'static str {
    match (&decision.facts.token, decision.facts.chain.is_empty()) {
        (Some(_), _) => "sas",
        (None, false) => "x509",
        (None, true) => "none",
    }
}

/// What the doors count, by door.
struct DoorFamilies {
    messages: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    acknowledged: Family<Labels, Latency, fn() -> Latency>,
    lasted: Family<Labels, Latency, fn() -> Latency>,
    connected: Family<Labels, Gauge>,
}

impl DoorFamilies {
    fn registered(registry: &mut Registry) -> Self {
        let families = Self {
            messages: Family::default(),
            bytes: Family::default(),
            acknowledged: Family::new_with_constructor(Latency::of_moments),
            lasted: Family::new_with_constructor(Latency::of_stays),
            connected: Family::default(),
        };
        registry.register(
            "d2c_messages",
            "Messages of devices, by what became of them",
            families.messages.clone(),
        );
        registry.register(
            "device_bytes",
            "Bytes of messages, as the limit counts them",
            families.bytes.clone(),
        );
        registry.register(
            "d2c_ack_seconds",
            "From taking a message to its acknowledgement, once it is on stable storage",
            families.acknowledged.clone(),
        );
        registry.register("connected_devices", "Connections of devices", families.connected.clone());
        registry.register(
            "connection_duration_seconds",
            "How long connections of devices lasted",
            families.lasted.clone(),
        );
        families
    }

    fn of(&self, door: Door, twins: &Family<Labels, Counter>) -> DoorMetrics {
        let twin = |operation| {
            [false, true]
                .map(|succeeded| twins.get_or_create_owned(&twin_labels("device", operation, succeeded)))
        };
        let protocol = ("protocol", door.as_str());
        let messages = |result| self.messages.get_or_create_owned(&vec![protocol, ("result", result)]);
        DoorMetrics {
            accepted: messages("accepted"),
            too_large: messages("too_large"),
            full: messages("throttled"),
            bytes: self.bytes.get_or_create_owned(&vec![protocol, ("direction", "d2c")]),
            acknowledged: self.acknowledged.get_or_create_owned(&vec![protocol]),
            connected: ["sas", "x509"]
                .map(|auth| self.connected.get_or_create_owned(&vec![protocol, ("auth", auth)])),
            lasted: self.lasted.get_or_create_owned(&vec![protocol]),
            twin_reads: twin("read"),
            twin_updates: twin("update"),
        }
    }
}
