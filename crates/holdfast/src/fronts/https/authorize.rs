//! Who asks, and whether they may: the hub decides, this only carries the header to it and records the outcome.

use std::time::Instant;

use hub::access::Operation;
use hub::authenticate::Grant;
use hub::decision::{Act, Decision, Facts, cut};
use hub::deed::{DeviceOperation, OperationName};
use hub::error::{HubError, HubErrorCode};
use hub::hub::{Credential, Hub, NotAdmitted};
use hub::identity::{DeviceId, Identity};
use hub::ports::registry::StoreError;
use hub::refusal::Refusal;
use hub::refusing::Refused;
use hub::registry::By;
use hub::sas::Token;
use hub::service_grant::ServiceGrant;

use super::HttpsFront;
use super::request::Asked;
use crate::listen::Visitor;

/// Admits a service for an operation, or says 401.
pub(super) async fn service(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    operation: Operation,
) -> Result<By, HubError> {
    let mut facts = facts(asked, visitor);
    let admitted = match asked.header("authorization") {
        None => Err(nothing(asked).into()),
        Some(token) => hub.admit_service(token, &asked.path(), &mut facts).await,
    };
    let admitted: Result<ServiceGrant, NotAdmitted> =
        admitted.and_then(|grant| grant.may(operation).map(|()| grant).map_err(Into::into));
    let act = Act::Operation { name: operation.into() };
    let grant = match admitted {
        Ok(grant) => {
            visitor.admission.admit().await;
            hub.record(act, None, visitor.origin.clone(), facts, None);
            grant
        }
        Err(NotAdmitted::Refused(refusal)) => {
            return Err(refused(hub, asked, visitor, act, None, facts, refusal));
        }
        Err(NotAdmitted::Unavailable(error)) => return Err(unavailable(error)),
    };
    Ok(By { actor: format!("policy {}", grant.policy), origin: visitor.origin.clone() })
}

/// Admits who reads or writes the modules of a device: a service that may, or the device itself, by its own key or
/// certificate (IoT Edge, azure-iot-sdk-c). Or says 401.
pub(super) async fn of_modules(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    device: &str,
    operation: Operation,
) -> Result<By, HubError> {
    let is_own = match asked.header("authorization") {
        Some(token) => Token::parse(token).is_ok_and(|token| token.skn.is_none()),
        None => visitor.chain.is_some(),
    };
    match (is_own, DeviceId::parse(device)) {
        (true, Ok(device)) => own_modules(hub, asked, visitor, &Identity::device(device), operation).await,
        (false, _) | (true, Err(_)) => service(hub, asked, visitor, operation).await,
    }
}

async fn own_modules(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    device: &Identity,
    operation: Operation,
) -> Result<By, HubError> {
    let mut facts = facts(asked, visitor);
    let credential = match (asked.header("authorization"), &visitor.chain) {
        (Some(token), _) => Credential::Token(token),
        (None, Some(chain)) => Credential::Certificate(chain),
        (None, None) => Credential::Nothing,
    };
    let admitted = hub.admit(device, credential, &mut facts).await;
    let (act, name) = (Act::Operation { name: operation.into() }, device.to_string());
    match admitted {
        Ok(_) => {
            hub.record(act, Some(name), visitor.origin.clone(), facts, None);
            Ok(By { actor: format!("device {}", device.device), origin: visitor.origin.clone() })
        }
        Err(NotAdmitted::Refused(refusal)) => {
            Err(refused(hub, asked, visitor, act, Some(name), facts, refusal))
        }
        Err(NotAdmitted::Unavailable(error)) => Err(unavailable(error)),
    }
}

/// Admits the device or module of the path, or says 401.
pub(super) async fn device(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    identity: &Identity,
    operation: DeviceOperation,
) -> Result<Grant, HubError> {
    let mut facts = facts(asked, visitor);
    let credential = match (asked.header("authorization"), &visitor.chain) {
        (Some(token), _) => Credential::Token(token),
        (None, Some(chain)) => Credential::Certificate(chain),
        (None, None) => Credential::Nothing,
    };
    let admitted = match credential {
        Credential::Nothing if has_token_in_query(asked) => Err(Refusal::TokenInQuery.into()),
        credential => hub.admit(identity, credential, &mut facts).await,
    };
    let by_policy = facts.token.as_ref().is_some_and(|token| token.skn.is_some());
    let act = Act::Operation { name: operation.into() };
    match admitted {
        // A message that is let in is counted, not recorded.
        Ok(grant) => {
            visitor.admission.admit().await;
            let mut seen = Decision::new(hub.now(), act);
            seen.identity = Some(identity.to_string());
            seen.origin = visitor.origin.clone();
            seen.facts = facts;
            hub.recorder.observe(seen);
            Ok(grant)
        }
        // Only who proved a policy's key may learn which devices there are.
        Err(NotAdmitted::Refused(
            refusal @ (Refusal::UnknownDevice { .. } | Refusal::UnknownModule { .. }),
        )) if by_policy => {
            let error = HubError::new(refusal.code(), format!("'{identity}' is not registered"));
            hub.record(act, Some(identity.to_string()), visitor.origin.clone(), facts, Some(refusal));
            Err(error)
        }
        Err(NotAdmitted::Refused(refusal)) => {
            Err(refused(hub, asked, visitor, act, Some(identity.to_string()), facts, refusal))
        }
        Err(NotAdmitted::Unavailable(error)) => Err(unavailable(error)),
    }
}

/// Admits a module that calls a method of another device or module, or says 401.
pub(super) async fn module_to_call(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    caller: &Identity,
    target: &Identity,
) -> Result<(), HubError> {
    let mut facts = facts(asked, visitor);
    let admitted = match asked.header("authorization") {
        None => Err(nothing(asked).into()),
        Some(token) => match hub.admit(caller, Credential::Token(token), &mut facts).await {
            Ok(_) => hub.may_call(caller, target).await,
            Err(error) => Err(error),
        },
    };
    let (act, name) = (Act::Operation { name: Operation::CallMethods.into() }, caller.to_string());
    match admitted {
        Ok(()) => {
            visitor.admission.admit().await;
            hub.record(act, Some(name), visitor.origin.clone(), facts, None);
            Ok(())
        }
        Err(NotAdmitted::Refused(refusal)) => {
            Err(refused(hub, asked, visitor, act, Some(name), facts, refusal))
        }
        Err(NotAdmitted::Unavailable(error)) => Err(unavailable(error)),
    }
}

/// Admits the operator to Holdfast's own API, or says 401.
pub(super) async fn operator(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    operation: &str,
) -> Result<(), HubError> {
    if front.management.admits(asked.header("authorization")) {
        visitor.admission.admit().await;
        return Ok(());
    }
    let act = Act::Operation { name: OperationName::Other(operation.to_owned()) };
    let refusal = Refusal::ManagementCredential;
    Err(refused(&front.hub, asked, visitor, act, None, visitor.facts.clone(), refusal))
}

/// Records that a request was not served for another reason than who sent it.
pub(super) fn not_served(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    device: Option<String>,
    refusal: Refusal,
) {
    let act = requested(asked);
    hub.record(act, device, visitor.origin.clone(), facts(asked, visitor), Some(refusal));
}

/// Records that a device did something that is not done with each message.
pub(super) fn served(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    identity: &Identity,
    operation: DeviceOperation,
) {
    let act = Act::Operation { name: operation.into() };
    hub.record(act, Some(identity.to_string()), visitor.origin.clone(), facts(asked, visitor), None);
}

/// Records that a link does not open what was asked for, and decides how long the answer waits.
pub(super) fn link_refused(hub: &Hub, asked: &Asked, visitor: &Visitor, refusal: Refusal) {
    let act = requested(asked);
    refused(hub, asked, visitor, act, None, facts(asked, visitor), refusal);
}

/// A request that is named by its own method and path.
fn requested(asked: &Asked) -> Act {
    Act::Operation { name: OperationName::Other(format!("{} {}", asked.method, cut(&asked.path()))) }
}

/// Why a request without `Authorization` is refused.
fn nothing(asked: &Asked) -> Refusal {
    match has_token_in_query(asked) {
        true => Refusal::TokenInQuery,
        false => Refusal::NoCredential,
    }
}

fn has_token_in_query(asked: &Asked) -> bool {
    let has = |name: &str| asked.parameter(name).is_some();
    let scheme = "SharedAccessSignature";
    (has("sig") && has("se"))
        || asked.query.iter().any(|(name, value)| name.starts_with(scheme) || value.starts_with(scheme))
}

fn facts(asked: &Asked, visitor: &Visitor) -> Facts {
    Facts {
        sdk: asked.header("user-agent").map(cut),
        api_version: asked.parameter("api-version").map(cut),
        ..visitor.facts.clone()
    }
}

/// Records a refusal, decides how long its answer waits, and gives the answer: the same whatever the cause.
fn refused(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    act: Act,
    identity: Option<String>,
    facts: Facts,
    refusal: Refusal,
) -> HubError {
    let refused = Refused { act, identity, facts, refusal };
    let _ = asked.pace.set(hub.refuse(refused, visitor.origin.clone(), Instant::now()));
    // Never more than that it is not admitted (`docs/protocol/service-rest.md` §9, `docs/protocol/device-https.md` §1).
    HubError::new(HubErrorCode::IotHubUnauthorizedAccess, "Unauthorized")
}

fn unavailable(error: StoreError) -> HubError {
    tracing::error!(%error, "could not decide on a request");
    error.into()
}
