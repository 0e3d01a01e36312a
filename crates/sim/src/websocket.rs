//! The client's side of a WebSocket, as the SDKs of devices open one.

use http::Uri;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::SimError;

/// What is spoken in a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Mqtt,
    Amqp,
}

/// The path that devices of both protocols ask for.
const PATH: &str = "/$iothub/websocket";

/// Asks for a WebSocket and waits for the answer.
pub(crate) async fn upgrade(
    stream: TlsStream<TcpStream>,
    host: &str,
    protocol: Protocol,
) -> Result<WebSocketStream<TlsStream<TcpStream>>, SimError> {
    let protocol = match protocol {
        Protocol::Mqtt => "mqtt",
        Protocol::Amqp => "AMQPWSB10",
    };
    let uri: Uri =
        format!("wss://{host}{PATH}").parse().map_err(|_| SimError::ServerName(host.to_owned()))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(protocol);
    let (socket, _) = Box::pin(client_async(request, stream)).await.map_err(failed)?;
    Ok(socket)
}

/// What went wrong with a WebSocket.
pub(crate) fn failed(error: tungstenite::Error) -> SimError {
    match error {
        tungstenite::Error::Io(error) => SimError::Connection(error),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => SimError::Closed,
        tungstenite::Error::Http(answer) => {
            SimError::Status { status: answer.status().as_u16(), message: "no WebSocket".to_owned() }
        }
        other => SimError::WebSocket(other.to_string()),
    }
}
