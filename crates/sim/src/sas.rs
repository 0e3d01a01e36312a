//! SAS tokens, signed as the SDKs of devices and of Event Hubs sign them.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::SimError;

/// What the SDKs leave as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A key that signs tokens. Cloning is cheap.
#[derive(Clone)]
pub struct SasKey {
    key: Arc<hmac::Key>,
    policy: Option<String>,
}

impl SasKey {
    /// The key of a device or module: base64, decoded before it signs.
    pub fn of_device(key: &str) -> Result<Self, SimError> {
        let key = STANDARD.decode(key).map_err(SimError::Key)?;
        Ok(Self { key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)), policy: None })
    }

    /// The key of a policy as the Event Hubs SDKs use it: its text signs, not what base64 makes of it.
    pub fn of_event_hubs(policy: &str, key: &str) -> Self {
        Self {
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())),
            policy: Some(policy.to_owned()),
        }
    }

    /// A token for a resource that ends at this second since 1970.
    pub fn token(&self, resource: &str, end: u64) -> String {
        let resource = utf8_percent_encode(resource, ESCAPED).to_string();
        let tag = hmac::sign(&self.key, format!("{resource}\n{end}").as_bytes());
        let signature = STANDARD.encode(tag);
        let signature = utf8_percent_encode(&signature, ESCAPED);
        let policy =
            self.policy.as_ref().map(|policy| format!("&skn={}", utf8_percent_encode(policy, ESCAPED)));
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={end}{}", policy.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signed with `openssl dgst -sha256 -hmac`: the key is the text `secret`.
    #[test]
    fn a_token_is_signed_over_its_escaped_resource_and_its_end() {
        let device = SasKey::of_device("c2VjcmV0").expect("base64");
        let token = device.token("hub.example/devices/d 1", 1_700_000_000);
        let (rest, end) = token.rsplit_once("&se=").expect("an end");
        assert_eq!(end, "1700000000");
        let (resource, signature) = rest.split_once("&sig=").expect("a signature");
        assert_eq!(resource, "SharedAccessSignature sr=hub.example%2Fdevices%2Fd%201");
        assert_eq!(signature, SIGNATURE);
        let policy = SasKey::of_event_hubs("own er", "secret");
        let token = policy.token("hub.example/devices/d 1", 1_700_000_000);
        assert!(token.contains(SIGNATURE) && token.ends_with("&skn=own%20er"), "{token}");
    }

    const SIGNATURE: &str = "JfGPPikRGQTnfv13rmI1J8oU7G4f7uVlcsZ06FFkLoE%3D";
}
