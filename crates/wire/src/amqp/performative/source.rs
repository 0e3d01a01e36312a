use crate::amqp::codec::{DecodeError, Fields, Reader, Symbol, Value, Writer};
use crate::amqp::descriptor;

/// Where the messages of a link come from (OASIS part 3, section 3.5.3).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Source {
    /// The address; null for a dynamic source and for the private end of some clients.
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
    /// Whether messages are moved or copied.
    pub distribution_mode: Option<Symbol>,
    /// Filters by name; each is in practice a described value.
    pub filter: Fields,
    /// Outcome of deliveries that are settled without one.
    pub default_outcome: Value,
    /// Outcomes that may be used.
    pub outcomes: Vec<Symbol>,
    /// Extensions.
    pub capabilities: Vec<Symbol>,
}

impl Source {
    /// A source with an address and defaults.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), ..Self::default() }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut r = r.composite()?.expect(descriptor::SOURCE, "a source")?;
        Ok(Self {
            address: r.string()?,
            durable: r.uint()?.unwrap_or(0),
            expiry_policy: r.symbol()?,
            timeout: r.uint()?.unwrap_or(0),
            dynamic: r.bool()?.unwrap_or(false),
            dynamic_node_properties: r.fields()?,
            distribution_mode: r.symbol()?,
            filter: r.fields()?,
            default_outcome: r.any()?,
            outcomes: r.symbols()?,
            capabilities: r.symbols()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::SOURCE);
        w.opt_string(self.address.as_deref());
        w.uint(self.durable);
        w.symbol(self.expiry_policy.as_ref().map_or("session-end", Symbol::as_str));
        w.uint(self.timeout);
        w.bool(self.dynamic);
        w.fields(&self.dynamic_node_properties);
        w.opt_symbol(self.distribution_mode.as_ref());
        w.fields(&self.filter);
        w.value(&self.default_outcome);
        w.symbols(&self.outcomes);
        w.symbols(&self.capabilities);
        w.end(list, 11);
    }
}
