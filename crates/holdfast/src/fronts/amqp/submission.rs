//! A device-bound message of a service, from AMQP's words into the hub's.

use bytes::Bytes;
use hub::identity::Identity;
use hub::inbox::{Ack, Submission};
use hub::telemetry::SystemProperty;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use wire::amqp::message::Message;

use super::address::{identity, is};
use super::telemetry::{Unreadable, parts};

/// A message and who it is for.
pub(super) struct Addressed {
    /// The identity as it was written and, where that is another one, decoded.
    pub(super) to: Vec<Identity>,
    /// The message.
    pub(super) submission: Submission,
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsendable {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(
        "its `to` is `{0}`; it names a device by `/devices/{{id}}/messages/devicebound` or a module by \
         `/devices/{{id}}/modules/{{id}}/messages/devicebound`"
    )]
    To(String),
}

/// Reads a message that a policy admits.
pub(super) fn read(encoded: &Bytes, sender: &str) -> Result<Addressed, Unsendable> {
    let message = Message::parse(encoded).map_err(Unreadable::from)?;
    let expires = message.properties.absolute_expiry_time;
    let text = message.properties.to.unwrap_or_default();
    let to = identities(text);
    if to.is_empty() {
        return Err(Unsendable::To(hub::decision::cut(text)));
    }
    let (system, application, body) = parts(encoded, &message)?;
    let ack = system.iter().find(|(property, _)| *property == SystemProperty::Ack);
    let ack = ack.map_or(Ack::None, |(_, value)| Ack::parse(value));
    let own = [SystemProperty::To, SystemProperty::Expiry];
    let system = system.into_iter().filter(|(property, _)| !own.contains(property));
    Ok(Addressed {
        to,
        submission: Submission {
            system: system.map(|(property, value)| (property, value.to_string())).collect(),
            application: application.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
            body,
            expires: expires.map(time_of),
            ack,
            sender: sender.to_owned(),
        },
    })
}

/// A time beyond all that there are is as far away as the last one.
fn time_of(millis: i64) -> Timestamp {
    let furthest = if millis < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(millis).unwrap_or(furthest)
}

fn identities(to: &str) -> Vec<Identity> {
    let path = match to.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => to.trim_start_matches('/'),
    };
    let segments: Vec<&str> = path.split('/').collect();
    let decoded: Vec<String> =
        segments.iter().map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned()).collect();
    let (written, decoded) = (recipient(&segments), recipient(&decoded));
    let differs = decoded.filter(|decoded| written.as_ref() != Some(decoded));
    written.into_iter().chain(differs).collect()
}

/// Who a path leads to, if it leads to where messages for somebody go.
fn recipient<T: AsRef<str>>(segments: &[T]) -> Option<Identity> {
    let (identity, rest) = identity(segments)?;
    match rest {
        [messages, bound] if is(messages, "messages") && is(bound, "devicebound") => Some(identity),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_all_times_is_the_furthest() {
        assert_eq!(time_of(i64::MAX), Timestamp::MAX);
        assert_eq!(time_of(i64::MIN), Timestamp::MIN);
        assert_eq!(Timestamp::from_millisecond(7).ok(), Some(time_of(7)));
    }

    #[test]
    fn every_spelling_of_to_names_its_device() {
        let names = |to: &str| identities(to).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("/devices/d1/messages/devicebound"), ["d1"]);
        assert_eq!(names("devices/d1/messages/deviceBound"), ["d1"]);
        assert_eq!(names("amqps://h.net/devices/d1/modules/m/messages/devicebound"), ["d1/m"]);
        assert_eq!(names("/devices/a%2Bb/messages/devicebound"), ["a%2Bb", "a+b"]);
        for nobody in [
            "",
            "/devices/d1",
            "/messages/devicebound",
            "/devices//messages/devicebound",
            "/twins/d1/messages/devicebound",
        ] {
            assert!(names(nobody).is_empty(), "{nobody}");
        }
    }
}
