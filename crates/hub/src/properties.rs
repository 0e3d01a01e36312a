//! How each protocol names the properties of a message: one table that all doors share, so that what comes in at one
//! goes out at any other (`docs/protocol/device-mqtt.md` §4.2, `docs/protocol/device-https.md` §3,
//! `docs/protocol/event-hubs-endpoint.md` §7).

use bytestring::ByteString;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::telemetry::{PropertyValue, SystemProperty, keep_last};

/// Where a property stands in a message of AMQP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a field of the properties section, or nowhere.
    Section,
    /// In an annotation of the message.
    Annotation,
    /// Among those of the application.
    Application,
}

/// The names of a system property.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    /// The property.
    pub property: SystemProperty,
    /// The name in AMQP.
    pub amqp: &'static str,
    /// Where it stands in a message of AMQP that a client sends or gets.
    pub place: Place,
    /// Where it stands in the stream.
    pub in_stream: Place,
    /// The key in a topic of MQTT 3.1.1.
    pub topic: &'static str,
    /// The user property of MQTT 5, where Azure's preview names one.
    pub user_property: Option<&'static str>,
    /// The headers of HTTPS by which it comes in, in lower case: those of the SDKs, and those that are documented.
    pub headers_in: &'static [&'static str],
    /// The headers of HTTPS by which it goes out: the C SDK has its own for two of them.
    pub headers_out: &'static [&'static str],
}

const fn row(property: SystemProperty, amqp: &'static str, place: Place, topic: &'static str) -> Names {
    let (in_stream, user_property) = (place, None);
    Names { property, amqp, place, in_stream, topic, user_property, headers_in: &[], headers_out: &[] }
}

impl Names {
    const fn five(self, name: &'static str) -> Self {
        Self { user_property: Some(name), ..self }
    }

    const fn https(self, names_in: &'static [&'static str], names_out: &'static [&'static str]) -> Self {
        Self { headers_in: names_in, headers_out: names_out, ..self }
    }
}

/// All properties, by their numbers on disk.
static NAMES: [Names; SystemProperty::ALL.len()] = {
    use Place::{Annotation, Application, Section};
    use SystemProperty as P;
    [
        row(P::MessageId, "message-id", Section, "$.mid")
            .five("message-id")
            .https(&["iothub-messageid", "iothub-message-id"], &["iothub-messageid"]),
        row(P::CorrelationId, "correlation-id", Section, "$.cid")
            .five("correlation-id")
            .https(&["iothub-correlationid", "iothub-correlation-id"], &["iothub-correlationid"]),
        row(P::UserId, "user-id", Section, "$.uid")
            .five("user-id")
            .https(&["iothub-userid", "iothub-user-id"], &["iothub-userid"]),
        // Over HTTPS and AMQP it only repeats the path, or the address of the link.
        row(P::To, "to", Section, "$.to"),
        // MQTT 5 has a property of its own for it.
        row(P::ContentType, "content-type", Section, "$.ct")
            .https(&["iothub-contenttype", "iothub-content-type"], &["iothub-contenttype", "contenttype"]),
        row(P::ContentEncoding, "content-encoding", Section, "$.ce").five("content-encoding").https(
            &["iothub-contentencoding", "iothub-content-encoding"],
            &["iothub-contentencoding", "contentencoding"],
        ),
        row(P::Expiry, "absolute-expiry-time", Section, "$.exp")
            .https(&["iothub-expiry"], &["iothub-expiry"]),
        row(P::CreationTime, "iothub-creation-time-utc", Application, "$.ctime")
            .five("creation-time")
            .https(&["iothub-creationtimeutc", "iothub-creation-time-utc"], &["iothub-creationtimeutc"]),
        Names {
            in_stream: Annotation,
            ..row(P::OutputName, "iothub-outputname", Application, "$.on")
                .https(&["iothub-outputname"], &["iothub-outputname"])
        },
        row(P::InterfaceId, "iothub-interface-id", Annotation, "$.ifid")
            .https(&["iothub-interface-id"], &["iothub-interface-id"]),
        row(P::Subject, "dt-subject", Annotation, "$.sub").https(&["dt-subject"], &["dt-subject"]),
        // Libraries of tracing write headers of these two names into all requests, and mean those.
        row(P::DiagnosticId, "Diagnostic-Id", Annotation, "$.diagid").https(&[], &["diagnostic-id"]),
        row(P::CorrelationContext, "Correlation-Context", Annotation, "$.diagctx")
            .https(&[], &["correlation-context"]),
        row(P::MessageSchema, "iothub-message-schema", Application, "$.schema")
            .https(&["iothub-messageschema", "iothub-message-schema"], &["iothub-messageschema"]),
        row(P::Operation, "iothub-operation", Application, "iothub-operation")
            .https(&["iothub-operation"], &["iothub-operation"]),
        row(P::Ack, "iothub-ack", Application, "iothub-ack").https(&["iothub-ack"], &["iothub-ack"]),
    ]
};

impl SystemProperty {
    /// Its names.
    pub fn names(self) -> &'static Names {
        &NAMES[self as usize - 1]
    }

    /// The one that a key of a topic of MQTT 3.1.1 stands for. Each message asks, so that the keys of the table stand here
    /// once more, which a test compares.
    pub fn of_topic(key: &str) -> Option<Self> {
        Some(match key {
            "$.mid" => Self::MessageId,
            "$.cid" => Self::CorrelationId,
            "$.uid" => Self::UserId,
            "$.to" => Self::To,
            "$.ct" => Self::ContentType,
            "$.ce" => Self::ContentEncoding,
            "$.exp" => Self::Expiry,
            "$.ctime" => Self::CreationTime,
            "$.on" => Self::OutputName,
            "$.ifid" => Self::InterfaceId,
            "$.sub" => Self::Subject,
            "$.diagid" => Self::DiagnosticId,
            "$.diagctx" => Self::CorrelationContext,
            "$.schema" => Self::MessageSchema,
            "iothub-operation" => Self::Operation,
            "iothub-ack" => Self::Ack,
            _ => return None,
        })
    }

    /// The one that a user property of MQTT 5 stands for.
    pub fn of_user_property(name: &str) -> Option<Self> {
        by(|names| names.user_property == Some(name))
    }

    /// The one that a header stands for, in whatever case.
    pub fn of_header(name: &str) -> Option<Self> {
        by(|names| names.headers_in.iter().any(|known| known.eq_ignore_ascii_case(name)))
    }

    /// The one that an annotation of AMQP stands for; the stamps of the hub are not among them.
    pub fn of_annotation(name: &str) -> Option<Self> {
        by(|names| names.place == Place::Annotation && names.amqp == name)
    }

    /// The one that is meant by a property of the application, whatever the protocol.
    pub fn of_application(name: &str) -> Option<Self> {
        // All of them begin so, and most properties do not.
        name.starts_with("iothub-")
            .then(|| by(|names| names.place == Place::Application && names.amqp == name))?
    }
}

fn by(is_it: impl Fn(&Names) -> bool) -> Option<SystemProperty> {
    NAMES.iter().find(|names| is_it(names)).map(|names| names.property)
}

/// The properties of a message while it is read. Of two that mean the same the last one stays.
#[derive(Debug, Default, PartialEq)]
pub struct Properties {
    system: Vec<(SystemProperty, ByteString)>,
    application: Vec<(ByteString, PropertyValue)>,
}

impl Properties {
    /// Adds a system property.
    pub fn set(&mut self, property: SystemProperty, value: ByteString) {
        if let Some(at) = self.system.iter().position(|(have, _)| *have == property) {
            self.system.remove(at);
        }
        self.system.push((property, value));
    }

    /// Adds a property of the application, or the system property that its name stands for. One of those without a value
    /// is none.
    pub fn add(&mut self, name: ByteString, value: PropertyValue) {
        match SystemProperty::of_application(&name) {
            Some(property) => {
                if let Some(text) = value.to_text() {
                    self.set(property, text);
                }
            }
            None => self.application.push((name, value)),
        }
    }

    /// Those of the system and those of the application, each name once.
    #[allow(clippy::type_complexity, reason = "the two fields of a message")]
    pub fn into_parts(mut self) -> (Vec<(SystemProperty, ByteString)>, Vec<(ByteString, PropertyValue)>) {
        keep_last(&mut self.application);
        (self.system, self.application)
    }
}

/// Puts what the hub says of a message among the properties of the application, in place of what its sender may have
/// written there.
pub fn stamp(application: &mut Vec<(ByteString, PropertyValue)>, name: &'static str, value: &'static str) {
    application.retain(|(have, _)| *have != *name);
    application.push((name.into(), PropertyValue::Text(value.into())));
}

/// A point in time as clients write it. One without a zone is UTC, as the names of these properties say.
pub fn time_of(text: &str) -> Option<Timestamp> {
    let of_civil =
        || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp());
    text.parse().ok().or_else(of_civil)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_stands_at_its_number_and_has_its_names_alone() {
        for (property, names) in SystemProperty::ALL.into_iter().zip(&NAMES) {
            assert_eq!((names.property, property.names()), (property, names));
            assert_eq!(SystemProperty::of_topic(names.topic), Some(property));
            for header in names.headers_in {
                assert_eq!(SystemProperty::of_header(&header.to_uppercase()), Some(property));
            }
            if let Some(name) = names.user_property {
                assert_eq!(SystemProperty::of_user_property(name), Some(property));
            }
            let among = (names.place == Place::Application).then_some(property);
            assert_eq!(SystemProperty::of_application(names.amqp), among);
            let annotated = (names.place == Place::Annotation).then_some(property);
            assert_eq!(SystemProperty::of_annotation(names.amqp), annotated);
            // `to` and the expiry stand in the address, and in a property of the standard.
            let is_told = property == SystemProperty::To || !names.headers_out.is_empty();
            assert!(is_told, "{property:?} reaches a device over HTTPS");
        }
    }

    #[test]
    fn one_property_by_two_names_is_one_and_the_last_one_stays() {
        let mut properties = Properties::default();
        properties.add("iothub-ack".into(), PropertyValue::Text("none".into()));
        properties.add("a".into(), PropertyValue::Null);
        properties.set(SystemProperty::Ack, "full".into());
        properties.add("iothub-operation".into(), PropertyValue::Long(7));
        properties.add("iothub-message-schema".into(), PropertyValue::Null);
        properties.add("a".into(), PropertyValue::Bool(true));
        let (system, application) = properties.into_parts();
        assert_eq!(system, [(SystemProperty::Ack, "full".into()), (SystemProperty::Operation, "7".into())]);
        assert_eq!(application, [("a".into(), PropertyValue::Bool(true))]);
    }

    #[test]
    fn a_stamp_takes_the_place_of_what_the_sender_wrote() {
        let mut application = vec![("mqtt-retain".into(), PropertyValue::Text("forged".into()))];
        stamp(&mut application, "mqtt-retain", "true");
        assert_eq!(application, [("mqtt-retain".into(), PropertyValue::Text("true".into()))]);
    }

    #[test]
    fn a_time_without_a_zone_is_utc() {
        let expected = Timestamp::from_second(1_893_553_445).ok();
        for text in [
            "2030-01-02T03:04:05Z",
            "2030-01-02T03:04:05",
            "2030-01-02 03:04:05",
            "2030-01-02T04:04:05+01:00",
            "2030-01-02T03:04:05.0000000Z",
        ] {
            assert_eq!(time_of(text), expected, "{text}");
        }
        assert_eq!(time_of("soon"), None);
    }
}
