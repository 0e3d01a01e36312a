//! Holdfast's own API below `/holdfast/v1`: what the CLI asks, opened by the management credential alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use hub::access::{PolicyName, Rights};
use hub::certificate::{RevocationFacts, revocation_facts};
use hub::decision::{DecisionFilter, Numbered};
use hub::error::{HubError, HubErrorCode};
use hub::held_time::Ahead;
use hub::policies::PolicyView;
use hub::record::{Authority, Slot};
use hub::registry::{By, DeviceView, LIST_MAX};
use hub::why::Explained;
use hyper::body::Incoming;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use super::answer::{Answer, json_body, no_content};
use super::proxied::is_proxied;
use super::request::{self, Asked};
use super::{HttpsFront, authorize, files, operator_inbox, posture, registry, route, shapes, specs, trace};
use crate::listen::Visitor;
use crate::metrics::{MEDIA_TYPE, scrape};

const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Records that one answer holds.
const DECISIONS_MAX: usize = 1_000;

/// Routes a request of the own API.
pub(super) async fn dispatch(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    segments: &[&str],
    body: &mut Incoming,
) -> Result<Answer, HubError> {
    authorize::operator(front, asked, visitor, "use Holdfast's own API").await?;
    let by = By { actor: "operator".to_owned(), origin: visitor.origin.clone() };
    let hub = &*front.hub;
    match (asked.method.as_str(), segments) {
        ("GET", ["v1", "hub"]) => Ok(ok(&json!({
            "hosts": hub.settings.hosts,
            "eventHubName": hub.settings.event_hub_name,
            "partitions": hub.partition_count(),
            "tls": ["1.2", "1.3"],
        }))),
        ("GET", ["v1", "clock"]) => Ok(ok(&clock_json(front.guard.upkeep().retention.ahead()))),
        ("POST", ["v1", "clock", "trust"]) => {
            hub.note_trusted_clock(&by).await?;
            front.guard.upkeep().retention.trust_clock().await;
            front.guard.look_again();
            Ok(ok(&clock_json(None)))
        }
        ("POST", ["v1", "scrub"]) => {
            let scrub = &front.guard.upkeep().scrub;
            scrub.read(false).await;
            front.guard.look_again();
            Ok(ok(&json!(scrub.damaged().all())))
        }
        (_, ["v1", "posture", rest @ ..]) => posture::dispatch(front, asked, rest, body, &by).await,
        ("GET", ["v1", "export"]) => {
            let mut export = hub.export().await?;
            export["serverCertificate"] = json!(front.guard.server_certificate().thumbprint);
            export["files"] = front.guard.place().modes();
            Ok(ok(&export))
        }
        ("GET", ["v1", "settings"]) => Ok(ok(&json!(hub.hub_settings().await?))),
        ("PUT", ["v1", "settings"]) => {
            let settings =
                serde_json::from_value(request::json(body, BODY_BYTES_MAX, &shapes::SETTINGS).await?)
                    .map_err(|error| HubError::new(HubErrorCode::ArgumentInvalid, error.to_string()))?;
            Ok(ok(&json!(hub.put_hub_settings(settings, &by).await?)))
        }
        ("GET", ["v1", "devices", device, "children"]) => {
            let after = asked.parameter("after").map(|id| route::identity(id, None)).transpose()?;
            let device = route::identity(device, None)?.device;
            let children = hub.children(&device, after.map(|after| after.device), LIST_MAX).await?;
            Ok(ok(&children.iter().map(child_json).collect()))
        }
        ("DELETE", ["v1", "files", device, name @ ..]) => {
            hub.delete_file(&route::identity(device, None)?.device, &name.join("/"), &by).await?;
            Ok(no_content())
        }
        ("GET", ["v1", "file-storage"]) => Ok(ok(&files::account(hub).await?)),
        ("PUT", ["v1", "file-storage"]) => Ok(ok(&files::set_account(hub, body, &by).await?)),
        ("DELETE", ["v1", "file-storage"]) => {
            hub.set_upload_account(None, &by).await?;
            Ok(no_content())
        }
        ("GET", ["v1", "files"]) => Ok(ok(&files::list(hub, asked).await?)),
        ("GET", ["v1", "files", device, name @ ..]) => {
            let device = route::identity(device, None)?.device;
            files::content(hub, &device, &name.join("/")).await
        }
        (_, ["v1", "inbox", rest @ ..]) => operator_inbox::dispatch(hub, asked, rest, body).await,
        ("GET", ["v1", "trace", rest @ ..]) => trace::dispatch(hub, asked, rest).await,
        ("GET", ["v1", "stream"]) => trace::stream(hub).await,
        ("GET", ["v1", "consumer-groups"]) => Ok(ok(&json!(hub.consumer_groups().await?))),
        ("PUT", ["v1", "consumer-groups", name]) => {
            hub.create_consumer_group(name, &by).await?;
            Ok(no_content())
        }
        ("DELETE", ["v1", "consumer-groups", name]) => {
            hub.delete_consumer_group(name, &by).await?;
            Ok(no_content())
        }
        (_, ["v1", "audit", rest @ ..]) => super::audit::dispatch(front, asked, rest, body).await,
        ("GET", ["v1", "why"]) => why(front, asked).await,
        ("GET", ["v1", "policies"]) => {
            let policies = hub.policies().await?;
            Ok(ok(&policies.iter().map(policy_json).collect()))
        }
        ("GET", ["v1", "policies", name]) => {
            Ok(ok(&policy_json(&hub.policy_with_keys(&policy_name(name)?).await?)))
        }
        ("PUT", ["v1", "policies", name]) => {
            let body = request::json(body, BODY_BYTES_MAX, &shapes::POLICY).await?;
            let rights = Rights::parse(body["rights"].as_str().unwrap_or_default())
                .map_err(|error| HubError::new(HubErrorCode::ArgumentInvalid, error.to_string()))?;
            Ok(ok(&policy_json(&hub.put_policy(&policy_name(name)?, rights, &by).await?)))
        }
        ("DELETE", ["v1", "policies", name]) => {
            hub.delete_policy(&policy_name(name)?, &by).await?;
            Ok(no_content())
        }
        ("POST", ["v1", "policies", name, "regenerate", slot]) => {
            let slot = match *slot {
                "primary" => Slot::Primary,
                "secondary" => Slot::Secondary,
                _ => {
                    return Err(HubError::new(
                        HubErrorCode::ArgumentInvalid,
                        "The slot is primary or secondary",
                    ));
                }
            };
            Ok(ok(&policy_json(&hub.regenerate_policy_key(&policy_name(name)?, slot, &by).await?)))
        }
        ("GET", ["v1", "certificates"]) => {
            let authorities = hub.authorities().await?;
            Ok(ok(&authorities.iter().map(authority_json).collect()))
        }
        ("PUT", ["v1", "certificates", name]) => {
            let body = request::json(body, BODY_BYTES_MAX, &shapes::AUTHORITY).await?;
            let verified = specs::truth(specs::object(&body)?, "verified")?.unwrap_or(false);
            Ok(ok(&authority_json(&hub.add_authority(name, &der(&body)?, verified, &by).await?)))
        }
        ("DELETE", ["v1", "certificates", name]) => {
            hub.delete_authority(name, &by).await?;
            Ok(no_content())
        }
        ("POST", ["v1", "certificates", name, "verify"]) => {
            let body = request::json(body, BODY_BYTES_MAX, &shapes::AUTHORITY).await?;
            Ok(ok(&authority_json(&hub.verify_authority(name, &der(&body)?, &by).await?)))
        }
        ("POST", ["v1", "certificates", name, "trust"]) => {
            Ok(ok(&authority_json(&hub.trust_authority(name, &by).await?)))
        }
        ("PUT", ["v1", "certificates", name, "revocation-list"]) => {
            let body = request::json(body, BODY_BYTES_MAX, &shapes::REVOCATION_LIST).await?;
            let list = STANDARD.decode(body["list"].as_str().unwrap_or_default());
            let list =
                list.map_err(|_| HubError::new(HubErrorCode::ArgumentInvalid, "`list` is DER in base64"))?;
            Ok(ok(&authority_json(&hub.set_revocation_list(name, &list, &by).await?)))
        }
        ("DELETE", ["v1", "certificates", name, "revocation-list"]) => {
            let scope = asked.parameter("scope").unwrap_or_default();
            Ok(ok(&authority_json(&hub.remove_revocation_list(name, scope, &by).await?)))
        }
        _ => match asked.method {
            Method::GET | Method::PUT | Method::POST | Method::DELETE => {
                Err(HubError::new(HubErrorCode::GenericNotFound, "There is no such resource"))
            }
            _ => Err(HubError::new(
                HubErrorCode::GenericMethodNotAllowed,
                "GET, PUT, POST and DELETE are allowed",
            )),
        },
    }
}

/// `GET /metrics`: for whoever asks from this machine and not through a proxy on it, unless the operator shut that, and for others
/// with the management credential.
pub(super) async fn metrics(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
) -> Result<Answer, HubError> {
    let is_local = visitor.origin.address.is_some_and(|address| address.is_loopback());
    if !is_local || !front.metrics_are_open || is_proxied(&asked.headers) {
        authorize::operator(front, asked, visitor, "read the metrics").await?;
    }
    visitor.admission.admit().await;
    let text = scrape(&front.metrics, &front.hub, &front.guard).await?;
    let mut answer = Answer::new(Bytes::from(text).into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Ok(answer)
}

/// Refusals, newest first, each explained.
async fn why(front: &HttpsFront, asked: &Asked) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    front.recorder.settle().await;
    let address = match asked.parameter("address") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            HubError::new(HubErrorCode::ArgumentInvalid, format!("'{text}' is no IP address"))
        })?),
    };
    let limit = asked.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20);
    let filter = DecisionFilter {
        device: asked.parameter("device").map(str::to_owned),
        address,
        before: asked.parameter("before").and_then(|before| before.parse().ok()),
        limit: std::cmp::min(limit, DECISIONS_MAX),
        ..DecisionFilter::default()
    };
    let entry = |explained: &Explained| {
        let Numbered { number, record: decision } = &explained.decision;
        let words = &explained.explanation;
        json!({
            "number": number,
            "time": decision.time,
            "count": decision.count,
            "identity": decision.identity,
            "address": decision.origin.address,
            "door": decision.origin.door,
            "act": decision.act,
            "code": decision.refusal.as_ref().map(|refusal| refusal.code().number()),
            "cause": words.cause,
            "explanation": words.explanation,
            "presented": words.presented,
            "expected": words.expected,
            "change": words.change,
            "fix": words.fix,
            "facts": decision.facts,
        })
    };
    let entries = hub.why(filter).await?.iter().map(entry).collect();
    Ok(ok(&Value::Array(entries)))
}

fn ok(value: &Value) -> Answer {
    json_body(StatusCode::OK, value)
}

fn clock_json(ahead: Option<Ahead>) -> Value {
    json!({
        "trusted": ahead.is_none(),
        "heldTime": ahead.map(|ahead| ahead.held),
        "aheadSeconds": ahead.map_or(0, |ahead| ahead.ahead.as_secs()),
        "trustedInSeconds": ahead.map_or(0, |ahead| ahead.left.as_secs()),
    })
}

fn policy_name(name: &str) -> Result<PolicyName, HubError> {
    PolicyName::parse(name).map_err(|error| HubError::new(HubErrorCode::ArgumentInvalid, error.to_string()))
}

fn der(body: &Value) -> Result<CertificateDer<'static>, HubError> {
    let text = body["certificate"].as_str().unwrap_or_default();
    match STANDARD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes.into()),
        _ => Err(HubError::new(HubErrorCode::ArgumentInvalid, "`certificate` is DER in base64")),
    }
}

fn child_json(view: &DeviceView) -> Value {
    json!({
        "deviceId": view.device.id,
        "status": view.device.status,
        "connectionState": registry::connection_state(view.connected),
        "capabilities": { "iotEdge": view.device.edge },
    })
}

fn policy_json(view: &PolicyView) -> Value {
    json!({
        "name": view.policy.name,
        "rights": view.policy.rights,
        "primaryKey": view.keys[0].as_str(),
        "secondaryKey": view.keys[1].as_str(),
        "created": view.policy.created,
    })
}

fn authority_json(authority: &Authority) -> Value {
    json!({
        "name": authority.name,
        "subject": authority.subject,
        "thumbprint": authority.thumbprint,
        "notAfter": authority.not_after,
        "verified": authority.verified,
        "verificationCode": authority.verification_code,
        "hasRevocationList": !authority.revocation_lists.is_empty(),
        "revocationLists": revocation_facts(authority).iter().map(list_json).collect::<Vec<_>>(),
        "created": authority.created,
    })
}

fn list_json(list: &RevocationFacts) -> Value {
    json!({
        "scope": list.scope,
        "number": list.number,
        "thisUpdate": list.this_update,
        "nextUpdate": list.next_update,
        "revoked": list.revoked,
        "counts": list.counts,
    })
}
