use super::{Source, Target};
use crate::amqp::codec::{Composite, DecodeError, Fields, Reader, Symbol, Writer};
use crate::amqp::descriptor;

/// Attaches a link to a session (OASIS part 2, section 2.7.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Attach {
    /// Name of the link; unique per direction and pair of containers, if peers keep to the standard.
    pub name: String,
    /// The number that its sender uses for the link from now on.
    pub handle: u32,
    /// Which end of the link the sender of this performative is.
    pub role: Role,
    /// How the sending end settles.
    pub snd_settle_mode: SndSettleMode,
    /// How the receiving end settles.
    pub rcv_settle_mode: RcvSettleMode,
    /// Where messages come from; null in an answer refuses a receiver.
    pub source: Option<Source>,
    /// Where messages go to; null in an answer refuses a sender.
    pub target: Option<Target>,
    /// The target is a transaction coordinator (OASIS part 4), which has no fields of interest here.
    pub coordinator: bool,
    /// The sending end's first delivery-count; mandatory when `role` is sender.
    pub initial_delivery_count: Option<u32>,
    /// Bytes of the largest message that the sender takes; absent or 0 means any.
    pub max_message_size: Option<u64>,
    /// Extensions that the sender supports.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions that the sender may use if the other side has them.
    pub desired_capabilities: Vec<Symbol>,
    /// Properties of the link.
    pub properties: Fields,
}

/// Which end of a link somebody is (OASIS part 2, section 2.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends messages.
    Sender,
    /// Receives messages.
    Receiver,
}

impl Role {
    /// The other end.
    pub fn opposite(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }

    pub(super) fn read(r: &mut Composite<'_>) -> Result<Self, DecodeError> {
        match r.bool()?.ok_or(DecodeError::MissingField("role"))? {
            false => Ok(Self::Sender),
            true => Ok(Self::Receiver),
        }
    }

    pub(super) fn write(self, w: &mut Writer<'_>) {
        w.bool(self == Self::Receiver);
    }
}

/// How the sending end settles (OASIS part 2, section 2.8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SndSettleMode {
    /// All deliveries are sent unsettled.
    Unsettled,
    /// All deliveries are sent settled.
    Settled,
    /// The sender chooses per delivery.
    #[default]
    Mixed,
}

impl SndSettleMode {
    fn read(r: &mut Composite<'_>) -> Result<Self, DecodeError> {
        match r.ubyte()? {
            Some(0) => Ok(Self::Unsettled),
            Some(1) => Ok(Self::Settled),
            Some(2) | None => Ok(Self::Mixed),
            Some(_) => Err(DecodeError::InvalidField("snd-settle-mode")),
        }
    }

    fn write(self, w: &mut Writer<'_>) {
        w.ubyte(match self {
            Self::Unsettled => 0,
            Self::Settled => 1,
            Self::Mixed => 2,
        });
    }
}

/// How the receiving end settles (OASIS part 2, section 2.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RcvSettleMode {
    /// The receiver settles first, on its own.
    #[default]
    First,
    /// The receiver settles after the sender has settled.
    Second,
}

impl RcvSettleMode {
    pub(super) fn read(r: &mut Composite<'_>) -> Result<Option<Self>, DecodeError> {
        match r.ubyte()? {
            Some(0) => Ok(Some(Self::First)),
            Some(1) => Ok(Some(Self::Second)),
            None => Ok(None),
            Some(_) => Err(DecodeError::InvalidField("rcv-settle-mode")),
        }
    }

    pub(super) fn write(self, w: &mut Writer<'_>) {
        w.ubyte(match self {
            Self::First => 0,
            Self::Second => 1,
        });
    }
}

impl Attach {
    /// An attach with defaults everywhere; the connection fills in the handle.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self {
            name: name.into(),
            handle: 0,
            role,
            snd_settle_mode: SndSettleMode::default(),
            rcv_settle_mode: RcvSettleMode::default(),
            source: Some(Source::default()),
            target: Some(Target::default()),
            coordinator: false,
            initial_delivery_count: (role == Role::Sender).then_some(0),
            max_message_size: None,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Fields::new(),
        }
    }

    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        let name = r.string()?.ok_or(DecodeError::MissingField("name"))?;
        let handle = r.uint()?.ok_or(DecodeError::MissingField("handle"))?;
        let role = Role::read(&mut r)?;
        let snd_settle_mode = SndSettleMode::read(&mut r)?;
        let rcv_settle_mode = RcvSettleMode::read(&mut r)?.unwrap_or_default();
        let source = r.raw()?.map(|mut r| Source::read(&mut r)).transpose()?;
        let (target, coordinator) = read_target(r.raw()?)?;
        let _unsettled = r.raw()?; // Links are never resumed, so what the peer remembers is not read.
        let _incomplete_unsettled = r.bool()?;
        Ok(Self {
            name,
            handle,
            role,
            snd_settle_mode,
            rcv_settle_mode,
            source,
            target,
            coordinator,
            initial_delivery_count: r.uint()?,
            max_message_size: r.ulong()?,
            offered_capabilities: r.symbols()?,
            desired_capabilities: r.symbols()?,
            properties: r.fields()?,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::ATTACH);
        w.string(&self.name);
        w.uint(self.handle);
        self.role.write(w);
        self.snd_settle_mode.write(w);
        self.rcv_settle_mode.write(w);
        w.optional(self.source.as_ref(), |w, source| source.write(w));
        w.optional(self.target.as_ref(), |w, target| target.write(w));
        w.null(); // unsettled
        w.bool(false); // incomplete-unsettled
        w.opt_uint(self.initial_delivery_count);
        w.opt_ulong(self.max_message_size);
        w.symbols(&self.offered_capabilities);
        w.symbols(&self.desired_capabilities);
        w.fields(&self.properties);
        w.end(list, 14);
    }
}

fn read_target(field: Option<Reader<'_>>) -> Result<(Option<Target>, bool), DecodeError> {
    let Some(mut r) = field else {
        return Ok((None, false));
    };
    let fields = r.composite()?;
    if fields.descriptor() == descriptor::COORDINATOR {
        return Ok((None, true));
    }
    Ok((Some(Target::read(fields)?), false))
}
