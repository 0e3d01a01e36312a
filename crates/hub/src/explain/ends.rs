//! Why a connection that was admitted ended.

use jiff::Timestamp;

use super::{About, Words, command, quoted, when, who_and_when};
use crate::refusal::{ChangeFacts, Newcomer};

pub(super) fn keep_alive(about: &About<'_>, seconds: u64) -> Words {
    Words::new(
        format!(
            "`{}` was silent for {seconds} s, one and a half times its keep-alive: its network was cut, or its program \
             hung.",
            about.id
        ),
        format!("nothing for {seconds} s"),
        format!("a packet every {} s, if only a PINGREQ", seconds * 2 / 3),
        "Look at the device's network. A client that sleeps for long asks for a longer keep-alive.",
        about.send(),
    )
}

pub(super) fn taken_over(about: &About<'_>, by: Option<&Newcomer>) -> Words {
    let newer = match by {
        None => "a newer connection".to_owned(),
        Some(by) => {
            let port = by.port.map(|port| format!(" (port {port})")).unwrap_or_default();
            let from = by.address.map(|address| format!(" from {address}{port}")).unwrap_or_default();
            let sdk = by.sdk.as_deref().map(|sdk| format!(" with {sdk}")).unwrap_or_default();
            format!("a newer connection{from}{sdk} at {}", when(by.time))
        }
    };
    Words::new(
        format!(
            "`{}` was connected a second time, and {newer} took over: an identity has one connection. Where this \
             goes on, two clients have the same connection string.",
            about.id
        ),
        newer,
        "one client for each identity",
        "Stop one of the two, or register the other client as a device of its own.",
        match about.module {
            None => command("device create", &[&format!("{}-2", about.device)], ""),
            Some(module) => command("module create", &[about.device, &format!("{module}-2")], ""),
        },
    )
}

pub(super) fn not_reading(about: &About<'_>) -> Words {
    Words::new(
        format!(
            "`{}` subscribed to changes of its desired properties and did not read them, until as many waited as may: \
             its program hung, its network is slow, or its twin is changed faster than it can follow.",
            about.id
        ),
        "64 changes, or 256 KiB of them, that were not read",
        "a client that reads what it is sent",
        "Nothing is lost: a client that reads its twin when it comes back has all changes. Change the twin less often, or \
         look at the device's network.",
        match about.module {
            None => command("twin get", &[about.device], ""),
            Some(module) => command("twin get", &[about.device], &format!("--module {}", quoted(module))),
        },
    )
}

pub(super) fn right_ended(about: &About<'_>, because: Option<&str>, change: Option<&ChangeFacts>) -> Words {
    let changed = match change {
        Some(change) => format!("{} `{}`, {}", change.what, change.target, who_and_when(change)),
        None => "a change of the registry".to_owned(),
    };
    let because = because.map(|cause| format!(" It would be refused now for `{cause}`.")).unwrap_or_default();
    Words::new(
        format!("What `{}` was admitted for ended: {changed}.{because}", about.id),
        format!("a connection that was admitted before: {changed}"),
        "a credential that is valid after the change",
        match because.contains("disabled") {
            true => "Enable the device, if it is to connect.",
            false => "Give the client a credential that is valid now.",
        },
        match because {
            ref because if because.contains("`disabled`") => {
                command("device update", &[about.device], "--status enabled")
            }
            ref because if because.contains("`unknown-device`") => {
                command("device create", &[about.device], "")
            }
            _ => about.show(),
        },
    )
}

pub(super) fn token_ended(about: &About<'_>, ended: Option<Timestamp>) -> Words {
    let at = ended.map(|ended| format!(" at {}", when(ended))).unwrap_or_default();
    Words::new(
        format!(
            "The token of `{}` ended{at}, and the client had not come back with a new one. A token that the program \
             made itself is not renewed by the SDK.",
            about.id
        ),
        format!("a token that ended{at}"),
        "a new connection with a new token before the old one ends",
        "Let the SDK make the tokens from the connection string, or renew them in the program.",
        about.token(),
    )
}

pub(super) fn certificate_ended(about: &About<'_>, ended: Option<Timestamp>) -> Words {
    let at = ended.map(|ended| format!(" at {}", when(ended))).unwrap_or_default();
    Words::new(
        format!(
            "A certificate that `{}` was admitted by ended{at}: its own, one above it, or the authority's.",
            about.id
        ),
        format!(
            "a chain that was valid until{}",
            ended.map(|it| format!(" {}", when(it))).unwrap_or_default()
        ),
        "a chain that is valid, up to the authority",
        "Issue a new certificate to the client. If the authority ended, add its new certificate.",
        "holdfast certificate list",
    )
}
