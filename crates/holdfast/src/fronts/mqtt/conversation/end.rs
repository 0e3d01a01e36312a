//! How a connection ends, and what is made of it.

use std::sync::Arc;
use std::time::Duration;

use hub::backoff::Pace;
use hub::decision::{Act, Facts};
use hub::hub::Hub;
use hub::identity::Identity;
use hub::ports::bus::{Ending, Holder as _};
use hub::ports::event_log::AppendError;
use hub::record::Session;
use hub::refusal::Refusal;
use hub::telemetry::MESSAGE_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use wire::mqtt::five::DisconnectReasonCode as Reason;
use wire::mqtt::{Goodbye, PacketError, Violation};

use super::{Conversation, Online};
use crate::drain::Drain;
use crate::fronts::mqtt::five::outcome::{Outcome, Status};
use crate::io::Stream;
use crate::listen::spoken;

/// How long the last bytes to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a connection is over.
pub(super) enum End {
    /// The client said good-bye.
    Disconnected(Goodbye),
    /// The socket is gone.
    Lost(String),
    /// The client was not admitted; the answer is in the output.
    NotAdmitted(Box<Pace>),
    /// The client did what it may not.
    Refused(Refusal),
    /// The client could not authenticate again; that is on record.
    NotRenewed,
    /// The hub ends it.
    Ended(Ending),
    /// The hub cannot go on with it.
    Failed(String),
}

impl End {
    /// That of a client whose message did not become durable.
    pub(super) fn not_stored(error: &AppendError) -> Self {
        match error {
            AppendError::NoSpace => Self::Refused(Refusal::DiskFull),
            AppendError::Full { .. }
            | AppendError::Failed(_)
            | AppendError::Closing
            | AppendError::NoPartition(_) => Self::Failed(error.to_string()),
        }
    }
}

impl<S: Stream> Conversation<S> {
    /// Tells an admitted client of MQTT 5 why its connection ends, where it was not told already.
    fn say_end(&mut self, end: &End) {
        let (reason, properties) = match end {
            End::Disconnected(_) | End::Lost(_) | End::NotAdmitted(_) => return,
            End::Refused(Refusal::MessageTooLarge { .. }) => (Reason::PacketTooLarge, Vec::new()),
            End::Refused(Refusal::DiskFull) => Outcome::of(Status::ServerError).of_disconnect(),
            End::Refused(_) => (Reason::ImplementationSpecificError, Vec::new()),
            End::NotRenewed | End::Ended(Ending::RightEnded | Ending::TokenEnded) => {
                (Reason::NotAuthorized, Vec::new())
            }
            End::Ended(Ending::TakenOver) => (Reason::SessionTakenOver, Vec::new()),
            End::Ended(Ending::NotReading) => (Reason::QuotaExceeded, Vec::new()),
            End::Ended(Ending::Draining) => (Reason::ServerShuttingDown, Vec::new()),
            End::Failed(_) => Outcome::of(Status::ServerError).of_disconnect(),
        };
        self.machine.disconnect(reason, properties);
    }

    /// Gives the identity up, publishes the will where there is one, records the end, and closes the socket.
    pub(super) async fn finish(mut self, end: End, drain: &Drain) {
        self.say_end(&end);
        let is_told = self.machine.speaks_five() && matches!(end, End::Refused(_));
        if let Some(mut online) = self.online.take() {
            let grant = online.live.grant();
            let identity = grant.identity().clone();
            let goodbye = match &end {
                End::Disconnected(goodbye) => Some(*goodbye),
                _ => None,
            };
            if goodbye.is_some_and(|goodbye| goodbye.ends_session) && online.keeps_session {
                end_session(&self.hub, &online, &identity).await;
            }
            self.hub.release(&identity, online.epoch);
            online.live.mailbox().close();
            if let Some(unsettled) = &online.unsettled
                && let Err(error) =
                    self.hub.give_back(&identity, &grant.sender.generation, &unsettled.tokens()).await
            {
                tracing::warn!(device.id = %identity, %error, "unacknowledged messages wait for their locks to lapse");
            }
            if goodbye.is_none_or(|goodbye| goodbye.leaves_will)
                && let Some(will) = online.will.take()
            {
                self.publish_will(*will, grant.sender.clone());
            }
            let (reason, refusal) = match &end {
                End::Disconnected(_) => ("the client said good-bye".to_owned(), None),
                End::Lost(how) => (how.clone(), None),
                End::NotAdmitted(_) => ("it was not admitted".to_owned(), None),
                End::NotRenewed => ("it could not authenticate again".to_owned(), None),
                End::Refused(refusal) => {
                    (format!("it was refused: {}", refusal.cause()), Some(refusal.clone()))
                }
                End::Ended(ending) => {
                    (ending.as_str().to_owned(), self.hub.cause_of_end(*ending, grant).await)
                }
                End::Failed(how) => {
                    tracing::error!(device.id = %identity, error = how, "a connection could not go on");
                    (how.clone(), None)
                }
            };
            let ending = match &end {
                End::Ended(ending) => Some(*ending),
                End::Disconnected(_)
                | End::Lost(_)
                | End::NotAdmitted(_)
                | End::NotRenewed
                | End::Refused(_)
                | End::Failed(_) => None,
            };
            let facts = Facts::default();
            let origin = self.visitor.origin.clone();
            self.hub.record(
                Act::Disconnect { reason, ending },
                Some(identity.to_string()),
                origin,
                facts,
                refusal,
            );
        } else if let End::Refused(refusal) = end {
            let (origin, facts) = (self.visitor.origin.clone(), std::mem::take(&mut self.visitor.facts));
            self.hub.record(Act::Connect, None, origin, facts, Some(refusal));
        } else if let End::NotAdmitted(pace) = end {
            let facts = std::mem::take(&mut self.visitor.facts);
            drop((facts, self.visitor.chain.take()));
            tokio::select! {
                () = linger(&mut self.stream, pace.wait) => {}
                () = drain.begun() => {}
            }
        }
        let farewell = async {
            let _ = self.stream.write_all(self.machine.output()).await;
            let _ = self.stream.shutdown().await;
            // What a client still sends would reset the connection, and with it go the words of DISCONNECT.
            let mut passed_over = [0; 1024];
            while is_told && matches!(self.stream.read(&mut passed_over).await, Ok(1..)) {}
        };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
    }
}

/// Ends the session of a client that wants it no longer, unless a newer connection has it by now.
async fn end_session(hub: &Hub, online: &Online, identity: &Identity) {
    let holder = hub.bus.holder(identity);
    if holder.is_none_or(|holder| !std::ptr::addr_eq(Arc::as_ptr(&holder), Arc::as_ptr(&online.live))) {
        return;
    }
    let session = Session { subscriptions: Vec::new(), ..online.session.clone() };
    if let Err(error) = hub.store_session(identity, session).await {
        tracing::warn!(device.id = %identity, %error, "a session could not be ended");
    }
}

/// Keeps a connection open without a word, unless the client goes first.
async fn linger(stream: &mut (impl AsyncRead + Unpin), wait: Duration) {
    if wait.is_zero() {
        return;
    }
    let mut byte = [0];
    let mut over = std::pin::pin!(tokio::time::sleep(wait));
    tokio::select! {
        () = over.as_mut() => {}
        // Nobody wants what it sends; it only has to wait like the others.
        read = stream.read(&mut byte) => if matches!(read, Ok(1..)) { over.await },
    }
}

pub(super) fn refusal_of(violation: &Violation, first_byte: Option<u8>) -> Refusal {
    match violation {
        Violation::Packet(PacketError::TooLarge { size, .. }) => {
            Refusal::MessageTooLarge { size: *size, limit: MESSAGE_BYTES_MAX }
        }
        Violation::Packet(PacketError::ProtocolLevel) => Refusal::MqttVersion,
        Violation::FirstPacketNotConnect => match first_byte.and_then(spoken) {
            Some(spoken) => Refusal::WrongPort { spoken: spoken.to_owned(), served: "MQTT".to_owned() },
            None => Refusal::Protocol { problem: violation.to_string() },
        },
        Violation::QosTwo => Refusal::QosTwo,
        Violation::ConnectTimeout => Refusal::ConnectTimeout,
        Violation::KeepAlive(seconds) => Refusal::KeepAliveMissed { seconds: *seconds },
        Violation::Packet(
            PacketError::Malformed(_)
            | PacketError::TopicName(_)
            | PacketError::ClientId
            | PacketError::Protocol(_)
            | PacketError::TopicAliasZero,
        )
        | Violation::SecondConnect
        | Violation::ServersPacket
        | Violation::Retain
        | Violation::ReceiveMaximum(_)
        | Violation::TopicAlias
        | Violation::NoTopic
        | Violation::SubscriptionIdentifier
        | Violation::SharedSubscription
        | Violation::PacketsTooSmall(_)
        | Violation::Auth
        | Violation::SessionExpiry => Refusal::Protocol { problem: violation.to_string() },
    }
}
