//! A door for counting instructions: what the journal does with messages, without its thread and its disk.

use hub::ports::event_log::AppendError;
use hub::telemetry::Message;

use super::batch::End;
use super::queue::{Gather, Queue, Work};
use super::writer::encode;

/// What may wait in the queue; a batch of the count is far below it.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A journal that writes nowhere.
pub struct DryJournal {
    queue: Queue,
    ends: Vec<End>,
    position: u64,
}

impl DryJournal {
    /// A journal with so many partitions.
    pub fn new(partitions: usize) -> Self {
        let queue = Queue::new(partitions, PENDING_BYTES_MAX);
        Self { queue, ends: vec![End::default(); partitions], position: 0 }
    }

    /// Appends each message by itself to its partition, takes them as one batch, and gives the bytes of that batch.
    pub fn commit<'a>(
        &mut self,
        messages: impl IntoIterator<Item = (u16, &'a Message)>,
    ) -> Result<usize, AppendError> {
        let mut any = false;
        for (partition, message) in messages {
            self.queue.append(partition, std::slice::from_ref(message))?;
            any = true;
        }
        if !any {
            return Ok(0);
        }
        let Work::Commit(batch) = self.queue.next(Gather::default()) else { return Ok(0) };
        let (head, bytes) = encode(&batch, &self.ends, 0, self.position);
        (self.ends, self.position) = (head.ends_after(), head.batch_end());
        self.queue.committed(batch);
        Ok(bytes.len())
    }
}
