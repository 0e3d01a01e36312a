//! Direct methods over HTTPS (`docs/protocol/service-rest.md` §6).

use hub::access::Operation;
use hub::decision::cut;
use hub::error::{HubError, HubErrorCode};
use hub::identity::Identity;
use hub::method::{MethodCall, PAYLOAD_BYTES_MAX};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::answer::{self, Answer};
use super::request::{self, Asked};
use super::{HttpsFront, authorize, route};
use crate::listen::Visitor;
use crate::methods;

/// A payload of the largest size, with what stands around it.
const BODY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 4 * 1024;

/// By which a module of an edge device says who it is, `{device}/{module}`, when it calls a method itself.
pub(super) const CALLER: &str = "x-ms-edge-moduleid";

/// `POST /twins/{id}/methods` and `/twins/{id}/modules/{mid}/methods`: of a service, or of a module of an edge device
/// (`docs/protocol/device-https.md` §5).
pub(super) async fn call(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    (device, module): (&str, Option<&str>),
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    let identity = match asked.header(CALLER) {
        None => {
            authorize::service(hub, asked, visitor, Operation::CallMethods).await?;
            route::identity(device, module)?
        }
        Some(caller) => {
            let caller = caller_named(caller)?;
            let identity = route::identity(device, module)?;
            authorize::module_to_call(hub, asked, visitor, &caller, &identity).await?;
            identity
        }
    };
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

fn caller_named(text: &str) -> Result<Identity, HubError> {
    match Identity::parse(&percent_decode_str(text).decode_utf8_lossy()) {
        Ok(caller) if caller.module.is_some() => Ok(caller),
        _ => {
            let text = format!("`{CALLER}` is `{{device}}/{{module}}`, not '{}'", cut(text));
            Err(HubError::new(HubErrorCode::ArgumentInvalid, text))
        }
    }
}
