//! Messages that expire while nobody asks for them, and whose senders want to hear of it.

use jiff::Timestamp;

use super::Deadline;
use super::service::Loaded;
use crate::error::HubError;
use crate::hub::Hub;
use crate::ports::registry::{Change, Write};
use crate::record::{Key, Kind};

/// Deadlines that are looked at in one go.
const PAGE: usize = 256;

impl Hub {
    /// Takes messages out of their queues that expired, as far as their senders want to hear of it, and says when the next
    /// ones do.
    pub async fn expire_inboxes(&self) -> Result<Option<Timestamp>, HubError> {
        let now = self.now();
        let mut next: Option<Timestamp> = None;
        let mut after = None;
        loop {
            let page = self.registry.list(Kind::InboxDeadline, after.take(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, stored) in page {
                let Key::InboxDeadline(deadline) = &key else { continue };
                let due = due(deadline);
                if due > now {
                    return Ok(Some(next.map_or(due, |next| next.min(due))));
                }
                // A receiver may have it still, and may complete it.
                if let Some(until) = self.expire_inbox(deadline, stored.version, now).await? {
                    next = Some(next.map_or(until, |next| next.min(until)));
                }
            }
            if !full {
                return Ok(next);
            }
        }
    }

    /// Says until when a receiver has the message, if one has.
    async fn expire_inbox(
        &self,
        deadline: &Deadline,
        version: u64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, HubError> {
        let Deadline { identity, sequence, .. } = deadline;
        self.change(&[Key::Inbox(identity.clone())], |loaded| {
            let loaded = Loaded::as_stored(loaded).filter(|loaded| loaded.queue.holds(*sequence));
            let Some(mut loaded) = loaded else {
                // It was sent to an identity that is deleted.
                let key = Key::InboxDeadline(Box::new(deadline.clone()));
                let write = Write { key, replaces: Some(version), record: None };
                return Ok((Change { writes: vec![write], ..Change::default() }, None));
            };
            let until = loaded.queue.held_until(*sequence, now);
            if until.is_some() {
                return Ok((Change::default(), until));
            }
            let dead = loaded.queue.expire(now);
            Ok((loaded.change(identity, &dead, now), None))
        })
        .await
    }
}

fn due(deadline: &Deadline) -> Timestamp {
    let time = i64::try_from(deadline.time).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX)
}
