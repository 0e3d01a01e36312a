//! The fronts: each turns the words of one protocol into requests of the hub, and its answers back. They decide
//! nothing about identity, rights, sizes or queues.

pub(crate) mod amqp;
mod escape;
pub(crate) mod https;
mod mailbox;
pub(crate) mod mqtt;
mod twin;
