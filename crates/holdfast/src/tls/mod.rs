//! TLS of every listener: 1.2 and 1.3 with forward secrecy and AEAD only, the hub's own authority and certificate,
//! and client certificates whose key is proved in the handshake but whose trust the hub judges later.

mod client_certificate;
mod server_certificate;
mod validity;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, SupportedCipherSuite};

use self::client_certificate::PossessionVerifier;
pub(crate) use self::server_certificate::ServerCertificate;

/// The configuration of all listeners. `protocols` are the ALPN ids that may be chosen; a client that offers none
/// is served all the same.
pub(crate) fn server_config(
    certificate: &Arc<ServerCertificate>,
    protocols: &[&[u8]],
) -> anyhow::Result<Arc<ServerConfig>> {
    let provider =
        Arc::new(CryptoProvider { cipher_suites: cipher_suites(), ..aws_lc_rs::default_provider() });
    let verifier = Arc::new(PossessionVerifier::new(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate.clone());
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Each connection proves its identity anew: a resumed one would carry a certificate that was judged long ago,
    // and tickets cost every device memory here for what few of them use.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// All suites of the provider, those with SHA-256 first and AES-128 foremost. Nearly every client puts AES-256 first,
/// and with it SHA-384, for which processors have no instructions: a seventh of the server's work per connection.
/// A client that offers nothing else is served with what it offers.
fn cipher_suites() -> Vec<SupportedCipherSuite> {
    let mut suites = aws_lc_rs::default_provider().cipher_suites;
    suites.sort_by_key(|suite| {
        let name = suite.suite().as_str().unwrap_or_default();
        (!name.ends_with("SHA256"), !name.contains("AES_128"))
    });
    suites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_served_and_the_cheapest_comes_first() {
        let suites = cipher_suites();
        assert_eq!(suites.len(), aws_lc_rs::default_provider().cipher_suites.len());
        let names: Vec<_> = suites.iter().filter_map(|suite| suite.suite().as_str()).collect();
        assert_eq!(names[0], "TLS13_AES_128_GCM_SHA256");
        let first_long = names.iter().position(|name| name.ends_with("SHA384"));
        let last_short = names.iter().rposition(|name| name.ends_with("SHA256"));
        assert!(first_long > last_short, "{names:?}");
    }
}
