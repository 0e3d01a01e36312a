//! The loads. Each runs against a server that is up and gives what was measured.

mod churn;
mod idle;
mod publish;
mod read;

pub(crate) use churn::{Churn, ChurnOptions, churn};
pub(crate) use idle::{Idle, IdleOptions, idle};
pub(crate) use publish::{PublishOptions, Published, publish};
pub(crate) use read::{Read, ReadOptions, read};
