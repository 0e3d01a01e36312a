//! Certificates as an outsider makes them.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::SimError;

/// A certificate authority of ECDSA P-256.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, both PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, and those above it up to the authority.
    pub chain: String,
    /// The private key (PKCS#8).
    pub key: String,
}

impl Authority {
    /// A new authority with this common name.
    pub fn new(common_name: &str) -> Result<Self, SimError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(common_name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// What clients and hubs trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate for these DNS names and addresses.
    pub fn issue_server(&self, names: &[&str]) -> Result<Issued, SimError> {
        let mut params = params(names.first().copied().unwrap_or("server"), names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// A device's certificate with its id as the common name.
    pub fn issue_device(&self, device: &str) -> Result<Issued, SimError> {
        let mut params = params(device, &[])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Issued, SimError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued { chain: format!("{}{}", certificate.pem(), self.pem), key: key.serialize_pem() })
    }
}

fn params(common_name: &str, names: &[&str]) -> Result<CertificateParams, SimError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

fn failed(error: rcgen::Error) -> SimError {
    SimError::Certificate(error.to_string())
}
