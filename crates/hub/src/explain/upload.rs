//! Files that devices upload.

use jiff::Timestamp;

use super::{About, Words, command, when};

const LIST: &str = "holdfast file list";

/// The command that shows the files of the device.
fn list(about: &About<'_>) -> String {
    match about.named {
        true => command("file list", &[about.device], ""),
        false => LIST.to_owned(),
    }
}

pub(super) fn name(problem: &str) -> Words {
    Words::new(
        format!("The device asked to upload a file by a name that no file may have: {problem}."),
        "another name",
        "such as logs/2026-11-22.txt; the hub puts the device's id before it",
        "Let the device choose another name.",
        LIST,
    )
}

pub(super) fn full(about: &About<'_>, limit: usize) -> Words {
    Words::new(
        format!(
            "{} has {limit} uploads open. One is open until the device says that it is done, or until its link ends.",
            about.id
        ),
        "one upload more",
        format!("at most {limit} open uploads"),
        "Let the device notify the hub after each upload, also after one that failed.",
        "holdfast settings set uploadLinkLifetime 10m",
    )
}

pub(super) fn unknown(about: &About<'_>, id: Option<&str>, ended: Option<Timestamp>) -> Words {
    let (explanation, presented) = match ended {
        Some(ended) => (
            format!("The upload was not done before its link ended at {}.", when(ended)),
            "the correlation id of an upload that ended".to_owned(),
        ),
        None => (
            format!(
                "{} has no open upload of this correlation id: it is another device's, was notified already, or never was.",
                about.id
            ),
            format!("the correlation id {}", id.unwrap_or_default()),
        ),
    };
    Words::new(
        explanation,
        presented,
        "the correlation id of an open upload of this device, once",
        "Let the device begin the upload anew.",
        list(about),
    )
}

pub(super) fn not_written(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!("The file is not whole: {problem}."),
        "the end of an upload",
        "all blocks of the list, written before it; then the notification",
        "Let the device write the file anew with the same link, or begin another upload.",
        list(about),
    )
}

pub(super) fn link(problem: &str) -> Words {
    Words::new(
        format!("A file was to be written with a link that does not open it: {problem}."),
        "a link",
        "the link that the hub gave for this file, as it was",
        "Let the device use the link as it stands in the answer of the hub, or ask for another one.",
        LIST,
    )
}

pub(super) fn link_ended(ended: Timestamp) -> Words {
    Words::new(
        format!("The upload was done, or its link ended at {}.", when(ended)),
        "a link whose upload is over",
        "a link whose time is not over, before the device says that it is done",
        "Let the device ask for another link. Where uploads take long, let links live longer.",
        "holdfast settings set uploadLinkLifetime 4h",
    )
}

pub(super) fn link_writes_only(about: &About<'_>, method: &str) -> Words {
    Words::new(
        "A file was to be read with the link of its upload, which is for writing alone.",
        format!("{method} with the link of an upload"),
        "PUT with the link; to read, the token of a service (ServiceConnect)",
        "Let the device keep what it needs to read. Who reads files of devices is a service or the operator.",
        list(about),
    )
}

pub(super) fn too_large(limit: u64) -> Words {
    Words::new(
        format!("The file is larger than the {limit} bytes that a file may have."),
        "a larger file",
        format!("at most {limit} bytes"),
        "Raise upload-megabytes-max in the configuration, or let the device write less.",
        LIST,
    )
}
