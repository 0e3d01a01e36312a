//! The type system of AMQP 1.0 (OASIS part 1): values, and how they are read and written.
//!
//! Reading borrows: a [`ValueRef`] points into the bytes it was read from, and lists, maps and
//! arrays stay encoded until somebody iterates them. Nothing here allocates a length that the peer
//! chose, and nothing recurses deeper than [`DEPTH_MAX`].

mod array;
mod error;
mod fields;
mod reader;
mod symbol;
mod value;
mod value_ref;
mod write_value;
mod writer;

pub use array::{Array, MixedArray};
pub use error::DecodeError;
pub use fields::Fields;
pub use reader::{Composite, DEPTH_MAX, Reader};
pub use symbol::Symbol;
pub use value::{Described, Value};
pub use value_ref::{ArrayRef, DescribedRef, ListRef, MapRef, ValueRef};
pub use writer::{Compound, Writer};

pub(crate) mod code;
