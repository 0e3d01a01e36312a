//! Who has done which recommendation: the 38 recommendations of Microsoft's two documents on IoT security
//! (`docs/posture.md`), each as done by the hub, verified by its checks, the owner's, or unknown.

use hub::finding::Finding;
use jiff::Timestamp;
use serde::Serialize;

use crate::sweep::Tally;

/// What is known of a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// The hub is built so that it holds.
    DoneByHub,
    /// The checks looked, and it holds.
    Verified,
    /// It is for the owner to do.
    Yours,
    /// Nothing is known of it.
    Unknown,
}

impl State {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DoneByHub => "done by the hub",
            Self::Verified => "verified",
            Self::Yours => "yours",
            Self::Unknown => "unknown",
        }
    }
}

/// One row of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// S01 to S38.
    pub id: &'static str,
    /// The recommendation.
    pub recommendation: &'static str,
    /// What is known of it.
    pub state: State,
    /// Why.
    pub evidence: String,
    /// The checks that look.
    pub checks: &'static [&'static str],
    /// The open findings that stand against it.
    pub findings: Vec<String>,
    /// Whether Holdfast has what the row needs.
    pub exists: bool,
    /// When it was looked at.
    pub date: Timestamp,
}

/// What a row rests on.
enum Basis {
    /// The hub is built so; the text says how, and how anybody can see it.
    Built(&'static str),
    /// The checks of the row.
    Checks,
    /// The owner alone can know; the text says what to do.
    Owner(&'static str),
    /// Holdfast does not have it yet; the text says what is missing.
    Missing(&'static str),
}

/// The rows as they stand, from a look at the fleet.
pub fn rows(tallies: &[Tally], findings: &[Finding], time: Timestamp) -> Vec<Row> {
    ROWS.iter().map(|row| judged(row, tallies, findings, time)).collect()
}

fn judged(
    (id, recommendation, checks, basis): &(&'static str, &'static str, &'static [&'static str], Basis),
    tallies: &[Tally],
    findings: &[Finding],
    date: Timestamp,
) -> Row {
    let open: Vec<&Finding> =
        findings.iter().filter(|f| f.counts(date) && checks.contains(&f.check.as_str())).collect();
    let tallies = tallies.iter().filter(|tally| checks.contains(&tally.check));
    let (known, unknown) = tallies.fold((0, 0), |(known, unknown), tally| {
        (known + tally.healthy + tally.unhealthy, unknown + tally.unknown)
    });
    let (state, evidence) = match basis {
        Basis::Missing(what) => (State::Unknown, format!("Holdfast does not have this yet: {what}")),
        _ if !open.is_empty() => {
            let told: Vec<&str> = open.iter().take(3).map(|finding| finding.summary.as_str()).collect();
            let more = open.len().saturating_sub(3);
            let more = if more > 0 { format!(" And {more} more.") } else { String::new() };
            (State::Yours, format!("{} open: {}{more}", open.len(), told.join(" ")))
        }
        Basis::Built(how) => (State::DoneByHub, (*how).to_owned()),
        Basis::Owner(what) => (State::Yours, (*what).to_owned()),
        Basis::Checks if known + unknown == 0 => {
            (State::Verified, "There is nothing here that it concerns, and nothing happened.".to_owned())
        }
        Basis::Checks if unknown > 0 => (
            State::Unknown,
            format!(
                "{unknown} of {} things are not known yet; the others are as they should be.",
                known + unknown
            ),
        ),
        Basis::Checks => {
            (State::Verified, format!("{known} things were looked at; each is as it should be."))
        }
    };
    let findings = open.iter().map(|finding| finding.id.clone()).collect();
    let exists = !matches!(basis, Basis::Missing(_));
    Row { id, recommendation, state, evidence, checks, findings, exists, date }
}

use Basis::{Built, Checks, Missing, Owner};

/// A row for each recommendation.
const ROWS: [(&str, &str, &[&str], Basis); 38] = [
    (
        "S01",
        "Assess the solution continuously and recommend fixes",
        &[],
        Built(
            "The posture engine runs from the first start; `holdfast posture` shows score, findings and fixes.",
        ),
    ),
    ("S02", "Run the latest platforms", &[], Missing("the list of releases and ends of life is not read.")),
    (
        "S03",
        "Use the latest languages and SDK versions",
        &[],
        Missing("SDK strings are recorded, their floors are not known."),
    ),
    (
        "S04",
        "Use the latest protocols",
        &["tls-legacy-client"],
        Built(
            "MQTT 3.1.1, AMQP 1.0, HTTPS 1.1, and TLS 1.2 and 1.3 only; older clients are refused and named.",
        ),
    ),
    (
        "S05",
        "Keep frameworks and dependencies up to date",
        &[],
        Missing("there is no list of packages in the binary."),
    ),
    (
        "S06",
        "Keep device ids and authentication keys safe",
        &[
            "id-conflicting-connection",
            "id-never-connected",
            "auth-hub-key-on-device",
            "auth-hub-key-leaked",
            "key-public-sample",
            "key-file-perms",
            "key-sym-weak",
        ],
        Checks,
    ),
    (
        "S07",
        "Use device SDKs",
        &[],
        Built(
            "Unmodified Azure SDKs connect by connection string; `holdfast audit list` shows the SDK of each.",
        ),
    ),
    (
        "S08",
        "Grant RegistryRead, RegistryReadWrite, ServiceConnect and DeviceConnect",
        &[],
        Built(
            "Each operation is held against one table of rights, and refused by default; `holdfast policy list`.",
        ),
    ),
    (
        "S09",
        "Use the default shared access policies",
        &["auth-owner-in-use"],
        Built(
            "A new hub has the five policies, each with two random keys of its own; `holdfast policy list`.",
        ),
    ),
    ("S10", "Decide the access of each component by its role", &["auth-owner-in-use"], Checks),
    ("S11", "Backend access: Cosmos DB", &[], Missing("there are no routes to a document store.")),
    (
        "S12",
        "Backend access: Stream Analytics",
        &["auth-owner-in-use"],
        Built(
            "Readers have consumer groups of their own and need ServiceConnect only: `holdfast events consumer-group create`.",
        ),
    ),
    (
        "S13",
        "Backend access: App Service",
        &["auth-owner-in-use"],
        Owner("Make a policy for each application: `holdfast policy create NAME --rights ServiceConnect`."),
    ),
    ("S14", "Backend access: Logic Apps", &[], Missing("there are no webhooks.")),
    (
        "S15",
        "Backend access: Blob storage",
        &[],
        Built(
            "The link of an upload creates and writes one file, reads nothing, and ends with its upload or after an hour; \
             `holdfast settings show` has the time.",
        ),
    ),
    ("S16", "Give each device a unique identity key", &["id-shared-credential", "key-sym-weak"], Checks),
    ("S17", "Authenticate with a security token over MQTT", &["auth-sas-ttl", "auth-hub-key-leaked"], Checks),
    ("S18", "Authenticate with a security token over AMQP", &["auth-sas-ttl"], Checks),
    (
        "S19",
        "Authenticate with a security token over HTTPS",
        &["auth-sas-ttl"],
        Built("The Authorization header is the only place where a token is taken."),
    ),
    (
        "S20",
        "Authenticate with an X.509 certificate per device",
        &["id-shared-credential", "key-cert-expiring", "key-crl-stale"],
        Checks,
    ),
    (
        "S21",
        "Use TLS 1.2 for devices",
        &["tls-legacy-client", "key-server-cert-expiring"],
        Built(
            "TLS 1.2 and 1.3 with forward secrecy and AEAD only, on every port; there is no switch for less.",
        ),
    ),
    (
        "S22",
        "Connect to Azure Storage and Event Hubs over TLS only",
        &[],
        Built(
            "The Event Hubs endpoint speaks TLS only, and no listener answers in clear; a storage account of files is spoken to over TLS only.",
        ),
    ),
    (
        "S23",
        "Protect data at the backend",
        &[],
        Missing("the event log is not encrypted at rest; encrypt the volume that holds it."),
    ),
    ("S24", "Keep secrets out of code and configuration files", &["key-in-config"], Checks),
    (
        "S25",
        "Keep connection strings encrypted at rest",
        &["key-file-perms"],
        Built(
            "Keys rest sealed (AES-256-GCM) and bound to their place; a sealed key moved elsewhere does not open.",
        ),
    ),
    (
        "S26",
        "Rotate encryption keys regularly",
        &[],
        Missing("the age of keys is not watched, and the master key is not rotated by a command."),
    ),
    (
        "S27",
        "Use a key vault with managed identity",
        &[],
        Missing("the master key comes from a variable or a file, not from a vault."),
    ),
    (
        "S28",
        "Keep hardware ports to the minimum",
        &[],
        Missing("there is no agent on devices; look at the devices yourself."),
    ),
    (
        "S29",
        "Prevent or detect physical tampering",
        &[],
        Missing("there is no agent on devices; look at the devices yourself."),
    ),
    (
        "S30",
        "Use encrypted storage",
        &[],
        Missing("there is no agent on devices; look at the devices yourself."),
    ),
    ("S31", "Use a TPM", &[], Missing("there is no provisioning service and no agent.")),
    (
        "S32",
        "Keep operating systems and drivers up to date",
        &[],
        Missing("there is no agent on devices; look at the devices yourself."),
    ),
    (
        "S33",
        "Run antivirus where space permits",
        &[],
        Missing("there is no agent on devices; look at the devices yourself."),
    ),
    (
        "S34",
        "Monitor unauthorized access",
        &["auth-bruteforce", "id-conflicting-connection", "tls-legacy-client"],
        Checks,
    ),
    (
        "S35",
        "Monitor the solution's health by metrics",
        &["hub-clock-ahead", "hub-files-damaged", "hub-disk-full"],
        Owner("Point a Prometheus at `/metrics` and set its alerts (docs/operating.md)."),
    ),
    (
        "S36",
        "Set up diagnostics",
        &[],
        Built(
            "Connections, operations, refusals and changes are logged from the first start and cannot be switched off.",
        ),
    ),
    (
        "S37",
        "Know your share of the responsibility",
        &[],
        Built("This report names what the hub does, what it verified, and what is left to you."),
    ),
    (
        "S38",
        "Read the best practices and the security architecture",
        &[],
        Owner("Read docs/security-model.md; `holdfast posture checks CHECK` explains each finding offline."),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks;

    #[test]
    fn all_rows_are_there_in_order_and_name_checks_that_exist() {
        let known: Vec<&str> = checks::all().iter().map(|check| check.about().id).collect();
        for (at, (id, recommendation, checks, _)) in ROWS.iter().enumerate() {
            assert_eq!(*id, format!("S{:02}", at + 1));
            assert!(recommendation.len() > 5);
            for check in *checks {
                assert!(known.contains(check), "{id}: {check}");
            }
        }
        // And every check stands for some row.
        for check in known {
            assert!(ROWS.iter().any(|(_, _, checks, _)| checks.contains(&check)), "{check}");
        }
    }

    #[test]
    fn no_data_is_never_verified() {
        let tally = |unknown, healthy| Tally {
            check: "auth-sas-ttl",
            title: "",
            severity: hub::finding::Severity::Medium,
            healthy,
            unhealthy: 0,
            not_applicable: 0,
            unknown,
        };
        let state = |tally| rows(&[tally], &[], Timestamp::UNIX_EPOCH)[17].state;
        assert_eq!(state(tally(1, 3)), State::Unknown);
        assert_eq!(state(tally(0, 3)), State::Verified);
    }
}
