//! How a connection ends: by the peer, by the caller, by what the peer did, or by its silence.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::error::{CloseReason, CommandError, PeerMisbehaved};
use super::event::Event;
use super::session::Usage;
use super::{Connection, OpenOptions, State};
use crate::amqp::performative::{Close, Error, Performative, condition};

impl Connection {
    /// Closes the connection. Until the peer has answered, or the time for that is over, nothing it
    /// sends is looked at; then [`Event::Closed`] follows.
    pub fn close(&mut self, error: Option<Error>, now: Instant) -> Result<(), CommandError> {
        match self.state {
            State::Open => {}
            // A client has sent its open.
            State::AwaitOpen if self.client.is_some() => {}
            // A close may only follow an open (OASIS part 2, section 2.4.6).
            State::AwaitOpenAnswer => self.write_open(&OpenOptions::default()),
            _ => return Err(CommandError::WrongState),
        }
        self.write_close(error);
        self.state = State::CloseSent;
        self.timers.closing(now, self.config.close_timeout);
        self.process_input(now);
        Ok(())
    }

    pub(super) fn on_close(&mut self, close: Close) {
        if self.state == State::CloseSent {
            return self.finish(CloseReason::ByUs);
        }
        self.write_close(None);
        self.finish(CloseReason::ByPeer(close.error));
    }

    /// Ends the connection because of what the peer did.
    pub(super) fn fail(&mut self, misbehaved: PeerMisbehaved) {
        match self.state {
            // No frame makes sense to somebody whose header was wrong; ours is the answer
            // (OASIS part 2, section 2.2).
            State::AwaitHeader | State::AwaitAmqpHeader => self.write_supported_header(),
            State::AwaitOpen | State::AwaitOpenAnswer => {
                if self.client.is_none() {
                    self.write_open(&OpenOptions::default());
                }
                self.write_close(Some(misbehaved.to_error()));
            }
            State::Open => self.write_close(Some(misbehaved.to_error())),
            State::AwaitInit | State::AwaitResponse | State::AwaitVerdict => self.write_auth_failure(),
            State::AwaitMechanisms
            | State::AwaitOutcome
            | State::AwaitOurResponse
            | State::CloseSent
            | State::Closed => {}
        }
        self.finish(CloseReason::PeerMisbehaved(misbehaved));
    }

    /// Nothing follows but the output that is still there.
    pub(super) fn finish(&mut self, reason: CloseReason) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.input = BytesMut::new();
        self.sessions = BTreeMap::new();
        self.by_remote_channel = BTreeMap::new();
        self.usage = Usage::default();
        self.events.push_back(Event::Closed(reason));
    }

    fn write_close(&mut self, error: Option<Error>) {
        self.output.amqp(0, Performative::Close(Close { error }));
    }

    pub(super) fn give_up_silent_peer(&mut self, silence: Duration) {
        let text = format!("nothing was received for {} ms", silence.as_millis());
        self.write_close(Some(Error::new(condition::RESOURCE_LIMIT_EXCEEDED, text)));
        self.finish(CloseReason::PeerSilent(silence));
    }
}
