//! Authorities and clients' certificates for tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber, SigningKey as _, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::sha256;
use crate::record::{Authority, Thumbprint};

/// An authority with its key.
pub(crate) struct MadeAuthority {
    key: KeyPair,
    params: CertificateParams,
    der: CertificateDer<'static>,
}

impl MadeAuthority {
    /// One of this common name whose key may do this.
    pub(crate) fn new(common_name: &str, usages: &[KeyUsagePurpose]) -> Self {
        Self::made(params(common_name, usages), KeyPair::generate().expect("a key"))
    }

    /// One that ended on a day.
    pub(crate) fn ended(common_name: &str, (year, month, day): (i32, u8, u8)) -> Self {
        let mut params = params(common_name, &[KeyUsagePurpose::KeyCertSign]);
        params.not_after = date_time_ymd(year, month, day);
        Self::made(params, KeyPair::generate().expect("a key"))
    }

    /// The same name and key again, in another certificate.
    pub(crate) fn renewed(&self) -> Self {
        let key = KeyPair::from_pem(&self.key.serialize_pem()).expect("a key");
        let mut params = self.params.clone();
        params.serial_number = Some(SerialNumber::from(77));
        Self::made(params, key)
    }

    fn made(params: CertificateParams, key: KeyPair) -> Self {
        let der = params.self_signed(&key).expect("signs itself").der().clone();
        Self { key, params, der }
    }

    /// Its certificate.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// What its key makes of a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).expect("signs")
    }

    /// A client's certificate with this serial number.
    pub(crate) fn issue(&self, common_name: &str, serial: u64) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(&key, &issuer).expect("issued").der().clone()
    }

    /// What the registry has of it: verified, and without a list.
    pub(crate) fn record(&self, name: &str) -> Authority {
        Authority {
            name: name.to_owned(),
            certificate: STANDARD.encode(&self.der),
            subject: format!("CN={name}"),
            thumbprint: Thumbprint::parse(&sha256(&self.der)).expect("a thumbprint"),
            not_after: Timestamp::MAX,
            verified: true,
            verification_code: None,
            revocation_lists: Vec::new(),
            created: Timestamp::UNIX_EPOCH,
        }
    }
}

fn params(common_name: &str, usages: &[KeyUsagePurpose]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    params
}
