//! Messages to store.

use std::sync::Arc;

use bytes::Bytes;
use hub::identity::{DeviceId, Identity, ModuleId};
use hub::telemetry::{Message, Millis, PropertyValue, Sender, Source, SystemProperty};

/// A device that sends.
pub(crate) fn sender(device: &str) -> Arc<Sender> {
    Arc::new(Sender {
        identity: Identity::device(DeviceId::parse(device).unwrap()),
        generation: "638000000000000000".into(),
        auth_method: r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
            .into(),
        source: Source::Telemetry,
        model_id: None,
    })
}

/// A plain message.
pub(crate) fn message(device: &str, enqueued: Millis, body: impl Into<Bytes>) -> Message {
    Message { enqueued, sender: sender(device), system: vec![], application: vec![], body: body.into() }
}

/// A message with everything that a message can have.
pub(crate) fn full_message() -> Message {
    let mut sender = (*sender("pump-07")).clone();
    sender.identity =
        Identity::module(DeviceId::parse("pump-07").unwrap(), ModuleId::parse("$edgeHub").unwrap());
    sender.model_id = Some("dtmi:com:example:Pump;1".into());
    let system = SystemProperty::ALL.into_iter().map(|property| (property, format!("{property:?} ü").into()));
    Message {
        enqueued: 1_700_000_000_123,
        sender: Arc::new(sender),
        system: system.collect(),
        application: vec![
            ("text".into(), PropertyValue::Text("schön".into())),
            ("".into(), PropertyValue::Null),
            ("yes".into(), PropertyValue::Bool(true)),
            ("no".into(), PropertyValue::Bool(false)),
            ("least".into(), PropertyValue::Long(i64::MIN)),
            ("minus zero".into(), PropertyValue::Double(-0.0)),
            ("then".into(), PropertyValue::Timestamp(-1)),
            ("bytes".into(), PropertyValue::Binary(Bytes::from_static(&[0, 255, 128]))),
        ],
        body: Bytes::from_static(b"\x00any bytes\xff"),
    }
}
