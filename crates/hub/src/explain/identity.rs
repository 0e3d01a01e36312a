//! Who somebody claims to be.

use super::{About, Words, command, quoted, who_and_when};
use crate::refusal::ChangeFacts;

pub(super) fn unknown_host(presented: &str, names: &[String]) -> Words {
    Words::new(
        format!("The client names the host `{presented}`, which is no name of this hub."),
        presented,
        names.join(" or "),
        "Use a name of this hub in the connection string, or add the name to the hub.",
        format!("holdfast serve --hostname={}", quoted(presented)),
    )
}

pub(super) fn unknown_device(about: &About<'_>, near: &[String]) -> Words {
    let device = about.device;
    Words::new(
        match near.first() {
            Some(near) => format!("No device is called `{device}`. There is one called `{near}`."),
            None => format!("No device is called `{device}`, and none was."),
        },
        format!("device id {device}"),
        match near.is_empty() {
            true => "the id of a registered device; ids are case-sensitive".into(),
            false => format!("{}; ids are case-sensitive", near.join(" or ")),
        },
        match near.first() {
            Some(near) => format!("Use `{near}` in the client's connection string, or register `{device}`."),
            None => format!("Register `{device}`."),
        },
        match near.first() {
            Some(near) => command("device show", &[near], "--keys"),
            None => command("device create", &[device], ""),
        },
    )
}

pub(super) fn deleted_device(about: &About<'_>, change: &ChangeFacts) -> Words {
    let device = about.device;
    Words::new(
        format!("The device `{device}` was deleted {}.", who_and_when(change)),
        format!("device id {device}"),
        "the id of a registered device",
        format!("Register `{device}` again, which gives it new keys, or take the client out of service."),
        command("device create", &[device], ""),
    )
}

pub(super) fn unknown_module(about: &About<'_>, near: &[String]) -> Words {
    let (device, module) = (about.device, about.module.unwrap_or_default());
    Words::new(
        match near.first() {
            Some(near) => {
                format!("The device `{device}` has no module `{module}`. It has one called `{near}`.")
            }
            None => format!("The device `{device}` has no module `{module}`."),
        },
        format!("module id {module}"),
        match near.is_empty() {
            true => "the id of a registered module; ids are case-sensitive".into(),
            false => near.join(" or "),
        },
        "Register the module, or use the id of one that is.",
        command("module create", &[device, module], ""),
    )
}

pub(super) fn illegal_id(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!("The id is not a legal one: {problem}."),
        about.id,
        "1 to 128 of A-Z a-z 0-9 and - . _ : + % # * ? ! ( ) , = @ $ ' ;",
        "Use a legal id.",
        "holdfast device list",
    )
}

pub(super) fn disabled(about: &About<'_>, reason: Option<&str>) -> Words {
    let device = about.device;
    Words::new(
        match reason {
            Some(reason) => format!("The device `{device}` is disabled: {reason}."),
            None => format!("The device `{device}` is disabled."),
        },
        "a valid credential of a disabled device",
        "a device whose status is enabled",
        "Enable the device.",
        command("device update", &[device], "--status enabled"),
    )
}

pub(super) fn credential_kind(about: &About<'_>, presented: &str, registered: &str) -> Words {
    Words::new(
        format!("`{}` is registered for {registered}, but presented {presented}.", about.id),
        presented,
        registered,
        "Present the registered kind of credential, or register the other kind.",
        about.show(),
    )
}
