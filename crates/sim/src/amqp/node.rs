//! Nodes that answer requests: `$cbs` and `$management`.

use bytes::Bytes;
use wire::amqp::codec::{Fields, Value, ValueRef};
use wire::amqp::connection::{CreditPolicy, LinkId, SendOptions};
use wire::amqp::message::{Message, MessageId, MessageWriter, Properties};
use wire::amqp::performative::{SndSettleMode, Source};

use super::{Amqp, Settling};
use crate::SimError;

/// A pair of links for requests and their answers.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    name: &'static str,
    requests: LinkId,
    answers: LinkId,
}

impl Amqp {
    /// Attaches both links of a node.
    pub(crate) async fn node(&mut self, name: &'static str) -> Result<Node, SimError> {
        let (receiver, credit) = (format!("{name}-answers"), CreditPolicy::TopUp(10));
        let source = Source::new(name);
        let answers = self.receive_from(&receiver, source, Fields::new(), credit, Settling::AtOnce).await?;
        let sender = format!("{name}-requests");
        let requests = self.send_to(&sender, name, Fields::new(), SndSettleMode::Mixed).await?;
        Ok(Node { name, requests, answers })
    }

    /// Asks a node; gives the answer once its status is 200.
    pub(crate) async fn ask(
        &mut self,
        node: Node,
        request: impl Fn(&mut MessageWriter<'_>),
    ) -> Result<Bytes, SimError> {
        self.next_request += 1;
        let id = self.next_request;
        let write = |w: &mut MessageWriter<'_>| {
            w.properties(&Properties {
                message_id: Some(MessageId::Ulong(id)),
                reply_to: Some(node.name),
                ..Properties::default()
            });
            request(w);
        };
        self.send(node.requests, SendOptions::settled(), write).await?;
        let answer = self.next_on(node.answers).await?.message;
        let message = Message::parse(&answer).map_err(|error| SimError::Amqp(error.to_string()))?;
        let status =
            message.application_properties.get("status-code").and_then(ValueRef::as_i64).unwrap_or(0);
        if !(200..300).contains(&status) {
            let description = message.application_properties.get("status-description");
            let description = description.and_then(ValueRef::as_text).unwrap_or_default().to_owned();
            return Err(SimError::RequestRefused { node: node.name, status, description });
        }
        Ok(answer)
    }

    /// Puts a token that ends at this second since 1970.
    pub(crate) async fn put_token(
        &mut self,
        cbs: Node,
        name: &str,
        token: &str,
        end: u64,
    ) -> Result<(), SimError> {
        let token = Value::String(token.to_owned());
        self.ask(cbs, |w| {
            w.application_properties(|map| {
                map.string("operation", "put-token");
                map.string("type", "servicebus.windows.net:sastoken");
                map.string("name", name);
                map.timestamp("expiration", i64::try_from(end.saturating_mul(1_000)).unwrap_or(i64::MAX));
            });
            w.value(&token);
        })
        .await
        .map(drop)
    }
}
