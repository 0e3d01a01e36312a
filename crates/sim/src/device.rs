//! A device on MQTT 3.1.1.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::mqtt::{Client, ClientEvent, Connect, PacketId, Publish, QoS, SubscribeReturnCode};

use crate::pipe::Pipe;
use crate::{Clock, SasKey, SimError, Trust, topic_with_properties};

/// How long the answer to a packet may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How a device connects.
#[derive(Clone)]
pub struct DeviceOptions {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The name in the server's certificate.
    pub server_name: String,
    /// The host of the device's connection string, which its user name and its token name.
    pub host: String,
    /// The device id.
    pub device: String,
    /// How it proves who it is.
    pub credential: Credential,
    /// Whom it trusts.
    pub trust: Trust,
    /// What it takes for the time.
    pub clock: Clock,
    /// Keep-alive, in seconds.
    pub keep_alive_seconds: u16,
    /// Whether the server shall forget the session.
    pub clean_session: bool,
}

/// How a device proves who it is.
#[derive(Clone)]
pub enum Credential {
    /// Tokens that it signs with its key, each living so long.
    Sas {
        /// The key.
        key: SasKey,
        /// The life of a token.
        lifetime: Duration,
    },
    /// A token that somebody else signed.
    Token(String),
    /// The certificate in its [`Trust`].
    Certificate,
    /// A user name and a password as they stand; also neither, for servers of plain MQTT.
    Plain {
        /// The user name.
        user_name: Option<String>,
        /// The password.
        password: Option<String>,
    },
}

impl DeviceOptions {
    fn connect_packet(&self) -> Connect {
        let user_name =
            || format!("{}/{}/?api-version=2021-04-12&DeviceClientType=holdfast-sim", self.host, self.device);
        let (user_name, password) = match &self.credential {
            Credential::Sas { key, lifetime } => {
                let end = self.clock.seconds().saturating_add(lifetime.as_secs());
                let token = key.token(&format!("{}/devices/{}", self.host, self.device), end);
                (Some(user_name()), Some(token))
            }
            Credential::Token(token) => (Some(user_name()), Some(token.clone())),
            Credential::Certificate => (Some(user_name()), None),
            Credential::Plain { user_name, password } => (user_name.clone(), password.clone()),
        };
        Connect {
            client_id: self.device.as_str().into(),
            keep_alive: self.keep_alive_seconds,
            clean_session: self.clean_session,
            username: user_name.map(Into::into),
            password: password.map(Into::into),
            ..Connect::default()
        }
    }
}

/// A message that a device sends.
#[derive(Debug, Clone, Default)]
pub struct Message<'a> {
    /// The body.
    pub body: Bytes,
    /// Properties; system properties have names like `$.mid`.
    pub properties: &'a [(&'a str, &'a str)],
}

/// A connected device.
///
/// Dropping it without [`Device::disconnect`] breaks the connection off, as a loss of power does.
pub struct Device {
    id: String,
    pipe: Pipe,
    machine: Client,
    session_present: bool,
    /// Messages that came while something else was waited for.
    received: VecDeque<Publish>,
    acknowledged: VecDeque<PacketId>,
    requests: u32,
    /// Whether the server said anything since that was last asked.
    heard: bool,
}

impl Device {
    /// Connects; a refusal is [`SimError::Refused`] with its return code.
    pub async fn connect(options: &DeviceOptions) -> Result<Self, SimError> {
        let pipe = Pipe::open(options.address, &options.server_name, &options.trust).await?;
        Self::begin(pipe, options.device.clone(), options.connect_packet()).await
    }

    /// The same over a connection that the caller has made, from an address of its choice.
    pub async fn connect_over(stream: TcpStream, options: &DeviceOptions) -> Result<Self, SimError> {
        let pipe = Pipe::over(stream, &options.server_name, &options.trust).await?;
        Self::begin(pipe, options.device.clone(), options.connect_packet()).await
    }

    /// Connects by this packet over a pipe that is open. The topics of the device lie below `devices/{path}`.
    pub(crate) async fn begin(pipe: Pipe, path: String, connect: Connect) -> Result<Self, SimError> {
        let mut device = Self {
            id: path,
            pipe,
            machine: Client::new(connect),
            session_present: false,
            received: VecDeque::new(),
            acknowledged: VecDeque::new(),
            requests: 0,
            heard: false,
        };
        let answer = timeout(ANSWER_TIMEOUT, device.next()).await;
        match answer.map_err(|_| SimError::TimedOut("CONNACK"))?? {
            ClientEvent::Connected { session_present } => device.session_present = session_present,
            ClientEvent::Refused(reason) => return Err(SimError::Refused(reason)),
            _ => return Err(SimError::Closed),
        }
        Ok(device)
    }

    /// Whether the server kept the session of an earlier connection.
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// Sends a message. One of QoS 1 is acknowledged when this returns.
    pub async fn publish(&mut self, message: &Message<'_>, qos: QoS) -> Result<(), SimError> {
        let topic = topic_with_properties(&self.id, message.properties);
        match self.enqueue(&topic, message.body.clone(), qos)? {
            None => self.flush().await,
            Some(id) => {
                let acknowledged = async {
                    while self.next_acknowledged().await? != id {}
                    Ok(())
                };
                timeout(ANSWER_TIMEOUT, acknowledged).await.map_err(|_| SimError::TimedOut("PUBACK"))?
            }
        }
    }

    /// Puts a message among what is to be sent, without sending it yet; gives the identifier that
    /// [`Device::next_acknowledged`] will give, for QoS 1. So windows of messages are sent.
    pub fn enqueue(&mut self, topic: &str, body: Bytes, qos: QoS) -> Result<Option<PacketId>, SimError> {
        Ok(self.machine.publish(topic, body, qos)?)
    }

    /// Sends what is to be sent.
    pub async fn flush(&mut self) -> Result<(), SimError> {
        self.pipe.write(self.machine.output()).await
    }

    /// The next message that is acknowledged; sends what is to be sent first.
    pub async fn next_acknowledged(&mut self) -> Result<PacketId, SimError> {
        loop {
            if let Some(id) = self.acknowledged.pop_front() {
                return Ok(id);
            }
            let event = self.next().await?;
            self.keep(event);
        }
    }

    /// The next message that is acknowledged by what has come already, without waiting.
    pub fn acknowledged(&mut self) -> Result<Option<PacketId>, SimError> {
        while self.acknowledged.is_empty()
            && let Some(event) = self.machine.poll_event()?
        {
            self.keep(event);
        }
        Ok(self.acknowledged.pop_front())
    }

    /// The next message that came. Pings are the caller's to send when it waits for long.
    pub async fn receive(&mut self) -> Result<Publish, SimError> {
        loop {
            if let Some(publish) = self.received.pop_front() {
                return Ok(publish);
            }
            let event = self.next().await?;
            self.keep(event);
        }
    }

    /// Subscribes to a filter with QoS 1 and waits until the server has taken it.
    pub async fn subscribe(&mut self, filter: &str) -> Result<(), SimError> {
        self.subscribe_all(&[filter]).await
    }

    /// Subscribes to filters with QoS 1, all in one packet, and waits until the server has taken them.
    pub async fn subscribe_all(&mut self, filters: &[&str]) -> Result<(), SimError> {
        let wanted = self.machine.subscribe(filters, QoS::AtLeastOnce);
        let answered = async {
            loop {
                match self.next().await? {
                    ClientEvent::SubAck(id, codes) if id == wanted => return Ok(codes),
                    other => self.keep(other),
                }
            }
        };
        let codes: Result<_, SimError> =
            timeout(ANSWER_TIMEOUT, answered).await.map_err(|_| SimError::TimedOut("SUBACK"))?;
        let codes = codes?;
        let refused = filters
            .iter()
            .enumerate()
            .find(|(at, _)| !matches!(codes.get(*at), Some(SubscribeReturnCode::Success(_))));
        match refused {
            None => Ok(()),
            Some((_, filter)) => Err(SimError::SubscriptionRefused((*filter).to_owned())),
        }
    }

    /// Sends a ping; the answer is taken note of while something else is waited for.
    pub async fn ping(&mut self) -> Result<(), SimError> {
        self.machine.ping();
        self.flush().await
    }

    /// The version of TLS below.
    pub(crate) fn tls_version(&self) -> &'static str {
        self.pipe.tls_version()
    }

    /// Whether the server said anything since this was last asked.
    pub(crate) fn was_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Says good-bye and closes.
    pub async fn disconnect(mut self) {
        self.machine.disconnect();
        let _ = self.flush().await;
        self.pipe.close().await;
    }

    /// A number that no other request of this connection has.
    pub(crate) fn next_request_id(&mut self) -> u32 {
        self.requests = self.requests.wrapping_add(1);
        self.requests
    }

    /// Lets messages be received again, in their order, before those that came since.
    pub(crate) fn put_back(&mut self, messages: Vec<Publish>) {
        for message in messages.into_iter().rev() {
            self.received.push_front(message);
        }
    }

    fn keep(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::PubAck(id) => self.acknowledged.push_back(id),
            ClientEvent::Publish(publish) => self.received.push_back(*publish),
            _ => {}
        }
    }

    async fn next(&mut self) -> Result<ClientEvent, SimError> {
        loop {
            self.pipe.write(self.machine.output()).await?;
            if let Some(event) = self.machine.poll_event()? {
                self.heard = true;
                return Ok(event);
            }
            let machine = &mut self.machine;
            self.pipe.read(|bytes| machine.handle_bytes(bytes)).await?;
        }
    }
}
