//! Direct methods over HTTPS (`spec/service-rest.md` §6).

use hub::access::Operation;
use hub::error::{HubError, HubErrorCode};
use hub::method::{MethodCall, PAYLOAD_BYTES_MAX};
use hyper::body::Incoming;

use super::answer::{self, Answer};
use super::request::{self, Asked};
use super::{HttpsFront, authorize, route};
use crate::listen::Visitor;
use crate::methods;

/// A payload of the largest size, with what stands around it.
const BODY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 4 * 1024;

/// `POST /twins/{id}/methods` and `/twins/{id}/modules/{mid}/methods`.
pub(super) async fn call(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    (device, module): (&str, Option<&str>),
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    authorize::service(hub, asked, visitor, Operation::CallMethods).await?;
    let identity = route::identity(device, module)?;
    let body = request::body(incoming, BODY_BYTES_MAX).await?;
    let call = MethodCall::parse(&body)?;
    hub.check_callable(&identity).await?;
    let called = tokio::select! {
        called = methods::call(hub, &identity, call) => called,
        // No device comes any more, and those that are there are about to go.
        () = front.drain.begun() => {
            return Err(HubError::new(HubErrorCode::ServiceUnavailable, "The hub stops"));
        }
    };
    front.metrics.method(called.is_ok());
    Ok(match called {
        Ok(answer) => answer::method_answer(&answer),
        Err(error) => answer::method_error(&error, hub.now()),
    })
}
