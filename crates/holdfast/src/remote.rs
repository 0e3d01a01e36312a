//! Asks an external storage what a device wrote there: one `HEAD` over TLS.

use std::path::Path;
use std::sync::Arc;

use hub::limits::EXTERNAL_STORAGE_AT_ONCE as AT_ONCE;
use hub::limits::EXTERNAL_STORAGE_TIMEOUT as TIMEOUT;
use hub::ports::BoxFuture;
use hub::ports::remote::{RemoteFacts, RemoteFiles};
use jiff::fmt::rfc2822;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Where systems keep the authorities that they trust.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Storages that speak HTTPS as Azure's does.
pub(crate) struct HttpsFiles {
    places: Arc<Semaphore>,
}

impl Default for HttpsFiles {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl RemoteFiles for HttpsFiles {
    fn facts(
        &self,
        url: String,
        authority: Option<String>,
    ) -> BoxFuture<'_, Result<Option<RemoteFacts>, String>> {
        Box::pin(async move {
            let place = tokio::time::timeout(TIMEOUT, self.places.clone().acquire_owned()).await;
            let Ok(Ok(place)) = place else {
                return Err("too many files wait for its answers".to_owned());
            };
            let asked = tokio::task::spawn_blocking(move || {
                let facts = ask(&url, authority.as_deref());
                drop(place);
                facts
            });
            asked.await.unwrap_or_else(|_| Err("the question failed".to_owned()))
        })
    }
}

fn ask(url: &str, authority: Option<&str>) -> Result<Option<RemoteFacts>, String> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots(authority)?));
    let config = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent: ureq::Agent = config.into();
    // The error of ureq names the address only by its host.
    let answer = agent.head(url).header("x-ms-version", "2021-08-06").call();
    let answer = answer.map_err(|error| error.to_string())?;
    let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    match answer.status().as_u16() {
        200 => {
            let bytes = text("content-length").and_then(|text| text.parse().ok());
            let modified = text("last-modified").and_then(|text| rfc2822::parse(text).ok());
            let (Some(bytes), Some(modified)) = (bytes, modified) else {
                return Err("its answer has no length or time".to_owned());
            };
            Ok(Some(RemoteFacts { bytes, modified: modified.timestamp() }))
        }
        404 => Ok(None),
        status => {
            let code = text("x-ms-error-code").unwrap_or_default();
            Err(format!("it answered {status} {code}"))
        }
    }
}

/// The given authority, else those of the system.
fn roots(authority: Option<&str>) -> Result<Vec<Certificate<'static>>, String> {
    let bytes = match authority {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
            let places = named.into_iter().chain(BUNDLES.iter().map(|path| Path::new(path).to_owned()));
            let found = places.into_iter().find_map(|path| std::fs::read(path).ok());
            found.ok_or("no certificate authorities of the system were found; SSL_CERT_FILE names them")?
        }
    };
    let certificates = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok);
    let certificates: Vec<_> =
        certificates.map(|certificate| Certificate::from_der(&certificate).to_owned()).collect();
    match certificates.is_empty() {
        true => Err("the certificate authority is not PEM".to_owned()),
        false => Ok(certificates),
    }
}
