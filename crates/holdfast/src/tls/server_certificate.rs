//! The hub's own certificate authority and the server certificate that it issues.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Context as _;
use jiff::{Timestamp, ToSpan as _};
use posture::facts::ServerCertificateFacts;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::files::{create_private, create_public, read_private};

/// How long the authority is valid.
const AUTHORITY_DAYS: i32 = 3_650;
/// How long a server certificate is valid: below the 398 days that some clients insist on.
const SERVER_DAYS: i32 = 390;
/// A server certificate with less than this left is replaced at start.
const RENEWAL_DAYS: i64 = 30;

/// The server's certificate: its files in a data directory, and what handshakes present of them.
pub(crate) struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    authority_key: PathBuf,
    /// The authority that clients must trust.
    pub(crate) authority: PathBuf,
    names: Vec<String>,
    presented: RwLock<Option<Arc<CertifiedKey>>>,
    renewal_error: Mutex<Option<String>>,
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.presented.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertificate {
    /// Opens the certificate of a data directory. The authority is made on first start; the server certificate then,
    /// when the names change, and before it ends.
    pub(crate) fn open(directory: &Path, names: &[String], now: Timestamp) -> anyhow::Result<Self> {
        let this = Self {
            certificate: directory.join("server.pem"),
            key: directory.join("server.key"),
            authority: directory.join("ca.pem"),
            authority_key: directory.join("ca.key"),
            names: names.to_vec(),
            presented: RwLock::default(),
            renewal_error: Mutex::default(),
        };
        if !this.authority.exists() {
            this.make_authority(now)?;
        }
        if !this.certificate.exists() || !this.serves(names, now)? {
            this.issue(now)?;
        }
        this.load()?;
        Ok(this)
    }

    /// Issues a new certificate, which the next handshake presents.
    pub(crate) fn renew(&self, now: Timestamp) -> anyhow::Result<()> {
        let renewed = self.issue(now).and_then(|()| self.load());
        let mut renewal_error = self.renewal_error.lock().unwrap_or_else(PoisonError::into_inner);
        *renewal_error = renewed.as_ref().err().map(|error| format!("{error:#}"));
        renewed
    }

    /// Presents what the files hold from the next handshake on.
    pub(crate) fn load(&self) -> anyhow::Result<()> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(self.chain()?, self.key()?, &provider)
            .context("the server certificate and its key do not fit")?;
        *self.presented.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
        Ok(())
    }

    /// What the guard asks of it.
    pub(crate) fn facts(&self) -> ServerCertificateFacts {
        let presented = self.presented.read().unwrap_or_else(PoisonError::into_inner).clone();
        let leaf = presented.as_ref().and_then(|key| key.cert.first());
        let ends = leaf
            .and_then(|leaf| X509Certificate::from_der(leaf).ok())
            .map(|(_, certificate)| certificate.validity().not_after.timestamp());
        ServerCertificateFacts {
            not_after: ends.and_then(|ends| Timestamp::from_second(ends).ok()).unwrap_or(Timestamp::MIN),
            thumbprint: leaf.map(|leaf| hub::certificate::sha256(leaf)).unwrap_or_default(),
            renewal_error: self.renewal_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The chain to present.
    fn chain(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let failed = || format!("could not read {}", self.certificate.display());
        CertificateDer::pem_file_iter(&self.certificate)
            .with_context(failed)?
            .collect::<Result<_, _>>()
            .with_context(failed)
    }

    /// The key of the first certificate of the chain.
    fn key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("could not read {}", self.key.display()))
    }

    fn make_authority(&self, now: Timestamp) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        let serial = u64::try_from(now.as_millisecond()).unwrap_or_default();
        params.distinguished_name = name(&format!("Holdfast CA {serial:x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_DAYS);
        let certificate = params.self_signed(&key)?;
        create_private(&self.authority_key, key.serialize_pem().as_bytes())?;
        create_public(&self.authority, certificate.pem().as_bytes())
    }

    fn issue(&self, now: Timestamp) -> anyhow::Result<()> {
        let names = &self.names;
        let authority = std::fs::read_to_string(&self.authority)
            .with_context(|| format!("could not read {}", self.authority.display()))?;
        let authority_key = KeyPair::from_pem(&read_private(&self.authority_key)?)
            .with_context(|| format!("{} is no private key", self.authority_key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&authority, authority_key)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names =
            names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        params.distinguished_name = name(names.first().map_or("holdfast", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, SERVER_DAYS);
        let certificate = params.signed_by(&key, &issuer)?;
        create_private(&self.key, key.serialize_pem().as_bytes())?;
        // Some clients (pyamqp among them) want the authority in the chain.
        create_public(&self.certificate, format!("{}{authority}", certificate.pem()).as_bytes())
    }

    /// Whether the certificate covers all names and lasts for a while yet.
    fn serves(&self, names: &[String], now: Timestamp) -> anyhow::Result<bool> {
        let chain = self.chain()?;
        let leaf =
            chain.first().with_context(|| format!("{} holds no certificate", self.certificate.display()))?;
        let (_, leaf) = X509Certificate::from_der(leaf)
            .with_context(|| format!("{} is damaged", self.certificate.display()))?;
        let left = leaf.validity().not_after.timestamp() - now.as_second();
        let covered: BTreeSet<String> = leaf
            .subject_alternative_name()?
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
                _ => None,
            })
            .collect();
        Ok(left > RENEWAL_DAYS * 86_400 && names.iter().all(|name| covered.contains(name)))
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn alternative_name(name: &str) -> anyhow::Result<SanType> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().with_context(|| format!("`{name}` is no host name"))?),
    })
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Holdfast");
    name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
    name
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i32) {
    // A day earlier, for devices whose clock is behind.
    let begin = now.to_zoned(jiff::tz::TimeZone::UTC).date() - 1.day();
    let end = begin + days.days();
    let date = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = date(begin);
    params.not_after = date(end);
}
