//! The doors: a listener accepts TLS and knows, before any front sees a byte, who is on the other side of the
//! handshake. Whatever comes in its place is named and recorded.

use std::future::poll_fn;
use std::io;
use std::mem::{MaybeUninit, take};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use hub::certificate::Chain;
use hub::decision::{Act, Door, Facts, Origin, cut};
use hub::hub::Hub;
use hub::limits::HANDSHAKE_TIMEOUT;
use hub::refusal::Refusal;
use rustls::server::{Accepted, Acceptor};
use rustls::{AlertDescription, CipherSuite, Error, PeerIncompatible, ServerConfig};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::StartHandshake;

use crate::descriptors::Descriptors;
use crate::drain::Drain;
use crate::io::{Guarded, TlsConnection};
use crate::lanes::Entry;
use crate::metrics::Metrics;
use crate::unadmitted::{Admission, Unadmitted};

/// How long to wait after accepting failed (most often for want of file descriptors).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What is known of a client after the handshake.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// Where it came from and through which door.
    pub(crate) origin: Origin,
    /// The TLS facts, to which fronts add what the client presents.
    pub(crate) facts: Facts,
    /// The certificates it offered; that it holds the key of the first is proved.
    pub(crate) chain: Option<Chain>,
    /// Its place among the connections that are not admitted; a front says when it is.
    pub(crate) admission: Arc<Admission>,
}

/// What a door does with a client that is through the handshake.
pub(crate) trait Front: Send + Sync + 'static {
    /// Serves one connection to its end.
    fn serve(
        self: Arc<Self>,
        stream: TlsConnection,
        visitor: Box<Visitor>,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// Who is told of handshakes.
#[derive(Clone)]
pub(crate) struct Seen {
    /// Records those that fail.
    pub(crate) hub: Arc<Hub>,
    /// Counts all.
    pub(crate) metrics: Arc<Metrics>,
    /// Bounds what those take that are not admitted.
    pub(crate) unadmitted: Arc<Unadmitted>,
    /// Those that connections may take.
    pub(crate) descriptors: Descriptors,
}

/// Accepts connections at these entries until the drain begins, each served by its own task.
pub(crate) fn open<F: Front>(
    entries: Vec<Entry>,
    door: Door,
    tls: &Arc<ServerConfig>,
    seen: &Seen,
    front: &Arc<F>,
    drain: &Drain,
) {
    for entry in entries {
        let (tls, seen, front, drain) = (tls.clone(), seen.clone(), front.clone(), drain.clone());
        entry.handle().spawn(accept(entry, door, tls, seen, front, drain));
    }
}

async fn accept<F: Front>(
    entry: Entry,
    door: Door,
    tls: Arc<ServerConfig>,
    seen: Seen,
    front: Arc<F>,
    drain: Drain,
) {
    let address = entry.listener.local_addr();
    let local = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    loop {
        let descriptor = tokio::select! {
            descriptor = seen.descriptors.take(&seen.unadmitted) => descriptor,
            () = drain.begun() => return,
        };
        let accepted = tokio::select! {
            accepted = entry.listener.accept() => accepted,
            () = drain.begun() => return,
        };
        let seated = accepted.and_then(|(stream, peer)| Ok((entry.seat(stream)?, peer)));
        let ((stream, seat), peer) = match seated {
            Ok(seated) => seated,
            Err(error) => {
                tracing::warn!(%error, door = door.as_str(), "could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (tls, seen, front, guard) = (tls.clone(), seen.clone(), front.clone(), drain.guard());
        let handshake_drain = drain.clone();
        let lane = seat.handle();
        let origin = Origin { address: Some(peer.ip()), port: Some(peer.port()), door: Some(door) };
        let admission = seen.unadmitted.enter(&origin, Instant::now());
        let own = admission.clone();
        let task = lane.spawn(async move {
            // Boxed: the handshake's state is large, and the connection outlives it.
            let shaken = tokio::select! {
                shaken = Box::pin(handshake(stream, &tls, origin.clone(), own)) => shaken,
                () = handshake_drain.begun() => return,
            };
            match shaken {
                Ok((stream, visitor)) => {
                    let suite = stream.tls().negotiated_cipher_suite();
                    let version =
                        if visitor.facts.tls_version.as_deref() == Some("1.3") { "1.3" } else { "1.2" };
                    seen.metrics
                        .handshake(version, suite.and_then(|suite| suite.suite().as_str()).unwrap_or(""));
                    drop(seen);
                    front.serve(stream, visitor).await;
                }
                Err(Some(failure)) => {
                    let Failure { reason, server_name } = *failure;
                    let refusal = refusal_of(reason, &server_name, local, &seen.hub.settings.hosts);
                    let facts = Facts { server_name, ..Facts::default() };
                    seen.hub.record(Act::Handshake, None, origin, facts, Some(refusal));
                }
                Err(None) => {}
            }
            drop((guard, seat, descriptor));
        });
        admission.served_by(task.abort_handle());
    }
}

type Handshake = (TlsConnection, Box<Visitor>);

/// What came in place of a handshake.
struct Failure {
    reason: Reason,
    /// The name that the client asked for, where it got that far.
    server_name: Option<String>,
}

enum Reason {
    /// The cause is known.
    Refused(Refusal),
    /// The client did not accept the hub's certificate, and said so by this alert.
    NotAccepted(AlertDescription),
}

impl From<Reason> for Box<Failure> {
    fn from(reason: Reason) -> Self {
        Box::new(Failure { reason, server_name: None })
    }
}

/// Does the handshake. The error is `None` for a client that went without a word, which is no refusal.
async fn handshake(
    stream: TcpStream,
    tls: &Arc<ServerConfig>,
    origin: Origin,
    admission: Arc<Admission>,
) -> Result<Handshake, Option<Box<Failure>>> {
    let (stream, server_name) = match timeout(HANDSHAKE_TIMEOUT, shake(stream, tls, &admission)).await {
        Ok(result) => result?,
        Err(_) => {
            tracing::debug!(peer = ?origin.address, "the handshake took too long");
            let problem = format!("it took longer than {} s", HANDSHAKE_TIMEOUT.as_secs());
            return Err(Some(Reason::Refused(Refusal::TlsFailed { problem }).into()));
        }
    };
    let connection = stream.tls();
    let facts = Facts {
        tls_version: connection.protocol_version().map(|version| match version {
            rustls::ProtocolVersion::TLSv1_3 => "1.3".into(),
            _ => "1.2".into(),
        }),
        cipher: connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .map(|name| name.trim_start_matches("TLS13_").trim_start_matches("TLS_").into()),
        server_name,
        ..Facts::default()
    };
    let chain = connection
        .peer_certificates()
        .and_then(|certificates| Chain::new(certificates.iter().map(|c| c.clone().into_owned()).collect()));
    Ok((stream, Box::new(Visitor { origin, facts, chain, admission })))
}

/// The handshake proper, in two steps: what the client asks for is known even when the second one fails.
async fn shake(
    mut stream: TcpStream,
    tls: &Arc<ServerConfig>,
    admission: &Arc<Admission>,
) -> Result<(TlsConnection, Option<String>), Option<Box<Failure>>> {
    let failure = |reason, server_name| Box::new(Failure { reason, server_name });
    let (accepted, offered) = read_hello(&mut stream).await.map_err(|refusal| refusal.map(Box::from))?;
    let hello = accepted.client_hello();
    let server_name = hello.server_name().map(cut);
    let suites = &tls.crypto_provider().cipher_suites;
    let is_ours = |wanted: &CipherSuite| suites.iter().any(|suite| suite.suite() == *wanted);
    let strange = match hello.cipher_suites().iter().any(is_ours) {
        true => None,
        false => Some(hello.cipher_suites().iter().take(SUITES_MAX).filter_map(suite_name).collect()),
    };
    let shaken = StartHandshake::from_parts(accepted, stream).into_stream(tls.clone()).await;
    match (shaken, strange) {
        (Ok(stream), _) => Ok((Box::new(Guarded::new(stream, admission.clone())), server_name)),
        // A client of an old version has none of our suites either, and its version is what is worth naming.
        (Err(error), Some(offered_suites)) if offered.is_none() && is_incompatible(&error) => {
            let refusal = Refusal::NoCommonCipher { offered: offered_suites };
            Err(Some(failure(Reason::Refused(refusal), server_name)))
        }
        (Err(error), _) => Err(failed(&error, offered).map(|reason| failure(reason, server_name))),
    }
}

/// Suites of a client that are named in an explanation.
const SUITES_MAX: usize = 16;

/// A suite as OpenSSL and the standards know it; the signalling values and those that nobody knows are left out.
fn suite_name(suite: &CipherSuite) -> Option<String> {
    let name = suite.as_str().filter(|name| !name.ends_with("_SCSV"))?;
    Some(name.trim_start_matches("TLS13_").trim_start_matches("TLS_").to_owned())
}

fn is_incompatible(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(tls, Some(Error::PeerIncompatible(_)))
}

/// Tells a name that the client does not find in the certificate from an authority that it does not know.
fn refusal_of(reason: Reason, server_name: &Option<String>, local: IpAddr, names: &[String]) -> Refusal {
    let alert = match reason {
        Reason::Refused(refusal) => return refusal,
        Reason::NotAccepted(alert) => alert,
    };
    // A client that dials an address asks for no name.
    let dialled = server_name.clone().unwrap_or_else(|| local.to_string());
    let known = names.iter().any(|name| name.eq_ignore_ascii_case(&dialled));
    let alert_name = format!("{alert:?}");
    match alert {
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown if !known => {
            Refusal::TlsServerName {
                presented: server_name.clone(),
                names: names.to_vec(),
                alert: alert_name,
            }
        }
        _ => Refusal::TlsServerNotTrusted { alert: alert_name },
    }
}

/// The protocol that a first byte over TLS belongs to, where it is another than the port's.
pub(crate) fn spoken(first_byte: u8) -> Option<&'static str> {
    match first_byte {
        0x10 => Some("MQTT"),
        b'A' => Some("AMQP"),
        b'C' | b'D' | b'G' | b'H' | b'O' | b'P' => Some("HTTP"),
        0x16 => Some("TLS within TLS"),
        _ => None,
    }
}

/// Reads the ClientHello; with the version that it offers, where that is one before 1.2. What comes in its place is told from
/// the first bytes.
async fn read_hello(stream: &mut TcpStream) -> Result<(Accepted, Option<&'static str>), Option<Reason>> {
    let mut acceptor = Acceptor::default();
    let mut offered = None;
    let mut is_first = true;
    loop {
        poll_fn(|cx| {
            let mut buffer = [MaybeUninit::uninit(); HELLO_BYTES];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)).map_err(|_| None)?;
            let mut read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Err(None));
            }
            if take(&mut is_first) {
                offered = offered_by(read).map_err(|refusal| Some(Reason::Refused(refusal)))?;
            }
            while !read.is_empty() {
                acceptor.read_tls(&mut read).map_err(|error| failed(&error, offered))?;
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok((accepted, offered)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut answer = Vec::new();
                // Nothing follows, whether it arrives or not.
                let _ = alert.write_all(&mut answer);
                let _ = stream.write_all(&answer).await;
                return Err(failed(&io::Error::new(io::ErrorKind::InvalidData, error), offered));
            }
        }
    }
}

/// What nearly every ClientHello fits into.
const HELLO_BYTES: usize = 2_048;

/// The version that the first bytes of a client offer, where they are a ClientHello of one before 1.2 (RFC 5246 §7.4.1.2: the two
/// bytes behind both headers). A TLS record of a handshake begins with 0x16; the error names what begins otherwise.
fn offered_by(first: &[u8]) -> Result<Option<&'static str>, Refusal> {
    let protocol = match first {
        [0x16, _, _, _, _, _, _, _, _, 3, 0, ..] => return Ok(Some("SSL 3.0")),
        [0x16, _, _, _, _, _, _, _, _, 3, 1, ..] => return Ok(Some("1.0")),
        [0x16, _, _, _, _, _, _, _, _, 3, 2, ..] => return Ok(Some("1.1")),
        [0x16, ..] => return Ok(None),
        [0x10, ..] => "MQTT",
        [b'A', b'M', b'Q', b'P', ..] => "AMQP",
        [b'G', b'E', b'T', b' ', ..] | [b'P', b'U', b'T', b' ', ..] | [b'P', b'O', b'S', b'T', ..] => "HTTP",
        [b'D', b'E', b'L', b'E', ..] | [b'P', b'A', b'T', b'C', ..] | [b'H', b'E', b'A', b'D', ..] => "HTTP",
        [b'S', b'S', b'H', b'-', ..] => "SSH",
        _ => "something that is no TLS",
    };
    Err(Refusal::PlainText { protocol: protocol.to_owned() })
}

/// What a failed handshake was; `offered` is the old version that the client asked for.
fn failed(error: &io::Error, offered: Option<&'static str>) -> Option<Reason> {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            // A port scan, a health check, or a client that changed its mind.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => None,
            _ => Some(Reason::Refused(Refusal::TlsFailed { problem: error.to_string() })),
        };
    };
    let version = || Refusal::TlsVersion { offered: offered.unwrap_or("1.1").to_owned() };
    Some(Reason::Refused(match tls {
        // What else such a client lacks (the signature algorithms, for one) it lacks because it is old.
        Error::PeerIncompatible(_) if offered.is_some() => version(),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => version(),
        Error::PeerIncompatible(incompatible) => {
            Refusal::TlsParameters { problem: format!("{incompatible:?}") }
        }
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired),
        ) => return Some(Reason::NotAccepted(*alert)),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => version(),
        other => Refusal::TlsFailed { problem: other.to_string() },
    }))
}
