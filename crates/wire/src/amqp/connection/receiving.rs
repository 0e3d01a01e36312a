use bytes::Bytes;

use super::config::Config;
use super::error::{CommandError, Fault, PeerMisbehaved};
use super::event::{Delivery, Event};
use super::id::DeliveryId;
use super::link::{LinkEnd, LinkPhase};
use super::session::{Context, Session, distance};
use crate::amqp::message::MESSAGE_FORMAT;
use crate::amqp::performative::{DeliveryTag, LinkFlow, Role, Transfer};

/// The receiving end of a link.
#[derive(Debug)]
pub(super) struct ReceiverEnd {
    /// Deliveries begun by the peer so far.
    pub(super) delivery_count: u32,
    /// Deliveries that the peer may still begin.
    credit: u32,
    policy: CreditPolicy,
    /// Deliveries of this link that are not settled.
    unsettled: u32,
    /// Deliveries beyond the credit since it was last granted.
    overrun: u32,
    /// We asked the peer to use its credit up or give it back.
    draining: bool,
    message_size_max: u64,
    incomplete: Option<Box<Incomplete>>,
}

/// A message whose last transfer has not come.
#[derive(Debug)]
struct Incomplete {
    number: u32,
    tag: DeliveryTag,
    message_format: u32,
    settled: bool,
    message: Vec<u8>,
}

/// When the peer gets credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CreditPolicy {
    /// Only when the caller grants some.
    #[default]
    Manual,
    /// So much that credit and unsettled deliveries together make this number; renewed when half of
    /// the credit is used. A caller that does not settle thereby stops the peer.
    TopUp(u32),
}

impl ReceiverEnd {
    pub(super) fn new(message_size_max: u64, delivery_count: u32, policy: CreditPolicy) -> Self {
        Self {
            delivery_count,
            credit: 0,
            policy,
            unsettled: 0,
            overrun: 0,
            draining: false,
            message_size_max,
            incomplete: None,
        }
    }

    pub(super) fn accept(&mut self, message_size_max: u64, policy: CreditPolicy) {
        self.message_size_max = message_size_max;
        self.policy = policy;
    }

    pub(super) fn reassembly_bytes(&self) -> usize {
        self.incomplete.as_ref().map_or(0, |incomplete| incomplete.message.len())
    }

    pub(super) fn forget(&mut self) {
        self.incomplete = None;
        self.unsettled = 0;
    }

    pub(super) fn count_settled(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
    }

    /// Counts a delivery that begins against the credit. Beyond the credit, some are taken as long
    /// as the session holds few unsettled ones.
    fn count_delivery(&mut self, unsettled: usize, config: &Config) -> Result<(), PeerMisbehaved> {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        if self.credit > 0 {
            self.credit -= 1;
            return Ok(());
        }
        self.overrun += 1;
        if self.overrun > config.credit_overrun_max || unsettled >= config.unsettled_max {
            return Err(PeerMisbehaved::CreditExceeded(self.overrun));
        }
        Ok(())
    }

    /// Adds a part to the message that is not complete.
    fn extend(&mut self, handle: u32, payload: &[u8], ctx: &mut Context<'_>) -> Result<(), Fault> {
        let Some(incomplete) = &mut self.incomplete else {
            return Ok(());
        };
        let limit = self.message_size_max;
        if (incomplete.message.len() + payload.len()) as u64 > limit {
            return Err(Fault::Link(handle, PeerMisbehaved::MessageTooLarge { limit }));
        }
        let limit = ctx.config.reassembly_bytes_max;
        if ctx.usage.reassembly_bytes + payload.len() > limit {
            return Err(Fault::Connection(PeerMisbehaved::ReassemblyExceeded(limit)));
        }
        ctx.usage.reassembly_bytes += payload.len();
        incomplete.message.extend_from_slice(payload);
        Ok(())
    }

    fn flow(&self, handle: u32) -> LinkFlow {
        LinkFlow {
            handle,
            delivery_count: Some(self.delivery_count),
            link_credit: Some(self.credit),
            available: None,
            drain: self.draining,
        }
    }
}

impl Session {
    /// Takes in a transfer (OASIS part 2, section 2.6.14).
    pub(super) fn on_transfer(
        &mut self,
        transfer: Transfer,
        payload: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<(), Fault> {
        if self.incoming_window == 0 {
            return Err(Fault::Session(PeerMisbehaved::WindowExceeded));
        }
        self.incoming_window -= 1;
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        self.take_transfer(transfer, payload, ctx)?;
        if self.incoming_window <= ctx.config.incoming_window / 2 {
            self.incoming_window = ctx.config.incoming_window;
            self.write_flow(None, ctx);
        }
        Ok(())
    }

    fn take_transfer(
        &mut self,
        transfer: Transfer,
        payload: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<(), Fault> {
        let handle = self.by_remote_handle.get(&transfer.handle).copied();
        let handle = handle.ok_or(Fault::Session(PeerMisbehaved::UnattachedHandle(transfer.handle)))?;
        let Some(link) = self.links.get_mut(&handle) else {
            return Ok(());
        };
        if matches!(link.phase, LinkPhase::DetachSent { .. }) {
            return Ok(());
        }
        let LinkEnd::Receiver(receiver) = &mut link.end else {
            return Err(Fault::Session(PeerMisbehaved::TransferFromReceiver(transfer.handle)));
        };
        match &mut receiver.incomplete {
            None => {
                let first = first_transfer(&transfer).map_err(Fault::Session)?;
                receiver
                    .count_delivery(self.unsettled_in.len(), ctx.config)
                    .map_err(|fault| Fault::Link(handle, fault))?;
                if !transfer.more && !transfer.aborted {
                    if payload.len() as u64 > receiver.message_size_max {
                        let limit = receiver.message_size_max;
                        return Err(Fault::Link(handle, PeerMisbehaved::MessageTooLarge { limit }));
                    }
                    return self.deliver(handle, first, Bytes::copy_from_slice(payload), ctx);
                }
                receiver.incomplete = Some(Box::new(first));
            }
            Some(incomplete) => {
                let found = transfer.delivery_id.unwrap_or(incomplete.number);
                if found != incomplete.number {
                    let open = incomplete.number;
                    return Err(Fault::Session(PeerMisbehaved::InterleavedDeliveries { open, found }));
                }
                incomplete.settled |= transfer.settled.unwrap_or(false);
            }
        }
        if transfer.aborted {
            ctx.usage.reassembly_bytes -= receiver.reassembly_bytes();
            receiver.incomplete = None;
            self.top_up(handle, ctx);
            return Ok(());
        }
        receiver.extend(handle, payload, ctx)?;
        if transfer.more {
            return Ok(());
        }
        let Some(mut complete) = receiver.incomplete.take() else {
            return Ok(());
        };
        ctx.usage.reassembly_bytes -= complete.message.len();
        let message = Bytes::from(std::mem::take(&mut complete.message));
        self.deliver(handle, *complete, message, ctx)
    }

    /// Hands a complete message to the caller.
    fn deliver(
        &mut self,
        handle: u32,
        first: Incomplete,
        message: Bytes,
        ctx: &mut Context<'_>,
    ) -> Result<(), Fault> {
        let Incomplete { number, tag, message_format, settled, .. } = first;
        let Some(link) = self.links.get_mut(&handle) else {
            return Ok(());
        };
        let link_id = link.id;
        if !settled {
            if self.unsettled_in.insert(number, handle).is_some() {
                return Err(Fault::Session(PeerMisbehaved::DeliveryIdInUse(number)));
            }
            if let Some(receiver) = link.receiver_mut() {
                receiver.unsettled += 1;
            }
        }
        let id = DeliveryId { session: self.id, role: Role::Receiver, number };
        let delivery = Delivery { link: link_id, id, tag, message_format, settled, message };
        ctx.events.push_back(Event::Delivery(Box::new(delivery)));
        self.top_up(handle, ctx);
        Ok(())
    }

    /// Takes in what the sending peer says about a link (OASIS part 2, section 2.6.7).
    pub(super) fn on_sender_state(
        &mut self,
        handle: u32,
        flow: &LinkFlow,
        echo: bool,
        ctx: &mut Context<'_>,
    ) {
        let Some(link) = self.links.get_mut(&handle).filter(|link| link.phase == LinkPhase::Attached) else {
            return;
        };
        let link_id = link.id;
        let Some(receiver) = link.receiver_mut() else {
            return;
        };
        let given_back = flow.delivery_count.map_or(0, |count| distance(receiver.delivery_count, count));
        receiver.delivery_count = receiver.delivery_count.wrapping_add(given_back);
        receiver.credit = receiver.credit.saturating_sub(given_back);
        let drained = receiver.draining && receiver.credit == 0;
        if drained {
            receiver.draining = false;
            ctx.events.push_back(Event::Drained { link: link_id });
        }
        if echo {
            let flow = receiver.flow(handle);
            self.write_flow(Some(flow), ctx);
        }
    }

    /// Grants credit as the policy of a receiving link says.
    pub(super) fn top_up(&mut self, handle: u32, ctx: &mut Context<'_>) {
        let Some(link) = self.links.get_mut(&handle).filter(|link| link.phase == LinkPhase::Attached) else {
            return;
        };
        let Some(receiver) = link.receiver_mut().filter(|receiver| !receiver.draining) else {
            return;
        };
        let CreditPolicy::TopUp(window) = receiver.policy else {
            return;
        };
        let credit = window.saturating_sub(receiver.unsettled);
        // A flow for every settlement would cost as much as the messages themselves.
        let worth_a_flow = credit.saturating_sub(receiver.credit) > window / 4;
        if receiver.credit <= window / 2 && worth_a_flow {
            self.write_credit(handle, credit, ctx);
        }
    }

    /// Grants credit once.
    pub(super) fn grant(
        &mut self,
        handle: u32,
        credit: u32,
        ctx: &mut Context<'_>,
    ) -> Result<(), CommandError> {
        self.attached_receiver(handle)?.policy = CreditPolicy::Manual;
        self.write_credit(handle, credit, ctx);
        Ok(())
    }

    /// Changes when the peer gets credit.
    pub(super) fn set_policy(
        &mut self,
        handle: u32,
        policy: CreditPolicy,
        ctx: &mut Context<'_>,
    ) -> Result<(), CommandError> {
        self.attached_receiver(handle)?.policy = policy;
        self.top_up(handle, ctx);
        Ok(())
    }

    /// Asks the peer to use its credit up or give it back.
    pub(super) fn drain(&mut self, handle: u32, ctx: &mut Context<'_>) -> Result<(), CommandError> {
        let receiver = self.attached_receiver(handle)?;
        receiver.draining = true;
        receiver.policy = CreditPolicy::Manual;
        let flow = receiver.flow(handle);
        self.write_flow(Some(flow), ctx);
        Ok(())
    }

    fn attached_receiver(&mut self, handle: u32) -> Result<&mut ReceiverEnd, CommandError> {
        let link = self.links.get_mut(&handle).filter(|link| link.phase == LinkPhase::Attached);
        link.and_then(|link| link.receiver_mut()).ok_or(CommandError::WrongLinkState)
    }

    fn write_credit(&mut self, handle: u32, credit: u32, ctx: &mut Context<'_>) {
        let receiver = self.links.get_mut(&handle).and_then(|link| link.receiver_mut());
        let Some(receiver) = receiver else {
            return;
        };
        receiver.credit = credit;
        receiver.overrun = 0;
        receiver.draining = false;
        let flow = receiver.flow(handle);
        self.write_flow(Some(flow), ctx);
    }
}

/// What the first transfer of a delivery has to say.
fn first_transfer(transfer: &Transfer) -> Result<Incomplete, PeerMisbehaved> {
    Ok(Incomplete {
        number: transfer.delivery_id.ok_or(PeerMisbehaved::IncompleteFirstTransfer("delivery-id"))?,
        tag: transfer.delivery_tag.ok_or(PeerMisbehaved::IncompleteFirstTransfer("delivery-tag"))?,
        message_format: transfer.message_format.unwrap_or(MESSAGE_FORMAT),
        settled: transfer.settled.unwrap_or(false),
        message: Vec::new(),
    })
}
