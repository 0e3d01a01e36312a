//! `docs/limits.md` says what the code holds.

use hub::consumer_groups::CONSUMER_GROUPS_MAX;
use hub::policies::POLICIES_MAX;
use hub::registry::BULK_MAX;
use hub::{hub as rules, inbox, method, readers, telemetry, upload};

use crate::config::Config;
use crate::unadmitted::Limits;

const PAGE: &str = include_str!("../../../docs/limits.md");

/// The bound of the one row that begins so.
fn bound(row: &str) -> &'static str {
    let mut rows = PAGE.lines().filter(|line| line.starts_with(&format!("| {row}")));
    let (Some(line), None) = (rows.next(), rows.next()) else { panic!("not one row begins with `{row}`") };
    line.split('|').nth(2).map(str::trim).unwrap_or_default()
}

fn kibibytes(bytes: usize) -> String {
    format!("{} KiB", bytes / 1024)
}

fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes / 1024 / 1024)
}

#[test]
fn the_page_of_limits_has_the_numbers_of_the_code() {
    let (unadmitted, config) = (Limits::default(), Config::default());
    let rows = [
        ("what one connection sends before", kibibytes(unadmitted.bytes_each)),
        ("time until it is admitted", format!("{} s", unadmitted.lifetime.as_secs())),
        ("memory of all such connections", mebibytes(unadmitted.bytes_all)),
        ("memory of those of one network", mebibytes(unadmitted.bytes_per_network)),
        ("a telemetry message", kibibytes(telemetry::MESSAGE_BYTES_MAX)),
        ("cloud-to-device messages that wait", inbox::QUEUE_MAX.to_string()),
        ("a cloud-to-device message", kibibytes(inbox::MESSAGE_BYTES_MAX)),
        ("files that one device uploads at a time", upload::OPEN_MAX.to_string()),
        ("readers of one partition", readers::READERS_MAX.to_string()),
        ("consumer groups", CONSUMER_GROUPS_MAX.to_string()),
        ("a bulk of the registry", BULK_MAX.to_string()),
        ("method calls under way to one device", method::CALLS_PER_IDENTITY_MAX.to_string()),
        ("method calls under way in all", method::CALLS_MAX.to_string()),
        ("the payload of a method call", kibibytes(method::PAYLOAD_BYTES_MAX)),
        ("shared access policies", POLICIES_MAX.to_string()),
        ("certificate authorities", rules::AUTHORITIES_MAX.to_string()),
        ("modules of a device", format!("({})", config.modules_per_device)),
        ("a file of a device", format!("({} MiB)", config.upload_megabytes_max)),
        ("telemetry kept", format!("({})", config.retention_hours)),
        ("records of connections and refusals kept", format!("({})", config.decisions_kept)),
    ];
    for (row, number) in rows {
        let bound = bound(row).replace(',', "");
        let is_there = bound.split_whitespace().collect::<Vec<_>>().join(" ").contains(&number);
        assert!(is_there, "`{row}` says {bound}, the code holds {number}");
    }
}
