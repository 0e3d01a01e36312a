use super::answer::AttachAnswer;
use super::error::{CommandError, Fault, PeerMisbehaved};
use super::event::{DetachCause, Event};
use super::id::{LinkId, SessionId};
use super::receiving::{CreditPolicy, ReceiverEnd};
use super::sending::SenderEnd;
use super::session::{Context, Session, Usage};
use crate::amqp::performative::{Attach, Detach, Error, Performative, Role, condition};

/// One link of a session (OASIS part 2, section 2.6).
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) phase: LinkPhase,
    pub(super) end: LinkEnd,
    /// The first attach, until both have attached: the peer's when it is to be answered, ours when
    /// the peer is to answer.
    attach: Option<Box<Attach>>,
}

/// How far a link has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkPhase {
    /// The peer attached; the caller has not answered.
    AwaitAnswer,
    /// We attached; the peer has not answered.
    AttachSent,
    /// Both have attached.
    Attached,
    /// We detached; the peer has not answered, and what it still sends is not for us.
    DetachSent {
        /// Whether the caller waits for the answer.
        tell: bool,
    },
}

/// Our end of a link.
#[derive(Debug)]
pub(super) enum LinkEnd {
    Sender(SenderEnd),
    Receiver(ReceiverEnd),
}

impl Link {
    pub(super) fn sender_mut(&mut self) -> Option<&mut SenderEnd> {
        match &mut self.end {
            LinkEnd::Sender(sender) => Some(sender),
            LinkEnd::Receiver(_) => None,
        }
    }

    pub(super) fn receiver_mut(&mut self) -> Option<&mut ReceiverEnd> {
        match &mut self.end {
            LinkEnd::Receiver(receiver) => Some(receiver),
            LinkEnd::Sender(_) => None,
        }
    }

    /// Gives back the bytes of a message that is not complete.
    pub(super) fn release_reassembly(&self, usage: &mut Usage) {
        if let LinkEnd::Receiver(receiver) = &self.end {
            usage.reassembly_bytes -= receiver.reassembly_bytes();
        }
    }
}

impl Session {
    /// Attaches a link of our own.
    pub(super) fn attach(
        &mut self,
        mut attach: Attach,
        credit: CreditPolicy,
        ctx: &mut Context<'_>,
    ) -> Result<LinkId, CommandError> {
        let handle = self.free_handle().ok_or(CommandError::PeerLimit)?;
        attach.handle = handle;
        let end = match attach.role {
            Role::Sender => {
                attach.initial_delivery_count = Some(0);
                LinkEnd::Sender(SenderEnd::default())
            }
            Role::Receiver => {
                let size_max = *attach.max_message_size.get_or_insert(ctx.config.max_message_size);
                LinkEnd::Receiver(ReceiverEnd::new(size_max, 0, credit))
            }
        };
        write_attach(self.id, &attach, ctx)?;
        Ok(self.add_link(handle, None, LinkPhase::AttachSent, end, Box::new(attach), ctx))
    }

    /// Takes in an attach: the answer to one of ours, or a link of the peer's.
    pub(super) fn on_attach(&mut self, attach: Box<Attach>, ctx: &mut Context<'_>) -> Result<(), Fault> {
        if attach.handle > ctx.config.handle_max {
            let max = ctx.config.handle_max;
            return Err(Fault::Connection(PeerMisbehaved::HandleTooHigh { handle: attach.handle, max }));
        }
        if self.by_remote_handle.contains_key(&attach.handle) {
            return Err(Fault::Session(PeerMisbehaved::HandleInUse(attach.handle)));
        }
        match self.attach_answered_by(&attach) {
            Some(handle) => self.on_attach_answer(handle, attach, ctx),
            None => self.on_new_attach(attach, ctx)?,
        }
        Ok(())
    }

    fn on_new_attach(&mut self, attach: Box<Attach>, ctx: &mut Context<'_>) -> Result<(), Fault> {
        let Some(handle) = self.free_handle() else {
            return Err(Fault::Session(PeerMisbehaved::TooManyLinks(self.links.len())));
        };
        let refusal = if attach.coordinator {
            Some(Error::new(condition::NOT_IMPLEMENTED, "there are no transactions here"))
        } else if ctx.usage.links >= ctx.config.links_max {
            let text = format!("a connection takes {} links", ctx.config.links_max);
            Some(Error::new(condition::RESOURCE_LIMIT_EXCEEDED, text))
        } else {
            None
        };
        let end = match attach.role {
            Role::Receiver => LinkEnd::Sender(SenderEnd::new(attach.max_message_size)),
            Role::Sender => {
                // Mandatory in the standard, zero everywhere in practice.
                let delivery_count = attach.initial_delivery_count.unwrap_or(0);
                let size_max = ctx.config.max_message_size;
                LinkEnd::Receiver(ReceiverEnd::new(size_max, delivery_count, CreditPolicy::Manual))
            }
        };
        let remote_handle = attach.handle;
        let kept = attach.clone();
        let link = self.add_link(handle, Some(remote_handle), LinkPhase::AwaitAnswer, end, kept, ctx);
        match refusal {
            Some(error) => self.refuse(handle, error, ctx),
            None => ctx.events.push_back(Event::Attach { link, attach }),
        }
        Ok(())
    }

    fn on_attach_answer(&mut self, handle: u32, attach: Box<Attach>, ctx: &mut Context<'_>) {
        let Some(link) = self.links.get_mut(&handle) else {
            return;
        };
        self.by_remote_handle.insert(attach.handle, handle);
        self.unanswered.retain(|unanswered| *unanswered != handle);
        link.attach = None;
        if link.phase != LinkPhase::AttachSent {
            return; // detached by us in the meantime
        }
        link.phase = LinkPhase::Attached;
        let id = link.id;
        match &mut link.end {
            LinkEnd::Sender(sender) => sender.set_message_size_max(attach.max_message_size),
            LinkEnd::Receiver(receiver) => {
                receiver.delivery_count = attach.initial_delivery_count.unwrap_or(0);
            }
        }
        let refused = match attach.role {
            Role::Sender => attach.source.is_none(),
            Role::Receiver => attach.target.is_none(),
        };
        ctx.events.push_back(Event::Attached { link: id, attach });
        if !refused {
            self.top_up(handle, ctx);
        }
    }

    /// Answers an attach of the peer.
    pub(super) fn accept(
        &mut self,
        handle: u32,
        answer: AttachAnswer,
        ctx: &mut Context<'_>,
    ) -> Result<(), CommandError> {
        let link = self.links.get_mut(&handle).ok_or(CommandError::NoLink)?;
        let asked = link.attach.as_deref().ok_or(CommandError::WrongLinkState)?;
        if link.phase != LinkPhase::AwaitAnswer {
            return Err(CommandError::WrongLinkState);
        }
        let size_max = answer.max_message_size.unwrap_or(ctx.config.max_message_size);
        let credit = answer.credit;
        write_attach(self.id, &answer.into_attach(asked, handle, size_max), ctx)?;
        link.attach = None;
        link.phase = LinkPhase::Attached;
        match &mut link.end {
            LinkEnd::Receiver(receiver) => {
                receiver.accept(size_max, credit);
                self.top_up(handle, ctx);
            }
            LinkEnd::Sender(_) => self.announce_credit(handle, ctx),
        }
        Ok(())
    }

    /// Answers an attach of the peer with no, on behalf of the caller.
    pub(super) fn refuse_new(
        &mut self,
        handle: u32,
        error: Error,
        ctx: &mut Context<'_>,
    ) -> Result<(), CommandError> {
        let link = self.links.get(&handle).ok_or(CommandError::NoLink)?;
        if link.phase != LinkPhase::AwaitAnswer {
            return Err(CommandError::WrongLinkState);
        }
        self.refuse(handle, error, ctx);
        Ok(())
    }

    /// Answers an attach of the peer with no: an attach without terminus at our end, then a detach
    /// (OASIS part 2, section 2.6.3).
    fn refuse(&mut self, handle: u32, error: Error, ctx: &mut Context<'_>) {
        self.write_refused_attach(handle, ctx);
        self.write_detach(handle, true, Some(error), ctx);
        self.forget_deliveries(handle, ctx);
        if let Some(link) = self.links.get_mut(&handle) {
            link.attach = None;
            link.phase = LinkPhase::DetachSent { tell: false };
        }
    }

    /// Detaches a link for good.
    pub(super) fn detach(
        &mut self,
        handle: u32,
        error: Option<Error>,
        tell: bool,
        ctx: &mut Context<'_>,
    ) -> Result<(), CommandError> {
        let link = self.links.get_mut(&handle).ok_or(CommandError::NoLink)?;
        match link.phase {
            LinkPhase::DetachSent { .. } => return Err(CommandError::NoLink),
            LinkPhase::AwaitAnswer => self.write_refused_attach(handle, ctx),
            LinkPhase::AttachSent | LinkPhase::Attached => {}
        }
        if let Some(link) = self.links.get_mut(&handle) {
            link.phase = LinkPhase::DetachSent { tell };
        }
        self.write_detach(handle, true, error, ctx);
        self.forget_deliveries(handle, ctx);
        Ok(())
    }

    /// Takes in a detach. Peers detach links that are gone already; that means nothing.
    pub(super) fn on_detach(&mut self, detach: Detach, ctx: &mut Context<'_>) {
        let Some(handle) = self.by_remote_handle.remove(&detach.handle) else {
            return;
        };
        self.forget_deliveries(handle, ctx);
        let Some(phase) = self.links.get(&handle).map(|link| link.phase) else {
            return;
        };
        if phase == LinkPhase::AwaitAnswer {
            self.write_refused_attach(handle, ctx);
        }
        let answered = matches!(phase, LinkPhase::DetachSent { .. });
        if !answered {
            self.write_detach(handle, detach.closed, None, ctx);
        }
        let Some(link) = self.links.remove(&handle) else {
            return;
        };
        ctx.usage.links -= 1;
        let cause = match phase {
            LinkPhase::DetachSent { tell: false } => return,
            LinkPhase::DetachSent { tell: true } => DetachCause::ByUs,
            LinkPhase::AwaitAnswer | LinkPhase::AttachSent | LinkPhase::Attached => {
                DetachCause::ByPeer { closed: detach.closed, error: detach.error }
            }
        };
        ctx.events.push_back(Event::Detached { link: link.id, cause });
    }

    /// Our handle of a link that is there and not on its way out.
    pub(super) fn handle_of(&self, link: LinkId) -> Result<u32, CommandError> {
        match self.links.get(&link.handle) {
            Some(found) if found.id == link && !matches!(found.phase, LinkPhase::DetachSent { .. }) => {
                Ok(link.handle)
            }
            _ => Err(CommandError::NoLink),
        }
    }

    fn add_link(
        &mut self,
        handle: u32,
        remote_handle: Option<u32>,
        phase: LinkPhase,
        end: LinkEnd,
        attach: Box<Attach>,
        ctx: &mut Context<'_>,
    ) -> LinkId {
        let id = LinkId { session: self.id, handle, serial: ctx.usage.next_serial() };
        ctx.usage.links += 1;
        match remote_handle {
            Some(remote_handle) => {
                self.by_remote_handle.insert(remote_handle, handle);
            }
            None => self.unanswered.push(handle),
        }
        self.links.insert(handle, Box::new(Link { id, phase, end, attach: Some(attach) }));
        id
    }

    /// The link of ours that this attach of the peer answers. Within a session, name and direction
    /// name a link (OASIS part 2, section 2.6.1).
    fn attach_answered_by(&self, attach: &Attach) -> Option<u32> {
        let answered = |handle: &&u32| {
            let ours = self.links.get(handle).and_then(|link| link.attach.as_ref());
            ours.is_some_and(|ours| ours.name == attach.name && ours.role == attach.role.opposite())
        };
        self.unanswered.iter().find(answered).copied()
    }

    /// The lowest handle that is free and that the peer takes.
    fn free_handle(&self) -> Option<u32> {
        let next = match self.links.last_key_value() {
            None => 0,
            // No gap: the common case, and one that must not walk over thousands of links.
            Some((last, _)) if *last as usize + 1 == self.links.len() => last.checked_add(1)?,
            Some(_) => (0..).zip(self.links.keys()).find(|(free, used)| free != *used)?.0,
        };
        (next <= self.remote_handle_max).then_some(next)
    }

    fn write_refused_attach(&mut self, handle: u32, ctx: &mut Context<'_>) {
        let Some(asked) = self.links.get_mut(&handle).and_then(|link| link.attach.take()) else {
            return;
        };
        let mut attach = Attach::new(asked.name, asked.role.opposite());
        attach.handle = handle;
        attach.max_message_size = Some(ctx.config.max_message_size);
        match attach.role {
            Role::Sender => (attach.source, attach.target) = (None, asked.target),
            Role::Receiver => (attach.source, attach.target) = (asked.source, None),
        }
        if write_attach(self.id, &attach, ctx).is_err() {
            // Too long with what the peer said about its own end; without that only the name is left.
            (attach.source, attach.target) = (None, None);
            // A name that fills a frame by itself leaves nothing to answer with but the detach.
            let _ = write_attach(self.id, &attach, ctx);
        }
    }

    fn write_detach(&self, handle: u32, closed: bool, error: Option<Error>, ctx: &mut Context<'_>) {
        ctx.output.amqp(self.id.channel, Performative::Detach(Detach { handle, closed, error }));
    }

    /// Drops the unsettled deliveries and the incomplete messages of a link.
    fn forget_deliveries(&mut self, handle: u32, ctx: &mut Context<'_>) {
        self.unsettled_in.retain(|_, of| *of != handle);
        self.unsettled_out.retain(|_, of| *of != handle);
        self.told_out.retain(|_, of| *of != handle);
        self.cut_off.retain(|of| *of != handle);
        if let Some(link) = self.links.get_mut(&handle) {
            link.release_reassembly(ctx.usage);
            match &mut link.end {
                LinkEnd::Receiver(receiver) => receiver.forget(),
                LinkEnd::Sender(sender) => sender.forget(),
            }
        }
    }
}

/// Writes an attach, if the peer takes a frame of its length.
fn write_attach(session: SessionId, attach: &Attach, ctx: &mut Context<'_>) -> Result<(), CommandError> {
    let limit = ctx.output.frame_size_max;
    ctx.output
        .try_frame(session.channel, |w| attach.write(w))
        .map_err(|size| CommandError::FrameTooLarge { size, limit })
}
