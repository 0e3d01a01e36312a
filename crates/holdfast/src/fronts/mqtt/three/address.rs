//! User names and topics of IoT Hub over MQTT (`docs/protocol/device-mqtt.md` §2.1, §4 to §8).

use hub::identity::{DeviceId, Identity, ModuleId};
use percent_encoding::percent_decode_str;

/// What the user name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserName {
    /// The host of the connection string.
    pub(crate) host: String,
    /// Who connects.
    pub(crate) identity: Identity,
    /// `api-version`.
    pub(crate) api_version: Option<String>,
    /// `DeviceClientType`.
    pub(crate) client_type: Option<String>,
    /// `model-id`.
    pub(crate) model_id: Option<String>,
    /// `auth-chain`: the way to the gateway that connects the client, `leaf;edge1;edge2`.
    pub(crate) auth_chain: Option<String>,
}

impl UserName {
    /// Reads `{host}/{device}[/{module}]/[?]{parameters}`. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (host, rest) = text.split_once('/').ok_or("there is no `/` between host and device id")?;
        if host.is_empty() {
            return Err("the host is empty".to_owned());
        }
        let (device, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (module, parameters) = split_module(rest);
        let device = DeviceId::parse(device).map_err(|error| format!("the device id is illegal: {error}"))?;
        let module = module
            .map(ModuleId::parse)
            .transpose()
            .map_err(|error| format!("the module id is illegal: {error}"))?;
        Ok(Self {
            host: host.to_owned(),
            identity: Identity { device, module },
            // .NET 1.5.1-preview-003 has `/` where `&` stands.
            api_version: parameter(parameters, "api-version")
                .map(|version| version.split('/').next().unwrap_or_default().to_owned()),
            client_type: parameter(parameters, "DeviceClientType"),
            model_id: parameter(parameters, "model-id"),
            auth_chain: parameter(parameters, "auth-chain").filter(|chain| !chain.is_empty()),
        })
    }
}

/// Splits what follows the device id into a module id and the parameters, which reach to the end, slashes included.
fn split_module(rest: &str) -> (Option<&str>, &str) {
    let (first, behind) = rest.split_once('/').unwrap_or((rest, ""));
    let (module, parameters) = match rest.is_empty() || begins_parameters(first) {
        true => (None, rest),
        false => (Some(first), behind),
    };
    (module, parameters.strip_prefix('?').unwrap_or(parameters))
}

/// Whether a segment is no module id but begins the parameters: with `?`, with a name that is known, or as two of them. `?`
/// and `=` alone are legal in ids.
fn begins_parameters(segment: &str) -> bool {
    let is_known = |name: &&str| PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(name));
    segment.starts_with('?')
        || segment.contains('&')
        || segment.split_once('=').is_some_and(|(name, _)| is_known(&name))
}

/// The parameters of the SDKs.
const PARAMETERS: [&str; 5] = ["api-version", "DeviceClientType", "model-id", "auth-chain", "ClientVersion"];

/// The value of a parameter; the first one wins.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    parameters.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

/// The client id of an identity.
pub(crate) fn client_id(identity: &Identity) -> String {
    identity.to_string()
}

/// The property bag of one's own events topic; `None` for any other topic.
pub(crate) fn events_bag<'a>(topic: &'a str, identity: &Identity) -> Option<&'a str> {
    let rest = own(topic, identity)?.strip_prefix("/messages/events")?;
    let bag = match rest.strip_prefix('/') {
        Some(bag) => bag,
        None if rest.is_empty() => rest,
        None => return None,
    };
    let bag = bag.strip_prefix('?').unwrap_or(bag);
    Some(bag.strip_suffix('/').unwrap_or(bag))
}

/// What a device publishes to that is no telemetry (`docs/protocol/device-mqtt.md` §7, §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// A request about the twin.
    Twin(TwinRequest<'a>),
    /// The answer to a direct method.
    MethodAnswer {
        /// The status.
        status: i64,
        /// The `$rid` of the call, as it was sent.
        request_id: &'a str,
    },
}

/// A request about the twin. Its `$rid` is echoed as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TwinRequest<'a> {
    /// To read it.
    Get {
        /// The `$rid`.
        request_id: &'a str,
    },
    /// To change the reported properties.
    Report {
        /// The `$rid`; without one there is no answer.
        request_id: Option<&'a str>,
        /// The version that they must have, for the change to be made.
        version: Option<&'a str>,
    },
}

impl<'a> TwinRequest<'a> {
    /// The `$rid`.
    pub(crate) fn request_id(self) -> Option<&'a str> {
        match self {
            Self::Get { request_id } => Some(request_id),
            Self::Report { request_id, .. } => request_id,
        }
    }
}

/// A status; one beyond 64 bits is as far out of range as the last one within.
fn method_status(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let furthest = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    is_number.then(|| text.parse().unwrap_or(furthest))
}

impl<'a> Request<'a> {
    /// Reads a topic below `$iothub/`; `None` for one that does not exist, or is longer than any that does.
    pub(crate) fn parse(topic: &'a str) -> Option<Self> {
        let rest = topic.strip_prefix("$iothub/").filter(|_| topic.len() <= REQUEST_BYTES_MAX)?;
        if let Some(rest) = rest.strip_prefix("methods/res/") {
            let (status, rest) = rest.split_once('/')?;
            let request_id = topic_parameter(rest.strip_prefix('?')?, "$rid")?;
            return Some(Self::MethodAnswer { status: method_status(status)?, request_id });
        }
        let parameters = |root: &str| match rest.strip_prefix(root)?.trim_start_matches('/') {
            "" => Some(""),
            rest => rest.strip_prefix('?'),
        };
        if let Some(parameters) = parameters("twin/GET") {
            let request_id = topic_parameter(parameters, "$rid")?;
            return Some(Self::Twin(TwinRequest::Get { request_id }));
        }
        let parameters = parameters("twin/PATCH/properties/reported")?;
        Some(Self::Twin(TwinRequest::Report {
            request_id: topic_parameter(parameters, "$rid"),
            version: topic_parameter(parameters, "$version"),
        }))
    }
}

/// The longest topic of a request. SDKs need a hundred bytes; the answer carries the id of the request, and has to be a topic
/// too.
const REQUEST_BYTES_MAX: usize = 4 * 1024;

/// The value of a parameter in the last level of a topic, as it stands there, if it is not empty.
fn topic_parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let value = parameters.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    (!value.is_empty()).then_some(value)
}

/// Whether a topic is within a filter; the only wildcard that a filter here has is a `#` at its end.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    match filter.strip_suffix('#') {
        // `a/#` takes `a` too [MQTT 4.7.1.2].
        Some(root) => topic.starts_with(root) || root.strip_suffix('/') == Some(topic),
        None => filter == topic,
    }
}

/// What follows `devices/{d}` or `devices/{d}/modules/{m}` in a topic of this identity.
fn own<'a>(topic: &'a str, identity: &Identity) -> Option<&'a str> {
    let rest = topic.strip_prefix("devices/")?.strip_prefix(identity.device.as_str())?;
    match &identity.module {
        None => Some(rest),
        Some(module) => rest.strip_prefix("/modules/")?.strip_prefix(module.as_str()),
    }
}

/// Whether an identity may subscribe to a filter: one of the documented ones, or a sub-tree of it.
pub(crate) fn may_subscribe(filter: &str, identity: &Identity) -> bool {
    const SHARED: [&str; 4] = [
        "$iothub/methods/POST/",
        "$iothub/twin/res/",
        "$iothub/twin/PATCH/properties/desired/",
        "$iothub/credentials/res/",
    ];
    let within =
        |rest: &str, root: &str| rest.get(..root.len()).is_some_and(|head| head.eq_ignore_ascii_case(root));
    let own_tree = |rest: &str| {
        within(rest, "/messages/devicebound/")
            || (identity.module.is_some() && (within(rest, "/inputs/") || rest == "/#"))
    };
    // `+` stands in none of the documented filters, but it may stand in an id.
    let has_plus = |rest: &str| rest.contains('+');
    let known = SHARED.iter().any(|root| filter.starts_with(root) && !has_plus(filter))
        || own(filter, identity).is_some_and(|rest| own_tree(rest) && !has_plus(rest));
    // A wildcard may only be the whole last level.
    let wildcard_last =
        filter.find('#').is_none_or(|at| at + 1 == filter.len() && filter[..at].ends_with('/'));
    known && wildcard_last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str) -> Identity {
        Identity::device(DeviceId::parse(id).expect("a legal id"))
    }

    fn module(device: &str, module: &str) -> Identity {
        Identity::module(DeviceId::parse(device).expect("legal"), ModuleId::parse(module).expect("legal"))
    }

    #[test]
    fn the_user_names_of_the_sdks_are_read() {
        let cases = [
            (
                "h.net/d1/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0",
                device("d1"),
            ),
            ("h.net/d1/?api-version=2021-04-12&model-id=dtmi:com:x;1&DeviceClientType=a%20b", device("d1")),
            ("h.net/d1/m1/?api-version=2021-04-12", module("d1", "m1")),
            ("h.net/d1/api-version=2016-11-14", device("d1")),
            ("h.net/d?1/?api-version=1", device("d?1")),
            ("h.net/d1/DeviceClientType=azure-iot-device%2F1.0.14", device("d1")),
            ("h.net/d1/DeviceClientType=azure-iot-device/1.0.14", device("d1")),
            ("h.net/d1/api-version=2016-11-14&DeviceClientType=azure-iot-device/1.0.14", device("d1")),
            ("h.net/d1/model-id=dtmi:com:x;1&DeviceClientType=a/b", device("d1")),
            ("h.net/d1/?api-version=2016-11-14&DeviceClientType=a/b/c", device("d1")),
            ("h.net/d1/m1/DeviceClientType=a/b", module("d1", "m1")),
            ("h.net/d1/m1/api-version=2017-06-30/DeviceClientType=a.b/1.5.1", module("d1", "m1")),
            ("h.net/d1/m=1", module("d1", "m=1")),
            ("h.net/d1/m=1/?api-version=1", module("d1", "m=1")),
            ("h.net/d1", device("d1")),
            ("h.net/d1/", device("d1")),
            ("h.net/d1/m1", module("d1", "m1")),
        ];
        for (text, identity) in cases {
            assert_eq!(UserName::parse(text).map(|name| name.identity), Ok(identity), "{text}");
        }
        let node =
            UserName::parse("h.net/d1/?api-version=2021-04-12&model-id=dtmi:com:x;1&DeviceClientType=a%20b");
        let node = node.expect("a user name");
        assert_eq!(node.model_id.as_deref(), Some("dtmi:com:x;1"));
        assert_eq!(node.client_type.as_deref(), Some("a b"));
        let old = UserName::parse("h.net/d1/api-version=2016-11-14&DeviceClientType=node/1.0.14")
            .expect("a user name");
        assert_eq!(old.api_version.as_deref(), Some("2016-11-14"));
        assert_eq!(old.client_type.as_deref(), Some("node/1.0.14"));
        let slashes = UserName::parse("h.net/d1/m1/api-version=2017-06-30/DeviceClientType=a.b/1.5.1");
        assert_eq!(slashes.expect("a user name").api_version.as_deref(), Some("2017-06-30"));
        assert!(UserName::parse("d1").is_err());
        assert!(UserName::parse("h.net/d 1/?api-version=1").is_err());
    }

    #[test]
    fn the_bag_is_everything_after_the_events_topic() {
        let cases = [
            ("devices/d1/messages/events", Some("")),
            ("devices/d1/messages/events/", Some("")),
            ("devices/d1/messages/events/a=b", Some("a=b")),
            ("devices/d1/messages/events/a=b/", Some("a=b")),
            ("devices/d1/messages/events/?a=b", Some("a=b")),
            ("devices/d1/messages/events/%24.ct=application/json&a=/x", Some("%24.ct=application/json&a=/x")),
            ("devices/d1/messages/eventsx", None),
            ("devices/d2/messages/events/", None),
            ("devices/d1x/messages/events/", None),
            ("devices/d1/modules/m1/messages/events/", None),
        ];
        for (topic, bag) in cases {
            assert_eq!(events_bag(topic, &device("d1")), bag, "{topic}");
        }
        assert_eq!(events_bag("devices/d1/modules/m1/messages/events/a=b", &module("d1", "m1")), Some("a=b"));
        assert_eq!(events_bag("devices/d1/messages/events/", &module("d1", "m1")), None);
    }

    #[test]
    fn requests_of_devices_are_told_apart() {
        let get = Some(Request::Twin(TwinRequest::Get { request_id: "a-1" }));
        assert_eq!(Request::parse("$iothub/twin/GET/?$rid=a-1"), get);
        let report = |request_id, version| Some(Request::Twin(TwinRequest::Report { request_id, version }));
        let root = "$iothub/twin/PATCH/properties/reported/";
        assert_eq!(Request::parse(&format!("{root}?$rid=a-1&$version=3")), report(Some("a-1"), Some("3")));
        assert_eq!(Request::parse(&format!("{root}?$rid=")), report(None, None));
        assert_eq!(Request::parse(root), report(None, None));
        let answer = |status, request_id| Some(Request::MethodAnswer { status, request_id });
        assert_eq!(Request::parse("$iothub/methods/res/200/?$rid=1"), answer(200, "1"));
        assert_eq!(Request::parse("$iothub/methods/res/-7/?$rid=a%2D1"), answer(-7, "a%2D1"));
        assert_eq!(Request::parse("$iothub/methods/res/99999999999999999999/?$rid=1"), answer(i64::MAX, "1"));
        assert_eq!(
            Request::parse("$iothub/methods/res/-99999999999999999999/?$rid=1"),
            answer(i64::MIN, "1")
        );
        for topic in [
            "$iothub/methods/res/--1/?$rid=1",
            "$iothub/methods/res//?$rid=1",
            "$iothub/twin/GET/",
            "$iothub/twin/GET/?$rid=",
            "$iothub/twin/DELETE/?$rid=1",
            "$iothub/twin/PATCH/properties/desired/?$rid=1",
            "$iothub/twin/PATCH/properties/reported/x?$rid=1",
            "$iothub/methods/res/ok/?$rid=1",
            "$iothub/methods/res/200/",
            "$iothub/x",
            format!("$iothub/twin/GET/?$rid={}", "x".repeat(REQUEST_BYTES_MAX)).as_str(),
        ] {
            assert_eq!(Request::parse(topic), None, "{topic}");
        }
    }

    #[test]
    fn a_filter_takes_its_own_tree_only() {
        let cases = [
            ("$iothub/methods/POST/#", "$iothub/methods/POST/reboot/?$rid=1", true),
            ("$iothub/methods/POST/reboot/#", "$iothub/methods/POST/reboot/?$rid=1", true),
            ("$iothub/methods/POST/reboot/#", "$iothub/methods/POST/rebooted/?$rid=1", false),
            ("$iothub/twin/res/#", "$iothub/twin/res", true),
            ("$iothub/twin/res/200/?$rid=1", "$iothub/twin/res/200/?$rid=1", true),
            ("$iothub/twin/res/200/?$rid=1", "$iothub/twin/res/200/?$rid=12", false),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn an_identity_subscribes_to_its_own_documented_filters_only() {
        let yes = [
            "devices/d1/messages/devicebound/#",
            "$iothub/methods/POST/#",
            "$iothub/methods/POST/reboot/#",
            "$iothub/twin/res/#",
            "$iothub/twin/PATCH/properties/desired/#",
            "$iothub/credentials/res/#",
        ];
        let no = [
            "#",
            "devices/#",
            "devices/d1/#",
            "devices/d2/messages/devicebound/#",
            "devices/+/messages/devicebound/#",
            "devices/d1/messages/events/#",
            "$iothub/#",
            "$iothub/twin/res/+/x",
            "$iothub/methods/POST/a+/#",
        ];
        for filter in yes {
            assert!(may_subscribe(filter, &device("d1")), "{filter}");
        }
        for filter in no {
            assert!(!may_subscribe(filter, &device("d1")), "{filter}");
        }
        for filter in ["devices/d1/modules/m1/inputs/#", "devices/d1/modules/m1/#"] {
            assert!(may_subscribe(filter, &module("d1", "m1")), "{filter}");
            assert!(!may_subscribe(filter, &device("d1")), "{filter}");
        }
    }
}
