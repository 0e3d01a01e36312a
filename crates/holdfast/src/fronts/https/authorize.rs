//! Who asks, and whether they may: the hub decides, this only carries the header to it and records the outcome.

use hub::access::Operation;
use hub::authenticate::{Grant, ServiceGrant};
use hub::decision::{Act, Decision, Facts, cut};
use hub::error::HubError;
use hub::hub::{Credential, Hub, NotAdmitted};
use hub::identity::Identity;
use hub::refusal::Refusal;
use hub::registry::By;

use super::answer::not_admitted;
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
    let act = Act::Operation { name: operation.as_str().to_owned() };
    record(hub, visitor, act, None, facts, &admitted);
    let grant = admitted.map_err(|refused| not_admitted(&refused))?;
    Ok(By { actor: format!("policy {}", grant.policy), origin: visitor.origin.clone() })
}

/// Admits the device or module of the path, or says 401.
pub(super) async fn device(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    identity: &Identity,
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
    // A message that is let in is counted, not recorded.
    if admitted.is_ok() {
        let mut seen = Decision::new(hub.now(), Act::Operation { name: "send telemetry".to_owned() });
        seen.identity = Some(identity.to_string());
        seen.origin = visitor.origin.clone();
        seen.facts = facts;
        hub.recorder.observe(seen);
    } else {
        let act = Act::Operation { name: "send telemetry".to_owned() };
        record(hub, visitor, act, Some(identity.to_string()), facts, &admitted);
    }
    admitted.map_err(|refused| match refused {
        // Only who proved a policy's key may learn which devices there are.
        NotAdmitted::Refused(refusal @ (Refusal::UnknownDevice { .. } | Refusal::UnknownModule { .. }))
            if by_policy =>
        {
            HubError::new(refusal.code(), format!("'{identity}' is not registered"))
        }
        refused => not_admitted(&refused),
    })
}

/// Records that a request was not served for another reason than who sent it.
pub(super) fn not_served(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    device: Option<String>,
    refusal: Refusal,
) {
    let act = Act::Operation { name: format!("{} {}", asked.method, cut(&asked.path())) };
    hub.record(act, device, visitor.origin.clone(), facts(asked, visitor), Some(refusal));
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

fn record<T>(
    hub: &Hub,
    visitor: &Visitor,
    act: Act,
    identity: Option<String>,
    facts: Facts,
    admitted: &Result<T, NotAdmitted>,
) {
    match admitted {
        Ok(_) => hub.record(act, identity, visitor.origin.clone(), facts, None),
        Err(NotAdmitted::Refused(refusal)) => {
            hub.record(act, identity, visitor.origin.clone(), facts, Some(refusal.clone()));
        }
        Err(NotAdmitted::Unavailable(error)) => tracing::error!(%error, "could not decide on a request"),
    }
}
