//! How MQTT 3.1.1 spells what is asked and answered: user names, topics, and properties in topics.

pub(super) mod address;
pub(super) mod answers;
pub(super) mod device_bound;
pub(super) mod properties;
