//! Reading [`Authentication`] without a copy of it: serde reads an enum by its tag out of a buffer that holds all members,
//! and this one is read with every connection.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::record::{Authentication, SealedKey, Thumbprint};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::secrets::Fingerprint;

    #[test]
    fn what_is_written_is_read() {
        let key = |sealed: &str| SealedKey {
            sealed: sealed.to_owned(),
            fingerprint: Fingerprint("00ff".to_owned()),
            set: jiff::Timestamp::UNIX_EPOCH,
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
