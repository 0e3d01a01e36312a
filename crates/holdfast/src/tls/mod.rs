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

    /// What the server presents to a client with these suites.
    fn presented_to(server: &Arc<ServerConfig>, authority: &std::path::Path, suites: &[&str]) -> Vec<u8> {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| suites.contains(&suite.suite().as_str().unwrap_or_default()));
        let mut roots = rustls::RootCertStore::empty();
        for root in crate::pem::certificates(authority).expect("the authority") {
            roots.add(root).expect("a root");
        }
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut server = rustls::ServerConnection::new(server.clone()).expect("a server");
        while client.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).expect("writes");
            }
            server.read_tls(&mut &bytes[..]).expect("reads");
            server.process_new_packets().expect("the server goes on");
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).expect("writes");
            }
            client.read_tls(&mut &bytes[..]).expect("reads");
            client.process_new_packets().expect("the client goes on");
        }
        client.peer_certificates().expect("certificates")[0].to_vec()
    }

    #[test]
    fn a_client_that_knows_rsa_only_gets_an_rsa_certificate_and_every_other_the_usual_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || {
            ServerCertificate::open(directory.path(), &["localhost".to_owned()], jiff::Timestamp::now())
                .expect("opens")
        };
        let file = |name: &str| directory.path().join(name);
        let leaf = |name: &str| crate::pem::certificates(&file(name)).expect("a certificate")[0].to_vec();
        let config = server_config(&Arc::new(open()), &[]).expect("a configuration");
        let (usual, rsa) = (leaf("server.pem"), leaf("server-rsa.pem"));
        let cases: [(&[&str], &Vec<u8>); 5] = [
            (&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], &rsa),
            (&["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"], &rsa),
            (&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"], &usual),
            (&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"], &usual),
            (&["TLS13_AES_128_GCM_SHA256"], &usual),
        ];
        for (suites, expected) in cases {
            assert!(presented_to(&config, &file("ca.pem"), suites) == *expected, "{suites:?}");
        }
        // It stays over restarts, and comes back when it is gone.
        open();
        assert_eq!(leaf("server-rsa.pem"), rsa);
        std::fs::remove_file(file("server-rsa.pem")).expect("removes");
        open();
        assert_ne!(leaf("server-rsa.pem"), rsa);
    }
}
