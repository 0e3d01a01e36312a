//! Headers, SASL and open: everything before the first session.

use std::time::{Duration, Instant};

use super::error::{CloseReason, CommandError, PeerMisbehaved};
use super::event::Event;
use super::{Connection, OpenOptions, State};
use crate::amqp::codec::Symbol;
use crate::amqp::frame::{MIN_MAX_FRAME_SIZE, ProtocolHeader};
use crate::amqp::performative::{Open, Performative};
use crate::amqp::sasl::{SaslBytes, SaslCode, SaslFrame, SaslOutcome};

impl Connection {
    pub(super) fn begin_as_client(&mut self) {
        let Some(client) = &self.client else {
            return;
        };
        if client.sasl.is_some() {
            self.output.header(ProtocolHeader::Sasl);
        } else {
            self.begin_amqp_as_client();
        }
    }

    /// Header and open go out together; the server answers both.
    fn begin_amqp_as_client(&mut self) {
        self.output.header(ProtocolHeader::Amqp);
        if let Some(client) = self.client.take() {
            self.write_open(&client.open);
            self.client = Some(client);
        }
    }

    pub(super) fn on_header(
        &mut self,
        bytes: [u8; 8],
        header: Option<ProtocolHeader>,
    ) -> Result<(), PeerMisbehaved> {
        let wants_sasl = self.client.as_ref().map(|client| client.sasl.is_some());
        self.state = match (self.state, header, wants_sasl) {
            (State::AwaitAmqpHeader, Some(ProtocolHeader::Amqp), None) => {
                self.output.header(ProtocolHeader::Amqp);
                State::AwaitOpen
            }
            (State::AwaitAmqpHeader, Some(ProtocolHeader::Amqp), Some(_))
            | (State::AwaitHeader, Some(ProtocolHeader::Amqp), Some(false)) => State::AwaitOpen,
            (State::AwaitHeader, Some(ProtocolHeader::Amqp), None) if self.config.sasl_optional => {
                self.output.header(ProtocolHeader::Amqp);
                State::AwaitOpen
            }
            (State::AwaitHeader, Some(ProtocolHeader::Sasl), None) => {
                self.output.header(ProtocolHeader::Sasl);
                self.output.sasl(&SaslFrame::Mechanisms(self.config.sasl_mechanisms.clone()));
                State::AwaitInit
            }
            (State::AwaitHeader, Some(ProtocolHeader::Sasl), Some(true)) => State::AwaitMechanisms,
            _ => return Err(PeerMisbehaved::UnsupportedHeader(bytes)),
        };
        Ok(())
    }

    /// Tells a peer with the wrong header which one is right. A client has sent its own already.
    pub(super) fn write_supported_header(&mut self) {
        if self.client.is_none() {
            let sasl_is_next = self.state == State::AwaitHeader;
            self.output.header(if sasl_is_next { ProtocolHeader::Sasl } else { ProtocolHeader::Amqp });
        }
    }

    pub(super) fn on_sasl(&mut self, frame: SaslFrame) -> Result<(), PeerMisbehaved> {
        match (self.state, frame) {
            (State::AwaitInit, SaslFrame::Init(init)) => {
                if !self.config.sasl_mechanisms.contains(&init.mechanism) {
                    return Err(PeerMisbehaved::MechanismNotOffered(init.mechanism));
                }
                self.ask(State::AwaitVerdict, Event::SaslInit(init));
            }
            (State::AwaitResponse, SaslFrame::Response(bytes)) => {
                self.ask(State::AwaitVerdict, Event::SaslResponse(bytes));
            }
            (State::AwaitMechanisms, SaslFrame::Mechanisms(offered)) => self.choose(&offered)?,
            (State::AwaitOutcome, SaslFrame::Challenge(bytes)) => {
                self.ask(State::AwaitOurResponse, Event::SaslChallenge(bytes));
            }
            (State::AwaitOutcome, SaslFrame::Outcome(outcome)) => match outcome.code {
                SaslCode::Ok => {
                    self.state = State::AwaitAmqpHeader;
                    self.begin_amqp_as_client();
                }
                code => self.finish(CloseReason::SaslFailed(code)),
            },
            (_, frame) => return Err(PeerMisbehaved::OutOfTurn(frame.name())),
        }
        Ok(())
    }

    fn ask(&mut self, state: State, event: Event) {
        self.state = state;
        self.events.push_back(event);
    }

    fn choose(&mut self, offered: &[Symbol]) -> Result<(), PeerMisbehaved> {
        let Some(init) = self.client.as_mut().and_then(|client| client.sasl.clone()) else {
            return Err(PeerMisbehaved::OutOfTurn("sasl-mechanisms"));
        };
        if !offered.contains(&init.mechanism) {
            return Err(PeerMisbehaved::MechanismNotOffered(init.mechanism));
        }
        self.output.sasl(&SaslFrame::Init(init));
        self.state = State::AwaitOutcome;
        Ok(())
    }

    /// Server: the verdict on [`Event::SaslInit`] or [`Event::SaslResponse`]. Anything but
    /// [`SaslCode::Ok`] ends the connection. `additional_data` is the mechanism's, or a greeting.
    pub fn sasl_outcome(
        &mut self,
        code: SaslCode,
        additional_data: Option<SaslBytes>,
        now: Instant,
    ) -> Result<(), CommandError> {
        self.expect_state(State::AwaitVerdict)?;
        self.output.sasl(&SaslFrame::Outcome(SaslOutcome { code, additional_data }));
        if code == SaslCode::Ok {
            self.state = State::AwaitAmqpHeader;
            self.process_input(now);
        } else {
            self.finish(CloseReason::SaslFailed(code));
        }
        Ok(())
    }

    /// Server: asks for more before the verdict; [`Event::SaslResponse`] is the answer.
    pub fn sasl_challenge(&mut self, challenge: SaslBytes, now: Instant) -> Result<(), CommandError> {
        self.expect_state(State::AwaitVerdict)?;
        self.output.sasl(&SaslFrame::Challenge(challenge));
        self.state = State::AwaitResponse;
        self.process_input(now);
        Ok(())
    }

    /// Client: answers [`Event::SaslChallenge`].
    pub fn sasl_respond(&mut self, response: SaslBytes, now: Instant) -> Result<(), CommandError> {
        self.expect_state(State::AwaitOurResponse)?;
        self.output.sasl(&SaslFrame::Response(response));
        self.state = State::AwaitOutcome;
        self.process_input(now);
        Ok(())
    }

    pub(super) fn write_auth_failure(&mut self) {
        let outcome = SaslOutcome { code: SaslCode::Auth, additional_data: None };
        self.output.sasl(&SaslFrame::Outcome(outcome));
    }

    pub(super) fn on_open(&mut self, open: Box<Open>, now: Instant) -> Result<(), PeerMisbehaved> {
        if open.max_frame_size < MIN_MAX_FRAME_SIZE {
            return Err(PeerMisbehaved::MaxFrameSizeTooSmall(open.max_frame_size));
        }
        let idle_timeout = open.idle_time_out.filter(|ms| *ms > 0);
        let idle_timeout = idle_timeout.map(|ms| Duration::from_millis(ms.into()));
        let min = self.config.peer_idle_timeout_min;
        if let Some(asked) = idle_timeout.filter(|asked| *asked < min) {
            return Err(PeerMisbehaved::IdleTimeoutTooShort { asked, min });
        }
        // A peer that takes frames of 4 GiB would still have to hold each of them whole.
        self.output.frame_size_max = open.max_frame_size.min(self.config.max_frame_size);
        self.remote_channel_max = open.channel_max;
        let heartbeat = idle_timeout.map(|timeout| timeout / 2).or(self.config.heartbeat_default);
        self.timers.set_heartbeat(heartbeat, now);
        if self.client.take().is_some() {
            self.timers.opened(now, self.config.idle_timeout);
            self.ask(State::Open, Event::Open(open));
        } else {
            self.ask(State::AwaitOpenAnswer, Event::Open(open));
        }
        Ok(())
    }

    /// Server: answers [`Event::Open`] with our open.
    pub fn accept_open(&mut self, options: &OpenOptions, now: Instant) -> Result<(), CommandError> {
        self.expect_state(State::AwaitOpenAnswer)?;
        self.write_open(options);
        self.timers.opened(now, self.config.idle_timeout);
        self.state = State::Open;
        self.process_input(now);
        Ok(())
    }

    pub(super) fn write_open(&mut self, options: &OpenOptions) {
        let idle_time_out = self.config.idle_timeout.map(|timeout| timeout.as_millis());
        let open = Open {
            container_id: self.config.container_id.clone(),
            hostname: options.hostname.clone(),
            max_frame_size: self.config.max_frame_size.max(MIN_MAX_FRAME_SIZE),
            channel_max: self.config.channel_max,
            idle_time_out: idle_time_out.and_then(|ms| u32::try_from(ms).ok()),
            outgoing_locales: Vec::new(),
            incoming_locales: Vec::new(),
            offered_capabilities: options.offered_capabilities.clone(),
            desired_capabilities: options.desired_capabilities.clone(),
            properties: options.properties.clone(),
        };
        self.output.amqp(0, Performative::Open(Box::new(open)));
    }

    fn expect_state(&self, state: State) -> Result<(), CommandError> {
        if self.state == state { Ok(()) } else { Err(CommandError::WrongState) }
    }
}
