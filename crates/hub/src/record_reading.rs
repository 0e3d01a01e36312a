//! Reading [`Authentication`] and [`CredentialUse`] without a copy of them: serde reads an enum by its tag out of a buffer
//! that holds all members, and these are read with every connection and for every identity of a look.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::access::PolicyName;
use crate::activity::{CertificateUse, CredentialUse};
use crate::record::{Authentication, SealedKey, Slot, Thumbprint};

/// An [`Authentication`] as it lies in the registry.
#[derive(Deserialize)]
pub(crate) struct AuthenticationText {
    r#type: Type,
    primary: Option<Held>,
    secondary: Option<Held>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Type {
    Sas,
    SelfSigned,
    CertificateAuthority,
    None,
}

/// What a slot holds.
enum Held {
    Key(SealedKey),
    Thumbprint(Thumbprint),
}

impl TryFrom<AuthenticationText> for Authentication {
    type Error = &'static str;

    fn try_from(text: AuthenticationText) -> Result<Self, Self::Error> {
        Ok(match (text.r#type, text.primary, text.secondary) {
            (Type::Sas, Some(Held::Key(primary)), Some(Held::Key(secondary))) => {
                Self::Sas { primary, secondary }
            }
            (Type::Sas, ..) => return Err("the identity lacks one of its keys"),
            (Type::SelfSigned, primary, secondary) => {
                Self::SelfSigned { primary: thumbprint(primary)?, secondary: thumbprint(secondary)? }
            }
            (Type::CertificateAuthority, ..) => Self::CertificateAuthority,
            (Type::None, ..) => Self::None,
        })
    }
}

fn thumbprint(held: Option<Held>) -> Result<Option<Thumbprint>, &'static str> {
    match held {
        None => Ok(None),
        Some(Held::Thumbprint(thumbprint)) => Ok(Some(thumbprint)),
        Some(Held::Key(_)) => Err("the identity has a key in the place of a thumbprint"),
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeldVisitor)
    }
}

struct HeldVisitor;

impl<'de> Visitor<'de> for HeldVisitor {
    type Value = Held;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a sealed key or a thumbprint")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Held, E> {
        Thumbprint::parse(text).map(Held::Thumbprint).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Held, A::Error> {
        SealedKey::deserialize(MapAccessDeserializer::new(map)).map(Held::Key)
    }
}

/// A [`CredentialUse`] as it lies in the registry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CredentialUseText {
    kind: CredentialKind,
    ends: Option<i64>,
    policy: Option<PolicyName>,
    slot: Option<Slot>,
    thumbprint: Option<String>,
    public_key: Option<String>,
    serial: Option<String>,
    issuer: Option<String>,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum CredentialKind {
    Token,
    Certificate,
}

impl TryFrom<CredentialUseText> for CredentialUse {
    type Error = &'static str;

    fn try_from(text: CredentialUseText) -> Result<Self, Self::Error> {
        match text.kind {
            CredentialKind::Token => {
                let ends = text.ends.ok_or("the use of a token lacks its end")?;
                Ok(Self::Token { ends, policy: text.policy, slot: text.slot })
            }
            CredentialKind::Certificate => {
                let lacking =
                    "the use of a certificate lacks its thumbprint, public key, serial number or issuer";
                Ok(Self::Certificate(Box::new(CertificateUse {
                    thumbprint: text.thumbprint.ok_or(lacking)?,
                    public_key: text.public_key.ok_or(lacking)?,
                    serial: text.serial.ok_or(lacking)?,
                    issuer: text.issuer.ok_or(lacking)?,
                    not_before: text.not_before,
                    not_after: text.not_after,
                })))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::secrets::Fingerprint;

    #[test]
    fn what_is_written_is_read() {
        let key = |sealed: &str| SealedKey {
            sealed: sealed.to_owned(),
            fingerprint: Fingerprint([0xf0; 16]),
            set: jiff::Timestamp::UNIX_EPOCH,
            quality: None,
        };
        let thumbprint = Thumbprint::parse(&"ab".repeat(20)).expect("a thumbprint");
        for authentication in [
            Authentication::Sas { primary: key("a"), secondary: key("b") },
            Authentication::SelfSigned { primary: Some(thumbprint), secondary: None },
            Authentication::CertificateAuthority,
            Authentication::None,
        ] {
            let text = serde_json::to_string(&authentication).expect("text");
            assert_eq!(serde_json::from_str::<Authentication>(&text).expect(&text), authentication);
        }
    }

    #[test]
    fn the_use_of_a_credential_is_read_as_it_was_written() {
        let policy = Some(PolicyName::parse("device").expect("a name"));
        for used in [
            CredentialUse::Token { ends: 1_900_000_000, policy, slot: Some(Slot::Secondary) },
            CredentialUse::Token { ends: -1, policy: None, slot: None },
            CredentialUse::Certificate(Box::new(CertificateUse {
                thumbprint: "t".to_owned(),
                public_key: "k".to_owned(),
                serial: "s".to_owned(),
                issuer: "i".to_owned(),
                not_before: Some(Timestamp::UNIX_EPOCH),
                not_after: None,
            })),
        ] {
            let text = serde_json::to_string(&used).expect("text");
            assert_eq!(serde_json::from_str::<CredentialUse>(&text).expect(&text), used);
        }
        assert!(serde_json::from_str::<CredentialUse>(r#"{"kind":"certificate","ends":1}"#).is_err());
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for text in [
            r#"{"type":"sas","primary":null,"secondary":null}"#,
            r#"{"type":"selfSigned","primary":{"sealed":"a","fingerprint":"b","set":"1970-01-01T00:00:00Z"}}"#,
            r#"{"type":"selfSigned","primary":"no thumbprint"}"#,
            r#"{"primary":null}"#,
        ] {
            assert!(serde_json::from_str::<Authentication>(text).is_err(), "{text}");
        }
    }
}
