//! The hub's own certificate authority and the server certificates that it issues: an ECDSA one, and an RSA one for clients that know
//! nothing else, as much firmware made for Azure does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Context as _;
use jiff::{Timestamp, ToSpan as _};
use posture::facts::ServerCertificateFacts;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::validity::Validity;
use crate::files::{create_private, create_public, read_private};
use crate::pem;

/// How long the authority is valid.
const AUTHORITY_DAYS: i32 = 3_650;
/// How long a server certificate is valid: below the 398 days that some clients insist on.
const SERVER_DAYS: i32 = 390;
/// A server certificate with less than this left is replaced at start.
const RENEWAL_DAYS: i64 = 30;

/// How the name of an authority begins that a hub made.
const AUTHORITY_NAME: &str = "Holdfast CA ";

/// What helps when the server's certificate or its key cannot be used.
const SERVER_CURE: &str = "the server certificate cannot be used; put its .pem and .key files back from a backup, or delete both, and \
                           the hub issues another one";
/// What helps when the authority cannot be used.
const AUTHORITY_CURE: &str = "the hub's own authority cannot be used; put ca.pem and ca.key back from a backup, or delete ca.pem, \
                              ca.key, server.pem and server.key, and give every client the new ca.pem that the hub makes";

/// Who issued a server certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An authority that a hub made.
    Hub,
    /// Somebody else.
    Foreign,
}

/// A certificate with its key, in two files.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn of(directory: &Path, name: &str) -> Self {
        Self {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        }
    }

    /// The certificates of the file, the server's first.
    fn chain(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        pem::certificates(&self.certificate).context(SERVER_CURE)
    }

    /// What handshakes present.
    fn load(&self) -> anyhow::Result<Arc<CertifiedKey>> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = pem::private_key(&self.key).context(SERVER_CURE)?;
        let certified = CertifiedKey::from_der(presented(self.chain()?), key, &provider)
            .with_context(|| {
                format!("{} is not the key of {}", file_name(&self.key), file_name(&self.certificate))
            })
            .context(SERVER_CURE)?;
        Ok(Arc::new(certified))
    }

    /// Who issued the certificate.
    fn origin(&self) -> anyhow::Result<Origin> {
        let chain = self.chain()?;
        let Some(leaf) = chain.first() else { return Ok(Origin::Hub) };
        let (_, leaf) = X509Certificate::from_der(leaf)
            .with_context(|| format!("{} is damaged", self.certificate.display()))?;
        let is_of_the_hub = leaf
            .issuer()
            .iter_common_name()
            .any(|name| name.as_str().is_ok_and(|name| name.starts_with(AUTHORITY_NAME)));
        Ok(if is_of_the_hub { Origin::Hub } else { Origin::Foreign })
    }
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// What handshakes present.
#[derive(Default)]
struct Presented {
    /// To every client that can work with it.
    usual: Option<Arc<CertifiedKey>>,
    /// To the others.
    rsa: Option<Arc<CertifiedKey>>,
}

/// The server's certificate: its files in a data directory, and what handshakes present of them.
pub(crate) struct ServerCertificate {
    usual: Pair,
    rsa: Pair,
    authority_key: PathBuf,
    /// The authority that clients must trust.
    pub(crate) authority: PathBuf,
    names: Vec<String>,
    presented: RwLock<Presented>,
    renewal_error: Mutex<Option<String>>,
    /// Why no client can trust the hub, if that is so.
    problem: Mutex<Option<String>>,
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let presented = self.presented.read().unwrap_or_else(PoisonError::into_inner);
        // Of the schemes that the client names, rustls leaves those that one of its cipher suites can use.
        let serves = |key: &CertifiedKey| key.key.choose_scheme(hello.signature_schemes()).is_some();
        match (&presented.usual, &presented.rsa) {
            (Some(usual), Some(rsa)) if !serves(usual) => Some(rsa.clone()),
            (usual, _) => usual.clone(),
        }
    }
}

impl ServerCertificate {
    /// Opens the certificate of a data directory. The authority is made on first start; the server certificate then,
    /// when the names change, before it ends, and when it begins later than now. One that the hub did not issue is left alone.
    pub(crate) fn open(directory: &Path, names: &[String], now: Timestamp) -> anyhow::Result<Self> {
        let this = Self {
            usual: Pair::of(directory, "server"),
            rsa: Pair::of(directory, "server-rsa"),
            authority: directory.join("ca.pem"),
            authority_key: directory.join("ca.key"),
            names: names.to_vec(),
            presented: RwLock::default(),
            renewal_error: Mutex::default(),
            problem: Mutex::default(),
        };
        if !this.authority.exists() {
            this.make_authority(now)?;
        }
        pem::certificates(&this.authority).context(AUTHORITY_CURE)?;
        this.issue_where_needed(&this.usual, KeyPair::generate, now)?;
        // Who puts a certificate of his own there decides about this one, too.
        if this.usual.origin()? == Origin::Hub || this.rsa.certificate.exists() {
            this.issue_where_needed(&this.rsa, rsa_key, now)?;
        }
        this.load()?;
        Ok(this)
    }

    fn issue_where_needed(&self, pair: &Pair, key: MakeKey, now: Timestamp) -> anyhow::Result<()> {
        if !pair.certificate.exists() {
            return self.issue(pair, key, now);
        }
        let Some(why) = self.why_not(pair, now)? else { return Ok(()) };
        match pair.origin()? {
            Origin::Foreign => tracing::warn!(
                file = %pair.certificate.display(),
                "the server certificate {why}; it was not issued by the hub, which leaves it as it is"
            ),
            Origin::Hub => self.issue(pair, key, now)?,
        }
        Ok(())
    }

    /// Makes anew what is not valid at this time, as far as no client is cut off by it: the authority where nobody can
    /// have it, and the hub's own certificate under an authority that is valid. Else says what is wrong.
    /// `doubted`: whether the time may be wrong by being ahead.
    pub(crate) fn keep_valid(&self, now: Timestamp, unused: bool, doubted: bool) -> anyhow::Result<()> {
        let authority = Validity::of_first(&self.authority)?;
        let leaf = Validity::of_first(&self.usual.certificate)?;
        let own = self.usual.origin()? == Origin::Hub;
        let mut problem = None;
        if own && !authority.holds(now) && unused {
            tracing::warn!(
                "the authority was made by a clock that was wrong, and nobody has it yet: it is made again"
            );
            self.make_authority(now)?;
            self.renew(now)?;
        } else if own && !authority.holds(now) {
            problem = Some(format!(
                "the authority is valid {authority}, and by the clock it is {now}: no client trusts the hub. If the clock is wrong, \
                 set it. If it is right, stop the hub, delete ca.pem, ca.key, server.pem and server.key, start it, and give \
                 every client the new ca.pem"
            ));
        } else if !leaf.holds(now) && own && (!doubted || now < leaf.begins) {
            tracing::warn!(
                "the server certificate is valid {leaf}, and by the clock it is {now}: it is issued again"
            );
            self.renew(now)?;
        } else if !leaf.holds(now) {
            problem = Some(format!(
                "the server certificate is valid {leaf}, and by the clock it is {now}: no client trusts the hub. Set the clock, or \
                 put another certificate there"
            ));
        }
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|_| known.is_none()) {
            tracing::error!("{problem}");
        }
        *known = problem;
        Ok(())
    }

    /// Whether the authority is one that no client can work with at this time.
    pub(crate) fn authority_is_invalid(&self, now: Timestamp) -> anyhow::Result<bool> {
        Ok(!Validity::of_first(&self.authority)?.holds(now))
    }

    /// Issues a new certificate, which the next handshake presents.
    pub(crate) fn renew(&self, now: Timestamp) -> anyhow::Result<()> {
        let renewed = self.issue_both(now).and_then(|()| self.load());
        let mut renewal_error = self.renewal_error.lock().unwrap_or_else(PoisonError::into_inner);
        *renewal_error = renewed.as_ref().err().map(|error| format!("{error:#}"));
        renewed
    }

    /// Issues both, but an RSA one that is somebody else's.
    fn issue_both(&self, now: Timestamp) -> anyhow::Result<()> {
        self.issue(&self.usual, KeyPair::generate, now)?;
        match self.rsa.certificate.exists() && self.rsa.origin()? == Origin::Foreign {
            true => Ok(()),
            false => self.issue(&self.rsa, rsa_key, now),
        }
    }

    /// Presents what the files hold from the next handshake on.
    pub(crate) fn load(&self) -> anyhow::Result<()> {
        let usual = self.usual.load()?;
        // One of the hub's does not stand beside one of somebody else's: clients trust another authority there.
        let has_rsa = self.rsa.certificate.exists()
            && (self.usual.origin()? == Origin::Hub || self.rsa.origin()? == Origin::Foreign);
        let rsa = if has_rsa { Some(self.rsa.load()?) } else { None };
        *self.presented.write().unwrap_or_else(PoisonError::into_inner) =
            Presented { usual: Some(usual), rsa };
        Ok(())
    }

    /// What the guard asks of it.
    pub(crate) fn facts(&self) -> ServerCertificateFacts {
        let presented = self.presented.read().unwrap_or_else(PoisonError::into_inner).usual.clone();
        let leaf = presented.as_ref().and_then(|key| key.cert.first());
        let ends = leaf
            .and_then(|leaf| X509Certificate::from_der(leaf).ok())
            .map(|(_, certificate)| certificate.validity().not_after.timestamp());
        ServerCertificateFacts {
            not_after: ends.and_then(|ends| Timestamp::from_second(ends).ok()).unwrap_or(Timestamp::MIN),
            thumbprint: leaf.map(|leaf| hub::certificate::sha256(leaf)).unwrap_or_default(),
            renewal_error: self.renewal_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            problem: self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn make_authority(&self, now: Timestamp) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        let serial = u64::try_from(now.as_millisecond()).unwrap_or_default();
        params.distinguished_name = name(&format!("{AUTHORITY_NAME}{serial:x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_DAYS);
        let certificate = params.self_signed(&key)?;
        create_private(&self.authority_key, key.serialize_pem().as_bytes())?;
        create_public(&self.authority, certificate.pem().as_bytes())
    }

    fn issue(&self, pair: &Pair, key: MakeKey, now: Timestamp) -> anyhow::Result<()> {
        let names = &self.names;
        let authority = std::fs::read_to_string(&self.authority)
            .with_context(|| format!("could not read {}", self.authority.display()))?;
        pem::private_key(&self.authority_key).context(AUTHORITY_CURE)?;
        let authority_key = KeyPair::from_pem(&read_private(&self.authority_key)?)
            .with_context(|| format!("{} is no private key that can sign", self.authority_key.display()))
            .context(AUTHORITY_CURE)?;
        let issuer = Issuer::from_ca_cert_pem(&authority, authority_key)?;
        let key = key()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names =
            names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        params.distinguished_name = name(names.first().map_or("holdfast", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, SERVER_DAYS);
        let certificate = params.signed_by(&key, &issuer)?;
        create_private(&pair.key, key.serialize_pem().as_bytes())?;
        create_public(&pair.certificate, certificate.pem().as_bytes())
    }

    /// What keeps the certificate from serving for a while yet: names, its end, or that it begins later.
    fn why_not(&self, pair: &Pair, now: Timestamp) -> anyhow::Result<Option<&'static str>> {
        let names = &self.names;
        let chain = pair.chain()?;
        let leaf = chain.first().context(SERVER_CURE)?;
        let (_, leaf) = X509Certificate::from_der(leaf)
            .with_context(|| format!("{} is damaged", pair.certificate.display()))?;
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
        // Before the authority begins nothing helps, and what was issued by a better clock stays.
        let authority_holds = Validity::of_first(&self.authority)?.holds(now);
        Ok(if !names.iter().all(|name| covered.contains(name)) {
            Some("does not have all names of the hub")
        } else if left <= RENEWAL_DAYS * 86_400 {
            Some("ends within 30 days")
        } else if leaf.validity().not_before.timestamp() > now.as_second() && authority_holds {
            Some("begins later than now")
        } else {
            None
        })
    }
}

/// Makes the key of a certificate.
type MakeKey = fn() -> Result<KeyPair, rcgen::Error>;

fn rsa_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
}

/// What a handshake presents of a chain: all but roots above the server's certificate. Whoever trusts a root has it, and whoever
/// does not is not convinced by it (RFC 8446 §4.4.2). What cannot be read is left to the client.
fn presented(chain: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    let is_root = |der: &CertificateDer<'_>| {
        X509Certificate::from_der(der).is_ok_and(|(_, it)| it.subject().as_raw() == it.issuer().as_raw())
    };
    let mut chain = chain.into_iter();
    let leaf = chain.next();
    leaf.into_iter().chain(chain.filter(|der| !is_root(der))).collect()
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened(directory: &Path) -> ServerCertificate {
        ServerCertificate::open(directory, &["localhost".to_owned()], Timestamp::now()).expect("opens")
    }

    fn presented_by(certificate: &ServerCertificate) -> Vec<CertificateDer<'static>> {
        let presented = certificate.presented.read().expect("no thread failed").usual.clone();
        presented.expect("a certificate").cert.clone()
    }

    #[test]
    fn the_root_is_not_presented_even_where_the_file_has_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        let leaf = presented_by(&opened(directory.path()));
        assert_eq!(leaf.len(), 1);
        // As earlier builds wrote it.
        let [chain, root] =
            [file("server.pem"), file("ca.pem")].map(|file| fs::read_to_string(file).expect("reads"));
        fs::write(file("server.pem"), format!("{chain}{root}")).expect("writes");
        assert_eq!(presented_by(&opened(directory.path())), leaf);
    }

    #[test]
    fn an_rsa_certificate_of_somebody_else_is_presented_and_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        let key = rsa_key().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.distinguished_name = name("Plant");
        let own = params.self_signed(&key).expect("signs");
        fs::write(file("server-rsa.pem"), own.pem()).expect("writes");
        create_private(&file("server-rsa.key"), key.serialize_pem().as_bytes()).expect("writes");
        let hub = opened(directory.path());
        hub.renew(Timestamp::now()).expect("renews");
        let presented = hub.presented.read().expect("no thread failed").rsa.clone();
        assert_eq!(presented.expect("an RSA certificate").cert, [own.der().clone()]);
        assert_eq!(fs::read_to_string(file("server-rsa.key")).expect("reads"), key.serialize_pem());
    }

    #[test]
    fn intermediates_are_presented_and_a_certificate_that_signs_itself_stays_first() {
        let key = |usage| {
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.distinguished_name = name(usage);
            (params, KeyPair::generate().expect("a key"))
        };
        let ((root, root_key), (middle, middle_key)) = (key("root"), key("middle"));
        let root_der = root.self_signed(&root_key).expect("signs").der().clone();
        let middle_der = middle
            .signed_by(&middle_key, &Issuer::from_params(&root, &root_key))
            .expect("signs")
            .der()
            .clone();
        let (leaf, leaf_key) = key("leaf");
        let leaf_der = leaf
            .signed_by(&leaf_key, &Issuer::from_params(&middle, &middle_key))
            .expect("signs")
            .der()
            .clone();
        let chain = vec![leaf_der.clone(), middle_der.clone(), root_der.clone()];
        assert_eq!(presented(chain), [leaf_der, middle_der]);
        assert_eq!(presented(vec![root_der.clone()]), [root_der]);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_helps() {
        let directory = tempfile::tempdir().expect("a directory");
        opened(directory.path());
        let names = ["localhost".to_owned()];
        for (name, cure) in [
            ("ca.pem", "give every client"),
            ("server.pem", "issues another"),
            ("server.key", "issues another"),
            ("server-rsa.pem", "issues another"),
            ("server-rsa.key", "issues another"),
        ] {
            let file = directory.path().join(name);
            let good = fs::read(&file).expect("reads");
            fs::write(&file, "").expect("writes");
            let error =
                ServerCertificate::open(directory.path(), &names, Timestamp::now()).expect_err("it is empty");
            let text = format!("{error:#}");
            assert!(text.contains(cure) && text.contains(&format!("{name} is empty")), "{text}");
            fs::write(&file, good).expect("writes");
        }
        // A key of another certificate.
        let key = KeyPair::generate().expect("a key").serialize_pem();
        fs::write(directory.path().join("server.key"), key).expect("writes");
        let error =
            ServerCertificate::open(directory.path(), &names, Timestamp::now()).expect_err("another key");
        assert!(format!("{error:#}").contains("server.key is not the key of server.pem"), "{error:#}");
        for name in ["server.key", "server.pem"] {
            fs::remove_file(directory.path().join(name)).expect("removes");
        }
        opened(directory.path());
    }
}
