//! Certificates and keys in PEM files, and what is wrong with a file that holds none.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// The certificates of a file: one at least, and each can be read.
pub(crate) fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = content(path)?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is damaged", path.display()))?;
    if certificates.is_empty() {
        bail!("{} holds no certificate (`-----BEGIN CERTIFICATE-----`){}", path.display(), instead(&text));
    }
    for certificate in &certificates {
        X509Certificate::from_der(certificate).with_context(|| format!("{} is damaged", path.display()))?;
    }
    Ok(certificates)
}

/// The private key of a file.
pub(crate) fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let text = content(path)?;
    let mut keys = PrivateKeyDer::pem_slice_iter(&text);
    match keys.next() {
        Some(key) => key.with_context(|| format!("{} is damaged", path.display())),
        None => {
            bail!("{} holds no private key (`-----BEGIN PRIVATE KEY-----`){}", path.display(), instead(&text))
        }
    }
}

fn content(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let text = fs::read(path).map(Zeroizing::new);
    let text = text.with_context(|| format!("could not read {}", path.display()))?;
    if text.iter().all(u8::is_ascii_whitespace) {
        bail!("{} is empty", path.display());
    }
    Ok(text)
}

/// What a file holds that was looked through in vain: the label of its first part.
fn instead(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"));
    match label {
        Some((label, _)) if label.len() <= 40 => format!(", but `-----BEGIN {label}-----`"),
        Some(_) | None => ", nor anything else in PEM".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_file_that_holds_none_says_what_it_holds() {
        let key = KeyPair::generate().expect("a key");
        let certificate =
            CertificateParams::new(Vec::new()).expect("parameters").self_signed(&key).expect("signs").pem();
        let (key, place) = (key.serialize_pem(), tempfile::tempdir().expect("a directory"));
        let file = place.path().join("file");
        let said = |content: &str| {
            fs::write(&file, content).expect("writes");
            let text =
                |error: anyhow::Error| format!("{error:#}").replace(&file.display().to_string(), "FILE");
            [certificates(&file).err().map(text), private_key(&file).err().map(text)]
        };
        let wants = |what, instead: &str| Some(format!("FILE holds no {what}{instead}"));
        let (a_certificate, a_key) =
            ("certificate (`-----BEGIN CERTIFICATE-----`)", "private key (`-----BEGIN PRIVATE KEY-----`)");
        for empty in ["", "\n \n"] {
            assert_eq!(said(empty), [Some("FILE is empty".to_owned()), Some("FILE is empty".to_owned())]);
        }
        assert_eq!(said(&format!("{certificate}{key}")), [None, None]);
        assert_eq!(said(&certificate), [None, wants(a_key, ", but `-----BEGIN CERTIFICATE-----`")]);
        assert_eq!(said(&key), [wants(a_certificate, ", but `-----BEGIN PRIVATE KEY-----`"), None]);
        let nothing = ", nor anything else in PEM";
        assert_eq!(said("no PEM"), [wants(a_certificate, nothing), wants(a_key, nothing)]);
        let [cut, _] = said(&certificate[..certificate.len() / 2]);
        assert!(cut.as_deref().is_some_and(|cut| cut.starts_with("FILE is damaged: ")), "{cut:?}");
        let [none, _] = said("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
        assert!(none.as_deref().is_some_and(|none| none.starts_with("FILE is damaged: ")), "{none:?}");
        fs::remove_file(&file).expect("removes");
        let missing = certificates(&file).expect_err("it is gone");
        assert!(format!("{missing:#}").contains("could not read"), "{missing:#}");
    }
}
