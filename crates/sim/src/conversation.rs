//! What a hub and a device say to each other beside messages: the twin, and calls of methods.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use wire::mqtt::{Publish, QoS};

use crate::{Device, SimError};

/// How long the answer about a twin may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The filters of everything that a hub sends a device beside device-bound messages.
pub const CONVERSATION: [&str; 3] =
    ["$iothub/methods/POST/#", "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"];

/// What a message from a hub is, by its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A method is called.
    Call {
        /// Its name.
        method: &'a str,
        /// The `$rid` that the answer has to carry.
        request_id: &'a str,
    },
    /// The desired properties changed.
    Desired,
    /// A request about the twin is answered.
    TwinAnswer {
        /// The status: 200, 204, or what went wrong.
        status: u16,
        /// The `$rid` of the request.
        request_id: &'a str,
    },
    /// Anything else: a device-bound message.
    Message,
}

impl<'a> Incoming<'a> {
    /// What came to this topic.
    pub fn of(topic: &'a str) -> Self {
        Self::read(topic).unwrap_or(Self::Message)
    }

    fn read(topic: &'a str) -> Option<Self> {
        let request_id = |rest: &'a str| rest.strip_prefix("?$rid=")?.split('&').next();
        let rest = topic.strip_prefix("$iothub/")?;
        if rest.starts_with("twin/PATCH/properties/desired/") {
            return Some(Self::Desired);
        }
        if let Some((method, rest)) = rest.strip_prefix("methods/POST/").and_then(|rest| rest.split_once('/'))
        {
            return Some(Self::Call { method, request_id: request_id(rest)? });
        }
        let (status, rest) = rest.strip_prefix("twin/res/")?.split_once('/')?;
        Some(Self::TwinAnswer { status: status.parse().ok()?, request_id: request_id(rest)? })
    }
}

impl Device {
    /// Reads the twin: a JSON object with `desired` and `reported`. The device must have subscribed to [`CONVERSATION`].
    pub async fn twin(&mut self) -> Result<Bytes, SimError> {
        self.ask("$iothub/twin/GET/?$rid=", Bytes::new(), 200).await
    }

    /// Changes the reported properties by a JSON object; they are durable when this returns. The device must have
    /// subscribed to [`CONVERSATION`].
    pub async fn report(&mut self, patch: Bytes) -> Result<(), SimError> {
        self.ask("$iothub/twin/PATCH/properties/reported/?$rid=", patch, 204).await.map(drop)
    }

    /// Answers a call of a method.
    pub async fn answer(&mut self, request_id: &str, status: i32, body: Bytes) -> Result<(), SimError> {
        self.enqueue(&format!("$iothub/methods/res/{status}/?$rid={request_id}"), body, QoS::AtMostOnce)?;
        self.flush().await
    }

    /// Sends a request about the twin and waits for its answer; what else comes is kept for [`Device::receive`].
    async fn ask(&mut self, topic: &str, body: Bytes, expected: u16) -> Result<Bytes, SimError> {
        let id = self.next_request_id().to_string();
        self.enqueue(&format!("{topic}{id}"), body, QoS::AtMostOnce)?;
        let mut others: Vec<Publish> = Vec::new();
        let answered = async {
            loop {
                let publish = self.receive().await?;
                match Incoming::of(&publish.topic) {
                    Incoming::TwinAnswer { status, request_id } if request_id == id => {
                        return match status == expected {
                            true => Ok(publish.payload),
                            false => Err(SimError::TwinRefused(status)),
                        };
                    }
                    _ => others.push(publish),
                }
            }
        };
        let answer = timeout(ANSWER_TIMEOUT, answered).await;
        self.put_back(others);
        answer.map_err(|_| SimError::TimedOut("answer about the twin"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_told_by_its_topic() {
        let cases = [
            ("$iothub/methods/POST/reboot/?$rid=7f", Incoming::Call { method: "reboot", request_id: "7f" }),
            (
                "$iothub/twin/res/204/?$rid=3&$version=5",
                Incoming::TwinAnswer { status: 204, request_id: "3" },
            ),
            ("$iothub/twin/PATCH/properties/desired/?$version=5", Incoming::Desired),
            ("devices/d1/messages/devicebound/%24.mid=1", Incoming::Message),
            ("$iothub/twin/res/soon/?$rid=3", Incoming::Message),
        ];
        for (topic, expected) in cases {
            assert_eq!(Incoming::of(topic), expected, "{topic}");
        }
    }
}
