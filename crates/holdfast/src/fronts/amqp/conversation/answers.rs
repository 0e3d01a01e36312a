//! Answers to requests, of `$cbs` and of `$management`. They wait for credit: some clients ask before they grant any.

use std::collections::VecDeque;

use bytes::BytesMut;
use hub::decision::Act;
use wire::amqp::connection::{LinkId, SendError, SendOptions, SessionId};
use wire::amqp::message::{Message, MessageWriter};

use super::{Conversation, Link};
use crate::fronts::amqp::management;
use crate::io::Stream;

/// Answers that may wait for credit.
const ANSWERS_MAX: usize = 256;

impl<S: Stream> Conversation<S> {
    /// Answers a request to `$management`, which is settled already.
    pub(super) async fn on_management_request(&mut self, session: SessionId, request: &Message<'_>) {
        let created = self.created().await;
        let mut answer = BytesMut::new();
        let refusal =
            management::answer(&self.front.hub, created, request, &mut MessageWriter::new(&mut answer));
        if let Some(refusal) = refusal {
            self.record(Act::Link { address: "$management".to_owned() }, None, Some(refusal));
        }
        self.answer(session, |link| matches!(link, Link::ManagementAnswers(_)), answer);
    }

    /// Queues an answer on the link of a session by which answers go out, and sends what there is credit for.
    pub(super) fn answer(&mut self, session: SessionId, wanted: impl Fn(&Link) -> bool, answer: BytesMut) {
        let link = self.links.iter_mut().find(|(id, link)| id.session() == session && wanted(link));
        let Some((id, Link::CbsAnswers(answers) | Link::ManagementAnswers(answers))) = link else { return };
        if answers.len() >= ANSWERS_MAX {
            tracing::debug!("a client asks without taking the answers");
            return;
        }
        answers.push_back(answer);
        let id = *id;
        self.send_answers(id);
    }

    pub(super) fn send_answers(&mut self, id: LinkId) {
        let Some(Link::CbsAnswers(answers) | Link::ManagementAnswers(answers)) = self.links.get_mut(&id)
        else {
            return;
        };
        while let Some(answer) = answers.front() {
            match self.machine.send(id, SendOptions::default(), |w| w.encoded(answer)) {
                // `Event::Sendable` follows.
                Err(SendError::Blocked(_)) => return,
                Ok(_) | Err(SendError::MessageTooLarge { .. } | SendError::Command(_)) => answers.pop_front(),
            };
        }
        // A connection that waits holds no queue.
        *answers = VecDeque::new();
    }

    /// When the hub was made: with its first policy.
    async fn created(&mut self) -> i64 {
        let policies = self.front.hub.policies().await.unwrap_or_default();
        policies.iter().map(|view| view.policy.created.as_millisecond()).min().unwrap_or_default()
    }
}
