//! How MQTT 5 spells what is asked and answered (`docs/protocol/device-mqtt.md` §11, api-version 2020-10-01-preview):
//! properties in place of what MQTT 3.1.1 puts into topics, and outcomes with a status in place of closing.

pub(super) mod connect;
pub(super) mod device_bound;
pub(super) mod filters;
pub(super) mod operation;
pub(super) mod outcome;

/// Messages to the cloud.
pub(super) const TELEMETRY: &str = "$iothub/telemetry";
/// Answers, of the hub and of the client.
pub(super) const RESPONSES: &str = "$iothub/responses";
/// Device-bound messages.
pub(super) const COMMANDS: &str = "$iothub/commands";
/// Changes of the desired properties.
pub(super) const DESIRED: &str = "$iothub/twin/patch/desired";
/// The beginning of the topics of methods.
pub(super) const METHODS: &str = "$iothub/methods/";
