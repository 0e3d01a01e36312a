//! A client on MQTT: a [`Device`] that has subscribed to everything.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, timeout_at};
use wire::mqtt::{Connect, Publish, QoS};

use super::{
    API_VERSION, CallHandle, ClientOptions, DeviceBound, MessageHandle, MethodCall, PRODUCT, Received,
    Transport,
};
use crate::pipe::Pipe;
use crate::websocket::Protocol;
use crate::{CONVERSATION, Credential, Device, Incoming, Message, SimError};

const KEEP_ALIVE: Duration = Duration::from_secs(60);

pub(super) struct MqttClient {
    device: Device,
    next_ping: Instant,
    waiting: VecDeque<Received>,
}

impl MqttClient {
    pub(super) async fn connect(options: &ClientOptions) -> Result<Self, SimError> {
        let (address, host, trust) = (options.address, &options.host, &options.trust);
        let pipe = match options.transport {
            Transport::MqttWs => Pipe::open_websocket(address, host, trust, Protocol::Mqtt).await?,
            _ => Pipe::open(address, host, trust).await?,
        };
        let path = options.name("modules/");
        let mut device = Device::begin(pipe, path.clone(), connect_packet(options)).await?;
        let messages = format!("devices/{path}/messages/devicebound/#");
        let [calls, answers, desired] = CONVERSATION;
        device.subscribe_all(&[calls, answers, desired, &messages]).await?;
        Ok(Self { device, next_ping: Instant::now() + KEEP_ALIVE, waiting: VecDeque::new() })
    }

    pub(super) fn tls_version(&self) -> &'static str {
        self.device.tls_version()
    }

    pub(super) async fn send(&mut self, message: &Message<'_>) -> Result<(), SimError> {
        self.device.publish(message, QoS::AtLeastOnce).await
    }

    pub(super) async fn ready(&mut self) -> Result<(), SimError> {
        while self.waiting.is_empty() {
            match timeout_at(self.next_ping, self.device.receive()).await {
                Ok(publish) => self.waiting.extend(read(publish?)),
                Err(_) => {
                    if !self.device.was_heard() {
                        return Err(SimError::TimedOut("answer to a ping"));
                    }
                    self.next_ping = Instant::now() + KEEP_ALIVE;
                    self.device.ping().await?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<Received> {
        self.waiting.pop_front()
    }

    pub(super) async fn answer(
        &mut self,
        call: &MethodCall,
        status: i32,
        body: Bytes,
    ) -> Result<(), SimError> {
        match &call.handle {
            CallHandle::Text(request_id) => self.device.answer(request_id, status, body).await,
            CallHandle::Uuid(_) => Ok(()),
        }
    }

    pub(super) async fn twin(&mut self) -> Result<Bytes, SimError> {
        self.device.twin().await
    }

    pub(super) async fn report(&mut self, patch: Bytes) -> Result<(), SimError> {
        self.device.report(patch).await
    }

    pub(super) async fn close(self) {
        self.device.disconnect().await;
    }
}

fn connect_packet(options: &ClientOptions) -> Connect {
    let name = options.name("");
    let user_name = format!("{}/{name}/?api-version={API_VERSION}&DeviceClientType={PRODUCT}", options.host);
    let (user_name, password) = match &options.credential {
        Credential::Plain { user_name, password } => (user_name.clone(), password.clone()),
        _ => (Some(user_name), options.token().map(|(token, _)| token)),
    };
    Connect {
        client_id: name.into(),
        keep_alive: KEEP_ALIVE.as_secs() as u16,
        clean_session: false,
        username: user_name.map(Into::into),
        password: password.map(Into::into),
        ..Connect::default()
    }
}

/// What a publication is; `None` for an answer that nobody waits for any more.
fn read(publish: Publish) -> Option<Received> {
    Some(match Incoming::of(&publish.topic) {
        Incoming::TwinAnswer { .. } => return None,
        Incoming::Desired => Received::Desired(publish.payload),
        Incoming::Call { method, request_id } => Received::Call(MethodCall {
            name: method.to_owned(),
            payload: publish.payload.clone(),
            handle: CallHandle::Text(request_id.to_owned()),
        }),
        Incoming::Message => {
            let bag = publish.topic.split_once("/messages/devicebound/").map_or("", |(_, bag)| bag);
            let (message_id, properties) = read_bag(bag);
            let body = publish.payload.clone();
            Received::Message(DeviceBound { body, message_id, properties, handle: MessageHandle::Mqtt })
        }
    })
}

/// The message id and the properties of the sender. Those of the system begin with `$.`, but for `iothub-ack`.
fn read_bag(bag: &str) -> (Option<String>, Vec<(String, String)>) {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (mut message_id, mut properties) = (None, Vec::new());
    for pair in bag.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match decoded(name) {
            name if name == "$.mid" => message_id = Some(decoded(value)),
            name if name.starts_with("$.") || name == "iothub-ack" => {}
            name => properties.push((name, decoded(value))),
        }
    }
    (message_id, properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bag_is_read_without_what_the_system_put_into_it() {
        let (id, properties) =
            read_bag("%24.to=%2Fdevices%2Fd1&%24.mid=m-7&iothub-ack=full&a%20b=1%262&empty");
        assert_eq!(id.as_deref(), Some("m-7"));
        let expected = [("a b", "1&2"), ("empty", "")];
        assert_eq!(properties, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
