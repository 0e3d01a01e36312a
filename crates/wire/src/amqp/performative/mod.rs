//! The performatives of OASIS part 2, section 2.7, and the types that stand in their fields.
//!
//! Writing puts every field down, nulls and defaults included, and never shortens a list: clients
//! exist that index the fields of a performative by position. Reading takes lists of any length.

mod attach;
mod begin;
mod close;
mod delivery_state;
mod delivery_tag;
mod detach;
mod disposition;
mod end;
mod error;
mod flow;
mod open;
mod source;
mod target;
mod transfer;

pub use attach::{Attach, RcvSettleMode, Role, SndSettleMode};
pub use begin::Begin;
pub use close::Close;
pub use delivery_state::DeliveryState;
pub use delivery_tag::{DELIVERY_TAG_BYTES_MAX, DeliveryTag};
pub use detach::Detach;
pub use disposition::Disposition;
pub use end::End;
pub use error::{Error, condition};
pub use flow::{Flow, LinkFlow};
pub use open::Open;
pub use source::Source;
pub use target::Target;
pub use transfer::Transfer;

use super::codec::{DecodeError, Reader, Writer};
use super::descriptor;

/// The body of an AMQP frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Performative {
    /// Negotiates the connection.
    Open(Box<Open>),
    /// Begins a session.
    Begin(Begin),
    /// Attaches a link.
    Attach(Box<Attach>),
    /// Updates windows and credit.
    Flow(Flow),
    /// Transfers (a part of) a message.
    Transfer(Transfer),
    /// Tells the state of deliveries.
    Disposition(Disposition),
    /// Detaches a link.
    Detach(Detach),
    /// Ends a session.
    End(End),
    /// Closes the connection.
    Close(Close),
}

impl Performative {
    /// Reads the performative at the start of a frame body. Behind it, `r` stands on the payload.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let fields = r.composite()?;
        Ok(match fields.descriptor() {
            descriptor::OPEN => Self::Open(Box::new(Open::read(fields)?)),
            descriptor::BEGIN => Self::Begin(Begin::read(fields)?),
            descriptor::ATTACH => Self::Attach(Box::new(Attach::read(fields)?)),
            descriptor::FLOW => Self::Flow(Flow::read(fields)?),
            descriptor::TRANSFER => Self::Transfer(Transfer::read(fields)?),
            descriptor::DISPOSITION => Self::Disposition(Disposition::read(fields)?),
            descriptor::DETACH => Self::Detach(Detach::read(fields)?),
            descriptor::END => Self::End(End::read(fields)?),
            descriptor::CLOSE => Self::Close(Close::read(fields)?),
            other => {
                return Err(DecodeError::UnexpectedType { expected: "a performative", descriptor: other });
            }
        })
    }

    /// Writes the performative; a payload may follow a transfer.
    pub fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Open(open) => open.write(w),
            Self::Begin(begin) => begin.write(w),
            Self::Attach(attach) => attach.write(w),
            Self::Flow(flow) => flow.write(w),
            Self::Transfer(transfer) => transfer.write(w),
            Self::Disposition(disposition) => disposition.write(w),
            Self::Detach(detach) => detach.write(w),
            Self::End(end) => end.write(w),
            Self::Close(close) => close.write(w),
        }
    }

    /// The name of the performative in the standard.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Begin(_) => "begin",
            Self::Attach(_) => "attach",
            Self::Flow(_) => "flow",
            Self::Transfer(_) => "transfer",
            Self::Disposition(_) => "disposition",
            Self::Detach(_) => "detach",
            Self::End(_) => "end",
            Self::Close(_) => "close",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "performative_tests.rs"]
mod tests;
