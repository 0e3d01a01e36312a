use crate::amqp::codec::{Composite, DecodeError, Fields, Symbol, Writer};
use crate::amqp::descriptor;

/// Where the messages of a link go to (OASIS part 3, section 3.5.4).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Target {
    /// The address; null for a dynamic target and for the private end of some clients.
    pub address: Option<String>,
    /// How durable the terminus is: 0 none, 1 configuration, 2 unsettled state.
    pub durable: u32,
    /// When the terminus expires.
    pub expiry_policy: Option<Symbol>,
    /// Seconds after which an expiring terminus is dropped.
    pub timeout: u32,
    /// The other side shall make an address.
    pub dynamic: bool,
    /// Properties of a dynamic node.
    pub dynamic_node_properties: Fields,
    /// Extensions.
    pub capabilities: Vec<Symbol>,
}

impl Target {
    /// A target with an address and defaults.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), ..Self::default() }
    }

    pub(super) fn read(r: Composite<'_>) -> Result<Self, DecodeError> {
        let mut r = r.expect(descriptor::TARGET, "a target")?;
        Ok(Self {
            address: r.string()?,
            durable: r.uint()?.unwrap_or(0),
            expiry_policy: r.symbol()?,
            timeout: r.uint()?.unwrap_or(0),
            dynamic: r.bool()?.unwrap_or(false),
            dynamic_node_properties: r.fields()?,
            capabilities: r.symbols()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::TARGET);
        w.opt_string(self.address.as_deref());
        w.uint(self.durable);
        w.symbol(self.expiry_policy.as_ref().map_or("session-end", Symbol::as_str));
        w.uint(self.timeout);
        w.bool(self.dynamic);
        w.fields(&self.dynamic_node_properties);
        w.symbols(&self.capabilities);
        w.end(list, 7);
    }
}
