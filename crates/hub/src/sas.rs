//! Shared access signatures (`docs/protocol/device-mqtt.md` §2.2): reading them, their scope, and their signature.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use crate::decision::{TokenFacts, cut};
use crate::identity::Identity;
use crate::scope::Scope;
use crate::signed_context::SignedContext;

/// How long after its end a token is still admitted, in seconds.
pub const SKEW_SECONDS: i64 = 5 * 60;

/// The longest token that is read, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A token as it was presented. `sr` is kept as received: it is the signed text, and encoders differ.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// The resource, raw.
    pub sr: &'a str,
    /// The signature, decoded.
    pub(crate) signature: Vec<u8>,
    /// The end, as it was written: part of the signed text.
    pub(crate) se_text: &'a str,
    /// The end, in seconds since 1970 UTC.
    pub se: i64,
    /// The policy; `None` when absent or empty.
    pub skn: Option<String>,
    /// What was signed in place of the resource and the end.
    pub(crate) context: Option<&'a SignedContext>,
}

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The scheme word is missing.
    #[error("it does not begin with `SharedAccessSignature `")]
    Scheme,
    /// The text is longer than a token can be.
    #[error("it has {0} bytes, more than the {TOKEN_BYTES_MAX} that a token can have")]
    TooLong(usize),
    /// A field is missing.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A field comes twice.
    #[error("the field `{0}` comes twice")]
    Twice(&'static str),
    /// `se` is no time.
    #[error("`se` is not a number of seconds")]
    Expiry,
    /// `sig` is not base64.
    #[error("`sig` is not percent-encoded base64")]
    Signature,
}

impl<'a> Token<'a> {
    /// Reads a token; the fields may come in any order.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        let scheme = "SharedAccessSignature";
        let (word, rest) = text.trim().split_once([' ', '\t']).ok_or(TokenError::Scheme)?;
        if !word.eq_ignore_ascii_case(scheme) {
            return Err(TokenError::Scheme);
        }
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for field in rest.trim_start().split('&') {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let (slot, name) = match name {
                "sr" => (&mut sr, "sr"),
                "sig" => (&mut sig, "sig"),
                "se" => (&mut se, "se"),
                "skn" => (&mut skn, "skn"),
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(TokenError::Twice(name));
            }
        }
        let se_text = se.ok_or(TokenError::Missing("se"))?;
        let sig = percent_decode_str(sig.ok_or(TokenError::Missing("sig"))?);
        Ok(Self {
            sr: sr.filter(|sr| !sr.is_empty()).ok_or(TokenError::Missing("sr"))?,
            signature: STANDARD.decode(sig.collect::<Vec<u8>>()).map_err(|_| TokenError::Signature)?,
            se_text,
            se: seconds(&percent_decode_str(se_text).decode_utf8_lossy()).ok_or(TokenError::Expiry)?,
            skn: skn.map(decoded_twice).filter(|skn| !skn.is_empty()),
            context: None,
        })
    }

    /// The fields that are no secret, for the record.
    pub fn facts(&self) -> TokenFacts {
        TokenFacts { sr: cut(&decoded(self.sr)), se: self.se, skn: self.skn.as_deref().map(cut) }
    }

    /// Whether the token was signed with this key.
    pub fn signed_with(&self, key: &[u8]) -> bool {
        if let Some(context) = self.context {
            return self.is_signature_of(context.text(), key);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut context = hmac::Context::with_key(&key);
        context.update(self.sr.as_bytes());
        context.update(b"\n");
        context.update(self.se_text.as_bytes());
        constant_time::verify_slices_are_equal(context.sign().as_ref(), &self.signature).is_ok()
    }

    /// Whether the signature is that of this text under this key, whatever the token's own text is.
    pub(crate) fn is_signature_of(&self, text: &str, key: &[u8]) -> bool {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        constant_time::verify_slices_are_equal(tag.as_ref(), &self.signature).is_ok()
    }

    /// Whether the signature is written as hexadecimal digits, which are base64 of something too.
    pub(crate) fn is_signed_in_hexadecimal(&self, key: &[u8]) -> bool {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        context.update(format!("{}\n{}", self.sr, self.se_text).as_bytes());
        let digits: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let read = |digits: &str| STANDARD.decode(digits).unwrap_or_default();
        [read(&digits), read(&digits.to_uppercase())]
            .iter()
            .any(|digits| constant_time::verify_slices_are_equal(digits, &self.signature).is_ok())
    }

    /// The host in the resource, without a port.
    pub fn host(&self) -> String {
        let resource = decoded(self.sr);
        let resource = resource.split_once("://").map_or(resource.as_str(), |(_, rest)| rest);
        host_without_port(resource.split('/').next().unwrap_or_default()).to_owned()
    }

    /// Whether the token is past its end, skew included.
    pub fn is_expired(&self, now_seconds: i64) -> bool {
        self.se.saturating_add(SKEW_SECONDS) < now_seconds
    }

    /// The end as it was written, where it has to be in milliseconds and is one of these years in seconds.
    pub(crate) fn in_seconds(&self, now_seconds: i64, years_seconds: i64) -> Option<i64> {
        let end = self.context.and_then(|_| self.se_text.parse::<i64>().ok())?;
        (now_seconds.abs_diff(end) < years_seconds.unsigned_abs()).then_some(end)
    }

    /// When a session that begins now must end, in seconds since 1970: at `se`, or after the skew when the token
    /// was past its end already.
    pub fn session_end(&self, now_seconds: i64) -> i64 {
        if self.se > now_seconds { self.se } else { self.se.saturating_add(SKEW_SECONDS) }
    }

    /// Whether `sr` covers a path such as `/devices/d1`, by whole segments, on one of the hub's host names.
    pub fn covers(&self, hosts: &[String], path: &str) -> bool {
        self.scope(hosts).is_some_and(|scope| scope.covers(path))
    }

    /// Whether `sr` names one of these hosts, whatever path follows.
    pub fn names_host(&self, hosts: &[String]) -> bool {
        self.scope(hosts).is_some()
    }

    /// What `sr` is for, or `None` when its host is not one of these.
    pub(crate) fn scope(&self, hosts: &[String]) -> Option<Scope> {
        let resource = decoded(self.sr);
        let resource = resource.split_once("://").map_or(resource.as_str(), |(_, rest)| rest);
        let mut segments = resource.split('/').filter(|segment| !segment.is_empty());
        let host = segments.next()?;
        let host = host_without_port(host);
        hosts
            .iter()
            .any(|name| name.eq_ignore_ascii_case(host))
            // An id in the URI may hold an encoded `/` only if it is no legal id, so splitting after decoding is safe.
            .then(|| Scope::new(segments.map(str::to_owned).collect()))
    }

    /// The device or module that `sr` is for, where it is for one: as it is written, and, where that makes another id,
    /// decoded once more (the Node SDK encodes the id, and then the whole resource again).
    pub(crate) fn identities(&self, hosts: &[String]) -> Vec<Identity> {
        let Some(scope) = self.scope(hosts) else { return Vec::new() };
        let segments = scope.segments();
        let word = |at: usize, literal: &str| segments[at].eq_ignore_ascii_case(literal);
        let text = match segments.len() {
            2 if word(0, "devices") => segments[1].to_owned(),
            3 if word(0, "devices") && segments[2].to_ascii_lowercase().starts_with("api-version=") => {
                segments[1].to_owned()
            }
            4 if word(0, "devices") && word(2, "modules") => format!("{}/{}", segments[1], segments[3]),
            _ => return Vec::new(),
        };
        let again = Some(decoded(&text)).filter(|again| *again != text);
        [Some(text), again].into_iter().flatten().filter_map(|text| Identity::parse(&text).ok()).collect()
    }
}

/// A host name without the port behind it. An IPv6 address has brackets where a port follows it (RFC 3986 section 3.2.2), which
/// are taken off; one without brackets is a host as a whole.
pub fn host_without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.rsplit_once(':') {
        Some((name, port))
            if !name.is_empty() && !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) =>
        {
            name
        }
        _ => host,
    }
}

/// The bytes of a symmetric key from its text.
pub fn key_bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.trim()).ok()
}

fn seconds(text: &str) -> Option<i64> {
    let whole = text.split_once('.').map_or(text, |(whole, fraction)| {
        if fraction.bytes().all(|b| b.is_ascii_digit()) { whole } else { text }
    });
    whole.parse().ok()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The Python Event Hubs SDK encodes the policy name twice.
fn decoded_twice(text: &str) -> String {
    decoded(&decoded(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(sr: &str, se: &str, key: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let tag = hmac::sign(&key, format!("{sr}\n{se}").as_bytes());
        let sig = STANDARD.encode(tag).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}")
    }

    fn hosts() -> Vec<String> {
        vec!["hub.example.net".into()]
    }

    #[test]
    fn a_port_is_told_from_the_end_of_an_address() {
        for (host, name) in [
            ("h.example", "h.example"),
            ("h.example:443", "h.example"),
            ("h.example:", "h.example"),
            ("127.0.0.1:8883", "127.0.0.1"),
            ("::1", "::1"),
            ("2001:db8:0:0:0:0:0:1", "2001:db8:0:0:0:0:0:1"),
            ("[::1]", "::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            (":443", ":443"),
            ("[::1", "[::1"),
        ] {
            assert_eq!(host_without_port(host), name, "{host}");
        }
    }

    #[test]
    fn the_raw_resource_is_what_was_signed() {
        for sr in
            ["hub.example.net%2Fdevices%2Fd1", "hub.example.net%2fdevices%2fd1", "hub.example.net/devices/d1"]
        {
            let text = sign(sr, "1800000000", b"key");
            let token = Token::parse(&text).expect("a token");
            assert!(token.signed_with(b"key"), "{sr}");
            assert!(!token.signed_with(b"other"), "{sr}");
            assert!(token.covers(&hosts(), "/devices/d1"), "{sr}");
        }
    }

    #[test]
    fn the_scope_covers_by_whole_segments() {
        let cases = [
            ("hub.example.net", "/devices/d1", true),
            ("HUB.example.net", "/devices/d1", true),
            ("hub.example.net/devices", "/devices/d1", true),
            ("hub.example.net/devices/D1", "/devices/d1", false),
            ("hub.example.net/Devices/d1", "/devices/d1", true),
            ("hub.example.net/devices/d1", "/devices/d1/modules/m", true),
            ("hub.example.net/devices/d", "/devices/d1", false),
            ("hub.example.net/devices/d1/modules/m", "/devices/d1", false),
            ("hub.example.net%2Fdevices%2Fa%252Bb", "/devices/a+b", true),
            ("hub.example.net/devices/d1/api-version=2016-11-14", "/devices/d1", true),
            ("other.example.net/devices/d1", "/devices/d1", false),
            ("sb://hub.example.net:5671/hub", "/hub/consumergroups/x", true),
        ];
        for (sr, path, covers) in cases {
            let text = sign(sr, "1", b"k");
            assert_eq!(Token::parse(&text).expect("a token").covers(&hosts(), path), covers, "{sr} {path}");
        }
    }

    #[test]
    fn what_is_no_token_is_named() {
        let error = |text: &str| Token::parse(text).err();
        assert_eq!(error("Bearer x"), Some(TokenError::Scheme));
        assert_eq!(error("SharedAccessSignature sr=a&sig=aa&se=1"), Some(TokenError::Signature));
        assert_eq!(error("SharedAccessSignature sig=aaaa&se=1"), Some(TokenError::Missing("sr")));
        assert_eq!(error("SharedAccessSignature sr=a&sig=aaaa"), Some(TokenError::Missing("se")));
        assert_eq!(error("SharedAccessSignature sr=a&sr=b&sig=aaaa&se=1"), Some(TokenError::Twice("sr")));
        assert_eq!(error("SharedAccessSignature sr=a&sig=aaaa&se=soon"), Some(TokenError::Expiry));
        assert_eq!(
            error(&format!("SharedAccessSignature {}", "x".repeat(9_000))),
            Some(TokenError::TooLong(9_022))
        );
    }

    #[test]
    fn a_token_is_admitted_until_the_skew_and_its_session_ends_at_se() {
        let text = sign("hub.example.net", "1000", b"k");
        let token = Token::parse(&text).expect("a token");
        assert!(!token.is_expired(1_300));
        assert!(token.is_expired(1_301));
        assert_eq!(token.session_end(900), 1_000);
        assert_eq!(token.session_end(1_100), 1_300);
    }

    #[test]
    fn the_identity_of_a_token_is_read_from_its_resource() {
        let cases: [(&str, &[&str]); 9] = [
            ("hub.example.net%2Fdevices%2Fd1", &["d1"]),
            ("amqps://HUB.example.net:5671/Devices/d1/Modules/m1", &["d1/m1"]),
            ("hub.example.net/devices/d1/api-version=2016-11-14", &["d1"]),
            ("hub.example.net%2Fdevices%2Fa%252Bb", &["a%2Bb", "a+b"]),
            ("hub.example.net/devices/a b", &[]),
            ("hub.example.net/devices", &[]),
            ("hub.example.net", &[]),
            ("hub.example.net/events/x", &[]),
            ("other.example.net/devices/d1", &[]),
        ];
        for (sr, expected) in cases {
            let text = sign(sr, "1", b"k");
            let token = Token::parse(&text).expect("a token");
            let found: Vec<_> = token.identities(&hosts()).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{sr}");
        }
    }

    #[test]
    fn an_empty_policy_name_is_none() {
        let text = format!("{}&skn=", sign("hub.example.net", "1000", b"k"));
        assert_eq!(Token::parse(&text).expect("a token").skn, None);
        let text = format!("{}&skn=my%2520policy", sign("hub.example.net", "1000", b"k"));
        assert_eq!(Token::parse(&text).expect("a token").skn.as_deref(), Some("my policy"));
    }
}
