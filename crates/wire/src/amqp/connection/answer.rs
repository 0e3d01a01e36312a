use super::receiving::CreditPolicy;
use crate::amqp::codec::{Fields, Symbol};
use crate::amqp::performative::{Attach, RcvSettleMode, Role, SndSettleMode, Source, Target};

/// How an attach of the peer is answered. By default everything is as the peer asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AttachAnswer {
    /// The source; `None` repeats the peer's.
    pub source: Option<Source>,
    /// The target; `None` repeats the peer's.
    pub target: Option<Target>,
    /// How the sending end settles; `None` repeats the peer's.
    pub snd_settle_mode: Option<SndSettleMode>,
    /// How the receiving end settles; `None` repeats the peer's.
    pub rcv_settle_mode: Option<RcvSettleMode>,
    /// Bytes of the largest message we take; `None` takes it from the configuration.
    pub max_message_size: Option<u64>,
    /// Credit to grant at once when we receive.
    pub credit: CreditPolicy,
    /// Extensions that we support.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions that we would use.
    pub desired_capabilities: Vec<Symbol>,
    /// Properties of the link.
    pub properties: Fields,
}

impl AttachAnswer {
    /// The attach that answers the peer's.
    pub(super) fn into_attach(self, asked: &Attach, handle: u32, max_message_size: u64) -> Attach {
        let role = asked.role.opposite();
        let mut source = self.source.or_else(|| asked.source.clone());
        let mut target = self.target.or_else(|| asked.target.clone());
        // Null at our end would mean no.
        match role {
            Role::Sender => source = Some(source.unwrap_or_default()),
            Role::Receiver => target = Some(target.unwrap_or_default()),
        }
        Attach {
            name: asked.name.clone(),
            handle,
            role,
            snd_settle_mode: self.snd_settle_mode.unwrap_or(asked.snd_settle_mode),
            rcv_settle_mode: self.rcv_settle_mode.unwrap_or(asked.rcv_settle_mode),
            source,
            target,
            coordinator: false,
            initial_delivery_count: (role == Role::Sender).then_some(0),
            max_message_size: Some(max_message_size),
            offered_capabilities: self.offered_capabilities,
            desired_capabilities: self.desired_capabilities,
            properties: self.properties,
        }
    }
}
