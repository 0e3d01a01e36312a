//! What became of a device-bound message, for the service that wanted to hear of it (`docs/protocol/amqp.md` §9.2).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::identity::Identity;
use crate::inbox::{Ack, Dead, Fate};
use crate::twin::time_text;

/// Names a record of feedback.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedbackKey {
    /// Whose message it was.
    pub identity: Identity,
    /// The generation of that identity: numbers begin again with each.
    pub generation: String,
    /// The number of the message in its queue.
    pub sequence: u64,
}

/// One record of feedback, made in the commit that takes the message out of its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Feedback {
    /// The id that its sender gave the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What became of it.
    pub fate: Fate,
    /// When.
    pub time: Timestamp,
}

impl Feedback {
    /// What the sender of a message is to hear of its end, if anything.
    pub(crate) fn of(dead: &Dead, now: Timestamp) -> Option<Self> {
        let Dead { entry, fate } = dead;
        let wanted = match (entry.ack, fate) {
            (Ack::None, _) => false,
            (Ack::Full, _) => true,
            (Ack::Positive, fate) => *fate == Fate::Completed,
            (Ack::Negative, fate) => *fate != Fate::Completed,
        };
        wanted.then(|| Self { message_id: entry.message_id.clone(), fate: *fate, time: now })
    }

    /// As services read it. The description is the code: the C SDK takes the code from there.
    pub(super) fn json(&self, key: &FeedbackKey) -> Value {
        let code = match self.fate {
            Fate::Completed => "Success",
            Fate::Rejected => "Rejected",
            Fate::Expired => "Expired",
            Fate::DeliveryCountExceeded => "DeliveryCountExceeded",
            Fate::Purged => "Purged",
        };
        json!({
            "originalMessageId": self.message_id,
            "description": code,
            "statusCode": code,
            "deviceGenerationId": key.generation,
            "deviceId": key.identity.device,
            "enqueuedTimeUtc": time_text(self.time),
        })
    }
}
