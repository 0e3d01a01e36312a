//! Who may do what: the rights, the shared access policies, and the table of operations
//! (`docs/protocol/service-rest.md` §9).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::SealedKey;

/// The four permissions of IoT Hub. `RegistryReadWrite` of the documents is the two registry rights together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Right {
    /// Read the identity registry.
    RegistryRead,
    /// Write the identity registry.
    RegistryWrite,
    /// Use the service-facing endpoints: twins, methods, device-bound messages, the built-in endpoint.
    ServiceConnect,
    /// Use the device-facing endpoints.
    DeviceConnect,
}

impl Right {
    /// All rights, in the order in which Azure writes them.
    pub const ALL: [Self; 4] =
        [Self::RegistryRead, Self::RegistryWrite, Self::ServiceConnect, Self::DeviceConnect];

    /// Azure's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RegistryRead => "RegistryRead",
            Self::RegistryWrite => "RegistryWrite",
            Self::ServiceConnect => "ServiceConnect",
            Self::DeviceConnect => "DeviceConnect",
        }
    }
}

/// A set of rights, never empty in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rights(u8);

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);

    /// The set of these rights.
    pub const fn of(rights: &[Right]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < rights.len() {
            bits |= 1 << rights[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Whether a right is in the set.
    pub fn has(self, right: Right) -> bool {
        self.0 & (1 << right as u8) != 0
    }

    /// The rights in the set, in Azure's order.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.has(*right))
    }

    /// Reads `RegistryRead, ServiceConnect`; `RegistryReadWrite` means both registry rights. Case is ignored.
    pub fn parse(text: &str) -> Result<Self, RightsError> {
        let mut rights = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match Right::ALL.into_iter().find(|right| right.as_str().eq_ignore_ascii_case(word)) {
                Some(right) => rights.push(right),
                None if word.eq_ignore_ascii_case("RegistryReadWrite") => {
                    rights.extend([Right::RegistryRead, Right::RegistryWrite]);
                }
                None => return Err(RightsError::Unknown(word.to_owned())),
            }
        }
        if rights.is_empty() {
            return Err(RightsError::Empty);
        }
        Ok(Self::of(&rights))
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Right::as_str).collect();
        f.write_str(&words.join(", "))
    }
}

impl TryFrom<String> for Rights {
    type Error = RightsError;
    fn try_from(text: String) -> Result<Self, RightsError> {
        Self::parse(&text)
    }
}

impl From<Rights> for String {
    fn from(rights: Rights) -> String {
        rights.to_string()
    }
}

/// Why a text is not a set of rights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// No right is named.
    #[error("a policy needs at least one of RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect")]
    Empty,
    /// A word names no right.
    #[error(
        "`{0}` is no right; the rights are RegistryRead, RegistryWrite (RegistryReadWrite for both), ServiceConnect and DeviceConnect"
    )]
    Unknown(String),
}

/// The name of a shared access policy: 1 to 64 of letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyName(String);

impl PolicyName {
    /// Checks the text.
    pub fn parse(text: &str) -> Result<Self, PolicyNameError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.len() > 64 || !text.chars().all(legal) {
            return Err(PolicyNameError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PolicyName {
    type Error = PolicyNameError;
    fn try_from(text: String) -> Result<Self, PolicyNameError> {
        Self::parse(&text)
    }
}

impl From<PolicyName> for String {
    fn from(name: PolicyName) -> String {
        name.0
    }
}

/// A text that is no policy name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a policy name is 1 to 64 of letters, digits, `-`, `_` and `.`")]
pub struct PolicyNameError;

/// A shared access policy: a name, two keys, and the rights of whoever holds one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Its name, `skn` of its tokens.
    pub name: PolicyName,
    /// What it allows.
    pub rights: Rights,
    /// The primary key.
    pub primary: SealedKey,
    /// The secondary key.
    pub secondary: SealedKey,
    /// When it was made.
    pub created: Timestamp,
}

/// The five policies of a new hub.
pub const DEFAULT_POLICIES: [(&str, Rights); 5] = [
    ("iothubowner", Rights::of(&Right::ALL)),
    ("service", Rights::of(&[Right::ServiceConnect])),
    ("device", Rights::of(&[Right::DeviceConnect])),
    ("registryRead", Rights::of(&[Right::RegistryRead])),
    ("registryReadWrite", Rights::of(&[Right::RegistryRead, Right::RegistryWrite])),
];

/// What a service may ask of the hub. The table of needed rights is [`Operation::needs`], and there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// Read one device or module, or list them.
    ReadIdentities,
    /// Create, update or delete devices and modules, one or many.
    WriteIdentities,
    /// Read the counts of the registry.
    ReadRegistryStatistics,
    /// Read the count of connected devices.
    ReadServiceStatistics,
    /// Read the built-in endpoint or its properties.
    ReadEvents,
    /// Read a twin.
    ReadTwins,
    /// Change the tags or desired properties of a twin.
    WriteTwins,
    /// Call a direct method.
    CallMethods,
    /// Send device-bound messages.
    SendToDevices,
    /// Empty the queue of device-bound messages of a device.
    PurgeInbox,
    /// Receive what became of device-bound messages.
    ReceiveFeedback,
    /// Receive notices of files that devices uploaded.
    ReceiveFileNotifications,
    /// Read files that devices uploaded.
    ReadFiles,
    /// Say what the modules of an edge device are to be.
    ApplyConfiguration,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 14] = [
        Self::ReadIdentities,
        Self::WriteIdentities,
        Self::ReadRegistryStatistics,
        Self::ReadServiceStatistics,
        Self::ReadEvents,
        Self::ReadTwins,
        Self::WriteTwins,
        Self::CallMethods,
        Self::SendToDevices,
        Self::PurgeInbox,
        Self::ReceiveFeedback,
        Self::ReceiveFileNotifications,
        Self::ReadFiles,
        Self::ApplyConfiguration,
    ];

    /// The rights it needs, all of them.
    pub fn needs(self) -> Rights {
        match self {
            Self::ReadIdentities | Self::ReadRegistryStatistics => Rights::of(&[Right::RegistryRead]),
            Self::WriteIdentities => Rights::of(&[Right::RegistryWrite]),
            Self::ApplyConfiguration => Rights::of(&[Right::RegistryWrite, Right::ServiceConnect]),
            Self::ReadServiceStatistics
            | Self::ReadEvents
            | Self::ReadTwins
            | Self::WriteTwins
            | Self::CallMethods
            | Self::SendToDevices
            | Self::PurgeInbox
            | Self::ReceiveFeedback
            | Self::ReceiveFileNotifications
            | Self::ReadFiles => Rights::of(&[Right::ServiceConnect]),
        }
    }

    /// Its name in records and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadIdentities => "read the identity registry",
            Self::WriteIdentities => "write the identity registry",
            Self::ReadRegistryStatistics => "read the registry statistics",
            Self::ReadServiceStatistics => "read the service statistics",
            Self::ReadEvents => "read the built-in endpoint",
            Self::ReadTwins => "read twins",
            Self::WriteTwins => "change twins",
            Self::CallMethods => "call direct methods",
            Self::SendToDevices => "send device-bound messages",
            Self::PurgeInbox => "purge device-bound messages",
            Self::ReceiveFeedback => "receive feedback",
            Self::ReceiveFileNotifications => "receive file notifications",
            Self::ReadFiles => "read uploaded files",
            Self::ApplyConfiguration => "apply a configuration to an edge device",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_written_and_read_as_azure_does() {
        let all = Rights::of(&Right::ALL);
        assert_eq!(all.to_string(), "RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect");
        assert_eq!(Rights::parse(&all.to_string()), Ok(all));
        assert_eq!(
            Rights::parse("registryreadwrite"),
            Ok(Rights::of(&[Right::RegistryRead, Right::RegistryWrite]))
        );
        assert_eq!(Rights::parse(" , "), Err(RightsError::Empty));
        assert_eq!(Rights::parse("Owner"), Err(RightsError::Unknown("Owner".into())));
    }
}
