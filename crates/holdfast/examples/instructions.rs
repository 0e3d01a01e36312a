//! One operation of the message path, so many times over, with the same input and in the same order each time: for
//! `cargo xtask instructions`, which counts what the processor executes.
//!
//! ```text
//! instructions            the names of the operations
//! instructions NAME TIMES
//! ```

#[path = "../src/fronts/mqtt/three/address.rs"]
#[allow(dead_code, reason = "only the topic of telemetry is read here")]
mod address;
#[path = "../src/fronts/amqp/event.rs"]
#[allow(dead_code, reason = "only the message is written here")]
mod event;
#[path = "../src/fronts/mqtt/three/properties.rs"]
mod properties;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use hub::audit::evidence::entry;
use hub::audit::tree::{Frontier, Hash};
use hub::decision::{Act, Decision};
use hub::identity::{DeviceId, Identity};
use hub::placement::Placement;
use hub::ports::event_log::StoredEvent;
use hub::sas::Token;
use hub::telemetry::{Message, Sender, Source};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use store::journal::counting::DryJournal;
use wire::amqp::message::MessageWriter;
use wire::mqtt::{Client, Connect, Event, FiveLimits, Limits, QoS, Server};

/// What a device of the benchmark sends.
const TOPIC: &str =
    "devices/device-00042/messages/events/%24.ct=application%2Fjson&%24.mid=4711&room=7&floor=ground";
const PAYLOAD_BYTES: usize = 256;
/// Messages of one group commit: those of 100 devices that each have one under way.
const BATCH: usize = 100;
const PARTITIONS: u16 = 4;
const NOW: i64 = 1_760_000_000_000;

static LIMITS: Limits = Limits {
    packet_bytes_max: 1 << 20,
    connect_timeout: Duration::from_secs(30),
    silence_max: Duration::from_secs(3_600),
    five: FiveLimits {
        packet_bytes_max: 262_144,
        receive_max: 16,
        topic_alias_max: 10,
        keep_alive_max: 1_140,
    },
};

type Operation = fn(u64) -> Option<()>;

const OPERATIONS: &[(&str, Operation)] = &[
    ("mqtt-publish-to-puback", publish),
    ("journal-record", record),
    ("amqp-event", amqp_event),
    ("sas-token", sas_token),
    ("audit-leaf", audit_leaf),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        OPERATIONS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let times = arguments.next().and_then(|times| times.parse().ok());
    let operation = OPERATIONS.iter().find(|(known, _)| *known == name);
    match operation.zip(times).and_then(|((_, operation), times)| operation(times)) {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!("instructions: `{name}` did not run; without arguments the operations are listed");
            ExitCode::FAILURE
        }
    }
}

/// A PUBLISH as it comes from TLS: taken apart, made a message of the hub, and answered.
fn publish(times: u64) -> Option<()> {
    let start = Instant::now();
    let identity = identity()?;
    let sender = sender()?;
    let mut client = Client::new(Connect { client_id: "device-00042".into(), ..Connect::default() });
    let mut server = Server::new(&LIMITS, start);
    server.handle_bytes(&client.output().split(), start);
    server.poll_event().ok()?;
    server.accept(false, start);
    server.output().clear();
    client.publish(TOPIC, vec![b'x'; PAYLOAD_BYTES].into(), QoS::AtLeastOnce).ok()?;
    let bytes = client.output().split();
    for _ in 0..times {
        server.handle_bytes(black_box(&bytes), start);
        let Ok(Some(Event::Publish(publish))) = server.poll_event() else { return None };
        let bag = address::events_bag(&publish.topic, &identity)?;
        let (system, application) = properties::parse(bag);
        let message =
            Message { enqueued: NOW, sender: sender.clone(), system, application, body: publish.payload };
        black_box(Placement::Lookup3.partition_of(&message.sender.identity.device, PARTITIONS));
        black_box(message.metered_bytes());
        drop(black_box(message));
        server.puback(publish.packet_id?);
        black_box(server.output().split());
    }
    Some(())
}

/// A message into the bytes of a batch, its share of the batch's head and checksum included.
fn record(times: u64) -> Option<()> {
    let messages: Vec<Message> = (0..BATCH).map(|_| message()).collect::<Option<_>>()?;
    let mut journal = DryJournal::new(PARTITIONS.into());
    for _ in 0..times.div_ceil(BATCH as u64) {
        let placed = messages.iter().enumerate().map(|(n, message)| (n as u16 % PARTITIONS, message));
        black_box(journal.commit(placed).ok()?);
    }
    Some(())
}

/// An event of the log as the AMQP message that a reader gets.
fn amqp_event(times: u64) -> Option<()> {
    let event = StoredEvent { sequence: 4_711, offset: 1_234_567, stored: NOW, message: message()? };
    let mut out = BytesMut::new();
    for _ in 0..times {
        event::write(&mut MessageWriter::new(&mut out), black_box(&event), None);
        black_box(&out);
        out.clear();
    }
    Some(())
}

/// A device's token: read, its signature and its scope checked.
fn sas_token(times: u64) -> Option<()> {
    let key = [7_u8; 32];
    let (sr, se) = ("hub.example%2Fdevices%2Fdevice-00042", "1760003600");
    let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{sr}\n{se}").as_bytes());
    let signature = STANDARD.encode(signed);
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    let text = format!("SharedAccessSignature sr={sr}&sig={signature}&se={se}");
    let hosts = ["hub.example".to_owned()];
    for _ in 0..times {
        let token = Token::parse(black_box(&text)).ok()?;
        let holds = token.signed_with(&key) && token.covers(&hosts, "/devices/device-00042");
        (holds && !token.is_expired(NOW / 1_000)).then_some(())?;
    }
    Some(())
}

/// A decision as an entry of the audit log, and its leaf in the tree.
fn audit_leaf(times: u64) -> Option<()> {
    let mut decision = Decision::new(Timestamp::from_millisecond(NOW).ok()?, Act::Connect);
    decision.identity = Some("device-00042".to_owned());
    decision.facts.sdk = Some("azure-iot-device-iothub-py/2.14.0".to_owned());
    let mut tree = Frontier::default();
    for number in 1..=times {
        let entry = entry(number, black_box(&decision)).ok()?;
        tree.push(Hash::of_leaf(entry.as_bytes()), |node| _ = black_box(node));
    }
    black_box(tree.root());
    Some(())
}

fn message() -> Option<Message> {
    let (system, application) = properties::parse(address::events_bag(TOPIC, &identity()?)?);
    let body = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    Some(Message { enqueued: NOW, sender: sender()?, system, application, body })
}

fn sender() -> Option<Arc<Sender>> {
    Some(Arc::new(Sender {
        identity: identity()?,
        generation: "638952000000000000".to_owned(),
        auth_method: r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
            .to_owned(),
        source: Source::Telemetry,
        model_id: None,
    }))
}

fn identity() -> Option<Identity> {
    Some(Identity::device(DeviceId::parse("device-00042").ok()?))
}
