//! Connection strings: `Name=value;…` with values that may hold `=`.

use anyhow::{Context as _, bail};

/// The parts of a service connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectionString {
    /// The host, without a port.
    pub(super) host: String,
    /// The policy.
    pub(super) policy: String,
    /// The key in base64.
    pub(super) key: String,
}

/// The parts of a device's or module's connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceConnectionString {
    /// The host, without a port.
    pub(super) host: String,
    /// The device.
    pub(super) device: String,
    /// The module.
    pub(super) module: Option<String>,
    /// The key in base64; none where a certificate is to be given.
    pub(super) key: Option<String>,
    /// The policy whose key it is, if it is that of one.
    pub(super) policy: Option<String>,
}

impl DeviceConnectionString {
    /// Reads `HostName=…;DeviceId=…[;ModuleId=…];SharedAccessKey=…`, or `x509=true` in place of the key.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let need = |name: &str| {
            part(text, name).with_context(|| {
                format!(
                    "the connection string has no `{name}`; that of a device is \
                     HostName=…;DeviceId=…;SharedAccessKey=…"
                )
            })
        };
        Ok(Self {
            host: need("HostName")?,
            device: need("DeviceId")?,
            module: part(text, "ModuleId"),
            key: match part(text, "x509").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
                true => None,
                false => Some(need("SharedAccessKey")?),
            },
            policy: part(text, "SharedAccessKeyName"),
        })
    }
}

/// The value of a part, unless it is empty.
fn part(text: &str, wanted: &str) -> Option<String> {
    let named = text.split(';').filter_map(|part| part.trim().split_once('='));
    let mut values = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
    values.next().map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
}

impl ConnectionString {
    /// Reads `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`, whatever order and case the names come in.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if part(text, "DeviceId").is_some() {
            bail!(
                "this is the connection string of a device; the commands need that of a service: \
                 HostName=…;SharedAccessKeyName=iothubowner;SharedAccessKey=…"
            );
        }
        if part(text, "Endpoint").is_some() {
            bail!(
                "this is an Event Hubs connection string; the commands need that of a service: \
                 HostName=…;SharedAccessKeyName=iothubowner;SharedAccessKey=…"
            );
        }
        let need = |name: &str| {
            part(text, name).with_context(|| {
                format!(
                    "the connection string has no `{name}`; it must be \
                     HostName=…;SharedAccessKeyName=…;SharedAccessKey=…"
                )
            })
        };
        Ok(Self {
            host: need("HostName")?,
            policy: need("SharedAccessKeyName")?,
            key: need("SharedAccessKey")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_of_a_device_has_a_key_or_says_that_it_has_a_certificate() {
        let read = |text: &str| DeviceConnectionString::parse(text);
        let module =
            read("HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=a=").expect("a connection string");
        assert_eq!((module.module.as_deref(), module.key.as_deref()), (Some("m"), Some("a=")));
        assert_eq!(read("HostName=h;DeviceId=d;x509=true").expect("a connection string").key, None);
        for (wrong, missing) in [
            ("DeviceId=d", "HostName"),
            ("HostName=h;SharedAccessKey=k", "DeviceId"),
            ("HostName=h;DeviceId=d", "Key"),
        ] {
            assert!(read(wrong).expect_err("not one").to_string().contains(missing), "{wrong}");
        }
    }

    #[test]
    fn a_service_connection_string_is_read_and_others_are_named() {
        let read =
            ConnectionString::parse("SharedAccessKey=a=b=;HostName=h.net; sharedaccesskeyname=service");
        let expected =
            ConnectionString { host: "h.net".into(), policy: "service".into(), key: "a=b=".into() };
        assert_eq!(read.expect("a connection string"), expected);
        let error = |text: &str| ConnectionString::parse(text).expect_err("not one").to_string();
        assert!(error("HostName=h;DeviceId=d;SharedAccessKey=k").contains("of a device"));
        assert!(error("Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=k").contains("Event Hubs"));
        assert!(error("HostName=h").contains("SharedAccessKeyName"));
    }
}
