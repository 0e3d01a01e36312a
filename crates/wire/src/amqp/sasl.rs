//! The SASL frames of OASIS part 5, section 5.3.3.

use std::fmt;

use super::codec::{Composite, DecodeError, Reader, Symbol, Writer};
use super::descriptor;

/// The body of a SASL frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaslFrame {
    /// What the server offers.
    Mechanisms(Vec<Symbol>),
    /// What the client chose, and its first response.
    Init(SaslInit),
    /// A challenge of the server.
    Challenge(SaslBytes),
    /// The client's response to a challenge.
    Response(SaslBytes),
    /// The server's verdict.
    Outcome(SaslOutcome),
}

/// The client's choice of a mechanism (OASIS part 5, section 5.3.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslInit {
    /// The mechanism.
    pub mechanism: Symbol,
    /// The first response; absent for mechanisms where the server begins.
    pub initial_response: Option<SaslBytes>,
    /// Host that the client wants to talk to.
    pub hostname: Option<String>,
}

/// The server's verdict (OASIS part 5, section 5.3.3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslOutcome {
    /// Whether the client is let in.
    pub code: SaslCode,
    /// What the mechanism has to say with it.
    pub additional_data: Option<SaslBytes>,
}

/// How SASL ended (OASIS part 5, section 5.3.3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslCode {
    /// The client is let in.
    Ok,
    /// The credentials are wrong.
    Auth,
    /// A system error.
    Sys,
    /// A system error that will not go away by itself.
    SysPerm,
    /// A system error that may go away.
    SysTemp,
}

/// What a mechanism exchanges: credentials, so that it never shows in logs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SaslBytes(pub Vec<u8>);

impl fmt::Debug for SaslBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

impl SaslFrame {
    /// Reads the body of a SASL frame.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut r = r.composite()?;
        Ok(match r.descriptor() {
            descriptor::SASL_MECHANISMS => Self::Mechanisms(r.symbols()?),
            descriptor::SASL_INIT => Self::Init(SaslInit {
                mechanism: r.symbol()?.ok_or(DecodeError::MissingField("mechanism"))?,
                initial_response: SaslBytes::read(&mut r)?,
                hostname: r.string()?,
            }),
            descriptor::SASL_CHALLENGE => {
                Self::Challenge(SaslBytes::read(&mut r)?.ok_or(DecodeError::MissingField("challenge"))?)
            }
            descriptor::SASL_RESPONSE => {
                Self::Response(SaslBytes::read(&mut r)?.ok_or(DecodeError::MissingField("response"))?)
            }
            descriptor::SASL_OUTCOME => Self::Outcome(SaslOutcome {
                code: SaslCode::read(&mut r)?,
                additional_data: SaslBytes::read(&mut r)?,
            }),
            other => {
                return Err(DecodeError::UnexpectedType { expected: "a SASL frame", descriptor: other });
            }
        })
    }

    /// Writes the body of a SASL frame.
    pub fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Mechanisms(mechanisms) => {
                let list = w.composite(descriptor::SASL_MECHANISMS);
                w.symbols(mechanisms);
                w.end(list, 1);
            }
            Self::Init(init) => {
                let list = w.composite(descriptor::SASL_INIT);
                w.symbol(init.mechanism.as_str());
                w.opt_binary(init.initial_response.as_ref().map(|bytes| bytes.0.as_slice()));
                w.opt_string(init.hostname.as_deref());
                w.end(list, 3);
            }
            Self::Challenge(bytes) => write_binary(w, descriptor::SASL_CHALLENGE, bytes),
            Self::Response(bytes) => write_binary(w, descriptor::SASL_RESPONSE, bytes),
            Self::Outcome(outcome) => {
                let list = w.composite(descriptor::SASL_OUTCOME);
                outcome.code.write(w);
                w.opt_binary(outcome.additional_data.as_ref().map(|bytes| bytes.0.as_slice()));
                w.end(list, 2);
            }
        }
    }

    /// The name of the frame in the standard.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mechanisms(_) => "sasl-mechanisms",
            Self::Init(_) => "sasl-init",
            Self::Challenge(_) => "sasl-challenge",
            Self::Response(_) => "sasl-response",
            Self::Outcome(_) => "sasl-outcome",
        }
    }
}

fn write_binary(w: &mut Writer<'_>, code: u64, bytes: &SaslBytes) {
    let list = w.composite(code);
    w.binary(&bytes.0);
    w.end(list, 1);
}

impl SaslBytes {
    fn read(r: &mut Composite<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(r.binary()?.map(|bytes| Self(bytes.to_vec())))
    }
}

impl SaslCode {
    fn read(r: &mut Composite<'_>) -> Result<Self, DecodeError> {
        match r.ubyte()? {
            Some(0) => Ok(Self::Ok),
            Some(1) => Ok(Self::Auth),
            Some(2) => Ok(Self::Sys),
            Some(3) => Ok(Self::SysPerm),
            Some(4) => Ok(Self::SysTemp),
            Some(_) => Err(DecodeError::InvalidField("code")),
            None => Err(DecodeError::MissingField("code")),
        }
    }

    fn write(self, w: &mut Writer<'_>) {
        w.ubyte(match self {
            Self::Ok => 0,
            Self::Auth => 1,
            Self::Sys => 2,
            Self::SysPerm => 3,
            Self::SysTemp => 4,
        });
    }
}
