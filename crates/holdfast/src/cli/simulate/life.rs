//! The life of the device: it connects, sends, hears and answers, and comes back when the connection is lost.

use std::future::pending;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sim::{Client, DeviceBound, Message, MethodCall, Received, Settlement, SimError};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::setup::Plan;
use super::{BehaviourArgs, SettleArg};
use crate::cli::lines::{Lines, body};

/// How long it waits before it connects again: at first, and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long saying good-bye may take.
const GOOD_BYE: Duration = Duration::from_secs(5);

/// A device that lives.
pub(super) struct Life<'a> {
    plan: &'a Plan,
    behaviour: &'a BehaviourArgs,
    lines: &'a Lines,
    acknowledged: u64,
}

/// How a life ended.
pub(super) enum End {
    /// As it should: all is sent, or Ctrl-C.
    Done,
    /// The connection was lost, and was not to be made again.
    Lost,
    /// The hub turned the device down.
    Refused,
}

/// Why a connection ended in order.
enum Pause {
    /// All is sent, or Ctrl-C.
    ForGood,
    /// The token wants to be renewed, which takes a new connection.
    ToRenew,
}

impl<'a> Life<'a> {
    pub(super) fn new(plan: &'a Plan, behaviour: &'a BehaviourArgs, lines: &'a Lines) -> Self {
        Self { plan, behaviour, lines, acknowledged: 0 }
    }

    /// Lives until the end. An error says that the hub could not even be reached.
    pub(super) async fn run(mut self) -> anyhow::Result<End> {
        let mut stop = pin!(tokio::signal::ctrl_c());
        let (mut was_connected, mut wait) = (false, RETRY);
        loop {
            self.lines.tell("connecting", &[("to", json!(self.plan.door())), self.transport()]);
            let connected = tokio::select! {
                connected = Client::connect(&self.plan.options) => connected,
                _ = &mut stop => return Ok(self.ended(End::Done)),
            };
            let error = match connected {
                Err(error) if !was_connected && !error.is_refusal() => {
                    let (door, way) = (self.plan.door(), self.plan.transport);
                    return Err(error).with_context(|| format!("could not reach {door} over {way}"));
                }
                Err(error) => error,
                Ok(mut client) => {
                    (was_connected, wait) = (true, RETRY);
                    self.tell_connected(&client);
                    let pause = tokio::select! {
                        pause = self.converse(&mut client) => pause,
                        _ = &mut stop => Ok(Pause::ForGood),
                    };
                    match pause {
                        Ok(pause) => {
                            // Whoever does not answer a good-bye holds nobody up.
                            let _ = timeout(GOOD_BYE, client.close()).await;
                            match pause {
                                Pause::ForGood => return Ok(self.ended(End::Done)),
                                Pause::ToRenew => continue,
                            }
                        }
                        Err(error) => error,
                    }
                }
            };
            let reason = ("reason", json!(in_full(&error)));
            if error.is_refusal() {
                self.lines.tell("refused", &[reason]);
                return Ok(self.ended(End::Refused));
            }
            if self.behaviour.once {
                self.lines.tell("lost", &[reason]);
                return Ok(self.ended(End::Lost));
            }
            self.lines.tell("lost", &[reason, ("again_in_seconds", json!(wait.as_secs()))]);
            tokio::select! {
                () = sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                _ = &mut stop => return Ok(self.ended(End::Done)),
            }
        }
    }

    fn ended(&self, end: End) -> End {
        self.lines.tell("ended", &[("acknowledged", json!(self.acknowledged))]);
        end
    }

    fn transport(&self) -> (&'static str, Value) {
        ("transport", json!(self.plan.transport))
    }

    fn tell_connected(&self, client: &Client) {
        let options = &self.plan.options;
        let identity = match &options.module {
            None => options.device.clone(),
            Some(module) => format!("{}/{module}", options.device),
        };
        self.lines.tell(
            "connected",
            &[
                ("as", json!(identity)),
                self.transport(),
                ("tls", json!(client.tls_version())),
                ("credential", json!(self.plan.credential)),
            ],
        );
    }

    /// Sends and hears until all is sent or the connection ends.
    async fn converse(&mut self, client: &mut Client) -> Result<Pause, SimError> {
        if self.behaviour.mirror
            && let Some(twin) = client.twin().await?
        {
            let twin: Value = serde_json::from_slice(&twin).unwrap_or_default();
            self.mirror(client, &twin["desired"]).await?;
        }
        let mut every = interval(self.behaviour.every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let renewal = client.renewal();
            tokio::select! {
                ready = client.ready() => {
                    ready?;
                    while let Some(received) = client.take().await? {
                        self.hear(client, received).await?;
                    }
                }
                _ = every.tick(), if !self.behaviour.silent => {
                    self.send(client).await?;
                    if self.behaviour.count == Some(self.acknowledged) {
                        return Ok(Pause::ForGood);
                    }
                }
                () = at(renewal) => {
                    let renewed = client.renew().await?;
                    let how = if renewed { "on the open connection" } else { "by connecting again" };
                    self.lines.tell("token", &[("renewed", json!(how))]);
                    if !renewed {
                        return Ok(Pause::ToRenew);
                    }
                }
            }
        }
    }

    /// Sends the next message. One that is not acknowledged is sent again, under the same number.
    async fn send(&mut self, client: &mut Client) -> Result<(), SimError> {
        let number = self.acknowledged + 1;
        let time = format!("{:.3}", Timestamp::now());
        let filled = |text: &str| text.replace("{number}", &number.to_string()).replace("{time}", &time);
        let text = filled(&self.behaviour.body);
        let message_id = self.behaviour.message_id.as_deref().map(filled);
        let is_json = serde_json::from_str::<Value>(&text).is_ok();
        let content_type =
            self.behaviour.content_type.as_deref().or_else(|| is_json.then_some("application/json"));
        let mut properties: Vec<(&str, &str)> = Vec::new();
        properties.extend(message_id.as_deref().map(|id| ("$.mid", id)));
        properties.extend(content_type.map(|kind| ("$.ct", kind)));
        properties.extend(is_json.then_some(("$.ce", "utf-8")));
        properties
            .extend(self.behaviour.property.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let message = Message { body: Bytes::from(text), properties: &properties };
        let begun = Instant::now();
        client.send(&message).await?;
        self.acknowledged = number;
        self.lines.tell(
            "sent",
            &[
                ("number", json!(number)),
                ("body", body(&message.body)),
                ("acknowledged_after_ms", json!(begun.elapsed().as_millis() as u64)),
            ],
        );
        Ok(())
    }

    async fn hear(&mut self, client: &mut Client, received: Received) -> Result<(), SimError> {
        match received {
            Received::Message(message) => self.settle(client, &message).await,
            Received::Call(call) => self.answer(client, &call).await,
            Received::Desired(patch) => {
                self.lines.tell("desired", &[("changed", body(&patch))]);
                match self.behaviour.mirror {
                    true => self.mirror(client, &body(&patch)).await,
                    false => Ok(()),
                }
            }
        }
    }

    async fn settle(&mut self, client: &mut Client, message: &DeviceBound) -> Result<(), SimError> {
        let (how, settled) = match self.behaviour.settle {
            SettleArg::Complete => (Settlement::Complete, "completed"),
            SettleArg::Abandon => (Settlement::Abandon, "abandoned"),
            SettleArg::Reject => (Settlement::Reject, "rejected"),
        };
        client.settle(message, how).await?;
        let properties: Map<String, Value> =
            message.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        self.lines.tell(
            "message",
            &[
                ("id", json!(message.message_id)),
                ("body", body(&message.body)),
                ("properties", if properties.is_empty() { Value::Null } else { Value::Object(properties) }),
                ("settled", json!(settled)),
            ],
        );
        Ok(())
    }

    async fn answer(&mut self, client: &mut Client, call: &MethodCall) -> Result<(), SimError> {
        let answer = &self.behaviour.answer;
        client.answer(call, answer.status, Bytes::from(answer.body.clone())).await?;
        self.lines.tell(
            "method",
            &[
                ("name", json!(call.name)),
                ("payload", body(&call.payload)),
                ("status", json!(answer.status)),
                ("answer", body(answer.body.as_bytes())),
            ],
        );
        Ok(())
    }

    /// Reports desired properties back, without what the hub itself put among them.
    async fn mirror(&mut self, client: &mut Client, desired: &Value) -> Result<(), SimError> {
        let given = desired.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with('$'));
        let own: Map<String, Value> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
        if own.is_empty() {
            return Ok(());
        }
        let patch = Value::Object(own);
        client.report(Bytes::from(patch.to_string())).await?;
        self.lines.tell("reported", &[("changed", patch)]);
        Ok(())
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => pending().await,
    }
}

/// An error with what caused it.
fn in_full(error: &SimError) -> String {
    let (mut text, mut cause) = (error.to_string(), std::error::Error::source(error));
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
