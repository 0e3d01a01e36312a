//! Client certificates in the handshake: asked for, never required; possession of the key is proved over the raw
//! public key. Whether the certificate is trusted is the hub's to judge, so that X.509 v1 certificates and weak keys
//! reach it and get their own answer.

use rsa::pkcs1v15;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::signature::Verifier as _;
use rsa::{RsaPublicKey, pss, traits::PublicKeyParts as _};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};
use sha2::{Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Keys below this size are verified by `rsa`, for webpki's algorithms refuse them before the hub could say why.
const RSA_BITS_OF_WEBPKI: usize = 2_048;

/// Proves possession, judges nothing else.
#[derive(Debug)]
pub(crate) struct PossessionVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl PossessionVerifier {
    /// A verifier with these signature algorithms.
    pub(crate) fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms }
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let encoding = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| encoding())?;
        let spki = parsed.public_key();
        if let Ok(key) = RsaPublicKey::from_public_key_der(spki.raw)
            && key.size() * 8 < RSA_BITS_OF_WEBPKI
        {
            return verify_small_rsa(key, message, signed);
        }
        let candidates = self
            .algorithms
            .mapping
            .iter()
            .find_map(|(scheme, algorithms)| (*scheme == signed.scheme).then_some(*algorithms))
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let algorithm_id = spki.raw;
        let holds = candidates.iter().any(|algorithm| {
            // The key's algorithm is compared by its DER within the SubjectPublicKeyInfo.
            contains(algorithm_id, algorithm.public_key_alg_id().as_ref())
                && algorithm
                    .verify_signature(&spki.subject_public_key.data, message, signed.signature())
                    .is_ok()
        });
        match holds {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
        }
    }
}

impl ClientCertVerifier for PossessionVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Empty on purpose: some clients withhold a certificate that no listed authority issued.
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn verify_small_rsa(
    key: RsaPublicKey,
    message: &[u8],
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let pss_signature = || pss::Signature::try_from(signed.signature());
    let pkcs1_signature = || pkcs1v15::Signature::try_from(signed.signature());
    let verified = match signed.scheme {
        SignatureScheme::RSA_PSS_SHA256 => {
            pss_signature().and_then(|s| pss::VerifyingKey::<Sha256>::new(key).verify(message, &s))
        }
        SignatureScheme::RSA_PSS_SHA384 => {
            pss_signature().and_then(|s| pss::VerifyingKey::<Sha384>::new(key).verify(message, &s))
        }
        SignatureScheme::RSA_PSS_SHA512 => {
            pss_signature().and_then(|s| pss::VerifyingKey::<Sha512>::new(key).verify(message, &s))
        }
        SignatureScheme::RSA_PKCS1_SHA256 => {
            pkcs1_signature().and_then(|s| pkcs1v15::VerifyingKey::<Sha256>::new(key).verify(message, &s))
        }
        SignatureScheme::RSA_PKCS1_SHA384 => {
            pkcs1_signature().and_then(|s| pkcs1v15::VerifyingKey::<Sha384>::new(key).verify(message, &s))
        }
        SignatureScheme::RSA_PKCS1_SHA512 => {
            pkcs1_signature().and_then(|s| pkcs1v15::VerifyingKey::<Sha512>::new(key).verify(message, &s))
        }
        _ => return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()),
    };
    match verified {
        Ok(()) => Ok(HandshakeSignatureValid::assertion()),
        Err(_) => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
