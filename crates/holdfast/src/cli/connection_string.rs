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

impl ConnectionString {
    /// Reads `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`, whatever order and case the names come in.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let part = |wanted: &str| {
            text.split(';').filter_map(|part| part.trim().split_once('=')).find_map(|(name, value)| {
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        if part("DeviceId").is_some() {
            bail!(
                "this is the connection string of a device; the commands need that of a service: \
                 HostName=…;SharedAccessKeyName=iothubowner;SharedAccessKey=…"
            );
        }
        if part("Endpoint").is_some() {
            bail!(
                "this is an Event Hubs connection string; the commands need that of a service: \
                 HostName=…;SharedAccessKeyName=iothubowner;SharedAccessKey=…"
            );
        }
        let need = |name: &str| {
            part(name).filter(|value| !value.is_empty()).with_context(|| {
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
