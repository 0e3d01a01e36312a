//! `$cbs`: tokens put on a connection (`docs/protocol/amqp.md` §4).

use hub::decision::{Facts, cut};
use hub::hub::{Hub, NotAdmitted};
use hub::identity::Identity;
use hub::put_token::{Admitted, Put, is_unknown};
use hub::refusal::Refusal;
use wire::amqp::codec::ValueRef;
use wire::amqp::message::{Body, Message, MessageWriter, Properties};

/// What a put-token request came to.
pub(super) struct Verdict {
    /// `status-code`.
    pub(super) status: i32,
    /// `status-description`.
    pub(super) description: String,
    /// The device or module that the token is for, where it is for one.
    pub(super) identity: Option<Identity>,
    /// What the token admits to.
    pub(super) admitted: Option<Admitted>,
    /// Why it was refused, for the record.
    pub(super) refusal: Option<Refusal>,
}

impl Verdict {
    fn refused(status: i32, description: &str, refusal: Option<Refusal>) -> Self {
        Self { status, description: description.to_owned(), identity: None, admitted: None, refusal }
    }
}

/// Decides a request. Types and operations are compared without case.
pub(super) async fn decide(hub: &Hub, request: &Message<'_>, facts: &mut Facts) -> Verdict {
    let text =
        |name: &str| request.application_properties.get(name).and_then(ValueRef::as_text).unwrap_or_default();
    if !text("operation").eq_ignore_ascii_case("put-token") {
        return Verdict::refused(400, "The operation is not put-token.", None);
    }
    if !text("type").eq_ignore_ascii_case("servicebus.windows.net:sastoken") {
        let refusal = Refusal::CbsTokenType { presented: cut(text("type")) };
        return Verdict::refused(
            400,
            "The token type is not servicebus.windows.net:sastoken.",
            Some(refusal),
        );
    }
    let Body::Value(ValueRef::String(token)) = request.body else {
        return Verdict::refused(400, "The body is not a token text.", None);
    };
    let Put { identity, admitted } = hub.admit_put_token(token, facts).await;
    let verdict = match admitted {
        Ok(admitted) => Verdict { admitted: Some(admitted), ..Verdict::refused(200, "OK", None) },
        Err(NotAdmitted::Refused(refusal)) => {
            let by_policy = facts.token.as_ref().is_some_and(|token| token.skn.is_some());
            // Only who proved a policy's key may learn which devices there are.
            match &identity {
                Some(identity) if by_policy && is_unknown(&refusal) => {
                    let hub = hub.settings.hosts.first().map_or("", String::as_str);
                    let text = format!("Device {identity} at IotHub {hub} not registered.");
                    Verdict::refused(404, &text, Some(refusal))
                }
                _ => match &refusal {
                    Refusal::UnknownEventHub { presented, .. } => {
                        let text = format!("The messaging entity '{presented}' could not be found.");
                        Verdict::refused(404, &text, Some(refusal))
                    }
                    _ => Verdict::refused(401, "Unauthorized access.", Some(refusal)),
                },
            }
        }
        Err(NotAdmitted::Unavailable(error)) => {
            tracing::error!(%error, "could not decide on a token");
            Verdict::refused(500, "The hub is not available.", None)
        }
    };
    Verdict { identity, ..verdict }
}

/// Writes the answer to a request: the id comes back in the type in which it came.
pub(super) fn answer(w: &mut MessageWriter<'_>, request: &Message<'_>, status: i32, description: &str) {
    w.properties(&Properties { correlation_id: request.properties.message_id, ..Properties::default() });
    w.application_properties(|map| {
        map.int("status-code", status);
        map.string("status-description", description);
    });
}
