//! Which request goes where.

use http::{Method, Request};
use hub::decision::cut;
use hub::error::{HubError, HubErrorCode};
use hub::hub::Hub;
use hub::identity::{DeviceId, Identity, ModuleId};
use hub::refusal::Refusal;
use hub::upload::CONTAINER;
use hyper::body::Incoming;

use super::answer::{self, Answer};
use super::request::{self, Asked};
use super::{
    HttpsFront, authorize, feedback, files, inbox, management, methods, registry, storage, telemetry, twins,
    websocket,
};
use crate::listen::Visitor;

/// How much of a body that nobody wanted is taken to keep the connection.
const UNWANTED_BYTES_MAX: usize = 512 * 1024;

/// Answers one request.
pub(super) async fn answer(
    front: &HttpsFront,
    mut request: Request<Incoming>,
    visitor: &Visitor,
    header_names: &[String],
) -> Answer {
    if websocket::is_upgrade(&request) {
        return websocket::upgrade(front, &mut request, visitor);
    }
    // The head is read, and nothing of it waits any more.
    visitor.admission.consumed();
    let (parts, mut body) = request.into_parts();
    if request::is_coded(&parts.headers) {
        return answer::unknown_coding();
    }
    let mut asked = Asked::new(&parts);
    let answer = match dispatch(front, &asked, visitor, header_names, &mut body).await {
        Ok(answer) => answer,
        Err(error) => {
            explain(&front.hub, &asked, visitor, &error);
            answer::error(&error, front.hub.now())
        }
    };
    if let Some(pace) = asked.pace.take() {
        tokio::select! {
            () = tokio::time::sleep(pace.wait) => {}
            () = front.drain.begun() => {}
        }
    }
    request::drain(&mut body, UNWANTED_BYTES_MAX, &visitor.admission).await;
    answer
}

/// Records what is wrong with a request that reached nothing. Who asks for what is recorded where it is decided.
fn explain(hub: &Hub, asked: &Asked, visitor: &Visitor, error: &HubError) {
    // Holdfast's own API says what is wrong to the operator who calls it.
    let is_own = asked.segments.first().is_some_and(|segment| segment.eq_ignore_ascii_case("holdfast"));
    let refusal = match error.code {
        HubErrorCode::InvalidProtocolVersion => {
            Refusal::ApiVersion { presented: asked.parameter("api-version").map(cut) }
        }
        HubErrorCode::GenericNotFound | HubErrorCode::GenericMethodNotAllowed if !is_own => {
            Refusal::UnknownPath { method: asked.method.to_string(), path: cut(&asked.path()) }
        }
        HubErrorCode::ArgumentInvalid => match illegal_id(asked) {
            Some(problem) => Refusal::IllegalId { problem },
            None => return,
        },
        _ => return,
    };
    let device =
        matches!(refusal, Refusal::IllegalId { .. }).then(|| asked.segments.get(1).map(|id| cut(id)));
    authorize::not_served(hub, asked, visitor, device.flatten(), refusal);
}

/// What is wrong with the device id in a path, if anything is.
fn illegal_id(asked: &Asked) -> Option<String> {
    let [devices, device, ..] = asked.segments.as_slice() else { return None };
    let names_a_device = ["devices", "twins"].iter().any(|word| devices.eq_ignore_ascii_case(word));
    let error = DeviceId::parse(device).err().filter(|_| names_a_device);
    error.map(|error| error.to_string())
}

async fn dispatch(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    header_names: &[String],
    body: &mut Incoming,
) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    let segments: Vec<&str> = asked.segments.iter().map(String::as_str).collect();
    let word =
        |at: usize, literal: &str| segments.get(at).is_some_and(|word| word.eq_ignore_ascii_case(literal));
    if word(0, "holdfast") {
        return management::dispatch(front, asked, visitor, &segments[1..], body).await;
    }
    if word(0, CONTAINER) {
        // Rare beside messages, and large: it is not to take room in every connection.
        return Ok(Box::pin(storage::dispatch(hub, asked, visitor, body)).await);
    }
    if segments == ["metrics"] {
        return management::metrics(front, asked, visitor).await;
    }
    let method = &asked.method;
    match segments.as_slice() {
        [_, device, _, _] if word(0, "devices") && word(2, "messages") && word(3, "events") => {
            only(method, &[Method::POST])?;
            telemetry::send(front, asked, visitor, header_names, identity(device, None)?, body).await
        }
        [_, device, _, module, _, _]
            if word(0, "devices") && word(2, "modules") && word(4, "messages") && word(5, "events") =>
        {
            only(method, &[Method::POST])?;
            telemetry::send(front, asked, visitor, header_names, identity(device, Some(module))?, body).await
        }
        [_, device, _, _] if word(0, "devices") && word(2, "messages") && word(3, "devicebound") => {
            only(method, &[Method::GET])?;
            inbox::receive(hub, asked, visitor, identity(device, None)?).await
        }
        [_, device, _, _, lock] if word(0, "devices") && word(2, "messages") && word(3, "devicebound") => {
            only(method, &[Method::DELETE])?;
            inbox::settle(hub, asked, visitor, identity(device, None)?, lock).await
        }
        [_, device, _, _, lock, _]
            if word(0, "devices") && word(2, "messages") && word(3, "devicebound") && word(5, "abandon") =>
        {
            only(method, &[Method::POST])?;
            inbox::settle(hub, asked, visitor, identity(device, None)?, lock).await
        }
        [_, device, _] if word(0, "devices") && word(2, "files") => {
            only(method, &[Method::POST])?;
            Box::pin(files::start(front, asked, visitor, device, body)).await
        }
        [_, device, _, _] if word(0, "devices") && word(2, "files") && word(3, "notifications") => {
            only(method, &[Method::POST])?;
            Box::pin(files::finish(front, asked, visitor, (device, None), body)).await
        }
        [_, device, _, _, id] if word(0, "devices") && word(2, "files") && word(3, "notifications") => {
            only(method, &[Method::POST])?;
            Box::pin(files::finish(front, asked, visitor, (device, Some(id)), body)).await
        }
        [_, device, _] if word(0, "devices") && word(2, "applyConfigurationContent") => {
            only(method, &[Method::POST])?;
            api_version(asked)?;
            Box::pin(twins::apply_to_edge_device(front, asked, visitor, device, body)).await
        }
        [_, device, _] if word(0, "devices") && word(2, "commands") => {
            only(method, &[Method::DELETE])?;
            api_version(asked)?;
            inbox::purge(hub, asked, visitor, device).await
        }
        [_, _, _] if word(0, "messages") && word(1, "servicebound") && word(2, "feedback") => {
            only(method, &[Method::GET])?;
            api_version(asked)?;
            Box::pin(feedback::receive(hub, asked, visitor)).await
        }
        [_, _, _, lock] if word(0, "messages") && word(1, "servicebound") && word(2, "feedback") => {
            only(method, &[Method::DELETE])?;
            api_version(asked)?;
            Box::pin(feedback::settle(hub, asked, visitor, lock)).await
        }
        [_, _, _, lock, _]
            if word(0, "messages")
                && word(1, "servicebound")
                && word(2, "feedback")
                && word(4, "abandon") =>
        {
            only(method, &[Method::POST])?;
            api_version(asked)?;
            Box::pin(feedback::settle(hub, asked, visitor, lock)).await
        }
        [_] if word(0, "devices") => {
            only(method, &[Method::GET, Method::POST])?;
            api_version(asked)?;
            match *method == Method::POST {
                true => registry::bulk(hub, asked, visitor, body).await,
                false => registry::list(hub, asked, visitor).await,
            }
        }
        [_, _, _] if word(0, "devices") && word(1, "keys") && word(2, "regenerate") => {
            only(method, &[Method::POST])?;
            api_version(asked)?;
            registry::regenerate_keys(hub, asked, visitor, body).await
        }
        [_, device] if word(0, "devices") => {
            only(method, &[Method::GET, Method::PUT, Method::DELETE])?;
            api_version(asked)?;
            registry::device(hub, asked, visitor, device, body).await
        }
        [_, device, _] if word(0, "devices") && word(2, "modules") => {
            only(method, &[Method::GET])?;
            api_version(asked)?;
            registry::modules(hub, asked, visitor, device).await
        }
        [_, device, _, module] if word(0, "devices") && word(2, "modules") => {
            only(method, &[Method::GET, Method::PUT, Method::DELETE])?;
            api_version(asked)?;
            registry::module(hub, asked, visitor, (device, module), body).await
        }
        [_, _] if word(0, "statistics") && word(1, "devices") => {
            only(method, &[Method::GET])?;
            api_version(asked)?;
            registry::device_statistics(hub, asked, visitor).await
        }
        [_, _] if word(0, "statistics") && word(1, "service") => {
            only(method, &[Method::GET])?;
            api_version(asked)?;
            registry::service_statistics(hub, asked, visitor).await
        }
        [_, device] if word(0, "twins") => {
            only(method, &[Method::GET, Method::PATCH, Method::PUT])?;
            api_version(asked)?;
            twins::twin(front, asked, visitor, (device, None), body).await
        }
        [_, device, _, module] if word(0, "twins") && word(2, "modules") => {
            only(method, &[Method::GET, Method::PATCH, Method::PUT])?;
            api_version(asked)?;
            twins::twin(front, asked, visitor, (device, Some(module)), body).await
        }
        // The Node SDK sends no api-version when a module of an edge device calls.
        [_, device, _] if word(0, "twins") && word(2, "methods") => {
            only(method, &[Method::POST])?;
            if asked.parameter("api-version").is_some() || asked.header(methods::CALLER).is_none() {
                api_version(asked)?;
            }
            methods::call(front, asked, visitor, (device, None), body).await
        }
        // The C SDK sends no api-version when it calls a method of a module.
        [_, device, _, module, _] if word(0, "twins") && word(2, "modules") && word(4, "methods") => {
            only(method, &[Method::POST])?;
            if asked.parameter("api-version").is_some() {
                api_version(asked)?;
            }
            methods::call(front, asked, visitor, (device, Some(module)), body).await
        }
        _ => Err(HubError::new(HubErrorCode::GenericNotFound, "There is no such resource")),
    }
}

fn only(method: &Method, allowed: &[Method]) -> Result<(), HubError> {
    match allowed.contains(method) {
        true => Ok(()),
        false => {
            let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
            let text = format!("{method} is not allowed here, only {}", allowed.join(", "));
            Err(HubError::new(HubErrorCode::GenericMethodNotAllowed, text))
        }
    }
}

/// Every service route needs an api-version: a date, with an optional suffix. All are served alike, those of the first SDKs
/// too.
fn api_version(asked: &Asked) -> Result<(), HubError> {
    let is_date = |text: &str| {
        text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    };
    let known = asked.parameter("api-version").is_some_and(|version| {
        let (date, rest) = version.split_at_checked(10).unwrap_or((version, ""));
        is_date(date) && (rest.is_empty() || rest.eq_ignore_ascii_case("-preview"))
    });
    match known {
        true => Ok(()),
        false => Err(HubError::new(HubErrorCode::InvalidProtocolVersion, "BadRequest")),
    }
}

pub(super) fn identity(device: &str, module: Option<&str>) -> Result<Identity, HubError> {
    let illegal =
        |error: hub::identity::IdError| HubError::new(HubErrorCode::ArgumentInvalid, error.to_string());
    Ok(Identity {
        device: DeviceId::parse(device).map_err(illegal)?,
        module: module.map(ModuleId::parse).transpose().map_err(illegal)?,
    })
}
