//! What may be subscribed to. Filters are matched as they stand; `+` may stand in place of the name of a method.

use hub::record::Session;
use wire::mqtt::QoS;
use wire::mqtt::five::SubscribeAckReason;

use super::{COMMANDS, DESIRED, METHODS, RESPONSES};

/// The answers come without a subscription, and whoever unsubscribes gets them all the same.
pub(crate) fn is_implicit(filter: &str) -> bool {
    filter == RESPONSES
}

/// Why a filter may not be subscribed to, if it may not.
pub(crate) fn judge(filter: &str) -> Result<(), SubscribeAckReason> {
    let is_method = |name: &str| name == "+" || (!name.is_empty() && !name.contains(['/', '+', '#']));
    if filter == COMMANDS || filter == DESIRED || filter.strip_prefix(METHODS).is_some_and(is_method) {
        return Ok(());
    }
    Err(match filter.contains(['+', '#']) {
        true => SubscribeAckReason::WildcardSubscriptionsNotSupported,
        false => SubscribeAckReason::TopicFilterInvalid,
    })
}

/// Whether a session is to get changes of the desired properties.
pub(crate) fn wants_desired(session: &Session) -> bool {
    session.subscriptions.iter().any(|have| have.filter == DESIRED)
}

/// Whether a session is to get calls of methods, at least of some.
pub(crate) fn wants_calls(session: &Session) -> bool {
    session.subscriptions.iter().any(|have| have.filter.starts_with(METHODS))
}

/// Whether a session is to get calls of this method.
pub(crate) fn wants_call(session: &Session, name: &str) -> bool {
    let methods = session.subscriptions.iter().filter_map(|have| have.filter.strip_prefix(METHODS));
    methods.into_iter().any(|wanted| wanted == "+" || wanted == name)
}

/// The quality of service at which a session is to get device-bound messages; `None` when it is not to get them.
pub(crate) fn granted(session: &Session) -> Option<QoS> {
    let have = session.subscriptions.iter().find(|have| have.filter == COMMANDS)?;
    Some(if have.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_of_the_preview_are_taken_as_they_stand() {
        for filter in
            ["$iothub/commands", "$iothub/twin/patch/desired", "$iothub/methods/+", "$iothub/methods/reboot"]
        {
            assert_eq!(judge(filter), Ok(()), "{filter}");
        }
        let cases = [
            ("$iothub/#", 0xa2),
            ("$iothub/+", 0xa2),
            ("#", 0xa2),
            ("$iothub/methods/#", 0xa2),
            ("$iothub/methods/+/x", 0xa2),
            ("$iothub/methods/re+", 0xa2),
            ("$iothub/commands/", 0x8f),
            ("$iothub/Commands", 0x8f),
            ("$iothub/telemetry", 0x8f),
            ("$iothub/methods/", 0x8f),
            ("$iothub/methods/a/b", 0x8f),
            ("devices/d1/messages/devicebound/", 0x8f),
            ("devices/d1/messages/devicebound/#", 0xa2),
        ];
        for (filter, code) in cases {
            assert_eq!(judge(filter).map_err(u8::from), Err(code), "{filter}");
        }
    }
}
