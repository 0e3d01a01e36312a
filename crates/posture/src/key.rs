//! Certificate authorities that everybody has the key of.

/// Words in the subject of certificates that tutorials have people make, with a password that everybody knows.
const PUBLISHED_AUTHORITIES: &[&str] = &[
    "Azure IoT Root CA Test Only",
    "Azure IoT Hub CA Cert Test Only",
    "Azure IoT Hub Intermediate Cert Test Only",
    "Azure_IoT_Hub_CA_Cert_Test_Only",
];

/// The tutorial that a certificate's subject belongs to.
pub fn published_authority(subject: &str) -> Option<&'static str> {
    PUBLISHED_AUTHORITIES.iter().find(|known| subject.contains(**known)).copied()
}
