//! Whom a simulated client believes, and how it does TLS.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::{Issued, SimError};

/// The versions of TLS that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersions {
    /// 1.3 and 1.2.
    #[default]
    Both,
    /// 1.3 only.
    OnlyTls13,
    /// 1.2 only.
    OnlyTls12,
}

/// A client's side of TLS: the authorities it trusts, the certificate it presents, the versions it offers. Every
/// handshake is a full one. Cloning is cheap.
#[derive(Clone)]
pub struct Trust {
    connector: TlsConnector,
}

impl Trust {
    /// Trust in the authorities of a PEM text and in nobody else.
    pub fn in_pem(pem: &str, versions: TlsVersions) -> Result<Self, SimError> {
        Self::build(pem, versions, None)
    }

    /// The same, presenting a certificate of one's own.
    pub fn presenting(pem: &str, versions: TlsVersions, own: &Issued) -> Result<Self, SimError> {
        Self::build(pem, versions, Some(own))
    }

    fn build(pem: &str, versions: TlsVersions, own: Option<&Issued>) -> Result<Self, SimError> {
        let unreadable = |error: rustls_pki_types::pem::Error| SimError::Certificate(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(unreadable)?)?;
        }
        let versions: &[&'static SupportedProtocolVersion] = match versions {
            TlsVersions::Both => &[&TLS13, &TLS12],
            TlsVersions::OnlyTls13 => &[&TLS13],
            TlsVersions::OnlyTls12 => &[&TLS12],
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)?
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes());
                let chain = chain.collect::<Result<_, _>>().map_err(unreadable)?;
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(unreadable)?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    pub(crate) fn connector(&self) -> &TlsConnector {
        &self.connector
    }
}

/// The name that the server's certificate must carry.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, SimError> {
    ServerName::try_from(host.to_owned()).map_err(|_| SimError::ServerName(host.to_owned()))
}
