//! The doors: a listener accepts TLS and knows, before any front sees a byte, who is on the other side of the
//! handshake. Whatever comes in its place is named and recorded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hub::certificate::Chain;
use hub::decision::{Act, Door, Facts, Origin, cut};
use hub::hub::Hub;
use hub::refusal::Refusal;
use rustls::{AlertDescription, Error, PeerIncompatible, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::drain::Drain;

/// How long a client may take over its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
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
}

/// What a door does with a client that is through the handshake.
pub(crate) trait Front: Send + Sync + 'static {
    /// Serves one connection to its end.
    fn serve(
        self: Arc<Self>,
        stream: TlsStream<TcpStream>,
        visitor: Visitor,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// Accepts connections until the drain begins, each served by its own task.
pub(crate) async fn accept<F: Front>(
    listener: TcpListener,
    door: Door,
    tls: Arc<ServerConfig>,
    hub: Arc<Hub>,
    front: Arc<F>,
    drain: Drain,
) {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.begun() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, door = door.as_str(), "could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (acceptor, hub, front, guard) = (acceptor.clone(), hub.clone(), front.clone(), drain.guard());
        let handshake_drain = drain.clone();
        tokio::spawn(async move {
            let origin = Origin { address: Some(peer.ip()), port: Some(peer.port()), door: Some(door) };
            // Boxed: the handshake's state is large, and the connection outlives it.
            let shaken = tokio::select! {
                shaken = Box::pin(handshake(stream, &acceptor, peer)) => shaken,
                () = handshake_drain.begun() => return,
            };
            match shaken {
                Ok((stream, facts, chain)) => {
                    front.serve(stream, Visitor { origin, facts, chain }).await;
                }
                Err(Some(refusal)) => {
                    hub.record(Act::Handshake, None, origin, Facts::default(), Some(refusal))
                }
                Err(None) => {}
            }
            drop(guard);
        });
    }
}

type Handshake = (TlsStream<TcpStream>, Facts, Option<Chain>);

/// Does the handshake. The error is `None` for a client that went without a word, which is no refusal.
async fn handshake(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    peer: SocketAddr,
) -> Result<Handshake, Option<Refusal>> {
    let _ = stream.set_nodelay(true);
    let begun = timeout(HANDSHAKE_TIMEOUT, async {
        let offered = refuse_plain_text(&stream).await?;
        acceptor.accept(stream).await.map_err(|error| failed(&error, offered))
    });
    let stream = match begun.await {
        Ok(result) => result?,
        Err(_) => {
            tracing::debug!(%peer, "the handshake took too long");
            let problem = format!("it took longer than {} s", HANDSHAKE_TIMEOUT.as_secs());
            return Err(Some(Refusal::TlsFailed { problem }));
        }
    };
    let (_, connection) = stream.get_ref();
    let facts = Facts {
        tls_version: connection.protocol_version().map(|version| match version {
            rustls::ProtocolVersion::TLSv1_3 => "1.3".to_owned(),
            _ => "1.2".to_owned(),
        }),
        cipher: connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .map(|name| name.trim_start_matches("TLS13_").trim_start_matches("TLS_").to_owned()),
        server_name: connection.server_name().map(cut),
        ..Facts::default()
    };
    let chain = connection
        .peer_certificates()
        .and_then(|certificates| Chain::new(certificates.iter().map(|c| c.clone().into_owned()).collect()));
    Ok((stream, facts, chain))
}

/// Looks at the first bytes without taking them: a TLS record of a handshake begins with 0x16. Gives the version that
/// the ClientHello offers, where it is one before 1.2 (RFC 5246 §7.4.1.2: the two bytes behind both headers).
async fn refuse_plain_text(stream: &TcpStream) -> Result<Option<&'static str>, Option<Refusal>> {
    let mut first = [0_u8; 11];
    let length = stream.peek(&mut first).await.map_err(|_| None)?;
    let protocol = match &first[..length] {
        [] => return Err(None),
        [0x16, _, _, _, _, _, _, _, _, 3, 0] => return Ok(Some("SSL 3.0")),
        [0x16, _, _, _, _, _, _, _, _, 3, 1] => return Ok(Some("1.0")),
        [0x16, _, _, _, _, _, _, _, _, 3, 2] => return Ok(Some("1.1")),
        [0x16, ..] => return Ok(None),
        [0x10, ..] => "MQTT",
        [b'A', b'M', b'Q', b'P', ..] => "AMQP",
        [b'G', b'E', b'T', b' ', ..] | [b'P', b'U', b'T', b' ', ..] | [b'P', b'O', b'S', b'T', ..] => "HTTP",
        [b'D', b'E', b'L', b'E', ..] | [b'P', b'A', b'T', b'C', ..] | [b'H', b'E', b'A', b'D', ..] => "HTTP",
        [b'S', b'S', b'H', b'-', ..] => "SSH",
        _ => "something that is no TLS",
    };
    Err(Some(Refusal::PlainText { protocol: protocol.to_owned() }))
}

/// What a failed handshake was; `offered` is the old version that the client asked for.
fn failed(error: &io::Error, offered: Option<&'static str>) -> Option<Refusal> {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            // A port scan, a health check, or a client that changed its mind.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => None,
            _ => Some(Refusal::TlsFailed { problem: error.to_string() }),
        };
    };
    let version = || Refusal::TlsVersion { offered: offered.unwrap_or("1.1").to_owned() };
    Some(match tls {
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
        ) => Refusal::TlsServerNotTrusted { alert: format!("{alert:?}") },
        Error::AlertReceived(AlertDescription::ProtocolVersion) => version(),
        other => Refusal::TlsFailed { problem: other.to_string() },
    })
}
