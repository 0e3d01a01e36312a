//! A client on AMQP: the links that the SDKs of devices attach (`docs/protocol/amqp.md` §5).

use std::time::Duration;

use bytes::Bytes;
use wire::amqp::codec::{Fields, Symbol, ValueRef};
use wire::amqp::connection::{CreditPolicy, DeliveryId, LinkId, SendOptions};
use wire::amqp::message::{self, MessageId, MessageWriter, Properties};
use wire::amqp::performative::{DeliveryState, SndSettleMode, Source};

use super::{
    API_VERSION, CallHandle, ClientOptions, DeviceBound, MessageHandle, MethodCall, PRODUCT, Received,
    Settlement, Transport,
};
use crate::amqp::{Amqp, Arrived, Login, Node, Settling};
use crate::pipe::Pipe;
use crate::websocket::Protocol;
use crate::{Message, SimError};

/// Messages that may be under way on a link.
const CREDIT: CreditPolicy = CreditPolicy::TopUp(10);
/// How long the answer about a twin may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct AmqpClient {
    amqp: Amqp,
    cbs: Option<Node>,
    telemetry: LinkId,
    messages: LinkId,
    calls: Pair,
    twin: Pair,
    requests: u64,
}

/// A link in each direction at one address.
#[derive(Clone, Copy)]
struct Pair {
    incoming: LinkId,
    outgoing: LinkId,
}

impl AmqpClient {
    pub(super) async fn connect(options: &ClientOptions) -> Result<Self, SimError> {
        let (address, host, trust) = (options.address, &options.host, &options.trust);
        let pipe = match options.transport {
            Transport::AmqpWs => Pipe::open_websocket(address, host, trust, Protocol::Amqp).await?,
            _ => Pipe::open(address, host, trust).await?,
        };
        let login = match options.token() {
            Some(_) => Login::Anonymous,
            None => Login::ByCertificate,
        };
        let mut amqp = Amqp::open(pipe, host, login).await?;
        let cbs = match options.token() {
            None => None,
            Some((token, end)) => {
                let cbs = amqp.node("$cbs").await?;
                amqp.put_token(cbs, &options.resource(), &token, end).await?;
                Some(cbs)
            }
        };
        let path = options.path();
        let telemetry = format!("{path}/messages/events");
        let telemetry =
            amqp.send_to("telemetry", &telemetry, properties(None), SndSettleMode::Unsettled).await?;
        let source = Source::new(format!("{path}/messages/devicebound"));
        let messages =
            amqp.receive_from("messages", source, properties(None), CREDIT, Settling::ByCaller).await?;
        let calls = pair(&mut amqp, "methods", &format!("{path}/methods/devicebound")).await?;
        let twin = pair(&mut amqp, "twin", &format!("{path}/twin")).await?;
        let mut client = Self { amqp, cbs, telemetry, messages, calls, twin, requests: 0 };
        client.ask("PUT", Some("/notifications/twin/properties/desired"), None).await?;
        Ok(client)
    }

    pub(super) fn tls_version(&self) -> &'static str {
        self.amqp.tls_version()
    }

    pub(super) async fn put_token(&mut self, options: &ClientOptions) -> Result<(), SimError> {
        match (self.cbs, options.token()) {
            (Some(cbs), Some((token, end))) => {
                self.amqp.put_token(cbs, &options.resource(), &token, end).await
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn send(&mut self, message: &Message<'_>) -> Result<(), SimError> {
        let write = |w: &mut MessageWriter<'_>| write_telemetry(w, message);
        let delivery = self.amqp.send(self.telemetry, SendOptions::default(), write).await?;
        match self.amqp.outcome(self.telemetry, delivery).await? {
            None | Some(DeliveryState::Accepted) => Ok(()),
            Some(DeliveryState::Rejected(Some(error))) => {
                let description = error.description.unwrap_or_default();
                Err(SimError::NotTaken(format!("{}: {description}", error.condition)))
            }
            Some(other) => Err(SimError::NotTaken(format!("{other:?}"))),
        }
    }

    pub(super) async fn ready(&mut self) -> Result<(), SimError> {
        while self.amqp.received.is_empty() {
            for link in [self.telemetry, self.messages, self.calls.incoming, self.twin.incoming] {
                self.amqp.check(link)?;
            }
            self.amqp.step().await?;
        }
        Ok(())
    }

    pub(super) fn take(&mut self) -> Result<Option<Received>, SimError> {
        while let Some(arrived) = self.amqp.received.pop_front() {
            if let Some(received) = self.read(&arrived)? {
                return Ok(Some(received));
            }
        }
        Ok(None)
    }

    pub(super) async fn settle(&mut self, delivery: DeliveryId, how: Settlement) -> Result<(), SimError> {
        let state = match how {
            Settlement::Complete => DeliveryState::Accepted,
            Settlement::Abandon => DeliveryState::Released,
            Settlement::Reject => DeliveryState::Rejected(None),
        };
        self.amqp.settle(delivery, state).await
    }

    pub(super) async fn answer(
        &mut self,
        call: &MethodCall,
        status: i32,
        body: &Bytes,
    ) -> Result<(), SimError> {
        let write = |w: &mut MessageWriter<'_>| {
            let correlation_id = Some(match &call.handle {
                CallHandle::Uuid(id) => MessageId::Uuid(*id),
                CallHandle::Text(id) => MessageId::String(id),
            });
            w.properties(&Properties { correlation_id, ..Properties::default() });
            w.application_properties(|map| map.int("IoThub-status", status));
            w.data(body);
        };
        self.amqp.send(self.calls.outgoing, SendOptions::settled(), write).await.map(drop)
    }

    pub(super) async fn twin(&mut self) -> Result<Bytes, SimError> {
        self.ask("GET", None, None).await
    }

    pub(super) async fn report(&mut self, patch: &Bytes) -> Result<(), SimError> {
        self.ask("PATCH", Some("/properties/reported"), Some(patch)).await.map(drop)
    }

    pub(super) async fn close(self) {
        self.amqp.close().await;
    }

    /// Sends a request about the twin and waits for its answer; what else comes stays where it is.
    async fn ask(
        &mut self,
        operation: &str,
        resource: Option<&str>,
        body: Option<&Bytes>,
    ) -> Result<Bytes, SimError> {
        self.requests += 1;
        let id = format!("{operation}-{}", self.requests);
        let write = |w: &mut MessageWriter<'_>| {
            w.message_annotations(|map| {
                map.string("operation", operation);
                if let Some(resource) = resource {
                    map.string("resource", resource);
                }
            });
            let correlation_id = Some(MessageId::String(&id));
            w.properties(&Properties { correlation_id, ..Properties::default() });
            w.data(body.map_or(b" ", |body| &body[..]));
        };
        self.amqp.send(self.twin.outgoing, SendOptions::settled(), write).await?;
        let answered = async {
            loop {
                let is_it = |arrived: &Arrived| {
                    let message = message::Message::parse(&arrived.message);
                    let correlation_id = message.ok().and_then(|message| message.properties.correlation_id);
                    arrived.link == self.twin.incoming && correlation_id == Some(MessageId::String(&id))
                };
                if let Some(at) = self.amqp.received.iter().position(is_it) {
                    return self.amqp.received.remove(at).ok_or(SimError::Closed);
                }
                self.amqp.check(self.twin.incoming)?;
                self.amqp.step().await?;
            }
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        let answer = answer.map_err(|_| SimError::TimedOut("answer about the twin"))??;
        let message = parsed(&answer.message)?;
        let status = message.message_annotations.get("status").and_then(ValueRef::as_i64).unwrap_or_default();
        match status {
            200..300 => Ok(body_of(&message)),
            status => Err(SimError::TwinRefused(u16::try_from(status).unwrap_or_default())),
        }
    }

    /// What a message is; `None` for what nobody waits for.
    fn read(&self, arrived: &Arrived) -> Result<Option<Received>, SimError> {
        let message = parsed(&arrived.message)?;
        let (text, body) = (message.application_properties, body_of(&message));
        if arrived.link == self.calls.incoming {
            let name = text.get("IoThub-methodname").and_then(ValueRef::as_text).unwrap_or_default();
            let handle = match message.properties.correlation_id {
                Some(MessageId::Uuid(id)) => CallHandle::Uuid(id),
                Some(other) => CallHandle::Text(other.to_string()),
                None => CallHandle::Text(String::new()),
            };
            return Ok(Some(Received::Call(MethodCall { name: name.to_owned(), payload: body, handle })));
        }
        if arrived.link == self.twin.incoming {
            let is_answer = message.properties.correlation_id.is_some();
            return Ok((!is_answer).then_some(Received::Desired(body)));
        }
        if arrived.link != self.messages {
            return Ok(None);
        }
        let mut properties = Vec::new();
        for (name, value) in text.iter().flatten() {
            if let (Some(name), Some(value)) = (name.as_text(), value.as_text())
                && name != "iothub-ack"
            {
                properties.push((name.to_owned(), value.to_owned()));
            }
        }
        let message_id = message.properties.message_id.map(|id| id.to_string());
        let handle = MessageHandle::Amqp(arrived.delivery);
        Ok(Some(Received::Message(DeviceBound { body, message_id, properties, handle })))
    }
}

async fn pair(amqp: &mut Amqp, name: &str, address: &str) -> Result<Pair, SimError> {
    let properties = || properties(Some(format!("{name}:{PRODUCT}")));
    let (sender, receiver) = (format!("{name}-out"), format!("{name}-in"));
    let outgoing = amqp.send_to(&sender, address, properties(), SndSettleMode::Settled).await?;
    let source = Source::new(address);
    let incoming = amqp.receive_from(&receiver, source, properties(), CREDIT, Settling::AtOnce).await?;
    Ok(Pair { incoming, outgoing })
}

/// The properties of a link; those of a pair carry the same correlation.
fn properties(correlation: Option<String>) -> Fields {
    let mut properties = Fields::new();
    properties.push(Symbol::from("com.microsoft:client-version"), PRODUCT);
    properties.push(Symbol::from("com.microsoft:api-version"), API_VERSION);
    if let Some(correlation) = correlation {
        properties.push(Symbol::from("com.microsoft:channel-correlation-id"), correlation);
    }
    properties
}

fn write_telemetry(w: &mut MessageWriter<'_>, message: &Message<'_>) {
    let system =
        |wanted: &str| message.properties.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    w.properties(&Properties {
        message_id: system("$.mid").map(MessageId::String),
        content_type: system("$.ct"),
        content_encoding: system("$.ce"),
        ..Properties::default()
    });
    w.application_properties(|map| {
        for (name, value) in message.properties.iter().filter(|(name, _)| !name.starts_with("$.")) {
            map.string(name, value);
        }
    });
    w.data(&message.body);
}

fn parsed(encoded: &Bytes) -> Result<message::Message<'_>, SimError> {
    message::Message::parse(encoded).map_err(|error| SimError::Amqp(error.to_string()))
}

fn body_of(message: &message::Message<'_>) -> Bytes {
    message.body.bytes().map_or_else(Bytes::new, |body| Bytes::copy_from_slice(&body))
}
