use crate::amqp::codec::{Composite, DecodeError, Fields, Symbol, Writer};
use crate::amqp::descriptor;

/// Negotiates the parameters of a connection (OASIS part 2, section 2.7.1).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Open {
    /// Name of the container that opens the connection.
    pub container_id: String,
    /// Host that the sender wants to talk to.
    pub hostname: Option<String>,
    /// Bytes of the largest frame that the sender takes; at least 512.
    pub max_frame_size: u32,
    /// Highest channel number that the sender takes.
    pub channel_max: u16,
    /// Milliseconds of silence after which the sender may close; absent or 0 means never.
    pub idle_time_out: Option<u32>,
    /// Locales for texts the sender gives.
    pub outgoing_locales: Vec<Symbol>,
    /// Locales for texts the sender wants.
    pub incoming_locales: Vec<Symbol>,
    /// Extensions that the sender supports.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions that the sender may use if the other side has them.
    pub desired_capabilities: Vec<Symbol>,
    /// Properties of the sender.
    pub properties: Fields,
}

impl Open {
    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            container_id: r.string()?.ok_or(DecodeError::MissingField("container-id"))?,
            hostname: r.string()?,
            max_frame_size: r.uint()?.unwrap_or(u32::MAX),
            channel_max: r.ushort()?.unwrap_or(u16::MAX),
            idle_time_out: r.uint()?,
            outgoing_locales: r.symbols()?,
            incoming_locales: r.symbols()?,
            offered_capabilities: r.symbols()?,
            desired_capabilities: r.symbols()?,
            properties: r.fields()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::OPEN);
        w.string(&self.container_id);
        w.opt_string(self.hostname.as_deref());
        w.uint(self.max_frame_size);
        w.ushort(self.channel_max);
        w.opt_uint(self.idle_time_out);
        w.symbols(&self.outgoing_locales);
        w.symbols(&self.incoming_locales);
        w.symbols(&self.offered_capabilities);
        w.symbols(&self.desired_capabilities);
        w.fields(&self.properties);
        w.end(list, 10);
    }
}
