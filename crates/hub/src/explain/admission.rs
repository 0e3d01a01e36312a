//! Connections that were closed before they showed a good credential.

use super::Words;
use crate::refusal::AdmissionBound;

const SHOW: &str = "holdfast certificate show-server";

pub(super) fn not_within(bound: AdmissionBound) -> Words {
    match bound {
        AdmissionBound::Time { seconds } => Words::new(
            format!("The connection was open for {seconds} s without a good credential."),
            "a connection without a good credential",
            format!("a good credential within {seconds} s of connecting"),
            "See what holds the client up between connecting and its token, or which other refusals it gets.",
            SHOW,
        ),
        AdmissionBound::Bytes { bytes } => Words::new(
            format!("The client sent more than {bytes} bytes before it showed a good credential."),
            format!("more than {bytes} bytes without a good credential"),
            "the credential first: in the CONNECT of MQTT, in the first tokens of AMQP, in the head of a request",
            "Send large bodies, wills and batches after the connection is admitted.",
            SHOW,
        ),
        AdmissionBound::MemoryOfNetwork { bytes } => Words::new(
            "Too many connections from this network were open without a good credential; the oldest was closed.",
            format!("connections without credential that held more than {bytes} bytes together"),
            "fewer connections that wait for their credential",
            "See which program of that network opens connections and does not go on; block it if it is not yours.",
            "holdfast why --limit 20",
        ),
        AdmissionBound::MemoryOfAll { bytes } => Words::new(
            "Too many connections were open without a good credential; the oldest was closed.",
            format!("connections without credential that held more than {bytes} bytes together"),
            "fewer connections that wait for their credential",
            "See where they come from, and block those addresses in front of the hub.",
            "holdfast why --limit 20",
        ),
        AdmissionBound::Descriptors => Words::new(
            "The hub had no file descriptor left for a new connection; the oldest without a credential was closed.",
            "a connection without a good credential",
            "fewer connections, or more descriptors",
            "Raise LimitNOFILE of the service, and see where the connections come from.",
            "holdfast why --limit 20",
        ),
    }
}
