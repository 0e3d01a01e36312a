//! The sessions of a connection: begin, end, and the way of a frame to its session.

use super::error::{CommandError, Fault, PeerMisbehaved};
use super::event::{DetachCause, EndCause, Event};
use super::id::{LinkId, SessionId};
use super::session::{Context, Session, SessionPhase};
use super::{Connection, State};
use crate::amqp::performative::{Begin, End, Error, Performative};

impl Connection {
    pub(super) fn on_begin(&mut self, channel: u16, begin: &Begin) -> Result<(), PeerMisbehaved> {
        let max = self.config.channel_max;
        if channel > max {
            return Err(PeerMisbehaved::ChannelTooHigh { channel, max });
        }
        if self.by_remote_channel.contains_key(&channel) {
            return Err(PeerMisbehaved::ChannelInUse(channel));
        }
        match begin.remote_channel {
            Some(ours) => self.on_begin_answer(channel, ours, begin),
            None => self.on_new_begin(channel, begin),
        }
    }

    fn on_new_begin(&mut self, channel: u16, begin: &Begin) -> Result<(), PeerMisbehaved> {
        let too_many = PeerMisbehaved::TooManySessions(self.config.sessions_max);
        let Some(id) = self.next_session_id() else {
            return Err(too_many);
        };
        let (sessions, mut ctx) = self.parts();
        sessions.insert(id.channel, Box::new(Session::answer(id, channel, begin, &mut ctx)));
        ctx.events.push_back(Event::Begun(id));
        self.by_remote_channel.insert(channel, id.channel);
        Ok(())
    }

    fn on_begin_answer(&mut self, channel: u16, ours: u16, begin: &Begin) -> Result<(), PeerMisbehaved> {
        let session = self.sessions.get_mut(&ours).filter(|session| session.remote_channel.is_none());
        let session = session.ok_or(PeerMisbehaved::UnexpectedBeginAnswer(ours))?;
        session.map(channel, begin);
        self.by_remote_channel.insert(channel, ours);
        if session.phase == SessionPhase::Mapped {
            self.events.push_back(Event::Begun(session.id));
        }
        Ok(())
    }

    /// The lowest channel that is free here and that the peer takes.
    pub(super) fn next_session_id(&mut self) -> Option<SessionId> {
        if self.sessions.len() >= self.config.sessions_max {
            return None;
        }
        let channel = match self.sessions.last_key_value() {
            None => 0,
            // No gap: the common case.
            Some((last, _)) if usize::from(*last) + 1 == self.sessions.len() => last.checked_add(1)?,
            Some(_) => (0..).zip(self.sessions.keys()).find(|(free, used)| free != *used)?.0,
        };
        (channel <= self.remote_channel_max).then(|| SessionId { channel, serial: self.usage.next_serial() })
    }

    pub(super) fn on_end(&mut self, channel: u16, end: End) {
        // An end for a channel without session is one more from a peer that has left already.
        let Some(ours) = self.by_remote_channel.remove(&channel) else {
            return;
        };
        let Some(session) = self.sessions.remove(&ours) else {
            return;
        };
        session.release(&mut self.usage);
        let cause = match session.phase {
            SessionPhase::EndSent { tell: false } => return,
            SessionPhase::EndSent { tell: true } => EndCause::ByUs,
            SessionPhase::BeginSent | SessionPhase::Mapped => {
                self.output.amqp(ours, Performative::End(End { error: None }));
                EndCause::ByPeer(end.error)
            }
        };
        self.events.push_back(Event::Ended { session: session.id, cause });
    }

    /// Brings a frame to its session.
    pub(super) fn on_session_performative(
        &mut self,
        channel: u16,
        performative: Performative,
        payload: &[u8],
    ) -> Result<(), PeerMisbehaved> {
        let Some(ours) = self.by_remote_channel.get(&channel).copied() else {
            return stray(channel, &performative);
        };
        let (sessions, mut ctx) = self.parts();
        let Some(session) = sessions.get_mut(&ours) else {
            return Ok(());
        };
        if matches!(session.phase, SessionPhase::EndSent { .. }) {
            return Ok(());
        }
        match session.on_performative(performative, payload, &mut ctx) {
            Ok(()) => Ok(()),
            Err(Fault::Connection(misbehaved)) => Err(misbehaved),
            Err(Fault::Session(misbehaved)) => {
                session.end(Some(misbehaved.to_error()), false, &mut ctx);
                let cause = EndCause::PeerMisbehaved(misbehaved);
                ctx.events.push_back(Event::Ended { session: session.id, cause });
                Ok(())
            }
            Err(Fault::Link(handle, misbehaved)) => {
                session.fail_link(handle, misbehaved, &mut ctx);
                Ok(())
            }
        }
    }

    /// Tells the links that waited for room in the output.
    pub(super) fn wake_for_output(&mut self) {
        let waiting = !self.usage.waiting_for_output.is_empty();
        if !waiting || self.pending_output_len() > self.config.output_bytes_max / 2 {
            return;
        }
        for link in std::mem::take(&mut self.usage.waiting_for_output) {
            let (sessions, mut ctx) = self.parts();
            if let Some(session) = sessions.get_mut(&link.session.channel)
                && let Ok(handle) = session.handle_of(link)
            {
                session.wake(handle, &mut ctx);
            }
        }
    }

    /// The session of a command.
    pub(super) fn session(&mut self, id: SessionId) -> Result<(&mut Session, Context<'_>), CommandError> {
        if self.state != State::Open {
            return Err(CommandError::WrongState);
        }
        let (sessions, ctx) = self.parts();
        let session = sessions.get_mut(&id.channel).filter(|session| session.id == id);
        match session {
            Some(session) if !matches!(session.phase, SessionPhase::EndSent { .. }) => Ok((session, ctx)),
            _ => Err(CommandError::NoSession),
        }
    }

    /// The session and handle of the link of a command.
    pub(super) fn link(&mut self, id: LinkId) -> Result<(&mut Session, u32, Context<'_>), CommandError> {
        let (session, ctx) = self.session(id.session)?;
        let handle = session.handle_of(id)?;
        Ok((session, handle, ctx))
    }
}

impl Session {
    /// Ends the session; its links go with it.
    pub(super) fn end(&mut self, error: Option<Error>, tell: bool, ctx: &mut Context<'_>) {
        ctx.output.amqp(self.id.channel, Performative::End(End { error }));
        self.phase = SessionPhase::EndSent { tell };
        self.release(ctx.usage);
        self.links.clear();
        self.by_remote_handle.clear();
        self.unsettled_in.clear();
        self.unsettled_out.clear();
        self.told_out.clear();
        self.unanswered.clear();
        self.cut_off.clear();
        self.waiting.clear();
    }

    fn fail_link(&mut self, handle: u32, misbehaved: PeerMisbehaved, ctx: &mut Context<'_>) {
        let Some(link) = self.links.get(&handle).map(|link| link.id) else {
            return;
        };
        if self.detach(handle, Some(misbehaved.to_error()), false, ctx).is_ok() {
            let cause = DetachCause::PeerMisbehaved(misbehaved);
            ctx.events.push_back(Event::Detached { link, cause });
        }
    }
}

/// A frame on a channel without session. A peer that is leaving detaches and settles after its end;
/// that means nothing. A new link or a message has to be told that nobody takes it.
fn stray(channel: u16, performative: &Performative) -> Result<(), PeerMisbehaved> {
    match performative {
        Performative::Flow(_) | Performative::Disposition(_) | Performative::Detach(_) => Ok(()),
        Performative::Open(_) => Err(PeerMisbehaved::OutOfTurn("open")),
        Performative::Attach(_)
        | Performative::Transfer(_)
        | Performative::Begin(_)
        | Performative::End(_)
        | Performative::Close(_) => Err(PeerMisbehaved::NoSession(channel)),
    }
}
