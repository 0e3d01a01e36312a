//! Device-bound messages to an MQTT client (`docs/protocol/device-mqtt.md` §5): what was sent and is not acknowledged
//! yet.

use std::time::{Duration, Instant};

use hub::inbox::{LOCK_TIME, LockToken};
use wire::mqtt::PacketId;

/// Messages that are sent before the first of them is acknowledged.
pub(super) const UNSETTLED_MAX: usize = 8;

/// What was sent and is not acknowledged.
#[derive(Default)]
pub(super) struct Unsettled {
    sent: Vec<Sent>,
}

struct Sent {
    packet_id: PacketId,
    /// `None` once the lock has lapsed and only the client's acknowledgement is missing.
    token: Option<LockToken>,
    lapses: Instant,
}

impl Unsettled {
    /// Remembers what was sent.
    pub(super) fn push(&mut self, packet_id: PacketId, token: LockToken, now: Instant) {
        // A little later than the hub takes it back, so that it is there when it is asked for again.
        let lapses = now + LOCK_TIME + Duration::from_millis(50);
        self.sent.push(Sent { packet_id, token: Some(token), lapses });
    }

    /// What a PUBACK settles; an identifier that stands for nothing is passed over.
    pub(super) fn acknowledged(&mut self, packet_id: PacketId) -> Option<LockToken> {
        let at = self.sent.iter().position(|sent| sent.packet_id == packet_id)?;
        self.sent.remove(at).token
    }

    /// When the oldest lock lapses.
    pub(super) fn next_lapse(&self) -> Option<Instant> {
        self.sent.iter().filter(|sent| sent.token.is_some()).map(|sent| sent.lapses).min()
    }

    /// Forgets what the hub has taken back; says whether there was any. Where the client counts what it has not
    /// acknowledged (Receive Maximum of MQTT 5), it keeps its place until it is.
    pub(super) fn lapse(&mut self, now: Instant, keeps_places: bool) -> bool {
        let lapsed = |sent: &Sent| sent.token.is_some() && sent.lapses <= now;
        let any = self.sent.iter().any(lapsed);
        match keeps_places {
            true => self.sent.iter_mut().filter(|sent| lapsed(sent)).for_each(|sent| sent.token = None),
            false => self.sent.retain(|sent| !lapsed(sent)),
        }
        any
    }

    /// Whether as many are under way as may be, and as the client takes.
    pub(super) fn is_full(&self, send_max: usize) -> bool {
        self.sent.len() >= UNSETTLED_MAX.min(send_max)
    }

    /// The identifiers of what the client has not acknowledged.
    pub(super) fn packet_ids(&self) -> Vec<PacketId> {
        self.sent.iter().map(|sent| sent.packet_id).collect()
    }

    /// What is under way.
    pub(super) fn tokens(&self) -> Vec<LockToken> {
        self.sent.iter().filter_map(|sent| sent.token).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// Messages that were sent at one time, and when their locks have lapsed.
    fn sent(count: u16) -> (Unsettled, Instant) {
        let (mut unsettled, now) = (Unsettled::default(), Instant::now());
        for number in 1..=count {
            let packet_id = PacketId::new(number).expect("not 0");
            unsettled.push(packet_id, LockToken(Uuid::from_u128(number.into())), now);
        }
        (unsettled, now + LOCK_TIME + Duration::from_secs(1))
    }

    #[test]
    fn a_lock_that_lapses_makes_room_where_nobody_counts() {
        let (mut unsettled, later) = sent(2);
        assert!(unsettled.is_full(2) && !unsettled.is_full(usize::MAX));
        assert!(unsettled.lapse(later, false) && !unsettled.lapse(later, false));
        assert!(!unsettled.is_full(1) && unsettled.next_lapse().is_none());
        assert_eq!(unsettled.acknowledged(PacketId::MIN), None);
    }

    #[test]
    fn a_client_that_counts_has_to_acknowledge_what_lapsed() {
        let (mut unsettled, later) = sent(2);
        assert!(unsettled.lapse(later, true) && !unsettled.lapse(later, true));
        assert!(unsettled.is_full(2) && unsettled.next_lapse().is_none() && unsettled.tokens().is_empty());
        assert_eq!(unsettled.acknowledged(PacketId::MIN), None, "it came too late to settle anything");
        assert!(!unsettled.is_full(2));
    }
}
