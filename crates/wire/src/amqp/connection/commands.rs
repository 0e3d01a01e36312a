//! What a caller can tell a connection to do, once it is open.

use super::answer::AttachAnswer;
use super::error::{CommandError, SendError};
use super::id::{DeliveryId, LinkId, SessionId};
use super::receiving::CreditPolicy;
use super::sending::SendOptions;
use super::session::Session;
use super::{Connection, State};
use crate::amqp::message::MessageWriter;
use crate::amqp::performative::{Attach, DeliveryState, Error};

impl Connection {
    /// Begins a session. [`Event::Begun`](super::Event::Begun) follows; links may be attached before.
    pub fn begin(&mut self) -> Result<SessionId, CommandError> {
        if self.state != State::Open {
            return Err(CommandError::WrongState);
        }
        let id = self.next_session_id().ok_or(CommandError::PeerLimit)?;
        let (sessions, mut ctx) = self.parts();
        sessions.insert(id.channel, Box::new(Session::begin(id, &mut ctx)));
        Ok(id)
    }

    /// Ends a session and everything in it. [`Event::Ended`](super::Event::Ended) follows.
    pub fn end(&mut self, session: SessionId, error: Option<Error>) -> Result<(), CommandError> {
        let (session, mut ctx) = self.session(session)?;
        session.end(error, true, &mut ctx);
        Ok(())
    }

    /// Attaches a link of our own; its handle is filled in. [`Event::Attached`](super::Event::Attached)
    /// follows. `credit` is granted then, when the link receives.
    pub fn attach(
        &mut self,
        session: SessionId,
        attach: Attach,
        credit: CreditPolicy,
    ) -> Result<LinkId, CommandError> {
        let (session, mut ctx) = self.session(session)?;
        session.attach(attach, credit, &mut ctx)
    }

    /// Answers [`Event::Attach`](super::Event::Attach) with yes.
    pub fn accept_attach(&mut self, link: LinkId, answer: AttachAnswer) -> Result<(), CommandError> {
        let (session, handle, mut ctx) = self.link(link)?;
        session.accept(handle, answer, &mut ctx)
    }

    /// Answers [`Event::Attach`](super::Event::Attach) with no. The link is gone; no event follows.
    pub fn refuse_attach(&mut self, link: LinkId, error: Error) -> Result<(), CommandError> {
        let (session, handle, mut ctx) = self.link(link)?;
        session.refuse_new(handle, error, &mut ctx)
    }

    /// Detaches a link for good. [`Event::Detached`](super::Event::Detached) follows when the peer
    /// has answered; nothing else of this link does.
    pub fn detach(&mut self, link: LinkId, error: Option<Error>) -> Result<(), CommandError> {
        let (session, handle, mut ctx) = self.link(link)?;
        session.detach(handle, error, true, &mut ctx)
    }

    /// Grants a receiving link this much credit, in place of what is left of earlier credit. Ends
    /// [`CreditPolicy::TopUp`].
    pub fn grant_credit(&mut self, link: LinkId, credit: u32) -> Result<(), CommandError> {
        let (session, handle, mut ctx) = self.link(link)?;
        session.grant(handle, credit, &mut ctx)
    }

    /// Changes when a receiving link grants credit.
    pub fn set_credit_policy(&mut self, link: LinkId, policy: CreditPolicy) -> Result<(), CommandError> {
        let (session, handle, mut ctx) = self.link(link)?;
        session.set_policy(handle, policy, &mut ctx)
    }

    /// Asks the peer to use the credit of a receiving link up or give it back.
    /// [`Event::Drained`](super::Event::Drained) follows. Ends [`CreditPolicy::TopUp`].
    pub fn drain(&mut self, link: LinkId) -> Result<(), CommandError> {
        let (session, handle, mut ctx) = self.link(link)?;
        session.drain(handle, &mut ctx)
    }

    /// Answers [`Event::DrainRequested`](super::Event::DrainRequested): whatever credit is left goes
    /// back.
    pub fn drained(&mut self, link: LinkId) -> Result<(), CommandError> {
        let (session, handle, mut ctx) = self.link(link)?;
        session.drained(handle, &mut ctx)
    }

    /// How many messages a sending link may send now, or why none. Unlike a refused
    /// [`send`](Self::send), asking does not make [`Event::Sendable`](super::Event::Sendable) follow.
    pub fn sendable(&mut self, link: LinkId) -> Result<u32, SendError> {
        let (session, handle, ctx) = self.link(link)?;
        session.sendable(handle, &ctx)
    }

    /// Sends one message, if the link has credit, the session a window and the output room; nothing
    /// is kept if not, and [`Event::Sendable`](super::Event::Sendable) tells when to try again.
    ///
    /// `message` writes the sections straight into the output; see [`MessageWriter`].
    pub fn send(
        &mut self,
        link: LinkId,
        options: SendOptions,
        message: impl FnOnce(&mut MessageWriter<'_>),
    ) -> Result<DeliveryId, SendError> {
        let (session, handle, mut ctx) = self.link(link)?;
        session.send(handle, options, message, &mut ctx)
    }

    /// Settles a delivery in either direction with its final state. Deliveries that are settled one
    /// after the other as accepted share a frame.
    pub fn settle(&mut self, delivery: DeliveryId, state: DeliveryState) -> Result<(), CommandError> {
        let (session, mut ctx) = self.session(delivery.session)?;
        session.dispose(delivery, true, state, &mut ctx)
    }

    /// Tells the state of a delivery without settling it.
    pub fn update(&mut self, delivery: DeliveryId, state: DeliveryState) -> Result<(), CommandError> {
        let (session, mut ctx) = self.session(delivery.session)?;
        session.dispose(delivery, false, state, &mut ctx)
    }
}
