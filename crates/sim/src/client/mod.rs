//! A device or module on any transport: connected, it sends, hears, answers, settles and reports in one way.

mod amqp;
mod https;
mod mqtt;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;
use wire::amqp::connection::DeliveryId;

use self::amqp::AmqpClient;
use self::https::HttpsClient;
use self::mqtt::MqttClient;
use crate::{Clock, Credential, Message, SimError, Trust};

/// How long it may take until a client is connected.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The part of a token's life after which it is renewed.
const RENEWED_AFTER: f64 = 0.8;
/// What the client calls itself.
const PRODUCT: &str = "holdfast-sim";
const API_VERSION: &str = "2021-04-12";

/// The ways to a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// MQTT 3.1.1 over TLS.
    Mqtt,
    /// The same over WebSocket.
    MqttWs,
    /// AMQP 1.0 over TLS.
    Amqp,
    /// The same over WebSocket.
    AmqpWs,
    /// HTTPS: telemetry, and device-bound messages that are asked for now and then.
    Https,
}

/// How a client connects.
#[derive(Clone)]
pub struct ClientOptions {
    /// The way.
    pub transport: Transport,
    /// Where the server listens for it.
    pub address: SocketAddr,
    /// The host of the connection string, which the server's certificate must carry too.
    pub host: String,
    /// The device.
    pub device: String,
    /// The module of the device that it is, if it is one.
    pub module: Option<String>,
    /// How it proves who it is.
    pub credential: Credential,
    /// Whom it trusts.
    pub trust: Trust,
    /// What it takes for the time.
    pub clock: Clock,
}

/// Something that a hub says to a client.
#[derive(Debug)]
pub enum Received {
    /// A message for it, which waits to be settled.
    Message(DeviceBound),
    /// A method is called, which waits to be answered.
    Call(MethodCall),
    /// The desired properties changed: a JSON object with what changed and `$version`.
    Desired(Bytes),
}

/// A device-bound message.
#[derive(Debug)]
pub struct DeviceBound {
    /// The body.
    pub body: Bytes,
    /// The message id.
    pub message_id: Option<String>,
    /// The properties that its sender gave it.
    pub properties: Vec<(String, String)>,
    handle: MessageHandle,
}

#[derive(Debug)]
enum MessageHandle {
    /// Acknowledged as it came.
    Mqtt,
    Amqp(DeliveryId),
    /// The lock token.
    Https(String),
}

/// A call of a method.
#[derive(Debug)]
pub struct MethodCall {
    /// The method.
    pub name: String,
    /// The payload, JSON.
    pub payload: Bytes,
    handle: CallHandle,
}

#[derive(Debug)]
enum CallHandle {
    /// `$rid`
    Text(String),
    Uuid([u8; 16]),
}

/// What becomes of a device-bound message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is done.
    Complete,
    /// It goes back into its queue.
    Abandon,
    /// It is not wanted.
    Reject,
}

/// A client that is connected.
pub struct Client {
    wire: Wire,
    options: ClientOptions,
    renewal: Option<Instant>,
}

enum Wire {
    Mqtt(Box<MqttClient>),
    Amqp(Box<AmqpClient>),
    Https(Box<HttpsClient>),
}

impl Client {
    /// Connects, and asks for everything that a hub has for it: messages, calls and changes of the twin, where the
    /// transport has them.
    pub async fn connect(options: &ClientOptions) -> Result<Self, SimError> {
        let opening = async {
            Ok::<_, SimError>(match options.transport {
                Transport::Mqtt | Transport::MqttWs => {
                    Wire::Mqtt(Box::new(MqttClient::connect(options).await?))
                }
                Transport::Amqp | Transport::AmqpWs => {
                    Wire::Amqp(Box::new(AmqpClient::connect(options).await?))
                }
                Transport::Https => Wire::Https(Box::new(HttpsClient::connect(options).await?)),
            })
        };
        let wire =
            timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| SimError::TimedOut("connection"))??;
        let renewal = options.renewal();
        Ok(Self { wire, options: options.clone(), renewal })
    }

    /// The version of TLS that was agreed on: `1.2` or `1.3`.
    pub fn tls_version(&self) -> &'static str {
        match &self.wire {
            Wire::Mqtt(client) => client.tls_version(),
            Wire::Amqp(client) => client.tls_version(),
            Wire::Https(client) => client.tls_version(),
        }
    }

    /// When the token wants to be renewed; never for one that the client did not sign.
    pub fn renewal(&self) -> Option<Instant> {
        self.renewal
    }

    /// Renews the token on the open connection. False where the protocol cannot: then the client has to connect again.
    pub async fn renew(&mut self) -> Result<bool, SimError> {
        match &mut self.wire {
            Wire::Mqtt(_) => return Ok(false),
            Wire::Amqp(client) => client.put_token(&self.options).await?,
            Wire::Https(client) => client.renew(),
        }
        self.renewal = self.options.renewal();
        Ok(true)
    }

    /// Sends a message; it is on stable storage when this returns.
    pub async fn send(&mut self, message: &Message<'_>) -> Result<(), SimError> {
        match &mut self.wire {
            Wire::Mqtt(client) => client.send(message).await,
            Wire::Amqp(client) => client.send(message).await,
            Wire::Https(client) => client.send(message).await,
        }
    }

    /// Waits until it is worth to [`take`](Self::take) something. Dropping the future half-way loses nothing.
    pub async fn ready(&mut self) -> Result<(), SimError> {
        match &mut self.wire {
            Wire::Mqtt(client) => client.ready().await,
            Wire::Amqp(client) => client.ready().await,
            Wire::Https(client) => client.ready().await,
        }
    }

    /// The next thing that the hub said, if there is one. The future is to be awaited to its end.
    pub async fn take(&mut self) -> Result<Option<Received>, SimError> {
        match &mut self.wire {
            Wire::Mqtt(client) => Ok(client.take()),
            Wire::Amqp(client) => client.take(),
            Wire::Https(client) => client.take().await,
        }
    }

    /// Settles a device-bound message.
    pub async fn settle(&mut self, message: &DeviceBound, how: Settlement) -> Result<(), SimError> {
        match (&mut self.wire, &message.handle) {
            // QoS 1 has one answer, and it was given.
            (Wire::Mqtt(_), _) if how == Settlement::Complete => Ok(()),
            (Wire::Amqp(client), MessageHandle::Amqp(delivery)) => client.settle(*delivery, how).await,
            (Wire::Https(client), MessageHandle::Https(lock)) => client.settle(lock, how).await,
            _ => Err(SimError::CannotSettle("over MQTT, messages can only be completed")),
        }
    }

    /// Answers a call of a method with a status and JSON.
    pub async fn answer(&mut self, call: &MethodCall, status: i32, body: Bytes) -> Result<(), SimError> {
        match &mut self.wire {
            Wire::Mqtt(client) => client.answer(call, status, body).await,
            Wire::Amqp(client) => client.answer(call, status, &body).await,
            Wire::Https(_) => Err(SimError::CannotSettle("HTTPS has no calls of methods")),
        }
    }

    /// Reads the twin: a JSON object with `desired` and `reported`; `None` over HTTPS, which has no twins.
    pub async fn twin(&mut self) -> Result<Option<Bytes>, SimError> {
        match &mut self.wire {
            Wire::Mqtt(client) => client.twin().await.map(Some),
            Wire::Amqp(client) => client.twin().await.map(Some),
            Wire::Https(_) => Ok(None),
        }
    }

    /// Changes the reported properties by a JSON object; they are durable when this returns.
    pub async fn report(&mut self, patch: Bytes) -> Result<(), SimError> {
        match &mut self.wire {
            Wire::Mqtt(client) => client.report(patch).await,
            Wire::Amqp(client) => client.report(&patch).await,
            Wire::Https(_) => Err(SimError::CannotSettle("HTTPS has no twins")),
        }
    }

    /// Says good-bye and closes.
    pub async fn close(self) {
        match self.wire {
            Wire::Mqtt(client) => client.close().await,
            Wire::Amqp(client) => client.close().await,
            Wire::Https(_) => {}
        }
    }
}

impl ClientOptions {
    /// `{device}` or `{device}/{between}{module}`.
    fn name(&self, between: &str) -> String {
        match &self.module {
            None => self.device.clone(),
            Some(module) => format!("{}/{between}{module}", self.device),
        }
    }

    /// The path of the identity with its ids escaped: `/devices/{device}[/modules/{module}]`.
    fn path(&self) -> String {
        let escaped = |id: &str| utf8_percent_encode(id, NON_ALPHANUMERIC).to_string();
        let module = self.module.as_deref().map(|module| format!("/modules/{}", escaped(module)));
        format!("/devices/{}{}", escaped(&self.device), module.unwrap_or_default())
    }

    /// What its tokens are for.
    fn resource(&self) -> String {
        format!("{}/devices/{}", self.host, self.name("modules/"))
    }

    /// A token and its end in seconds since 1970, where the credential is one.
    fn token(&self) -> Option<(String, u64)> {
        match &self.credential {
            Credential::Sas { key, lifetime } => {
                let end = self.clock.seconds().saturating_add(lifetime.as_secs());
                Some((key.token(&self.resource(), end), end))
            }
            Credential::Token(token) => {
                let end = token.split('&').find_map(|part| part.strip_prefix("se=")?.parse().ok());
                Some((token.clone(), end.unwrap_or(u64::MAX)))
            }
            Credential::Certificate | Credential::Plain { .. } => None,
        }
    }

    fn renewal(&self) -> Option<Instant> {
        match &self.credential {
            Credential::Sas { lifetime, .. } => Some(Instant::now() + lifetime.mul_f64(RENEWED_AFTER)),
            _ => None,
        }
    }
}
