use std::fmt;

use crate::amqp::codec::{DecodeError, Fields, Reader, Symbol, Writer};
use crate::amqp::descriptor;

/// What went wrong, as one peer tells the other (OASIS part 2, section 2.8.14).
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// The kind of error, for programs.
    pub condition: Symbol,
    /// The error in words, for people.
    pub description: Option<String>,
    /// More about the error.
    pub info: Fields,
}

impl Error {
    /// An error without further information.
    pub fn new(condition: Symbol, description: impl Into<String>) -> Self {
        Self { condition, description: Some(description.into()), info: Fields::new() }
    }

    pub(super) fn read_optional(field: Option<Reader<'_>>) -> Result<Option<Self>, DecodeError> {
        let Some(mut r) = field else {
            return Ok(None);
        };
        let mut r = r.composite()?.expect(descriptor::ERROR, "an error")?;
        Ok(Some(Self {
            condition: r.symbol()?.ok_or(DecodeError::MissingField("condition"))?,
            description: r.string()?,
            info: r.fields()?,
        }))
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::ERROR);
        w.symbol(self.condition.as_str());
        w.opt_string(self.description.as_deref());
        w.fields(&self.info);
        w.end(list, 3);
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.description {
            Some(description) => write!(f, "{}: {description}", self.condition),
            None => write!(f, "{}", self.condition),
        }
    }
}

impl std::error::Error for Error {}

/// The conditions of the standard (OASIS part 2, sections 2.8.15 to 2.8.18).
pub mod condition {
    use crate::amqp::codec::Symbol;

    /// Declares constants of conditions.
    macro_rules! conditions {
        ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
            $($(#[$doc])* pub const $name: Symbol = Symbol::from_static($text);)*
        };
    }

    conditions! {
        /// An internal error.
        INTERNAL_ERROR = "amqp:internal-error";
        /// The peer named something that does not exist.
        NOT_FOUND = "amqp:not-found";
        /// The peer may not do this.
        UNAUTHORIZED_ACCESS = "amqp:unauthorized-access";
        /// Bytes could not be decoded.
        DECODE_ERROR = "amqp:decode-error";
        /// A limit was exceeded.
        RESOURCE_LIMIT_EXCEEDED = "amqp:resource-limit-exceeded";
        /// The peer did something that is not allowed here.
        NOT_ALLOWED = "amqp:not-allowed";
        /// A field holds what it may not hold.
        INVALID_FIELD = "amqp:invalid-field";
        /// Not implemented.
        NOT_IMPLEMENTED = "amqp:not-implemented";
        /// Somebody else holds the resource.
        RESOURCE_LOCKED = "amqp:resource-locked";
        /// A precondition does not hold.
        PRECONDITION_FAILED = "amqp:precondition-failed";
        /// The resource was deleted.
        RESOURCE_DELETED = "amqp:resource-deleted";
        /// Not allowed in this state.
        ILLEGAL_STATE = "amqp:illegal-state";
        /// A frame larger than announced.
        FRAME_SIZE_TOO_SMALL = "amqp:frame-size-too-small";
        /// An operator closed the connection.
        CONNECTION_FORCED = "amqp:connection:forced";
        /// A frame that is none.
        FRAMING_ERROR = "amqp:connection:framing-error";
        /// The container is elsewhere.
        CONNECTION_REDIRECT = "amqp:connection:redirect";
        /// More transfers than the session's window admits.
        WINDOW_VIOLATION = "amqp:session:window-violation";
        /// An attach for a link that already exists.
        ERRANT_LINK = "amqp:session:errant-link";
        /// A handle that is in use.
        HANDLE_IN_USE = "amqp:session:handle-in-use";
        /// A handle without link.
        UNATTACHED_HANDLE = "amqp:session:unattached-handle";
        /// An operator detached the link.
        DETACH_FORCED = "amqp:link:detach-forced";
        /// More transfers than the link's credit admits.
        TRANSFER_LIMIT_EXCEEDED = "amqp:link:transfer-limit-exceeded";
        /// A message larger than the link takes.
        MESSAGE_SIZE_EXCEEDED = "amqp:link:message-size-exceeded";
        /// The address is elsewhere.
        LINK_REDIRECT = "amqp:link:redirect";
        /// Somebody else attached the link.
        STOLEN = "amqp:link:stolen";
    }
}
