//! The port that knows who holds the connection of an identity.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::BoxFuture;
use crate::authenticate::Grant;
use crate::identity::Identity;
use crate::method::{Call, CallId};
use crate::twin::DesiredChange;

/// Who is connected. An identity has one connection over MQTT and AMQP together; the newer wins.
pub trait Bus: Send + Sync {
    /// Makes this the connection of its identity and ends the one that was. The epoch names the claim.
    fn claim(&self, holder: Arc<dyn Holder>) -> Epoch;

    /// Puts a holder with a renewed grant in the place of the one with this epoch, which is not ended. False when
    /// another connection has claimed the identity since.
    fn renew(&self, epoch: Epoch, holder: Arc<dyn Holder>) -> bool;

    /// Gives the claim up, if it is still the current one: an older epoch releases nothing. Says whether it was.
    fn release(&self, identity: &Identity, epoch: Epoch) -> bool;

    /// The connection of an identity.
    fn holder(&self, identity: &Identity) -> Option<Arc<dyn Holder>>;

    /// Whether an identity is connected.
    fn is_connected(&self, identity: &Identity) -> bool;

    /// All connections, in no order.
    fn holders(&self) -> Vec<Arc<dyn Holder>>;

    /// How many identities are connected.
    fn connected(&self) -> u64;

    /// The connection of an identity once there is one that takes calls of methods: the one that does now, or the next
    /// that is announced by [`Bus::takes_calls`]. Nothing is left behind when the future is dropped.
    fn callable(&self, identity: Identity) -> BoxFuture<'_, Arc<dyn Holder>>;

    /// Announces that the connection of this identity takes calls of methods from now on.
    fn takes_calls(&self, identity: &Identity);
}

/// A live connection.
pub trait Holder: Send + Sync {
    /// What it was admitted with.
    fn grant(&self) -> &Grant;

    /// Ends it soon, without waiting for it.
    fn end(&self, ending: Ending);

    /// Tells it of a change of its desired properties, if it asked to be told. A connection that has not read too many
    /// earlier ones is ended with [`Ending::NotReading`]: its client reads the twin when it comes back.
    fn desired_changed(&self, change: &Arc<DesiredChange>);

    /// Tells it that a message waits for it, if it asked to be told.
    fn inbox_changed(&self);

    /// Whether it takes calls of methods.
    fn takes_calls(&self) -> bool;

    /// Hands it a call. The call is dropped, and with it its way back, when the connection ends before the answer.
    fn call(&self, call: Call);

    /// Forgets a call that nobody waits for any longer.
    fn forget(&self, id: CallId);
}

/// Names one claim of an identity's connection; a later claim has a higher epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Why the hub ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// A newer connection of the same identity came.
    TakenOver,
    /// The right to be connected ended: disabled, deleted, or another key, certificate or policy.
    RightEnded,
    /// The token ended.
    TokenEnded,
    /// The client does not read what it asked to be sent.
    NotReading,
    /// The hub stops.
    Draining,
}

impl Ending {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TakenOver => "taken over by a newer connection",
            Self::RightEnded => "the right to be connected ended",
            Self::TokenEnded => "the token ended",
            Self::NotReading => "the client did not read what it was sent",
            Self::Draining => "the hub stops",
        }
    }
}
