//! TLS of every listener: 1.2 and 1.3 with forward secrecy and AEAD only, the hub's own authority and certificate,
//! and client certificates whose key is proved in the handshake but whose trust the hub judges later.

mod client_certificate;
mod server_certificate;

use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;

use self::client_certificate::PossessionVerifier;
pub(crate) use self::server_certificate::ServerCertificate;

/// The configuration of all listeners. `protocols` are the ALPN ids that may be chosen; a client that offers none
/// is served all the same.
pub(crate) fn server_config(
    certificate: &ServerCertificate,
    protocols: &[&[u8]],
) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(PossessionVerifier::new(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificate.chain()?, certificate.key()?)
        .context("the server certificate and its key do not fit")?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Each connection proves its identity anew: a resumed one would carry a certificate that was judged long ago,
    // and tickets cost every device memory here for what few of them use.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
