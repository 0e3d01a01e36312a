//! Edge devices that come for others.

use super::{About, Words, command, quoted};

pub(super) fn unknown(about: &About<'_>, gateway: &str) -> Words {
    Words::new(
        format!("`{gateway}` came for `{}`, and there is no edge device `{gateway}`.", about.id),
        about.token_text(),
        "the token of an edge device's module `$edgeHub`",
        format!("Register `{gateway}` as an edge device, and make it the parent of `{}`.", about.device),
        command("device create", &[gateway], "--edge"),
    )
}

pub(super) fn disabled(about: &About<'_>, gateway: &str, reason: Option<&str>) -> Words {
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Words::new(
        format!("`{}` comes through the edge device `{gateway}`, which is disabled{reason}.", about.id),
        format!("a connection through {gateway}"),
        "gateways that are enabled, all the way",
        "Enable the edge device, or let the client connect with a credential of its own.",
        command("device update", &[gateway], "--status enabled"),
    )
}

pub(super) fn not_its(about: &About<'_>, gateway: &str, parent: Option<&str>) -> Words {
    let (id, device) = (about.id, about.device);
    let has = match parent {
        Some(parent) => format!("the parent `{parent}`"),
        None => "no parent".to_owned(),
    };
    Words::new(
        format!("`{gateway}` came for `{id}`, but is not its gateway: `{device}` has {has}."),
        format!("a connection through {gateway}"),
        parent
            .map_or("a credential of its own".to_owned(), |parent| format!("a connection through {parent}")),
        format!("Make `{gateway}` the parent of `{device}`, if it is meant to be."),
        command("device update", &[device], &format!("--parent={}", quoted(gateway))),
    )
}

pub(super) fn chain(about: &About<'_>, presented: Option<&str>, registered: &str) -> Words {
    Words::new(
        match presented {
            Some(presented) => format!(
                "The way from `{}` to its gateway is named as `{presented}`, and registered as `{registered}`.",
                about.id
            ),
            None => format!(
                "`{}` comes through more than one gateway, and the client does not name the way, which is \
                 `{registered}`.",
                about.id
            ),
        },
        presented.map_or("no auth-chain".to_owned(), |presented| format!("auth-chain {presented}")),
        format!("auth-chain {registered}"),
        "Let the gateways read their children again, or change the parents to what is meant.",
        command("device show", &[about.device], ""),
    )
}
