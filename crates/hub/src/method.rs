//! Direct methods: what a call may be, how many may be under way, and what comes of them
//! (`docs/protocol/service-rest.md` §6, `docs/protocol/device-mqtt.md` §7). Carrying a call to its device and waiting
//! for the answer is the caller's.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::decision::cut;
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::identity::Identity;
use crate::json::{self, WrongJson};
pub use crate::limits::CALLS_MAX;
pub use crate::limits::CALLS_PER_IDENTITY_MAX;
pub use crate::limits::METHOD_PAYLOAD_BYTES_MAX as PAYLOAD_BYTES_MAX;
use crate::ports::clock::Random;
use crate::record::{Key, Record, Status};
use crate::registry::{unknown_device, unknown_module};

/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// How long a device may take to answer: the default, and the range, in seconds.
const RESPONSE_SECONDS: (u64, u64, u64) = (30, 5, 300);
/// How long a call waits for its device to connect: the default, and the range, in seconds.
const CONNECT_SECONDS: (u64, u64, u64) = (0, 0, 300);

/// A call as a service asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodCall {
    /// The method.
    pub name: String,
    /// JSON as it was given; empty when nothing was.
    pub payload: Bytes,
    /// How long to wait for the answer, from when the call is handed to the device.
    pub response_timeout: Duration,
    /// How long to wait for a device that is not there.
    pub connect_timeout: Duration,
}

/// The members of a call. Older clients have other names for the response time-out.
const MEMBERS: &[&str] = &[
    "methodName",
    "responseTimeoutInSeconds",
    "timeoutInSeconds",
    "timeout",
    "connectTimeoutInSeconds",
    "payload",
];

impl MethodCall {
    /// Reads the body of a request. The payload is not looked into: a device gets it as it was written.
    pub fn parse(body: &[u8]) -> Result<Self, HubError> {
        let members = json::members_of(body, MEMBERS).map_err(|wrong| match wrong {
            WrongJson::Syntax(problem) => invalid(format!("The body is no call of a method: {problem}")),
            other => other.into(),
        })?;
        let member =
            |name: &str| members.iter().find(|(have, _)| *have == name).map(|(_, value)| value.get());
        let name = name_of(member("methodName"))?;
        check_name(&name)?;
        let payload = member("payload").unwrap_or_default();
        if payload.len() > PAYLOAD_BYTES_MAX {
            let text =
                format!("The payload of {} bytes is over the limit of {PAYLOAD_BYTES_MAX}", payload.len());
            return Err(HubError::new(HubErrorCode::MessageTooLarge, text));
        }
        let response = ["responseTimeoutInSeconds", "timeoutInSeconds", "timeout"];
        Ok(Self {
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            response_timeout: seconds(&response, member, RESPONSE_SECONDS)?,
            connect_timeout: seconds(&["connectTimeoutInSeconds"], member, CONNECT_SECONDS)?,
            name,
        })
    }
}

fn name_of(written: Option<&str>) -> Result<String, HubError> {
    let name = serde_json::from_str::<Option<String>>(written.unwrap_or("null"))
        .map_err(|_| invalid("`methodName` is a text: it names the method to call".to_owned()))?;
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        HubError::new(HubErrorCode::ArgumentNull, "`methodName` is missing: it names the method to call")
    })
}

/// The first of these members that says something, or the default.
fn seconds<'a>(
    names: &[&str],
    member: impl Fn(&str) -> Option<&'a str>,
    (default, least, most): (u64, u64, u64),
) -> Result<Duration, HubError> {
    let written = names.iter().find_map(|name| {
        let written = member(name).filter(|written| !matches!(*written, "null" | "\"\""))?;
        Some((*name, written))
    });
    let Some((name, written)) = written else { return Ok(Duration::from_secs(default)) };
    // `az iot` sends numbers as texts, and Azure reads them.
    let digits = written.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(written).trim();
    match digits.parse::<u64>() {
        Ok(seconds) if (least..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => {
            let text = format!("`{name}` is {}, it lies between {least} and {most}", cut(digits));
            Err(invalid(text))
        }
    }
}

/// A name is one level of a topic, so that the wildcards of MQTT cannot be in it either (MQTT-3.3.2-2).
fn check_name(name: &str) -> Result<(), HubError> {
    let characters = name.chars().count();
    if characters > NAME_CHARS_MAX {
        let text = format!("`methodName` has {characters} characters, the limit is {NAME_CHARS_MAX}");
        return Err(invalid(text));
    }
    match name.chars().find(|c| !c.is_ascii_graphic() || "$()<>@,;:\\\"/[]?={}#+".contains(*c)) {
        Some(character) => Err(invalid(format!(
            "`methodName` has {character:?}, it has printable ASCII without $()<>@,;:\\\"/[]?={{}}#+ and blanks"
        ))),
        None => Ok(()),
    }
}

fn invalid(text: String) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}

/// What a device answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodAnswer {
    /// The status, whatever the device means by it; the SDKs of services read 32 bits.
    pub status: i32,
    /// JSON as the device wrote it; `null` when it wrote nothing.
    pub payload: Bytes,
}

impl MethodAnswer {
    /// Judges what a device sent.
    pub fn judge(status: i64, payload: Bytes) -> Result<Self, MethodError> {
        let status = i32::try_from(status).map_err(|_| MethodError::AnswerStatus { status })?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(MethodError::AnswerTooLarge { bytes: payload.len() });
        }
        if payload.is_empty() {
            return Ok(Self { status, payload: Bytes::from_static(b"null") });
        }
        match serde_json::from_slice::<&RawValue>(&payload) {
            Ok(_) => Ok(Self { status, payload }),
            Err(error) => Err(MethodError::AnswerNotJson { problem: error.to_string() }),
        }
    }
}

/// Why a call that may be made came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// The device was not there, or took no calls, until the connect time-out was over.
    #[error("Timed out waiting for device to connect.")]
    NotOnline,
    /// The connection ended before the answer.
    #[error("The connection of the device ended before it answered.")]
    ConnectionLost,
    /// The response time-out was over before the answer.
    #[error("Timed out waiting for the response from device.")]
    NoAnswer,
    /// The call is larger than the device takes.
    #[error("The device takes calls of at most {limit} bytes, and this one is larger")]
    CallTooLarge {
        /// What the device takes, in bytes.
        limit: u64,
    },
    /// The answer is no JSON.
    #[error("The device answered with a payload that is not JSON: {problem}")]
    AnswerNotJson {
        /// Where it is not.
        problem: String,
    },
    /// The status is none that services can read.
    #[error("The device answered with the status {status}, which is no 32-bit number")]
    AnswerStatus {
        /// The status.
        status: i64,
    },
    /// The answer is too large.
    #[error("The device answered with {bytes} bytes, the limit is {PAYLOAD_BYTES_MAX}")]
    AnswerTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// As many calls are under way to the device as may be.
    #[error("{CALLS_PER_IDENTITY_MAX} calls of methods are under way to the device, which is the limit")]
    TooManyToDevice,
    /// As many calls are under way as may be.
    #[error("{CALLS_MAX} calls of methods are under way, which is the limit of the hub")]
    TooMany,
}

impl MethodError {
    /// The code of the answer to the service.
    pub fn code(&self) -> HubErrorCode {
        match self {
            Self::NotOnline => HubErrorCode::DeviceNotOnline,
            Self::ConnectionLost => HubErrorCode::DeviceConnectionClosedRemotely,
            Self::NoAnswer => HubErrorCode::GatewayTimeout,
            Self::AnswerNotJson { .. } | Self::AnswerStatus { .. } => HubErrorCode::GenericBadGateway,
            Self::AnswerTooLarge { .. } | Self::CallTooLarge { .. } => HubErrorCode::MessageTooLarge,
            Self::TooManyToDevice => HubErrorCode::DeviceMaximumInflightMethodExceeded,
            Self::TooMany => HubErrorCode::ServerBusy,
        }
    }
}

impl Hub {
    /// Decides whether there is somebody to call: an identity that is registered and whose device is enabled.
    pub async fn check_callable(&self, identity: &Identity) -> Result<(), HubError> {
        let device = self.registry.load(Key::Device(identity.device.clone())).await?;
        match device.map(|stored| stored.record) {
            Some(Record::Device(device)) if device.status == Status::Enabled => {}
            _ => return Err(unknown_device(&identity.device)),
        }
        if let Some(module) = &identity.module {
            let key = Key::Module(identity.device.clone(), module.clone());
            let stored = self.registry.load(key).await?;
            stored.ok_or_else(|| unknown_module(&identity.device, module))?;
        }
        Ok(())
    }
}

/// A call on its way to a connection.
pub struct Call {
    /// Its id, by which the answer is told.
    pub id: CallId,
    /// The method.
    pub name: String,
    /// JSON, or nothing.
    pub payload: Bytes,
    /// Takes the answer; dropped unused when none can come any more.
    pub answer: AnswerTo,
}

/// Takes what a device answered.
pub type AnswerTo = Box<dyn FnOnce(Result<MethodAnswer, MethodError>) + Send>;

/// The id of a call: a random GUID, whose text every SDK takes (`docs/protocol/device-mqtt.md` §7, §13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId([u8; 16]);

impl CallId {
    /// A new one.
    pub fn new(random: &dyn Random) -> Self {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        // Version 4, variant 1 (RFC 9562 §5.4).
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// Its bytes, in network byte order.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The calls that are under way, waiting for a connection or an answer.
#[derive(Default)]
pub struct Calls {
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    of: HashMap<Identity, usize>,
    all: usize,
}

/// The place of one call; it is free again when this is dropped.
pub struct Place {
    calls: Arc<Calls>,
    identity: Identity,
}

impl Calls {
    /// Takes a place for a call, if there is one.
    pub fn begin(self: &Arc<Self>, identity: &Identity) -> Result<Place, MethodError> {
        let mut under_way = self.lock();
        if under_way.all >= CALLS_MAX {
            return Err(MethodError::TooMany);
        }
        let of_identity = under_way.of.entry(identity.clone()).or_default();
        if *of_identity >= CALLS_PER_IDENTITY_MAX {
            return Err(MethodError::TooManyToDevice);
        }
        *of_identity += 1;
        under_way.all += 1;
        Ok(Place { calls: self.clone(), identity: identity.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.calls.lock();
        under_way.all -= 1;
        if let Some(of_identity) = under_way.of.get_mut(&self.identity) {
            *of_identity -= 1;
            if *of_identity == 0 {
                under_way.of.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DeviceId;

    fn parse(body: &str) -> Result<MethodCall, HubError> {
        MethodCall::parse(body.as_bytes())
    }

    #[test]
    fn a_payload_goes_on_as_it_was_written() {
        let cases = [
            (r#"{"methodName":"m"}"#, ""),
            (r#"{"methodName":"m","payload":null}"#, "null"),
            (r#"{"METHODNAME":"m","Payload":{"N":1e400,"n":1}}"#, r#"{"N":1e400,"n":1}"#),
            (r#"{"methodName":"m","payload":""}"#, r#""""#),
            (r#"{"methodName":"m","payload":1.10}"#, "1.10"),
            (
                r#"{"methodName":"m","payload":123456789012345678901234567890}"#,
                "123456789012345678901234567890",
            ),
            (
                r#"{"methodName":"m","payload":{"b": [1,  2], "a":"\u00e9"}}"#,
                r#"{"b": [1,  2], "a":"\u00e9"}"#,
            ),
        ];
        for (body, payload) in cases {
            assert_eq!(parse(body).expect("a call").payload, payload, "{body}");
        }
    }

    #[test]
    fn times_have_defaults_ranges_and_old_names() {
        let times = |body: &str| {
            let call = parse(body).expect("a call");
            (call.response_timeout.as_secs(), call.connect_timeout.as_secs())
        };
        assert_eq!(times(r#"{"methodName":"m"}"#), (30, 0));
        assert_eq!(times(r#"{"methodName":"m","timeoutInSeconds":7}"#), (7, 0));
        assert_eq!(times(r#"{"methodName":"m","timeout":8,"connectTimeoutInSeconds":300}"#), (8, 300));
        assert_eq!(times(r#"{"methodName":"m","responseTimeoutInSeconds":5,"timeout":8}"#), (5, 0));
        assert_eq!(times(r#"{"methodName":"m","responseTimeoutInSeconds":null,"timeout":8}"#), (8, 0));
        assert_eq!(
            times(r#"{"MethodName":"m","ResponseTimeoutInSeconds":"60","connectTimeoutInSeconds":"0"}"#),
            (60, 0)
        );
        for wrong in [r#""four""#, r#""-5""#, "5.5", "-5", "[5]", "true", r#""301""#, "99999999999999999999"]
        {
            let body = format!(r#"{{"methodName":"m","responseTimeoutInSeconds":{wrong}}}"#);
            assert_eq!(parse(&body).expect_err(wrong).code, HubErrorCode::ArgumentInvalid, "{wrong}");
        }
        let error = parse(r#"{"methodName":"m","responseTimeoutInSeconds":4}"#).expect_err("too short");
        assert_eq!(error.message, "`responseTimeoutInSeconds` is 4, it lies between 5 and 300");
        assert!(parse(r#"{"methodName":"m","connectTimeoutInSeconds":301}"#).is_err());
    }

    #[test]
    fn a_call_that_cannot_be_made_says_what_is_wrong() {
        let code = |body: &str| parse(body).expect_err("no call").code;
        assert_eq!(code("{}"), HubErrorCode::ArgumentNull);
        assert_eq!(code(r#"{"methodName":""}"#), HubErrorCode::ArgumentNull);
        assert_eq!(code(r#"{"methodName":5}"#), HubErrorCode::ArgumentInvalid);
        assert_eq!(code("{"), HubErrorCode::ArgumentInvalid);
        assert_eq!(code(r#"{"methodName":"m","payloads":1}"#), HubErrorCode::ArgumentInvalid);
        assert_eq!(code(r#"{"methodName":"m","payload":1,"Payload":2}"#), HubErrorCode::ArgumentInvalid);
        for name in ["a b", "a/b", "a#", "a+", "é", "a$"] {
            assert_eq!(
                code(&format!(r#"{{"methodName":"{name}"}}"#)),
                HubErrorCode::ArgumentInvalid,
                "{name}"
            );
        }
        assert!(parse(r#"{"methodName":"thermostat1*getMaxMinReport"}"#).is_ok());
        let large = format!(r#"{{"methodName":"m","payload":"{}"}}"#, "x".repeat(PAYLOAD_BYTES_MAX - 1));
        assert_eq!(code(&large), HubErrorCode::MessageTooLarge);
    }

    #[test]
    fn an_answer_is_json_or_nothing() {
        let judge = |payload: &'static str| MethodAnswer::judge(200, Bytes::from_static(payload.as_bytes()));
        assert_eq!(judge("").expect("nothing").payload, "null");
        assert_eq!(judge(r#"{"a": 1.0}"#).expect("JSON").payload, r#"{"a": 1.0}"#);
        assert!(matches!(judge("{"), Err(MethodError::AnswerNotJson { .. })));
        for status in [i64::from(i32::MAX) + 1, i64::from(i32::MIN) - 1, i64::MAX] {
            let error = MethodAnswer::judge(status, Bytes::new()).expect_err("no status");
            assert_eq!(
                (&error, error.code()),
                (&MethodError::AnswerStatus { status }, HubErrorCode::GenericBadGateway)
            );
        }
        assert_eq!(MethodAnswer::judge(-1, Bytes::new()).expect("a status").status, -1);
        let large = Bytes::from(vec![b' '; PAYLOAD_BYTES_MAX + 1]);
        assert!(matches!(MethodAnswer::judge(0, large), Err(MethodError::AnswerTooLarge { .. })));
    }

    #[test]
    fn as_many_calls_are_under_way_as_may_be_and_each_frees_its_place() {
        let calls = Arc::<Calls>::default();
        let pump = Identity::device(DeviceId::parse("pump").expect("an id"));
        let other = Identity::device(DeviceId::parse("other").expect("an id"));
        let mut places: Vec<_> =
            (0..CALLS_PER_IDENTITY_MAX).map(|_| calls.begin(&pump).expect("a place")).collect();
        assert_eq!(calls.begin(&pump).err(), Some(MethodError::TooManyToDevice));
        assert!(calls.begin(&other).is_ok());
        places.pop();
        assert!(calls.begin(&pump).is_ok());
        drop(places);
        assert!(calls.lock().of.is_empty(), "nothing is left of identities that nobody calls");
        assert_eq!(calls.lock().all, 0);
    }

    #[test]
    fn as_many_calls_of_all_devices_are_under_way_as_may_be() {
        let calls = Arc::<Calls>::default();
        let device = |number: usize| Identity::device(DeviceId::parse(&format!("d{number}")).expect("an id"));
        let begin = |number: usize| calls.begin(&device(number / CALLS_PER_IDENTITY_MAX));
        let mut places: Vec<_> = (0..CALLS_MAX).map(|number| begin(number).expect("a place")).collect();
        let error = begin(CALLS_MAX).err().expect("one more");
        assert_eq!((&error, error.code()), (&MethodError::TooMany, HubErrorCode::ServerBusy));
        assert_eq!(HubErrorCode::ServerBusy.number(), 503_005);
        places.pop();
        assert!(begin(CALLS_MAX).is_ok());
    }

    #[test]
    fn an_id_is_a_random_guid_of_version_4() {
        struct Ones;
        impl Random for Ones {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(0xff);
            }
        }
        assert_eq!(CallId::new(&Ones).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
