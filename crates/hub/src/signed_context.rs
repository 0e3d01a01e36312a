//! What a client of MQTT 5 signs in place of a token: the context of its connection (`docs/protocol/device-mqtt.md`
//! §11). It becomes a [`Token`] for the identity that connects, so that the decisions about tokens are the decisions
//! about it.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::authenticate::{Grant, resource_path};
use crate::decision::Facts;
use crate::hub::{Credential, Hub, NotAdmitted};
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::sas::{TOKEN_BYTES_MAX, Token, host_without_port};

/// What was presented, as it stands in the properties of a CONNECT or AUTH; empty where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The host: the property `host`, or the server name of the handshake.
    pub host: &'a str,
    /// `sas-policy`.
    pub policy: &'a str,
    /// `sas-at`, in milliseconds since 1970 UTC.
    pub at: &'a str,
    /// `sas-expiry`, in milliseconds since 1970 UTC.
    pub expiry: &'a str,
}

/// A context and its signature.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedContext {
    resource: String,
    policy: String,
    expiry: String,
    ends: i64,
    text: String,
    signature: Zeroizing<Vec<u8>>,
}

/// Shows nothing of the signature.
impl fmt::Debug for SignedContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<a signed context for {}>", self.resource)
    }
}

impl SignedContext {
    /// Reads what an identity presents. Whether the signature is good is not looked at.
    pub fn read(identity: &Identity, context: Context<'_>, signature: &[u8]) -> Result<Self, Refusal> {
        let refused = |problem: String| Err(Refusal::AuthenticationProperties { problem });
        let Context { host, policy, at, expiry } = context;
        let bytes = host.len() + policy.len() + at.len() + expiry.len() + signature.len();
        if bytes > TOKEN_BYTES_MAX {
            return refused(format!("what is signed, and its signature, have {bytes} bytes"));
        }
        if signature.is_empty() {
            return refused("`Authentication Data` is missing".to_owned());
        }
        if expiry.is_empty() {
            return refused("the user property `sas-expiry` is missing".to_owned());
        }
        if !at.is_empty() && at.parse::<i64>().is_err() {
            return refused("`sas-at` is not a number of milliseconds".to_owned());
        }
        let Ok(ends) = expiry.parse::<i64>() else {
            return refused("`sas-expiry` is not a number of milliseconds".to_owned());
        };
        Ok(Self {
            resource: format!("{}{}", host_without_port(host), resource_path(identity)),
            policy: policy.to_owned(),
            expiry: expiry.to_owned(),
            ends: ends.div_euclid(1_000),
            text: format!("{host}\n{identity}\n{policy}\n{at}\n{expiry}\n"),
            signature: Zeroizing::new(signature.to_vec()),
        })
    }

    /// It as a token for the identity.
    pub fn token(&self) -> Token<'_> {
        Token {
            sr: &self.resource,
            signature: self.signature.to_vec(),
            se_text: &self.expiry,
            se: self.ends,
            skn: (!self.policy.is_empty()).then(|| self.policy.clone()),
            context: Some(self),
        }
    }

    /// The text that is signed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The mistake by which a holder of the right key came to a wrong signature, if it is one of those that are made.
    pub(crate) fn mistake(&self, key: &[u8], tokens: impl Iterator<Item = String>) -> Option<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let is = |text: &str, signature: &[u8]| {
            let tag = hmac::sign(&key, text.as_bytes());
            constant_time::verify_slices_are_equal(tag.as_ref(), signature).is_ok()
        };
        let signed = |text: &str| is(text, &self.signature);
        let decoded = STANDARD.decode(self.signature.trim_ascii()).unwrap_or_default();
        if is(&self.text, &decoded) {
            return Some("the signature is sent as base64 text, not as its 32 bytes".to_owned());
        }
        if is(&self.text, &hexadecimal(&self.signature)) {
            return Some("the signature is sent in hexadecimal digits, not as its 32 bytes".to_owned());
        }
        if signed(self.text.trim_end_matches('\n')) {
            return Some("the line feed behind the last line is missing".to_owned());
        }
        if signed(&self.text.replace('\n', "\\n")) {
            return Some("a backslash and an `n` stand in place of each line feed".to_owned());
        }
        let ends = self.ends.to_string();
        let mut tokens = tokens.flat_map(|sr| [format!("{sr}\n{ends}"), format!("{sr}\n{}", self.expiry)]);
        tokens
            .any(|text| signed(&text))
            .then(|| "a resource and an end were signed, as in a token of MQTT 3.1.1".to_owned())
    }
}

impl Hub {
    /// Decides on what an admitted connection presents to authenticate again (`docs/protocol/device-mqtt.md` §11): a
    /// credential of the kind that admitted it, and where that was a key of a policy, one of the same policy. `None`
    /// stands for the certificate of the handshake.
    pub async fn admit_again(
        &self,
        grant: &Grant,
        context: Option<&SignedContext>,
        facts: &mut Facts,
    ) -> Result<Grant, NotAdmitted> {
        let Some(context) = context else {
            self.still_holds(grant).await?;
            return Ok(grant.clone());
        };
        let renewed = self.admit(grant.identity(), Credential::Context(context), facts).await?;
        if renewed.basis.policy() != grant.basis.policy() {
            let name = |grant: &Grant| match grant.basis.policy() {
                Some(policy) => format!("a key of the policy {policy}"),
                None => "a key of the device or module itself".to_owned(),
            };
            let problem =
                format!("the connection began with {}, and AUTH has {}", name(grant), name(&renewed));
            return Err(Refusal::AuthenticationProperties { problem }.into());
        }
        if renewed.sender.generation != grant.sender.generation {
            return Err(Refusal::RightEnded { because: None, change: None }.into());
        }
        Ok(Grant { sender: grant.sender.clone(), ..renewed })
    }
}

/// The bytes that hexadecimal digits stand for; none where they are no such digits.
fn hexadecimal(digits: &[u8]) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key of a device, of 32 bytes..";
    const CONTEXT: Context<'_> =
        Context { host: "Hub.example.net", policy: "", at: "1600987795320", expiry: "1600991395320" };
    const TEXT: &str = "Hub.example.net\npump-1/camera\n\n1600987795320\n1600991395320\n";

    fn identity() -> Identity {
        Identity::parse("pump-1/camera").expect("an id")
    }

    fn tag(text: &str) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), text.as_bytes()).as_ref().to_vec()
    }

    #[test]
    fn a_context_is_a_token_for_its_identity() {
        let signed = SignedContext::read(&identity(), CONTEXT, &tag(TEXT)).expect("a context");
        let token = signed.token();
        assert!(token.signed_with(KEY) && !token.signed_with(b"another"));
        assert_eq!((token.se, &token.skn), (1_600_991_395, &None));
        let hosts = ["hub.example.net".to_owned()];
        assert!(token.covers(&hosts, "/devices/pump-1/modules/camera"));
        assert!(!token.covers(&hosts, "/devices/pump-1") && !token.covers(&[], "/devices/pump-1"));
        let under = Context { policy: "device", at: "", ..CONTEXT };
        let text = "Hub.example.net\npump-1/camera\ndevice\n\n1600991395320\n";
        let signed = SignedContext::read(&identity(), under, &tag(text)).expect("a context");
        assert!(signed.token().signed_with(KEY));
        assert_eq!(signed.token().skn.as_deref(), Some("device"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let problem = |context: Context<'_>, signature: &[u8]| match SignedContext::read(
            &identity(),
            context,
            signature,
        )
        .err()
        {
            Some(Refusal::AuthenticationProperties { problem }) => problem,
            other => panic!("{other:?}"),
        };
        assert_eq!(problem(CONTEXT, b""), "`Authentication Data` is missing");
        let without = Context { expiry: "", ..CONTEXT };
        assert_eq!(problem(without, b"x"), "the user property `sas-expiry` is missing");
        let text = Context { expiry: "soon", ..CONTEXT };
        assert_eq!(problem(text, b"x"), "`sas-expiry` is not a number of milliseconds");
        let text = Context { at: "now", ..CONTEXT };
        assert_eq!(problem(text, b"x"), "`sas-at` is not a number of milliseconds");
        assert!(problem(CONTEXT, &[0; TOKEN_BYTES_MAX]).contains("bytes"));
    }

    #[test]
    fn mistakes_with_the_right_key_are_found() {
        let found = |signature: &[u8]| {
            let signed = SignedContext::read(&identity(), CONTEXT, signature).expect("a context");
            signed.mistake(KEY, ["hub%2Fdevices%2Fpump-1".to_owned()].into_iter())
        };
        let digits: String = tag(TEXT).iter().map(|byte| format!("{byte:02x}")).collect();
        let mistakes: [(Vec<u8>, &str); 5] = [
            (STANDARD.encode(tag(TEXT)).into_bytes(), "base64"),
            (digits.into_bytes(), "hexadecimal"),
            (tag(TEXT.trim_end()), "behind the last line"),
            (tag(&TEXT.replace('\n', "\\n")), "backslash"),
            (tag("hub%2Fdevices%2Fpump-1\n1600991395"), "MQTT 3.1.1"),
        ];
        for (signature, word) in mistakes {
            assert!(found(&signature).is_some_and(|mistake| mistake.contains(word)), "{word}");
        }
        assert_eq!(found(&tag("something else")), None);
    }
}
