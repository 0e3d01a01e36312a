//! Edge devices: gateways that have children, other devices that connect through them (`docs/protocol/service-rest.md`
//! §3.2).

mod content;
mod gateway;
mod parents;
#[cfg(test)]
mod tests;

pub use content::EdgeContent;
pub(crate) use gateway::still_behind;
pub use gateway::{Behind, Lineage};
pub use parents::{EDGE_LEVELS_MAX, Moved};
pub(crate) use parents::{own_scope, parent_named};
