use bytes::Bytes;

use super::error::{Blocked, CommandError, SendError};
use super::event::Event;
use super::id::DeliveryId;
use super::link::{LinkEnd, LinkPhase};
use super::session::{Context, Session, distance};
use crate::amqp::codec::Writer;
use crate::amqp::frame::{FrameType, OpenFrame};
use crate::amqp::message::{MESSAGE_FORMAT, MessageWriter};
use crate::amqp::performative::{DeliveryTag, LinkFlow, Role, Transfer};

/// The sending end of a link.
#[derive(Debug, Default)]
pub(super) struct SenderEnd {
    /// Deliveries begun so far (OASIS part 2, section 2.6.7).
    delivery_count: u32,
    /// Deliveries that the peer still takes.
    credit: u32,
    /// The peer wants its credit used up or given back.
    drain: bool,
    /// The peer's max-message-size, when it has one.
    message_size_max: Option<u64>,
    /// What is left of a message that the peer's window cut off.
    cut_off: Option<Box<CutOff>>,
    /// A send was refused, so that the caller waits for a sign.
    waiting: bool,
}

#[derive(Debug)]
struct CutOff {
    rest: Bytes,
    settled: bool,
    number: u32,
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendOptions {
    /// Name of the delivery; `None` counts.
    pub tag: Option<DeliveryTag>,
    /// Format of the message.
    pub message_format: u32,
    /// Whether we forget the delivery at once. If not, a disposition of the peer follows.
    pub settled: bool,
}

impl Default for SendOptions {
    /// Unsettled, with a counted tag, format 0.
    fn default() -> Self {
        Self { tag: None, message_format: MESSAGE_FORMAT, settled: false }
    }
}

impl SendOptions {
    /// Settled, with a counted tag, format 0.
    pub fn settled() -> Self {
        Self { settled: true, ..Self::default() }
    }
}

impl SenderEnd {
    pub(super) fn new(message_size_max: Option<u64>) -> Self {
        let mut sender = Self::default();
        sender.set_message_size_max(message_size_max);
        sender
    }

    /// Zero and absent both mean any size.
    pub(super) fn set_message_size_max(&mut self, bytes: Option<u64>) {
        self.message_size_max = bytes.filter(|bytes| *bytes > 0);
    }

    pub(super) fn forget(&mut self) {
        self.cut_off = None;
        self.credit = 0;
    }

    /// Called when a delivery begins.
    fn count_delivery(&mut self) {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.credit -= 1;
    }

    fn flow(&self, handle: u32) -> LinkFlow {
        LinkFlow {
            handle,
            delivery_count: Some(self.delivery_count),
            link_credit: Some(self.credit),
            available: Some(0),
            drain: self.drain,
        }
    }
}

impl Session {
    /// Messages that a sending link may send now.
    pub(super) fn sendable(&self, handle: u32, ctx: &Context<'_>) -> Result<u32, SendError> {
        let link = self.links.get(&handle).ok_or(CommandError::NoLink)?;
        let LinkEnd::Sender(sender) = &link.end else {
            return Err(CommandError::WrongLinkState.into());
        };
        if link.phase != LinkPhase::Attached {
            return Err(CommandError::WrongLinkState.into());
        }
        let blocked = if sender.credit == 0 {
            Blocked::Credit
        } else if sender.cut_off.is_some() || self.remote_incoming_window == 0 {
            Blocked::Window
        } else if self.unsettled_is_full(ctx.config) {
            Blocked::Unsettled
        } else if ctx.output.buffer.len() >= ctx.config.output_bytes_max {
            Blocked::Output
        } else {
            return Ok(sender.credit);
        };
        Err(SendError::Blocked(blocked))
    }

    /// Sends a message; see [`super::Connection::send`].
    pub(super) fn send(
        &mut self,
        handle: u32,
        options: SendOptions,
        message: impl FnOnce(&mut MessageWriter<'_>),
        ctx: &mut Context<'_>,
    ) -> Result<DeliveryId, SendError> {
        if let Err(error) = self.sendable(handle, ctx) {
            if let SendError::Blocked(blocked) = error {
                self.wait(handle, blocked, ctx);
            }
            return Err(error);
        }
        let number = self.next_delivery;
        let transfer = Transfer {
            handle,
            delivery_id: Some(number),
            delivery_tag: Some(options.tag.unwrap_or_else(|| DeliveryTag::from(number))),
            message_format: Some(options.message_format),
            settled: Some(options.settled),
            ..Transfer::default()
        };
        let sender = self.links.get_mut(&handle).and_then(|link| link.sender_mut());
        let sender = sender.ok_or(CommandError::NoLink)?;

        let buffer = &mut ctx.output.buffer;
        let frame = OpenFrame::begin(buffer, FrameType::Amqp, self.id.channel);
        let start = frame.start();
        let more = transfer.write_patchable(&mut Writer::new(buffer));
        let payload_start = buffer.len();
        message(&mut MessageWriter::new(buffer));
        let size = buffer.len() - payload_start;
        if let Some(limit) = sender.message_size_max
            && size as u64 > limit
        {
            buffer.truncate(start);
            return Err(SendError::MessageTooLarge { size, limit });
        }
        // Rare: what does not fit is copied once more, into frames of its own.
        let frame_end_max = start.saturating_add(ctx.output.frame_size_max as usize);
        if buffer.len() > frame_end_max {
            let rest = Bytes::copy_from_slice(&buffer[frame_end_max..]);
            buffer.truncate(frame_end_max);
            more.set(buffer);
            sender.cut_off = Some(Box::new(CutOff { rest, settled: options.settled, number }));
            self.cut_off.push_back(handle);
        }
        frame.end(buffer);

        sender.count_delivery();
        self.next_delivery = number.wrapping_add(1);
        self.count_transfer();
        if !options.settled {
            self.unsettled_out.insert(number, handle);
        }
        self.send_cut_off(ctx);
        Ok(DeliveryId { session: self.id, role: Role::Sender, number })
    }

    /// Goes on with messages that were cut off, as far as the peer's window allows.
    pub(super) fn send_cut_off(&mut self, ctx: &mut Context<'_>) {
        while self.remote_incoming_window > 0
            && let Some(&handle) = self.cut_off.front()
        {
            if !self.send_next_part(handle, ctx) {
                self.cut_off.pop_front();
                self.wake(handle, ctx);
            }
        }
    }

    /// Sends one more transfer of a message; false when it was the last one.
    fn send_next_part(&mut self, handle: u32, ctx: &mut Context<'_>) -> bool {
        let sender = self.links.get_mut(&handle).and_then(|link| link.sender_mut());
        let Some((sender, mut part)) = sender.and_then(|s| s.cut_off.take().map(|part| (s, part))) else {
            return false;
        };
        let transfer = Transfer {
            handle,
            delivery_id: Some(part.number),
            settled: Some(part.settled),
            ..Transfer::default()
        };
        let frame_size_max = ctx.output.frame_size_max as usize;
        let buffer = &mut ctx.output.buffer;
        let frame = OpenFrame::begin(buffer, FrameType::Amqp, self.id.channel);
        let start = frame.start();
        let more = transfer.write_patchable(&mut Writer::new(buffer));
        let room = frame_size_max.saturating_sub(buffer.len() - start);
        let payload = part.rest.split_to(room.min(part.rest.len()));
        buffer.extend_from_slice(&payload);
        let unfinished = !part.rest.is_empty();
        if unfinished {
            more.set(buffer);
            sender.cut_off = Some(part);
        }
        frame.end(buffer);
        self.count_transfer();
        unfinished
    }

    fn count_transfer(&mut self) {
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        self.remote_incoming_window = self.remote_incoming_window.saturating_sub(1);
    }

    /// Takes in credit for a sending link (OASIS part 2, section 2.6.7).
    pub(super) fn on_credit(&mut self, handle: u32, flow: &LinkFlow, echo: bool, ctx: &mut Context<'_>) {
        let Some(link) = self.links.get_mut(&handle) else {
            return;
        };
        let (id, phase) = (link.id, link.phase);
        let Some(sender) = link.sender_mut() else {
            return;
        };
        if matches!(phase, LinkPhase::DetachSent { .. }) {
            return;
        }
        let had_none = sender.credit == 0;
        if let Some(credit) = flow.link_credit {
            let under_way = distance(flow.delivery_count.unwrap_or(0), sender.delivery_count);
            sender.credit = credit.saturating_sub(under_way);
        }
        sender.drain = flow.drain;
        let credit = sender.credit;
        if phase != LinkPhase::Attached {
            return; // told when the attach is answered
        }
        if flow.drain && credit == 0 || echo && !flow.drain {
            self.write_sender_flow(handle, ctx);
        }
        if flow.drain && credit > 0 {
            ctx.events.push_back(Event::DrainRequested { link: id, credit });
        } else if credit > 0 && had_none {
            self.announce_credit(handle, ctx);
        }
    }

    /// Tells the caller of credit that is there.
    pub(super) fn announce_credit(&mut self, handle: u32, ctx: &mut Context<'_>) {
        let Some(link) = self.links.get_mut(&handle) else {
            return;
        };
        let link_id = link.id;
        let Some(sender) = link.sender_mut().filter(|sender| sender.credit > 0) else {
            return;
        };
        sender.waiting = false;
        let (link, credit) = (link_id, sender.credit);
        ctx.events.push_back(match sender.drain {
            true => Event::DrainRequested { link, credit },
            false => Event::Sendable { link, credit },
        });
    }

    /// Gives unused credit back after a drain.
    pub(super) fn drained(&mut self, handle: u32, ctx: &mut Context<'_>) -> Result<(), CommandError> {
        let sender = self.links.get_mut(&handle).and_then(|link| link.sender_mut());
        let sender = sender.ok_or(CommandError::WrongLinkState)?;
        if !sender.drain {
            return Err(CommandError::WrongLinkState);
        }
        sender.delivery_count = sender.delivery_count.wrapping_add(sender.credit);
        sender.credit = 0;
        self.write_sender_flow(handle, ctx);
        Ok(())
    }

    fn write_sender_flow(&mut self, handle: u32, ctx: &mut Context<'_>) {
        let sender = self.links.get_mut(&handle).and_then(|link| link.sender_mut());
        if let Some(flow) = sender.map(|sender| sender.flow(handle)) {
            self.write_flow(Some(flow), ctx);
        }
    }

    /// Remembers that a caller was refused, where the end of its waiting will be noticed.
    fn wait(&mut self, handle: u32, blocked: Blocked, ctx: &mut Context<'_>) {
        let Some(link) = self.links.get_mut(&handle) else {
            return;
        };
        let id = link.id;
        let Some(sender) = link.sender_mut() else {
            return;
        };
        if std::mem::replace(&mut sender.waiting, true) {
            return;
        }
        match blocked {
            // New credit is always told.
            Blocked::Credit => sender.waiting = false,
            Blocked::Window | Blocked::Unsettled => self.waiting.push(handle),
            Blocked::Output => ctx.usage.waiting_for_output.push(id),
        }
    }

    /// Tells the links that wait for the window or for settlements, as far as they may send now.
    pub(super) fn wake_waiting(&mut self, ctx: &mut Context<'_>) {
        if self.waiting.is_empty() || self.remote_incoming_window == 0 || self.unsettled_is_full(ctx.config) {
            return;
        }
        for handle in std::mem::take(&mut self.waiting) {
            self.wake(handle, ctx);
        }
    }

    /// Tells one link that it may send, or lets it wait for the next reason.
    pub(super) fn wake(&mut self, handle: u32, ctx: &mut Context<'_>) {
        let sender = self.links.get_mut(&handle).and_then(|link| link.sender_mut());
        let Some(sender) = sender.filter(|sender| sender.waiting) else {
            return;
        };
        sender.waiting = false;
        match self.sendable(handle, ctx) {
            Ok(_) => self.announce_credit(handle, ctx),
            Err(SendError::Blocked(blocked)) => self.wait(handle, blocked, ctx),
            Err(SendError::MessageTooLarge { .. } | SendError::Command(_)) => {}
        }
    }
}
