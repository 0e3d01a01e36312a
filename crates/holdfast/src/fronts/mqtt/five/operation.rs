//! What a client publishes in MQTT 5: the operations, and their properties.

use bytes::Bytes;
use bytestring::ByteString;
use hub::decision::cut;
use hub::properties::Properties;
use hub::refusal::Refusal;
use hub::telemetry::{PropertyValue, SystemProperty};
use hub::twin::time_text;
use wire::mqtt::five::{PublishProperties, UserProperties};
use wire::mqtt::{Publish, QoS};

use super::outcome::Outcome;
use super::{RESPONSES, TELEMETRY};

/// The longest correlation data, in bytes.
const CORRELATION_BYTES_MAX: usize = 16;

type System = Vec<(SystemProperty, ByteString)>;
type Application = Vec<(ByteString, PropertyValue)>;

/// What a client publishes. A request has the correlation data that its answer repeats.
#[derive(Debug, PartialEq)]
pub(crate) enum Operation {
    /// A message to the cloud.
    Telemetry(System, Application),
    /// To read the twin.
    ReadTwin(Bytes),
    /// To change the reported properties, if they have this version.
    Report(Bytes, Option<u64>),
    /// The answer to a call: the status that the method gave, or `None` when the device could not carry it out.
    MethodAnswer(Bytes, Option<i64>),
}

/// A message that is none of the operations.
#[derive(Debug, PartialEq)]
pub(crate) struct Misuse {
    /// What its sender is told.
    pub(crate) outcome: Outcome,
    /// What the operator is told.
    pub(crate) refusal: Refusal,
    /// Whether the connection is closed even if the message can be answered.
    pub(crate) is_fatal: bool,
}

impl Misuse {
    fn malformed(problem: impl Into<String>) -> Box<Self> {
        let problem = problem.into();
        let outcome = Outcome::bad_request(problem.as_str());
        Box::new(Self { outcome, refusal: Refusal::MalformedOperation { problem }, is_fatal: false })
    }
}

impl Operation {
    /// Reads a PUBLISH. First-class properties of MQTT that no operation names are passed over.
    pub(crate) fn read(publish: &Publish) -> Result<Self, Box<Misuse>> {
        let none = PublishProperties::default();
        let properties = publish.properties.as_ref().unwrap_or(&none);
        let correlation = properties.correlation_data.as_ref();
        if let Some(data) = correlation.filter(|data| data.len() > CORRELATION_BYTES_MAX) {
            let problem = format!("`Correlation Data` has {} bytes, more than 16", data.len());
            return Err(Box::new(Misuse { is_fatal: true, ..*Misuse::malformed(problem) }));
        }
        if *publish.topic == *TELEMETRY {
            let (system, application) =
                telemetry(properties.content_type.as_ref(), &properties.user_properties)?;
            return Ok(Self::Telemetry(system, application));
        }
        let known: &[&str] = match &*publish.topic {
            "$iothub/twin/get" => &[],
            "$iothub/twin/patch/reported" => &["if-version"],
            RESPONSES => &["response-code", "status", "reason", "trace-id"],
            topic => {
                let topic = cut(topic);
                let outcome = Outcome::not_found(&topic);
                return Err(Box::new(Misuse { outcome, refusal: Refusal::Topic { topic }, is_fatal: false }));
            }
        };
        if publish.qos != QoS::AtMostOnce {
            return Err(Misuse::malformed("Requests and responses are sent with QoS 0"));
        }
        let Some(correlation) = correlation.cloned() else {
            return Err(Misuse::malformed("`Correlation Data` property is missing"));
        };
        let user_properties = &properties.user_properties;
        let unknown = user_properties.iter().find(|(name, _)| !known.contains(&&**name));
        if let Some((name, _)) = unknown {
            return Err(unknown_property(name));
        }
        let value = |wanted: &str| {
            user_properties.iter().find(|(name, _)| **name == *wanted).map(|(_, value)| &**value)
        };
        Ok(match known {
            [] => Self::ReadTwin(correlation),
            ["if-version"] => Self::Report(correlation, number("if-version", value("if-version"))?),
            _ if value("status").is_some_and(|status| status != "0000") => {
                Self::MethodAnswer(correlation, None)
            }
            _ => {
                let code: Option<u32> = number("response-code", value("response-code"))?;
                let code = code.ok_or_else(|| Misuse::malformed("`response-code` property is missing"))?;
                Self::MethodAnswer(correlation, Some(code.into()))
            }
        })
    }
}

/// The properties of a message to the cloud, and of a will. Of two of one name the last stays.
pub(crate) fn telemetry(
    content_type: Option<&ByteString>,
    user_properties: &UserProperties,
) -> Result<(System, Application), Box<Misuse>> {
    let mut properties = Properties::default();
    if let Some(value) = content_type {
        properties.set(SystemProperty::ContentType, value.clone());
    }
    for (name, value) in user_properties {
        if let Some(own) = name.strip_prefix('@') {
            properties.add(name.slice_ref(own), PropertyValue::Text(value.clone()));
            continue;
        }
        match SystemProperty::of_user_property(name) {
            Some(property @ SystemProperty::CreationTime) => {
                let time = number("creation-time", Some(value))?;
                let time = time.and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
                let time = time.ok_or_else(|| Misuse::malformed("`creation-time` is out of range"))?;
                properties.set(property, time_text(time).into());
            }
            Some(property) => properties.set(property, value.clone()),
            None => return Err(unknown_property(name)),
        }
    }
    Ok(properties.into_parts())
}

fn number<T: std::str::FromStr>(name: &str, value: Option<&str>) -> Result<Option<T>, Box<Misuse>> {
    let parsed = value.map(str::parse).transpose();
    parsed.map_err(|_| Misuse::malformed(format!("`{name}` is not a number of its range")))
}

fn unknown_property(name: &str) -> Box<Misuse> {
    Misuse::malformed(format!("Unknown property `{}`", cut(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(topic: &str, qos: QoS, correlation: Option<usize>, user: &[(&str, &str)]) -> Publish {
        let properties = PublishProperties {
            correlation_data: correlation.map(|bytes| vec![7; bytes].into()),
            user_properties: user.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..PublishProperties::default()
        };
        Publish {
            dup: false,
            retain: false,
            qos,
            topic: topic.into(),
            packet_id: None,
            payload: Bytes::new(),
            properties: Some(properties),
        }
    }

    type User<'a> = &'a [(&'a str, &'a str)];

    fn request(topic: &str, user: User<'_>) -> Result<Operation, String> {
        let read = Operation::read(&publish(topic, QoS::AtMostOnce, Some(16), user));
        read.map_err(|misuse| match misuse.refusal {
            Refusal::MalformedOperation { problem } => problem,
            other => other.cause().to_owned(),
        })
    }

    fn correlation() -> Bytes {
        vec![7; 16].into()
    }

    #[test]
    fn system_properties_are_named_and_those_of_the_application_marked() {
        let sent = [
            ("message-id", "m-1"),
            ("user-id", "u"),
            ("correlation-id", "c"),
            ("content-encoding", "utf-8"),
            ("creation-time", "1600987195320"),
            ("@ No_Rules", "Any ✓"),
            ("@a", "1"),
            ("@a", "2"),
            ("message-id", "m-2"),
        ];
        let read = Operation::read(&publish(TELEMETRY, QoS::AtLeastOnce, None, &sent));
        let Ok(Operation::Telemetry(system, application)) = read else { panic!("{read:?}") };
        let text = |value: &str| PropertyValue::Text(value.into());
        assert_eq!(application, [(" No_Rules".into(), text("Any ✓")), ("a".into(), text("2"))]);
        let created = "2020-09-24T22:39:55.3200000Z".into();
        assert_eq!(
            system,
            [
                (SystemProperty::UserId, "u".into()),
                (SystemProperty::CorrelationId, "c".into()),
                (SystemProperty::ContentEncoding, "utf-8".into()),
                (SystemProperty::CreationTime, created),
                (SystemProperty::MessageId, "m-2".into()),
            ]
        );
    }

    #[test]
    fn operations_are_told_apart_by_their_topics() {
        let reported = "$iothub/twin/patch/reported";
        assert_eq!(request("$iothub/twin/get", &[]), Ok(Operation::ReadTwin(correlation())));
        assert_eq!(request(reported, &[]), Ok(Operation::Report(correlation(), None)));
        let at = request(reported, &[("if-version", "7")]);
        assert_eq!(at, Ok(Operation::Report(correlation(), Some(7))));
        let answer = |status| Ok(Operation::MethodAnswer(correlation(), status));
        assert_eq!(request(RESPONSES, &[("response-code", "200")]), answer(Some(200)));
        assert_eq!(request(RESPONSES, &[("status", "06A0")]), answer(None));
    }

    #[test]
    fn what_is_no_operation_is_named() {
        let cases: [(&str, User<'_>, &str); 9] = [
            ("$iothub/twin/gett", &[], "topic"),
            ("$iothub/telemetry/", &[], "topic"),
            ("devices/d1/messages/events/", &[], "topic"),
            (TELEMETRY, &[("color", "red")], "Unknown property `color`"),
            (TELEMETRY, &[("creation-time", "now")], "`creation-time` is not a number of its range"),
            ("$iothub/twin/get", &[("@a", "1")], "Unknown property `@a`"),
            (
                "$iothub/twin/patch/reported",
                &[("if-version", "-1")],
                "`if-version` is not a number of its range",
            ),
            ("$iothub/responses", &[], "`response-code` property is missing"),
            ("$iothub/responses", &[("response-code", "ok")], "`response-code` is not a number of its range"),
        ];
        for (topic, user, problem) in cases {
            assert_eq!(request(topic, user), Err(problem.to_owned()), "{topic} {user:?}");
        }
        let get = |qos, correlation| Operation::read(&publish("$iothub/twin/get", qos, correlation, &[]));
        assert!(get(QoS::AtLeastOnce, Some(1)).is_err_and(|misuse| !misuse.is_fatal), "QoS 1");
        assert!(get(QoS::AtMostOnce, None).is_err_and(|misuse| !misuse.is_fatal), "no correlation data");
        assert!(get(QoS::AtMostOnce, Some(17)).is_err_and(|misuse| misuse.is_fatal), "17 bytes");
    }
}
