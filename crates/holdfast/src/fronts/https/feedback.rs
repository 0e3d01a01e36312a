//! Feedback of device-bound messages over HTTPS (`docs/protocol/service-rest.md` §7).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, Method};
use hub::error::HubError;
use hub::hub::Hub;
use hub::inbox::{Settlement, lock_token};
use hub::service_bound::{Lane, Next};

use super::answer::{Answer, no_content};
use super::authorize;
use super::request::Asked;
use crate::listen::Visitor;

/// `GET /messages/serviceBound/feedback`: the next batch, or 204.
pub(super) async fn receive(hub: &Hub, asked: &Asked, visitor: &Visitor) -> Result<Answer, HubError> {
    authorize::service(hub, asked, visitor, Lane::Feedback.operation()).await?;
    let Next::Message(delivery) = hub.take_service_bound(Lane::Feedback).await? else {
        return Ok(no_content());
    };
    let mut answer = Answer::new(Bytes::from(delivery.body).into());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Lane::Feedback.content_type()));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", delivery.token.0)) {
        headers.insert(ETAG, tag);
    }
    Ok(answer)
}

/// `DELETE /messages/serviceBound/feedback/{lock}` and `POST …/{lock}/abandon`.
pub(super) async fn settle(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    lock: &str,
) -> Result<Answer, HubError> {
    authorize::service(hub, asked, visitor, Lane::Feedback.operation()).await?;
    let settlement = match asked.method == Method::POST {
        true => Settlement::Abandon,
        false => Settlement::Complete,
    };
    hub.settle_service_bound(Lane::Feedback, lock_token(lock)?, settlement).await?;
    Ok(no_content())
}
