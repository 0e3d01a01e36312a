//! The members of each body. What clients were sent before comes back with what they change, so that all of it has a name
//! here (`docs/protocol/service-rest.md` §3, §4); what has none is refused.

use hub::json::Shape::{self, Free, List, Members};

/// How an identity proves who it is.
const AUTHENTICATION: Shape = Members(&[
    ("type", Free),
    ("symmetricKey", Members(&[("primaryKey", Free), ("secondaryKey", Free)])),
    ("x509Thumbprint", THUMBPRINTS),
]);
const THUMBPRINTS: Shape = Members(&[("primaryThumbprint", Free), ("secondaryThumbprint", Free)]);
const CAPABILITIES: Shape = Members(&[("iotEdge", Free)]);
/// The sections that the hub keeps beside the tags.
const PROPERTIES: Shape = Members(&[("desired", Free), ("reported", Free)]);

/// A device.
pub(super) const DEVICE: Shape = Members(&[
    ("deviceId", Free),
    ("status", Free),
    ("statusReason", Free),
    ("authentication", AUTHENTICATION),
    ("capabilities", CAPABILITIES),
    ("deviceScope", Free),
    ("parentScopes", Free),
    ("generationId", Free),
    ("etag", Free),
    ("connectionState", Free),
    ("connectionStateUpdatedTime", Free),
    ("statusUpdatedTime", Free),
    ("lastActivityTime", Free),
    ("cloudToDeviceMessageCount", Free),
]);

/// A module. One class of some SDKs stands for devices and modules, so that members of devices come too.
pub(super) const MODULE: Shape = Members(&[
    ("moduleId", Free),
    ("managedBy", Free),
    ("deviceId", Free),
    ("authentication", AUTHENTICATION),
    ("generationId", Free),
    ("etag", Free),
    ("connectionState", Free),
    ("connectionStateUpdatedTime", Free),
    ("lastActivityTime", Free),
    ("cloudToDeviceMessageCount", Free),
    ("status", Free),
    ("statusReason", Free),
    ("statusUpdatedTime", Free),
    ("capabilities", CAPABILITIES),
    ("deviceScope", Free),
    ("parentScopes", Free),
]);

/// The entries of a bulk request. The Node SDK makes each of a device that it was sent.
pub(super) const BULK: Shape = List(&Members(&[
    ("id", Free),
    ("moduleId", Free),
    ("eTag", Free),
    ("importMode", Free),
    ("status", Free),
    ("statusReason", Free),
    ("authentication", AUTHENTICATION),
    ("twinETag", Free),
    ("tags", Free),
    ("properties", PROPERTIES),
    ("capabilities", CAPABILITIES),
    ("deviceScope", Free),
    ("parentScopes", Free),
    ("managedBy", Free),
    ("generationId", Free),
    ("connectionState", Free),
    ("connectionStateUpdatedTime", Free),
    ("statusUpdatedTime", Free),
    ("lastActivityTime", Free),
    ("cloudToDeviceMessageCount", Free),
]));

/// `POST /devices/keys/regenerate`.
pub(super) const REGENERATE: Shape =
    Members(&[("policyKey", Free), ("devices", List(&Members(&[("id", Free), ("moduleId", Free)])))]);

/// A twin. Those that queries answer have `configurations` too.
pub(super) const TWIN: Shape = Members(&[
    ("deviceId", Free),
    ("moduleId", Free),
    ("modelId", Free),
    ("etag", Free),
    ("deviceEtag", Free),
    ("version", Free),
    ("tags", Free),
    ("properties", PROPERTIES),
    ("status", Free),
    ("statusReason", Free),
    ("statusUpdateTime", Free),
    ("statusUpdatedTime", Free),
    ("connectionState", Free),
    ("connectionStateUpdatedTime", Free),
    ("lastActivityTime", Free),
    ("cloudToDeviceMessageCount", Free),
    ("authenticationType", Free),
    ("x509Thumbprint", THUMBPRINTS),
    ("capabilities", CAPABILITIES),
    ("deviceScope", Free),
    ("parentScopes", Free),
    ("managedBy", Free),
    ("generationId", Free),
    ("configurations", Free),
]);

/// What the modules of an edge device are to be.
pub(super) const EDGE_CONTENT: Shape =
    Members(&[("modulesContent", Free), ("moduleContent", Free), ("deviceContent", Free)]);

/// The begin of an upload.
pub(super) const UPLOAD: Shape = Members(&[("blobName", Free)]);

/// The end of an upload.
pub(super) const UPLOADED: Shape = Members(&[
    ("correlationId", Free),
    ("isSuccess", Free),
    ("statusCode", Free),
    ("statusDescription", Free),
]);

/// A batch of messages.
pub(super) const BATCH: Shape =
    List(&Members(&[("body", Free), ("base64Encoded", Free), ("properties", Free)]));

/// The storage that files go to.
pub(super) const FILE_STORAGE: Shape =
    Members(&[("connectionString", Free), ("container", Free), ("authority", Free)]);

/// The settings of the hub.
pub(super) const SETTINGS: Shape = Members(&[
    ("deviceScopedTokensOnly", Free),
    ("maxTokenLifetime", Free),
    ("fileNotifications", Free),
    ("uploadLinkLifetime", Free),
]);

/// A shared access policy.
pub(super) const POLICY: Shape = Members(&[("rights", Free)]);

/// A certificate authority, or the proof that somebody has its key.
pub(super) const AUTHORITY: Shape = Members(&[("certificate", Free), ("verified", Free)]);

/// A revocation list.
pub(super) const REVOCATION_LIST: Shape = Members(&[("list", Free)]);

/// A device-bound message of the operator.
pub(super) const MESSAGE: Shape = Members(&[
    ("body", Free),
    ("messageId", Free),
    ("correlationId", Free),
    ("contentType", Free),
    ("contentEncoding", Free),
    ("expires", Free),
    ("ack", Free),
    ("properties", Free),
]);

/// A risk that somebody takes.
pub(super) const WAIVER: Shape = Members(&[("owner", Free), ("reason", Free), ("until", Free)]);

/// An older checkpoint of the audit log.
pub(super) const CONSISTENCY: Shape = Members(&[("old", Free)]);

#[cfg(test)]
mod tests {
    use hub::settings::HubSettings;
    use serde_json::json;

    use super::*;

    fn knows(shape: &Shape, name: &str) -> bool {
        matches!(shape, Members(known) if known.iter().any(|(have, _)| *have == name))
    }

    #[test]
    fn every_setting_has_a_name() {
        let settings = json!(HubSettings::default());
        for name in settings.as_object().expect("an object").keys() {
            assert!(knows(&SETTINGS, name), "{name}");
        }
    }

    #[test]
    fn no_two_names_of_a_body_differ_in_case_alone() {
        for shape in [DEVICE, MODULE, TWIN, SETTINGS, MESSAGE, UPLOADED] {
            let Members(known) = shape else { panic!("no object") };
            for (at, (name, _)) in known.iter().enumerate() {
                assert!(!known[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)), "{name}");
            }
        }
    }
}
