use std::collections::{BTreeMap, VecDeque};

use super::config::Config;
use super::error::{Fault, PeerMisbehaved};
use super::event::Event;
use super::id::{LinkId, SessionId};
use super::link::{Link, LinkEnd};
use super::output::Output;
use crate::amqp::performative::{Begin, Flow, LinkFlow, Performative};

/// One session: windows, links and unsettled deliveries (OASIS part 2, section 2.5).
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) phase: SessionPhase,
    /// The channel that the peer sends on, once it has begun.
    pub(super) remote_channel: Option<u16>,
    /// Transfer-id that the peer uses next.
    pub(super) next_incoming_id: u32,
    /// Transfer frames that the peer may still send.
    pub(super) incoming_window: u32,
    /// Transfer-id that we use next.
    pub(super) next_outgoing_id: u32,
    /// Transfer frames that the peer still takes.
    pub(super) remote_incoming_window: u32,
    /// What we say we may send: as much as the peer took at its begin.
    outgoing_window: u32,
    /// Highest handle the peer takes.
    pub(super) remote_handle_max: u32,
    /// Number of our next delivery.
    pub(super) next_delivery: u32,
    /// Links by our handles.
    pub(super) links: BTreeMap<u32, Box<Link>>,
    /// Links of ours that the peer has not attached yet.
    pub(super) unanswered: Vec<u32>,
    /// Our handles by those of the peer.
    pub(super) by_remote_handle: BTreeMap<u32, u32>,
    /// Deliveries to us that are not settled, with our handle.
    pub(super) unsettled_in: BTreeMap<u32, u32>,
    /// Deliveries of ours of which the peer has told nothing, with our handle.
    pub(super) unsettled_out: BTreeMap<u32, u32>,
    /// Deliveries of ours of which the peer has told the outcome without settling. They are apart
    /// so that a peer that repeats itself makes no work.
    pub(super) told_out: BTreeMap<u32, u32>,
    /// Sending links whose message is cut off in the middle by the peer's window.
    pub(super) cut_off: VecDeque<u32>,
    /// Sending links that were refused because of the window or of unsettled deliveries.
    pub(super) waiting: Vec<u32>,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionPhase {
    /// We began; the peer has not answered.
    BeginSent,
    /// Both have begun.
    Mapped,
    /// We ended; the peer has not answered, and what it still sends is not for us.
    EndSent {
        /// Whether the caller waits for the answer.
        tell: bool,
    },
}

/// What a session works with besides itself.
#[derive(Debug)]
pub(super) struct Context<'c> {
    pub(super) config: &'c Config,
    pub(super) output: &'c mut Output,
    pub(super) events: &'c mut VecDeque<Event>,
    pub(super) usage: &'c mut Usage,
}

/// What all sessions of a connection together take from its limits.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) links: usize,
    /// Bytes of messages that are not complete.
    pub(super) reassembly_bytes: usize,
    /// Links that were refused because the output was full.
    pub(super) waiting_for_output: Vec<LinkId>,
    last_serial: u32,
}

impl Usage {
    /// A number for a session or link that no other of the connection has.
    pub(super) fn next_serial(&mut self) -> u32 {
        self.last_serial = self.last_serial.wrapping_add(1);
        self.last_serial
    }
}

/// Transfer-id of our first transfer.
pub(super) const FIRST_TRANSFER_ID: u32 = 1;

impl Session {
    fn new(id: SessionId, config: &Config) -> Self {
        Self {
            id,
            phase: SessionPhase::BeginSent,
            remote_channel: None,
            next_incoming_id: 0,
            incoming_window: config.incoming_window,
            next_outgoing_id: FIRST_TRANSFER_ID,
            remote_incoming_window: 0,
            outgoing_window: config.incoming_window,
            remote_handle_max: u32::MAX,
            next_delivery: 0,
            links: BTreeMap::new(),
            unanswered: Vec::new(),
            by_remote_handle: BTreeMap::new(),
            unsettled_in: BTreeMap::new(),
            unsettled_out: BTreeMap::new(),
            told_out: BTreeMap::new(),
            cut_off: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    /// A session that we begin.
    pub(super) fn begin(id: SessionId, ctx: &mut Context<'_>) -> Self {
        let session = Self::new(id, ctx.config);
        session.write_begin(ctx);
        session
    }

    /// A session that the peer begins; the answer is written.
    pub(super) fn answer(id: SessionId, remote_channel: u16, begin: &Begin, ctx: &mut Context<'_>) -> Self {
        let mut session = Self::new(id, ctx.config);
        session.map(remote_channel, begin);
        session.write_begin(ctx);
        session
    }

    /// Takes in the peer's begin.
    pub(super) fn map(&mut self, remote_channel: u16, begin: &Begin) {
        if self.phase == SessionPhase::BeginSent {
            self.phase = SessionPhase::Mapped;
        }
        self.remote_channel = Some(remote_channel);
        self.next_incoming_id = begin.next_outgoing_id;
        self.remote_incoming_window = begin.incoming_window;
        self.outgoing_window = begin.incoming_window;
        self.remote_handle_max = begin.handle_max;
    }

    fn write_begin(&self, ctx: &mut Context<'_>) {
        let begin = Begin {
            remote_channel: self.remote_channel,
            next_outgoing_id: self.next_outgoing_id,
            incoming_window: self.incoming_window,
            outgoing_window: self.outgoing_window,
            handle_max: ctx.config.handle_max,
            ..Begin::default()
        };
        ctx.output.amqp(self.id.channel, Performative::Begin(begin));
    }

    /// Takes in a frame that is about this session, begin and end aside.
    pub(super) fn on_performative(
        &mut self,
        performative: Performative,
        payload: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<(), Fault> {
        match performative {
            Performative::Attach(attach) => self.on_attach(attach, ctx),
            Performative::Flow(flow) => {
                self.on_flow(&flow, ctx);
                Ok(())
            }
            Performative::Transfer(transfer) => self.on_transfer(transfer, payload, ctx),
            Performative::Disposition(disposition) => {
                self.on_disposition(&disposition, ctx);
                Ok(())
            }
            Performative::Detach(detach) => {
                self.on_detach(detach, ctx);
                Ok(())
            }
            Performative::Open(_)
            | Performative::Begin(_)
            | Performative::End(_)
            | Performative::Close(_) => {
                Err(Fault::Connection(PeerMisbehaved::OutOfTurn(performative.name())))
            }
        }
    }

    /// Takes in windows and credit (OASIS part 2, sections 2.5.6 and 2.6.7).
    fn on_flow(&mut self, flow: &Flow, ctx: &mut Context<'_>) {
        let seen = flow.next_incoming_id.unwrap_or(FIRST_TRANSFER_ID);
        let under_way = distance(seen, self.next_outgoing_id);
        self.remote_incoming_window = flow.incoming_window.saturating_sub(under_way);
        self.send_cut_off(ctx);
        self.wake_waiting(ctx);
        // A flow for a handle without link comes from a peer that is leaving; it asks for nothing.
        let handle = flow.link.and_then(|link| self.by_remote_handle.get(&link.handle).copied());
        if let (Some(link_flow), Some(handle)) = (flow.link, handle) {
            self.on_link_flow(handle, &link_flow, flow.echo, ctx);
        } else if flow.echo && flow.link.is_none() {
            self.write_flow(None, ctx);
        }
    }

    fn on_link_flow(&mut self, handle: u32, flow: &LinkFlow, echo: bool, ctx: &mut Context<'_>) {
        match self.links.get_mut(&handle).map(|link| &mut link.end) {
            Some(LinkEnd::Sender(_)) => self.on_credit(handle, flow, echo, ctx),
            Some(LinkEnd::Receiver(_)) => self.on_sender_state(handle, flow, echo, ctx),
            None => {}
        }
    }

    /// Writes the state of the session, and of one link when it is given.
    pub(super) fn write_flow(&self, link: Option<LinkFlow>, ctx: &mut Context<'_>) {
        let flow = Flow {
            next_incoming_id: self.remote_channel.map(|_| self.next_incoming_id),
            incoming_window: self.incoming_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: self.outgoing_window,
            link,
            ..Flow::default()
        };
        ctx.output.amqp(self.id.channel, Performative::Flow(flow));
    }

    /// Whether no more unsettled deliveries may be sent.
    pub(super) fn unsettled_is_full(&self, config: &Config) -> bool {
        self.unsettled_out.len() + self.told_out.len() >= config.unsettled_max
    }

    /// Gives back what the links of this session take from the limits of the connection.
    pub(super) fn release(&self, usage: &mut Usage) {
        usage.links -= self.links.len();
        for link in self.links.values() {
            link.release_reassembly(usage);
        }
    }
}

/// How far `behind` is behind `ahead` in serial numbers (RFC 1982); 0 when it is not.
pub(super) fn distance(behind: u32, ahead: u32) -> u32 {
    let distance = ahead.wrapping_sub(behind);
    if distance > u32::MAX / 2 { 0 } else { distance }
}
