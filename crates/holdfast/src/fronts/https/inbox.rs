//! Device-bound messages over HTTPS: a device takes and settles them (`spec/device-https.md` §4), a service purges them
//! (`spec/service-rest.md` §7).

use http::{HeaderName, HeaderValue, Method, StatusCode};
use hub::access::Operation;
use hub::deed::DeviceOperation;
use hub::error::HubError;
use hub::hub::Hub;
use hub::identity::Identity;
use hub::inbox::{Delivery, Receiver, Settlement, lock_token};
use hub::telemetry::SystemProperty;
use hub::twin::time_text;
use serde_json::json;

use super::answer::{self, Answer, no_content};
use super::request::Asked;
use super::spelling::WrittenNames;
use super::{authorize, route};
use crate::listen::Visitor;

/// `GET /devices/{d}[/modules/{m}]/messages/devicebound`: the next message, or 204.
pub(super) async fn receive(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    identity: Identity,
) -> Result<Answer, HubError> {
    let grant = authorize::device(hub, asked, visitor, &identity, DeviceOperation::ReceiveMessages).await?;
    let delivery = hub.take_from_inbox(&identity, &grant.sender.generation, Receiver::Requests).await?;
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
    let Delivery { entry, token, content } = delivery;
    let mut response = Answer::new(content.body.clone().into());
    let mut set = |name: &str, value: &str| {
        // What a header cannot carry is left out: the message itself must not be lost for it.
        let (name, value) = (HeaderName::try_from(name), HeaderValue::from_str(value));
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
        for name in header_names(*property) {
            set(name, value);
        }
    }
    let names: Vec<_> = content.application.iter().map(|(name, _)| format!("iothub-app-{name}")).collect();
    for (name, (_, value)) in names.iter().zip(&content.application) {
        set(name, value);
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

/// The headers by which clients read a property: the C SDK has its own for two of them.
fn header_names(property: SystemProperty) -> &'static [&'static str] {
    match property {
        SystemProperty::MessageId => &["iothub-messageid"],
        SystemProperty::CorrelationId => &["iothub-correlationid"],
        SystemProperty::UserId => &["iothub-userid"],
        SystemProperty::Expiry => &["iothub-expiry"],
        SystemProperty::Ack => &["iothub-ack"],
        SystemProperty::ContentType => &["iothub-contenttype", "contenttype"],
        SystemProperty::ContentEncoding => &["iothub-contentencoding", "contentencoding"],
        _ => &[],
    }
}
