//! What anybody can make the hub keep, in one place. `docs/limits.md` says of each what happens at the bound and which test goes there.
//!
//! Limits of the codecs stand in the configuration of `wire`, those of the journal in that of `store`, and what an operator may move in
//! the configuration of the hub.

use std::time::Duration;

// A stranger: a connection without a good credential.

/// Bytes that a connection may send before it is admitted.
pub const UNADMITTED_BYTES_MAX: usize = 48 * 1024;
/// How long a connection may take to be admitted, from accepting on.
pub const UNADMITTED_LIFETIME: Duration = Duration::from_secs(30);
/// Bytes that all connections together may make the hub hold that are not admitted. It is room for 13,000 devices that connect at the
/// same moment.
pub const UNADMITTED_BYTES_OF_ALL_MAX: usize = 160 * 1024 * 1024;
/// The same of one network: an IPv4 address, or an IPv6 /64.
pub const UNADMITTED_BYTES_PER_NETWORK_MAX: usize = 112 * 1024 * 1024;
/// The largest message of a WebSocket whose client is not admitted. It is less than such a client may send in all: a message is gathered in a buffer that is reserved when the
/// message is announced, beside the buffers of HTTP and TLS below it.
pub const UNADMITTED_WEBSOCKET_MESSAGE_BYTES_MAX: usize = 32 * 1024;
/// The longest head of a request. hyper holds twice of it at the worst, which is what a stranger may make the hub hold.
pub const REQUEST_HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long a client may take over its TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// An AMQP connection that has put no token by then, or none again since its last one ended, is closed
/// (`docs/protocol/amqp.md` §3).
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// File descriptors that connections leave to others: for segments, the registry, uploads and what the hub asks of others.
pub const DESCRIPTORS_KEPT: u64 = 256;
/// Guesses at a key or name in a minute that are answered at once, of one address and in one name, unless the operator says otherwise.
pub const GUESSES_AT_ONCE: u32 = 10;
/// The longest wait for the answer to a guess. It is well below the time that any SDK waits for an answer (10 s for a token of uamqp).
pub const GUESS_WAIT_MAX: Duration = Duration::from_secs(8);
/// Searches in a minute for the mistake in a wrong signature, of one address and in all. Of one cause, twenty become records:
/// what is not looked into is mostly what would only have been counted.
pub const SEARCHES_PER_MINUTE: (u32, u32) = (60, 600);
/// Records of one source and cause in a minute; the rest become one record with their count.
pub const RECORDS_OF_A_SOURCE_PER_MINUTE: u64 = 20;
/// Decisions that may wait to be recorded.
pub const DECISIONS_WAITING_MAX: usize = 8_192;

// An admitted device or module.

/// The largest telemetry message, in bytes, counted as `docs/protocol/limits.md` §1.1 counts: body, system property values,
/// application property names and values.
pub const TELEMETRY_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Messages of one MQTT connection that may wait for the disk before the socket is read again.
pub const MQTT_UNACKNOWLEDGED_MAX: usize = 256;
/// Subscriptions of one MQTT client: more filters than any SDK uses, fewer than would weigh.
pub const SUBSCRIPTIONS_MAX: usize = 50;
/// Devices and modules with a credential on one AMQP connection (`docs/protocol/limits.md` §2).
pub const AMQP_IDENTITIES_MAX: usize = 1_000;
/// The largest cloud-to-device message, in bytes, counted as telemetry is (`docs/protocol/limits.md` §1).
pub const C2D_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Cloud-to-device messages that may wait for one device or module.
pub const C2D_QUEUE_MAX: usize = 50;
/// The longest model id: a DTMI has up to 2048 characters.
pub const MODEL_ID_BYTES_MAX: usize = 2048;
/// The tags of a twin, in bytes as `docs/protocol/limits.md` §1.2 counts.
pub const TWIN_TAGS_BYTES_MAX: usize = 8 * 1024;
/// The desired properties of a twin, and the reported ones, likewise.
pub const TWIN_PROPERTIES_BYTES_MAX: usize = 32 * 1024;
/// Uploads of a device that may be open.
pub const UPLOADS_OPEN_MAX: usize = 10;
/// Parts of one upload that may be written at the same time: the SDKs write up to 20 blocks.
pub const UPLOAD_WRITERS_OF_UPLOAD_MAX: usize = 32;
/// Parts of all uploads of one device that may be written at the same time, so that it leaves places to the others.
pub const UPLOAD_WRITERS_OF_DEVICE_MAX: usize = 64;
/// Parts of uploads that may be written at the same time, by all devices together.
pub const UPLOAD_WRITERS_MAX: usize = 256;
/// Bytes of an upload's body that come in each second after the first minute, at least: it takes a place of those who write.
pub const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 1024;
/// How long a client may be silent while it sends a file.
pub const UPLOAD_SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a question to an external storage may take: a device waits for the answer.
pub const EXTERNAL_STORAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Questions to an external storage under way at a time. Each keeps a thread, of which the operator's commands want some too.
pub const EXTERNAL_STORAGE_AT_ONCE: usize = 4;

// A back end.

/// Readers of the event stream without an owner level that one partition takes in one consumer group.
pub const READERS_MAX: usize = 5;
/// The most consumer groups of a hub, the default one included (`docs/protocol/limits.md` §2).
pub const CONSUMER_GROUPS_MAX: usize = 20;
/// The most identities of one bulk request.
pub const BULK_MAX: usize = 100;
/// The most entries of one list, and of one page.
pub const LIST_MAX: usize = 1_000;
/// Method calls that may be under way to one device or module.
pub const CALLS_PER_IDENTITY_MAX: usize = 10;
/// Method calls that may be under way in all.
pub const CALLS_MAX: usize = 10_000;
/// The longest payload of a method call, and of its answer, in bytes of JSON.
pub const METHOD_PAYLOAD_BYTES_MAX: usize = 128 * 1024;

// An operator.

/// The most shared access policies of a hub (`docs/protocol/limits.md` §2).
pub const POLICIES_MAX: usize = 16;
/// The most certificate authorities of a hub (`docs/protocol/limits.md` §2).
pub const AUTHORITIES_MAX: usize = 25;
/// Revocation lists that one authority may have, each of another scope.
pub const REVOCATION_LISTS_MAX: usize = 32;
/// Bytes that the revocation lists of one authority may take together.
pub const REVOCATION_LIST_BYTES_MAX: usize = 768 * 1024;
