//! The handshake, and what came in its place.

use super::Words;

const SHOW: &str = "holdfast certificate show-server";

pub(super) fn plain_text(protocol: &str) -> Words {
    Words::new(
        format!("{protocol} came in clear to a port that speaks TLS only."),
        format!("{protocol} without TLS"),
        "a TLS handshake, version 1.2 or 1.3",
        "Turn TLS on in the client.",
        SHOW,
    )
}

pub(super) fn version(offered: &str) -> Words {
    Words::new(
        format!("The client offers TLS up to {offered}; this hub speaks 1.2 and 1.3 only."),
        format!("TLS {offered} at the most"),
        "TLS 1.2 or 1.3",
        "Update the client's TLS library, or allow TLS 1.2 in it.",
        SHOW,
    )
}

pub(super) fn no_common_cipher(offered: &[String]) -> Words {
    Words::new(
        "The client offers no cipher suite that this hub uses.",
        offered.join(", "),
        "one of ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, \
         ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, or TLS 1.3",
        "Allow such a suite in the client: ECDHE, an ECDSA certificate, and AES-GCM or ChaCha20-Poly1305.",
        SHOW,
    )
}

pub(super) fn parameters(problem: &str) -> Words {
    Words::new(
        format!("Client and hub share no TLS parameters: {problem}."),
        problem,
        "an ECDHE suite with AES-GCM or ChaCha20-Poly1305, and ECDSA P-256 signatures",
        "Allow such parameters in the client.",
        SHOW,
    )
}

pub(super) fn server_not_trusted(alert: &str) -> Words {
    Words::new(
        format!("The client does not trust the hub's certificate (it sent the alert {alert})."),
        format!("the alert {alert}"),
        "a client that trusts the hub's CA and connects by a name in the hub's certificate",
        "Give the CA file to the client.",
        SHOW,
    )
}

pub(super) fn server_name(presented: Option<&str>, names: &[String], alert: &str) -> Words {
    let dialled = match presented {
        Some(name) => format!("`{name}`"),
        None => "an address".to_owned(),
    };
    Words::new(
        format!(
            "The client dialled {dialled}, which is not in the hub's certificate, and did not accept the certificate \
             (it sent the alert {alert})."
        ),
        match presented {
            Some(name) => format!("the server name {name}"),
            None => "no server name".into(),
        },
        names.join(" or "),
        "Dial a name of this hub, or add the name to the hub, which then makes a new certificate.",
        match presented {
            Some(name) => format!("holdfast serve --hostname={}", super::quoted(name)),
            None => SHOW.into(),
        },
    )
}

pub(super) fn failed(problem: &str) -> Words {
    Words::new(
        format!("The TLS handshake failed: {problem}."),
        problem,
        "a TLS 1.2 or 1.3 handshake",
        "See what the client's TLS library reports.",
        SHOW,
    )
}

pub(super) fn wrong_port(spoken: &str, served: &str) -> Words {
    Words::new(
        format!("The client speaks {spoken} to a port that serves {served}."),
        format!("{spoken} over TLS"),
        served,
        "Use the port of the protocol: MQTT 8883, AMQP 5671, HTTPS and WebSockets 443, unless they were set otherwise.",
        SHOW,
    )
}
