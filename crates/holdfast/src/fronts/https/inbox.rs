//! Device-bound messages over HTTPS: a device takes and settles them (`docs/protocol/device-https.md` §4), a service
//! purges them (`docs/protocol/service-rest.md` §7).

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use hub::access::Operation;
use hub::deed::DeviceOperation;
use hub::error::HubError;
use hub::hub::Hub;
use hub::identity::Identity;
use hub::inbox::{Delivery, Numbering, Receiver, Settlement, lock_token};
use hub::twin::time_text;
use serde_json::json;

use super::answer::{self, Answer, no_content};
use super::request::Asked;
use super::spelling::WrittenNames;
use super::{authorize, route};
use crate::fronts::escape::escaped;
use crate::listen::Visitor;

/// `GET /devices/{d}[/modules/{m}]/messages/devicebound`: the next message, or 204.
pub(super) async fn receive(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    identity: Identity,
) -> Result<Answer, HubError> {
    let grant = authorize::device(hub, asked, visitor, &identity, DeviceOperation::ReceiveMessages).await?;
    let generation = &grant.sender.generation;
    let delivery = hub.take_from_inbox(&identity, generation, Receiver::Requests, Numbering::None).await?;
    Ok(delivery.map_or_else(no_content, |delivery| message(&identity, &delivery)))
}

/// `DELETE …/messages/devicebound/{lock}[?reject]` and `POST …/messages/devicebound/{lock}/abandon`.
pub(super) async fn settle(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    identity: Identity,
    lock: &str,
) -> Result<Answer, HubError> {
    let grant = authorize::device(hub, asked, visitor, &identity, DeviceOperation::SettleMessage).await?;
    let settlement = match (asked.method == Method::POST, asked.parameter("reject")) {
        (true, _) => Settlement::Abandon,
        (false, Some(_)) => Settlement::Reject,
        (false, None) => Settlement::Complete,
    };
    hub.settle(&identity, &grant.sender.generation, lock_token(lock)?, settlement).await?;
    Ok(no_content())
}

/// `DELETE /devices/{id}/commands`.
pub(super) async fn purge(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    device: &str,
) -> Result<Answer, HubError> {
    authorize::service(hub, asked, visitor, Operation::PurgeInbox).await?;
    let purged = hub.purge_inbox(&route::identity(device, None)?).await?;
    let result = json!({ "deviceId": device, "moduleId": null, "totalMessagesPurged": purged });
    Ok(answer::json_body(StatusCode::OK, &result))
}

fn message(identity: &Identity, delivery: &Delivery) -> Answer {
    let Delivery { entry, token, content, .. } = delivery;
    let mut response = Answer::new(content.body.clone().into());
    let mut set = |name: &str, value: &str| {
        let (name, value) = (HeaderName::try_from(name), HeaderValue::from_str(&carried(value)));
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    };
    set("etag", &format!("\"{}\"", token.0));
    set("iothub-to", &format!("/{}/messages/deviceBound", address(identity)));
    set("iothub-enqueuedtime", &time_text(entry.enqueued));
    set("iothub-deliverycount", &entry.delivery_count().to_string());
    set("iothub-sequencenumber", &entry.sequence.to_string());
    for (property, value) in &content.system {
        for name in property.names().headers_out {
            set(name, value);
        }
    }
    let names: Vec<_> = content.application.iter().map(|(name, _)| application_header(name)).collect();
    for (name, (_, value)) in names.iter().zip(&content.application) {
        // There is no null.
        set(name, value.as_deref().unwrap_or_default());
    }
    response.extensions_mut().insert(WrittenNames(names));
    response
}

fn address(identity: &Identity) -> String {
    match &identity.module {
        None => format!("devices/{}", identity.device),
        Some(module) => format!("devices/{}/modules/{module}", identity.device),
    }
}

/// The header of an application property. A name that no header can have is written as in a topic.
fn application_header(name: &str) -> String {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match name.bytes().all(is_token) {
        true => format!("iothub-app-{name}"),
        false => format!("iothub-app-{}", escaped(name)),
    }
}

/// A value as a header carries it: one that would not arrive as it is, is written as in a topic.
fn carried(value: &str) -> Cow<'_, str> {
    let is_kept = value.trim() == value && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_kept { value.into() } else { escaped(value).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_header_carries_is_written_as_in_a_topic() {
        for (name, header) in
            [("Room", "Room"), ("a%b!", "a%b!"), ("a b", "a%20b"), ("ü", "%C3%BC"), ("a:b", "a%3Ab")]
        {
            assert_eq!(application_header(name), format!("iothub-app-{header}"));
        }
        let kept = ["", "a  b", "50%", "\"(),/:;"];
        assert!(kept.iter().all(|value| carried(value) == *value));
        let escaped =
            [(" a", "%20a"), ("a\t", "a%09"), ("a\r\nb", "a%0D%0Ab"), ("水", "%E6%B0%B4"), ("a\tb", "a%09b")];
        assert!(escaped.iter().all(|(value, header)| carried(value) == *header));
    }
}
