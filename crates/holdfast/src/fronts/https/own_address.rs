//! The address of the hub's HTTPS door, for links that clients are given.

use std::net::Ipv6Addr;

use hub::sas::host_without_port;

/// A name of the hub, with the port unless it is the usual one. Of the hub's names it is the one that the client called, for it
/// may reach no other; what else stands in `Host` is the client's word, and nothing follows from it.
pub(super) fn own_address(names: &[String], called: Option<&str>, port: u16) -> String {
    let called = called.map(host_without_port).unwrap_or_default();
    let known = names.iter().find(|name| name.eq_ignore_ascii_case(called));
    let name = known.or(names.first()).map_or("", String::as_str);
    let name = match name.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => name.to_owned(),
    };
    match port {
        443 => name,
        port => format!("{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_one_of_the_hubs_and_the_port_is_its_own() {
        let names = ["hub.example", "127.0.0.1", "::1"].map(str::to_owned);
        let cases = [
            (Some("hub.example"), 443, "hub.example"),
            (Some("HUB.example:8443"), 443, "hub.example"),
            (Some("127.0.0.1:443"), 8443, "127.0.0.1:8443"),
            (Some("evil.example:8443"), 443, "hub.example"),
            (Some("hub.example@evil.example"), 443, "hub.example"),
            (Some("[::1]:99"), 443, "[::1]"),
            (Some("[::1]"), 8443, "[::1]:8443"),
            (Some("::1"), 443, "[::1]"),
            (Some(""), 443, "hub.example"),
            (Some("hub.example:/../x"), 443, "hub.example"),
            (None, 8443, "hub.example:8443"),
        ];
        for (called, port, expected) in cases {
            assert_eq!(own_address(&names, called, port), expected, "{called:?}");
        }
    }
}
