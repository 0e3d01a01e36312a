//! WebSockets: one path serves MQTT and AMQP, told apart by the sub-protocol
//! (`docs/protocol/device-mqtt.md` §1, `docs/protocol/amqp.md` §2).

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hub::decision::{Act, Door, cut};
use hub::refusal::Refusal;
use hyper::body::Incoming;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::HttpsFront;
use super::answer::Answer;
use crate::fronts::{amqp, mqtt};
use crate::listen::Visitor;
use crate::websocket::WebSocketBytes;

/// The paths of devices and services, and of Event Hubs clients, decoded and without a trailing slash.
const PATHS: [&str; 2] = ["/$iothub/websocket", "/$servicebus/websocket"];

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(request: &Request<Incoming>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// Answers the upgrade and hands the connection to the front of the sub-protocol.
pub(super) fn upgrade(front: &HttpsFront, request: &mut Request<Incoming>, visitor: &Visitor) -> Answer {
    let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
    let path = path.trim_end_matches('/');
    if !PATHS.iter().any(|known| known.eq_ignore_ascii_case(path)) {
        return refuse(front, visitor, StatusCode::NOT_FOUND, Refusal::WebsocketPath { path: cut(path) });
    }
    // Several lines are one list (RFC 6455 §11.3.4).
    let lines = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = lines.filter_map(|line| line.to_str().ok()).collect::<Vec<_>>().join(", ");
    let chosen = offered.split(',').map(str::trim).find_map(|protocol| Some((protocol, door_of(protocol)?)));
    let (Some((protocol, door)), Some(key)) = (chosen, request.headers().get(header::SEC_WEBSOCKET_KEY))
    else {
        let refusal = Refusal::WebsocketProtocol { offered: cut(&offered) };
        return refuse(front, visitor, StatusCode::BAD_REQUEST, refusal);
    };
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    // Echoed in the client's own spelling.
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let mut visitor = Box::new(visitor.clone());
    visitor.origin.door = Some(door);
    let (hub, metrics) = (front.hub.clone(), front.metrics.clone());
    let (drain, guard) = (front.drain.clone(), front.drain.guard());
    let (front, upgrading) = (front.amqp.clone(), hyper::upgrade::on(request));
    let admission = visitor.admission.clone();
    let task = tokio::spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let stream = Box::new(WebSocketBytes::new(upgraded, visitor.admission.clone()));
        match door {
            Door::AmqpWs | Door::Amqp => amqp::serve(stream, visitor, front).await,
            Door::MqttWs | Door::Mqtt | Door::Https => {
                mqtt::serve(stream, visitor, hub, &metrics, &drain).await;
            }
        }
        drop(guard);
    });
    admission.served_by(task.abort_handle());
    response
}

fn door_of(protocol: &str) -> Option<Door> {
    if protocol.eq_ignore_ascii_case("mqtt") {
        Some(Door::MqttWs)
    } else if protocol.eq_ignore_ascii_case("AMQPWSB10") {
        Some(Door::AmqpWs)
    } else {
        None
    }
}

fn refuse(front: &HttpsFront, visitor: &Visitor, status: StatusCode, refusal: Refusal) -> Answer {
    front.hub.record(Act::Handshake, None, visitor.origin.clone(), visitor.facts.clone(), Some(refusal));
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}
