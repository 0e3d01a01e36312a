//! What a decision says was done, as types: a record has the words, and whoever reads records compares values. A better word in
//! [`words`](ChangeKind::words) changes no detection.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::access::Operation;

/// Names variants by words, both ways.
macro_rules! worded {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $words:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The words in records.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)*
                }
            }

            fn of(words: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|this| this.as_str() == words)
            }
        }
    };
}

worded! {
    /// What a device or module does beside connecting.
    DeviceOperation {
        /// Send telemetry, one message or a batch.
        SendTelemetry = "send telemetry",
        /// Receive cloud-to-device messages.
        ReceiveMessages = "receive cloud-to-device messages",
        /// Complete, reject or abandon a cloud-to-device message.
        SettleMessage = "settle a cloud-to-device message",
        /// Receive direct method calls.
        ReceiveCalls = "receive direct method calls",
        /// Answer a direct method call.
        AnswerCall = "answer a direct method call",
        /// Read or report the twin.
        AskAboutTwin = "ask about the twin",
        /// Receive the twin and its changes.
        ReceiveTwin = "receive the twin",
        /// Ask for the link of a file upload.
        BeginUpload = "begin an upload",
        /// Say that a file upload ended.
        EndUpload = "end an upload",
        /// Publish over MQTT to a topic that is none of the above.
        Publish = "publish",
        /// Subscribe to a topic filter over MQTT.
        Subscribe = "subscribe",
    }
}

/// The name of an operation in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Cow<'_, str>", into = "String")]
pub enum OperationName {
    /// One of a service, which needs rights.
    Service(Operation),
    /// One of a device or module.
    Device(DeviceOperation),
    /// A request that is named by its method and path, or a word of an earlier build.
    Other(String),
}

impl OperationName {
    /// The words in records.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Service(operation) => operation.as_str(),
            Self::Device(operation) => operation.as_str(),
            Self::Other(words) => words,
        }
    }
}

impl From<Operation> for OperationName {
    fn from(operation: Operation) -> Self {
        Self::Service(operation)
    }
}

impl From<DeviceOperation> for OperationName {
    fn from(operation: DeviceOperation) -> Self {
        Self::Device(operation)
    }
}

impl From<Cow<'_, str>> for OperationName {
    fn from(words: Cow<'_, str>) -> Self {
        let service = Operation::ALL.into_iter().find(|operation| operation.as_str() == words);
        let device = || DeviceOperation::of(&words).map(Self::Device);
        service.map(Self::Service).or_else(device).unwrap_or_else(|| Self::Other(words.into_owned()))
    }
}

impl From<OperationName> for String {
    fn from(name: OperationName) -> Self {
        match name {
            OperationName::Other(words) => words,
            name => name.as_str().to_owned(),
        }
    }
}

worded! {
    /// A change of the registry that has no parts.
    PlainChange {
        /// The shared access policies of a new hub.
        CreatePolicies = "create policies",
        /// A shared access policy.
        CreatePolicy = "create policy",
        /// The rights or keys of a policy.
        UpdatePolicy = "update policy",
        /// A policy.
        DeletePolicy = "delete policy",
        /// A key of a policy.
        RegeneratePolicyKey = "regenerate policy key",
        /// A device.
        CreateDevice = "create device",
        /// A device's status, credential, parent or capabilities.
        UpdateDevice = "update device",
        /// A device, with its modules and its twin.
        DeleteDevice = "delete device",
        /// A module.
        CreateModule = "create module",
        /// A module's credential.
        UpdateModule = "update module",
        /// A module and its twin.
        DeleteModule = "delete module",
        /// The keys of a device or module.
        RegenerateKeys = "regenerate keys",
        /// A part of a twin.
        UpdateTwin = "update twin",
        /// A twin as a whole.
        ReplaceTwin = "replace twin",
        /// A certificate authority.
        AddAuthority = "add certificate authority",
        /// The proof that an authority's key is held.
        VerifyAuthority = "verify certificate authority",
        /// The operator's word that an authority's key is held.
        TrustAuthority = "trust certificate authority",
        /// A revocation list.
        SetRevocationList = "set revocation list",
        /// The end of a revocation list that is not issued any more.
        RemoveRevocationList = "remove revocation list",
        /// A certificate authority.
        DeleteAuthority = "delete certificate authority",
        /// A consumer group.
        CreateConsumerGroup = "create consumer group",
        /// A consumer group.
        DeleteConsumerGroup = "delete consumer group",
        /// A file of a device.
        DeleteFile = "delete file",
        /// The storage account of uploads.
        SetUploadAccount = "set upload account",
        /// That the time of day is trusted though it jumped ahead.
        TrustClock = "trust clock",
        /// That the hub goes on without files that are missing.
        AcceptLoss = "accept loss",
        /// A setting of the running hub.
        ChangeSettings = "change settings",
        /// A finding of the posture engine.
        OpenFinding = "open finding",
        /// A finding whose cause is gone.
        CloseFinding = "close finding",
        /// The acceptance of a risk for a time.
        WaiveFinding = "waive finding",
        /// The end of such an acceptance.
        EndWaiver = "end waiver of finding",
    }
}

/// What a change of the registry was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Cow<'_, str>", into = "String")]
pub enum ChangeKind {
    /// One without parts.
    Plain(PlainChange),
    /// The fix of a finding of this check.
    Fix(String),
    /// The undo of such a fix.
    UndoFix(String),
    /// A word of another build.
    Other(String),
}

/// The words before the name of a check.
const FIX: &str = "fix ";
const UNDO_FIX: &str = "undo fix ";

impl ChangeKind {
    /// The words in records.
    pub fn words(&self) -> Cow<'_, str> {
        match self {
            Self::Plain(change) => change.as_str().into(),
            Self::Fix(check) => format!("{FIX}{check}").into(),
            Self::UndoFix(check) => format!("{UNDO_FIX}{check}").into(),
            Self::Other(words) => words.into(),
        }
    }

    /// Whether it changed a twin, which gives and takes no right.
    pub fn is_of_twin(&self) -> bool {
        use PlainChange::{ReplaceTwin, UpdateTwin};
        matches!(self, Self::Plain(UpdateTwin | ReplaceTwin))
    }

    /// Whether it may have ended the right of any device: a change of what all of them depend on.
    pub fn concerns_all(&self) -> bool {
        use PlainChange::{
            AddAuthority, ChangeSettings, CreatePolicy, DeleteAuthority, DeletePolicy, RegeneratePolicyKey,
            SetRevocationList, TrustAuthority, UpdatePolicy, VerifyAuthority,
        };
        match self {
            Self::Plain(change) => matches!(
                change,
                CreatePolicy
                    | UpdatePolicy
                    | DeletePolicy
                    | RegeneratePolicyKey
                    | AddAuthority
                    | VerifyAuthority
                    | TrustAuthority
                    | SetRevocationList
                    | DeleteAuthority
                    | ChangeSettings
            ),
            // A fix may narrow a policy or change a setting.
            Self::Fix(_) | Self::UndoFix(_) => true,
            Self::Other(_) => false,
        }
    }

    /// Whether it may have replaced a key of an identity.
    pub fn may_replace_keys(&self) -> bool {
        use PlainChange::{RegenerateKeys, UpdateDevice};
        matches!(self, Self::Plain(RegenerateKeys | UpdateDevice))
    }
}

impl From<PlainChange> for ChangeKind {
    fn from(change: PlainChange) -> Self {
        Self::Plain(change)
    }
}

impl PartialEq<PlainChange> for ChangeKind {
    fn eq(&self, other: &PlainChange) -> bool {
        matches!(self, Self::Plain(change) if change == other)
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl From<Cow<'_, str>> for ChangeKind {
    fn from(words: Cow<'_, str>) -> Self {
        if let Some(change) = PlainChange::of(&words) {
            Self::Plain(change)
        } else if let Some(check) = words.strip_prefix(UNDO_FIX) {
            Self::UndoFix(check.to_owned())
        } else if let Some(check) = words.strip_prefix(FIX) {
            Self::Fix(check.to_owned())
        } else {
            Self::Other(words.into_owned())
        }
    }
}

impl From<ChangeKind> for String {
    fn from(kind: ChangeKind) -> Self {
        kind.words().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_from_its_words() {
        for operation in Operation::ALL {
            let name = OperationName::from(operation);
            assert_eq!(OperationName::from(Cow::from(name.as_str())), name);
        }
        for operation in DeviceOperation::ALL {
            let name = OperationName::from(*operation);
            assert_eq!(OperationName::from(Cow::from(name.as_str())), name);
        }
        let other = OperationName::Other("GET /x".to_owned());
        assert_eq!(OperationName::from(Cow::from("GET /x")), other);
        for change in PlainChange::ALL {
            let kind = ChangeKind::from(*change);
            assert_eq!(ChangeKind::from(kind.words()), kind);
        }
        for kind in [ChangeKind::Fix("id-weak".into()), ChangeKind::UndoFix("id-weak".into())] {
            assert_eq!(ChangeKind::from(kind.words()), kind);
        }
    }

    #[test]
    fn a_record_has_the_words() {
        let name = serde_json::to_string(&OperationName::from(DeviceOperation::SendTelemetry));
        assert_eq!(name.expect("JSON"), "\"send telemetry\"");
        let kind: ChangeKind = serde_json::from_str("\"undo fix id-weak\"").expect("a kind");
        assert_eq!(kind, ChangeKind::UndoFix("id-weak".into()));
    }
}
