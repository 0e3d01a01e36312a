//! The loads. Each runs against a server that is up and gives what was measured.

mod amqp_idle;
mod attack;
mod churn;
mod conversation;
mod flood;
mod idle;
mod latency;
mod publish;
mod read;
mod reports;
mod storm;
mod through;

pub(crate) use amqp_idle::{AmqpIdle, AmqpIdleOptions, PARTITIONS as AMQP_PARTITIONS, amqp_idle};
pub(crate) use attack::{AttackOptions, attack};
pub(crate) use churn::{Churn, ChurnOptions, churn};
pub(crate) use conversation::{Conversation, ConversationOptions, conversation};
pub(crate) use flood::{Flood, FloodOptions, flood};
pub(crate) use idle::{Idle, IdleOptions, idle};
pub(crate) use latency::Latency;
pub(crate) use publish::{PublishOptions, Published, publish};
pub(crate) use read::{PythonReader, Read, ReadOptions, read, read_by_python};
pub(crate) use reports::{Reports, ReportsOptions, reports};
pub(crate) use storm::{Storm, StormOptions, storm, storm_by_turns};
pub(crate) use through::{Through, ThroughOptions, through, through_by_python};
