//! HTTPS and WebSockets.

use super::Words;

const VERSION: &str = "api-version=2021-04-12, or another date";

pub(super) fn api_version(presented: Option<&str>) -> Words {
    Words::new(
        match presented {
            Some(version) => format!("The api-version `{version}` is no date, such as 2021-04-12."),
            None => "The request has no api-version.".into(),
        },
        match presented {
            Some(version) => format!("api-version={version}"),
            None => "no api-version".into(),
        },
        VERSION,
        "Add the api-version to the query, or update the SDK.",
        "holdfast device list",
    )
}

pub(super) fn path(method: &str, path: &str) -> Words {
    Words::new(
        "There is nothing at this path, or not with this method. Either the client is wrong, or it uses a part of IoT \
         Hub that this version does not have.",
        format!("{method} {path}"),
        "a path of the service API or of the device API, such as POST /devices/{id}/messages/events",
        "Compare the path with IoT Hub's documents.",
        "holdfast device list",
    )
}

pub(super) fn websocket_path(path: &str) -> Words {
    Words::new(
        "There is no WebSocket at this path.",
        path,
        "/$iothub/websocket, or /$servicebus/websocket for Event Hubs clients",
        "Set the path of the client to /$iothub/websocket. In a shell the $ has to be quoted.",
        "holdfast certificate show-server",
    )
}

pub(super) fn websocket_protocol(offered: &str) -> Words {
    Words::new(
        "The WebSocket's sub-protocol is missing, or none that is served.",
        match offered.is_empty() {
            true => "no Sec-WebSocket-Protocol".into(),
            false => format!("Sec-WebSocket-Protocol: {offered}"),
        },
        "Sec-WebSocket-Protocol: mqtt (or AMQPWSB10)",
        "Let the client offer the sub-protocol mqtt.",
        "holdfast certificate show-server",
    )
}
