//! A server that acknowledges what it is sent and sends it back to its sender.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_sim::{Authority, TlsVersions, Trust};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use wire::mqtt::five::SubscribeAckReason;
use wire::mqtt::{Connect, ConnectAckReason, Event, FiveLimits, Limits, QoS, Server};

/// A running server, and what its clients asked for.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) connects: Arc<Mutex<Vec<Connect>>>,
}

impl Echo {
    /// Starts a server that answers CONNECT with this code.
    pub(crate) async fn start(answer: ConnectAckReason) -> Self {
        let authority = Authority::new("test").expect("an authority");
        let issued = authority.issue_server(&["localhost"]).expect("a certificate");
        let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes());
        let chain = chain.collect::<Result<_, _>>().expect("a chain");
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connects = Arc::new(Mutex::new(Vec::new()));
        let seen = connects.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), answer, seen.clone()));
            }
        });
        Self { address, authority, connects }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::in_pem(self.authority.pem(), TlsVersions::Both).expect("a certificate")
    }
}

static LIMITS: Limits = Limits {
    packet_bytes_max: 1 << 20,
    connect_timeout: Duration::from_secs(30),
    silence_max: Duration::from_secs(30),
    five: FiveLimits {
        packet_bytes_max: 262_144,
        receive_max: 16,
        topic_alias_max: 10,
        keep_alive_max: 1_140,
    },
};

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    answer: ConnectAckReason,
    connects: Arc<Mutex<Vec<Connect>>>,
) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut machine = Server::new(&LIMITS, Instant::now());
    loop {
        while let Some(event) = machine.poll_event().expect("a client that keeps to the standard") {
            match event {
                Event::Connect(connect) => {
                    match answer {
                        ConnectAckReason::ConnectionAccepted => machine.accept(false, Instant::now()),
                        refused => machine.refuse(refused),
                    }
                    connects.lock().expect("no panic").push(*connect);
                }
                Event::Publish(publish) => {
                    let sent = machine.publish(&publish.topic, publish.payload, QoS::AtLeastOnce);
                    assert!(sent.is_ok(), "what came fits");
                    if let Some(id) = publish.packet_id {
                        machine.puback(id);
                    }
                }
                Event::Subscribe(id, filters) => {
                    let code = |(filter, qos): &(_, QoS)| match filter {
                        filter if filter == "forbidden" => Err(SubscribeAckReason::NotAuthorized),
                        _ => Ok(*qos),
                    };
                    let codes = filters.iter().map(code).collect();
                    machine.suback(id, codes);
                }
                Event::Disconnect(_) => return,
                Event::PubAck(_) | Event::Unsubscribe(..) => {}
                Event::ConnectFive(_) | Event::PubRefused(..) | Event::Reauthenticate(_) => {
                    panic!("the client speaks MQTT 3.1.1")
                }
            }
        }
        if stream.write_all(&machine.output().split()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await {
            Ok(length) if length > 0 => machine.handle_bytes(&bytes[..length], Instant::now()),
            _ => return,
        }
    }
}
