use std::collections::BTreeMap;

use super::error::CommandError;
use super::event::Event;
use super::id::DeliveryId;
use super::session::{Context, Session};
use crate::amqp::performative::{DeliveryState, Disposition, Role};

impl Session {
    /// Takes in a disposition. Deliveries that are not held any more are passed over: peers settle
    /// what came settled (OASIS part 2, section 2.6.12).
    pub(super) fn on_disposition(&mut self, disposition: &Disposition, ctx: &mut Context<'_>) {
        match disposition.role {
            Role::Receiver => self.on_outcomes(disposition, ctx),
            Role::Sender => self.on_sender_settled(disposition, ctx),
        }
    }

    /// The receiving peer tells the state of our deliveries.
    fn on_outcomes(&mut self, disposition: &Disposition, ctx: &mut Context<'_>) {
        let terminal = !matches!(disposition.state, Some(DeliveryState::Received { .. }) | None);
        if !disposition.settled && !terminal {
            return;
        }
        for number in numbers_within(&self.unsettled_out, disposition) {
            if let Some(handle) = self.unsettled_out.remove(&number) {
                if !disposition.settled {
                    self.told_out.insert(number, handle);
                }
                self.tell_disposition(handle, Role::Sender, number, disposition, ctx);
            }
        }
        // An outcome stays as it was told first, so only its settlement is news.
        if disposition.settled {
            for number in numbers_within(&self.told_out, disposition) {
                if let Some(handle) = self.told_out.remove(&number) {
                    self.tell_disposition(handle, Role::Sender, number, disposition, ctx);
                }
            }
        }
        self.wake_waiting(ctx);
    }

    /// The sending peer settles deliveries to us, which ends the exchange of receivers that settle
    /// second.
    fn on_sender_settled(&mut self, disposition: &Disposition, ctx: &mut Context<'_>) {
        if !disposition.settled {
            return;
        }
        for number in numbers_within(&self.unsettled_in, disposition) {
            if let Some(handle) = self.unsettled_in.remove(&number) {
                self.tell_disposition(handle, Role::Receiver, number, disposition, ctx);
                self.count_settled(handle, ctx);
            }
        }
    }

    /// Settles a delivery at this end, or only tells a state.
    pub(super) fn dispose(
        &mut self,
        delivery: DeliveryId,
        settled: bool,
        state: DeliveryState,
        ctx: &mut Context<'_>,
    ) -> Result<(), CommandError> {
        let DeliveryId { role, number, .. } = delivery;
        let held = match role {
            Role::Receiver => self.unsettled_in.contains_key(&number),
            Role::Sender => self.unsettled_out.contains_key(&number) || self.told_out.contains_key(&number),
        };
        if !held {
            return Err(CommandError::NoDelivery);
        }
        let disposition =
            Disposition { role, first: number, last: None, settled, state: Some(state), batchable: false };
        ctx.output.disposition(self.id.channel, disposition);
        if settled {
            match role {
                Role::Receiver => {
                    if let Some(handle) = self.unsettled_in.remove(&number) {
                        self.count_settled(handle, ctx);
                    }
                }
                Role::Sender => {
                    self.unsettled_out.remove(&number);
                    self.told_out.remove(&number);
                    self.wake_waiting(ctx);
                }
            }
        }
        Ok(())
    }

    fn count_settled(&mut self, handle: u32, ctx: &mut Context<'_>) {
        if let Some(receiver) = self.links.get_mut(&handle).and_then(|link| link.receiver_mut()) {
            receiver.count_settled();
        }
        self.top_up(handle, ctx);
    }

    fn tell_disposition(
        &self,
        handle: u32,
        role: Role,
        number: u32,
        disposition: &Disposition,
        ctx: &mut Context<'_>,
    ) {
        let Some(link) = self.links.get(&handle) else {
            return;
        };
        ctx.events.push_back(Event::Disposition {
            link: link.id,
            delivery: DeliveryId { session: self.id, role, number },
            state: disposition.state.clone(),
            settled: disposition.settled,
        });
    }
}

/// The deliveries of `held` that a disposition names. Its range is the peer's word and may span
/// everything, so the walk is over what is held. Numbers wrap around (RFC 1982).
fn numbers_within<T>(held: &BTreeMap<u32, T>, disposition: &Disposition) -> Vec<u32> {
    let first = disposition.first;
    let last = disposition.last.unwrap_or(first);
    let keys = |range: std::ops::RangeInclusive<u32>| held.range(range).map(|(number, _)| *number);
    if first <= last {
        keys(first..=last).collect()
    } else if last.wrapping_sub(first) <= u32::MAX / 2 {
        keys(first..=u32::MAX).chain(keys(0..=last)).collect()
    } else {
        Vec::new()
    }
}
