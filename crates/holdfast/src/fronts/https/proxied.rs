//! Whether a request came through a proxy: then the address that it came from is the proxy's, and says nothing of who asks.

use http::HeaderMap;

/// Whether a proxy says in the headers that it passed the request on (RFC 7239, RFC 9110 §7.6.3, and what proxies write instead).
pub(super) fn is_proxied(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        matches!(name, "forwarded" | "via" | "x-real-ip" | "x-client-ip" | "true-client-ip")
            || name.starts_with("x-forwarded-")
    })
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    fn with(name: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("anything"))])
    }

    #[test]
    fn what_proxies_write_is_known() {
        for name in
            ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"]
        {
            assert!(is_proxied(&with(name)), "{name}");
        }
        for name in ["user-agent", "accept", "host", "forward", "x-forwarder"] {
            assert!(!is_proxied(&with(name)), "{name}");
        }
    }
}
