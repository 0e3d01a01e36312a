//! What a text says by itself, without asking a hub.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hub::explain::{near_misses, span};
use hub::identity::{DeviceId, ModuleId};
use hub::sas::Token;
use jiff::Timestamp;

use super::Problem;

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Device,
    Module,
    Service,
    EventHubs,
    ProvisioningService,
    Storage,
    Token,
    Key,
    Unknown,
}

impl Kind {
    /// In words.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Device => "the connection string of a device",
            Self::Module => "the connection string of a module",
            Self::Service => "the connection string of a service (a shared access policy)",
            Self::EventHubs => "an Event Hubs connection string",
            Self::ProvisioningService => "the connection string of a provisioning service",
            Self::Storage => "the connection string of a storage account",
            Self::Token => "a SAS token",
            Self::Key => "a key, without anything that says whose",
            Self::Unknown => "nothing that is known here",
        }
    }

    /// The calls that it is for.
    pub(super) fn sdk_calls(self) -> &'static [&'static str] {
        match self {
            Self::Device => &[
                "Python azure-iot-device: IoTHubDeviceClient.create_from_connection_string",
                "Node azure-iot-device: Client.fromConnectionString",
                ".NET Microsoft.Azure.Devices.Client: DeviceClient.CreateFromConnectionString",
            ],
            Self::Module => &[
                "Python azure-iot-device: IoTHubModuleClient.create_from_connection_string",
                "Node azure-iot-device: ModuleClient.fromConnectionString",
                ".NET Microsoft.Azure.Devices.Client: ModuleClient.CreateFromConnectionString",
            ],
            Self::Service => &[
                "Python azure-iot-hub: IoTHubRegistryManager.from_connection_string",
                "Node azure-iothub: Registry.fromConnectionString",
                "holdfast: --connection-string",
            ],
            Self::EventHubs => &[
                "Python azure-eventhub: EventHubConsumerClient.from_connection_string",
                "Node @azure/event-hubs: new EventHubConsumerClient",
            ],
            Self::ProvisioningService => &["Node azure-iot-provisioning-service: ProvisioningServiceClient"],
            Self::Storage => &["Python azure-storage-blob: BlobServiceClient.from_connection_string"],
            Self::Token => &[
                "Python azure-iot-device: IoTHubDeviceClient.create_from_sastoken",
                "MQTT: the password; HTTPS: the header Authorization",
            ],
            Self::Key => &["Python azure-iot-device: create_from_symmetric_key (provisioning)"],
            Self::Unknown => &[],
        }
    }
}

/// What a text says.
pub(super) struct Reading {
    /// What it is.
    pub(super) kind: Kind,
    /// Its parts for people; secrets are only described.
    pub(super) parts: Vec<(String, String)>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// The parts as they are, and the token, for what is held against a hub.
    pub(super) fields: Fields,
}

/// The parts of a connection string or token that name something.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) host: Option<String>,
    pub(super) device: Option<String>,
    pub(super) module: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) entity_path: Option<String>,
    pub(super) key: Option<String>,
    pub(super) token: Option<String>,
}

impl Reading {
    /// Adds a problem.
    pub(super) fn wrong(&mut self, problem: impl Into<String>, expected: impl Into<String>) {
        self.problems.push(Problem { problem: problem.into(), expected: expected.into() });
    }

    fn part(&mut self, name: &str, value: impl Into<String>) {
        self.parts.push((name.to_owned(), value.into()));
    }
}

/// Reads a text; `now` says what has expired.
pub(super) fn read(text: &str, now: Timestamp) -> Reading {
    let mut reading =
        Reading { kind: Kind::Unknown, parts: Vec::new(), problems: Vec::new(), fields: Fields::default() };
    let clean = cleaned(text, &mut reading);
    if clean.get(..SCHEME.len()).is_some_and(|head| head.eq_ignore_ascii_case(SCHEME)) {
        read_token(&clean, now, &mut reading);
    } else if clean.contains('=') && clean.split(';').any(is_known) {
        read_connection_string(&clean, &mut reading, now);
    } else if STANDARD.decode(&clean).is_ok_and(|key| key.len() >= 8) {
        reading.kind = Kind::Key;
        reading.part("key", described(&clean));
        reading.wrong(
            "A key alone says neither which hub nor whose it is.",
            "HostName={host};DeviceId={id};SharedAccessKey={key}",
        );
    } else {
        reading.wrong(
            "This is neither a connection string nor a SAS token nor a key.",
            "HostName={host};DeviceId={id};SharedAccessKey={key}, or SharedAccessSignature sr=…&sig=…&se=…",
        );
    }
    reading
}

const SCHEME: &str = "SharedAccessSignature ";

/// The names of parts, as the SDKs spell them.
const NAMES: [&str; 17] = [
    "HostName",
    "DeviceId",
    "ModuleId",
    "SharedAccessKeyName",
    "SharedAccessKey",
    "SharedAccessSignature",
    "GatewayHostName",
    "x509",
    "Endpoint",
    "EntityPath",
    "DefaultEndpointsProtocol",
    "AccountName",
    "AccountKey",
    "EndpointSuffix",
    "BlobEndpoint",
    "RepositoryId",
    "ProtocolVersion",
];

fn is_known(part: &str) -> bool {
    let name = part.split('=').next().unwrap_or_default().trim();
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
        || !near_misses(name, NAMES.into_iter()).is_empty()
        || NAMES.iter().any(|known| part.contains(&format!("{known}=")))
}

/// The text without what was pasted with it.
fn cleaned(text: &str, reading: &mut Reading) -> String {
    let trimmed = text.trim();
    if trimmed.len() != text.len() {
        reading.wrong(
            "Blanks or line ends stand before or behind it; many clients take them for part of the key.",
            "the text alone",
        );
    }
    let quotes = |c: char| matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’');
    let unquoted = trimmed.trim_matches(quotes);
    if unquoted.len() != trimmed.len() {
        reading.wrong("Quotes were pasted with it.", "the text without its quotes");
    }
    let unbroken: String = unquoted.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    if unbroken.len() != unquoted.len() {
        reading.wrong("There is a line end within it.", "one line");
    }
    // `export NAME=` or `NAME=` of a settings file.
    match unbroken.find("HostName=").or_else(|| unbroken.find("Endpoint=sb")) {
        Some(at) if at > 0 && !unbroken[..at].contains(';') => {
            reading.wrong(
                format!("`{}` stands before it.", &unbroken[..at]),
                "the connection string without the name of its variable",
            );
            unbroken[at..].trim_matches(quotes).to_owned()
        }
        _ => unbroken,
    }
}

fn read_connection_string(text: &str, reading: &mut Reading, now: Timestamp) {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for part in text.split(';').filter(|part| !part.trim().is_empty()) {
        let Some((written, value)) = part.split_once('=') else {
            reading.wrong(
                "A part of it has no `=`: either a `;` is too many, or the text was cut.",
                "parts of the form Name=value, separated by `;`",
            );
            continue;
        };
        let Some(name) = spelt(written, reading) else { continue };
        if found.iter().any(|(have, _)| *have == name) {
            reading.wrong(format!("`{name}` comes twice."), format!("one `{name}`"));
            continue;
        }
        if value.trim() != value {
            reading.wrong(format!("Blanks stand around the value of `{name}`."), "the value alone");
        }
        found.push((name, value.trim().to_owned()));
    }
    let value = |name: &str| found.iter().find(|(have, _)| *have == name).map(|(_, value)| value.clone());
    let has = |name: &str| found.iter().any(|(have, _)| *have == name);
    reading.kind = if has("AccountName") || has("AccountKey") || has("DefaultEndpointsProtocol") {
        Kind::Storage
    } else if has("Endpoint") {
        Kind::EventHubs
    } else if value("HostName").is_some_and(|host| host.to_lowercase().contains("azure-devices-provisioning"))
    {
        Kind::ProvisioningService
    } else if has("ModuleId") {
        Kind::Module
    } else if has("DeviceId") {
        Kind::Device
    } else {
        Kind::Service
    };
    for (name, value) in &found {
        let secret = matches!(*name, "SharedAccessKey" | "AccountKey" | "SharedAccessSignature");
        reading.part(name, if secret { described(value) } else { value.clone() });
    }
    reading.fields = Fields {
        host: value("HostName"),
        device: value("DeviceId"),
        module: value("ModuleId"),
        policy: value("SharedAccessKeyName"),
        entity_path: value("EntityPath"),
        key: value("SharedAccessKey"),
        token: value("SharedAccessSignature"),
    };
    match reading.kind {
        Kind::Device | Kind::Module => check_identity(reading, has("x509"), now),
        Kind::Service | Kind::ProvisioningService => check_service(reading),
        Kind::EventHubs => check_event_hubs(reading, value("Endpoint").unwrap_or_default()),
        Kind::Storage => reading.wrong(
            "A storage account is not a hub: no IoT SDK takes this.",
            "the connection string of a device, a service or an event hub",
        ),
        Kind::Token | Kind::Key | Kind::Unknown => {}
    }
    if let Some(key) = reading.fields.key.clone() {
        check_key(&key, reading);
    }
}

/// The name that a part was meant to have.
fn spelt(written: &str, reading: &mut Reading) -> Option<&'static str> {
    let name = written.trim();
    if let Some(known) = NAMES.into_iter().find(|known| *known == name) {
        if name.len() != written.len() {
            reading.wrong(format!("Blanks stand around the name `{known}`."), format!("`{known}=`"));
        }
        return Some(known);
    }
    let known = near_misses(name, NAMES.into_iter());
    let known = known.first().and_then(|near| NAMES.into_iter().find(|known| known == near));
    match known {
        Some(known) => reading.wrong(
            format!("The name `{name}` is misspelt; some SDKs mind its case too."),
            format!("`{known}=`"),
        ),
        None => reading.wrong(
            format!("There is no part called `{}`.", name.chars().take(40).collect::<String>()),
            NAMES[..8].join(", "),
        ),
    }
    known
}

fn check_identity(reading: &mut Reading, x509: bool, now: Timestamp) {
    check_host(reading);
    let (device, module) = (reading.fields.device.clone(), reading.fields.module.clone());
    match device.as_deref().map(DeviceId::parse) {
        None => reading.wrong("A module belongs to a device, and `DeviceId` is missing.", "`DeviceId={id}`"),
        Some(Err(error)) => reading.wrong(format!("The device id is not a legal one: {error}."), LEGAL_ID),
        Some(Ok(_)) => {}
    }
    if let Some(Err(error)) = module.as_deref().map(ModuleId::parse) {
        reading.wrong(format!("The module id is not a legal one: {error}."), LEGAL_ID);
    }
    if let Some(policy) = reading.fields.policy.clone() {
        reading.wrong(
            format!(
                "It names a device and the policy `{policy}` (SharedAccessKeyName). A device has a key of its own; the \
                 Python SDK leaves the policy's name out of its tokens, which are refused then (hub-key-without-skn)."
            ),
            "the connection string of the device: `holdfast device show {id} --keys`",
        );
    }
    if reading.fields.entity_path.is_some() {
        reading.wrong("`EntityPath` belongs into an Event Hubs connection string.", "no `EntityPath`");
    }
    match (reading.fields.key.is_some(), reading.fields.token.clone(), x509) {
        (false, None, false) => reading.wrong(
            "It has no credential.",
            "`SharedAccessKey={key}`, or `x509=true` for a client with a certificate",
        ),
        (true, _, true) => reading.wrong("It has a key and says x509 as well.", "one of the two"),
        (_, Some(token), _) => {
            let kind = reading.kind;
            read_token(&token, now, reading);
            reading.kind = kind;
        }
        _ => {}
    }
}

const LEGAL_ID: &str = "1 to 128 of A-Z a-z 0-9 and - . _ : + % # * ? ! ( ) , = @ $ ' ;";

fn check_service(reading: &mut Reading) {
    check_host(reading);
    if reading.fields.policy.is_none() {
        reading.wrong(
            "It names neither a device (DeviceId) nor a policy (SharedAccessKeyName).",
            "`DeviceId={id}` for a device, `SharedAccessKeyName={policy}` for a service",
        );
    }
    if reading.fields.key.is_none() && reading.fields.token.is_none() {
        reading.wrong("It has no key.", "`SharedAccessKey={key}`");
    }
    if reading.fields.entity_path.is_some() {
        reading.wrong(
            "`EntityPath` belongs into an Event Hubs connection string.",
            "no `EntityPath`, or `Endpoint=sb://{host}/` in place of `HostName`: `holdfast events connection-string`",
        );
    }
}

fn check_event_hubs(reading: &mut Reading, endpoint: String) {
    match endpoint.strip_prefix("sb://").map(|rest| rest.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains('/') => reading.fields.host = Some(host.to_owned()),
        _ => reading
            .wrong(format!("The endpoint `{endpoint}` is not one of Event Hubs."), "`Endpoint=sb://{host}/`"),
    }
    if reading.parts.iter().any(|(name, _)| name == "HostName") {
        reading.wrong(
            "It has an `Endpoint` and a `HostName`.",
            "an `Endpoint` for Event Hubs SDKs, a `HostName` for all others",
        );
    }
    if reading.fields.device.is_some() {
        reading.wrong("Event Hubs clients are services: they have no `DeviceId`.", "no `DeviceId`");
    }
    if reading.fields.policy.is_none() {
        reading.wrong("It names no policy.", "`SharedAccessKeyName={policy}`");
    }
    if reading.fields.key.is_none() {
        reading.wrong("It has no key.", "`SharedAccessKey={key}`");
    }
    if reading.fields.entity_path.is_none() {
        reading.wrong(
            "It does not name the event hub.",
            "`EntityPath={event hub}`, or the name as an argument of the client (eventhub_name)",
        );
    }
}

fn check_host(reading: &mut Reading) {
    let host = reading.fields.host.clone().unwrap_or_default();
    if host.is_empty() {
        reading.wrong("It names no host.", "`HostName={host}`");
    } else if host.contains("://") || host.contains('/') {
        reading.wrong(
            format!("`{host}` is a URL, not a host."),
            "the name of the host alone, without https:// and path",
        );
    } else if host.contains(char::is_whitespace) {
        reading.wrong("There is a blank in the host.", "the name of the host alone");
    } else if host
        .rsplit_once(':')
        .is_some_and(|(name, port)| !name.contains(':') && port.parse::<u16>().is_ok())
    {
        reading.wrong(
            format!("`{host}` has a port; the SDKs know their ports themselves."),
            "the name of the host alone",
        );
    }
}

fn check_key(key: &str, reading: &mut Reading) {
    if key.is_empty() {
        return reading.wrong("The key is empty.", "a key in base64");
    }
    match STANDARD.decode(key) {
        Ok(bytes) if bytes.len() < 16 => reading.wrong(
            format!("The key has {} bytes, which is too short: it was cut, or is no key.", bytes.len()),
            "16 to 64 bytes in base64; those that a hub makes have 32",
        ),
        Ok(bytes) if bytes.len() > 64 => {
            reading.wrong(
                format!("The key has {} bytes, which is too long.", bytes.len()),
                "16 to 64 bytes in base64",
            );
        }
        Ok(_) => {}
        Err(_) if STANDARD_NO_PAD.decode(key).is_ok() => {
            reading.wrong("The `=` at the end of the key is lost.", "the whole key, with the `=` at its end");
        }
        Err(_) if URL_SAFE.decode(key).is_ok() || URL_SAFE_NO_PAD.decode(key).is_ok() => reading.wrong(
            "The key is written in the URL-safe alphabet (`-` and `_`).",
            "ordinary base64, with `+` and `/`",
        ),
        Err(_) if key.contains('%') => {
            reading.wrong("The key is percent-encoded.", "the key as it is, with `+`, `/` and `=`");
        }
        Err(_) => reading.wrong(
            "The key is not base64: a letter was lost or added, or it is no key.",
            "16 to 64 bytes in base64",
        ),
    }
}

/// A secret for people: what can be said of it without giving it away.
fn described(secret: &str) -> String {
    if secret.starts_with(SCHEME) {
        return "a SAS token (not shown)".to_owned();
    }
    match STANDARD.decode(secret) {
        Ok(bytes) => format!("{} bytes (not shown)", bytes.len()),
        Err(_) => format!("{} characters (not shown)", secret.chars().count()),
    }
}

fn read_token(text: &str, now: Timestamp, reading: &mut Reading) {
    reading.kind = Kind::Token;
    let token = match Token::parse(text) {
        Ok(token) => token,
        Err(error) => {
            return reading.wrong(
                format!("It is no whole SAS token: {error}."),
                "SharedAccessSignature sr={resource}&sig={signature}&se={seconds since 1970}",
            );
        }
    };
    let facts = token.facts();
    reading.part("resource (sr)", &facts.sr);
    reading.part("signature (sig)", "(not shown)");
    if let Some(policy) = &facts.skn {
        reading.part("policy (skn)", policy);
    }
    check_end(token.se, now, reading);
    let once = percent_encoding::percent_decode_str(token.sr).decode_utf8_lossy().into_owned();
    if once.to_ascii_lowercase().contains("%2f") {
        reading.wrong(
            "The resource is encoded twice. A hub takes that when the signature was made over the same text, but few \
             clients do it on purpose.",
            "the resource, encoded once",
        );
    }
    let resource = once.split_once("://").map_or(once.as_str(), |(_, rest)| rest).to_owned();
    let mut segments = resource.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned);
    let fields = &mut reading.fields;
    fields.host = fields.host.take().or(segments.next());
    let rest: Vec<String> = segments.collect();
    let word = |at: usize, literal: &str| rest.get(at).is_some_and(|word| word.eq_ignore_ascii_case(literal));
    if word(0, "devices") {
        fields.device = fields.device.take().or(rest.get(1).cloned());
        if word(2, "modules") {
            fields.module = fields.module.take().or(rest.get(3).cloned());
        }
    }
    fields.policy = fields.policy.take().or(facts.skn);
    let nobody = fields.policy.is_none() && fields.device.is_none();
    fields.token = Some(text.to_owned());
    if nobody {
        reading.wrong(
            "It is for the hub as a whole, but names no policy: nobody's key can have made it.",
            "`&skn={policy}`, or a resource with `/devices/{id}`",
        );
    }
}

/// An end beyond this is no second but a millisecond (the year 5138).
const MILLISECONDS_MIN: i64 = 100_000_000_000;
/// An end before this is no time but a length of time (1980).
const LIFETIME_MAX: i64 = 10 * 365 * 86_400;

fn check_end(end: i64, now: Timestamp, reading: &mut Reading) {
    let time = Timestamp::from_second(end).ok();
    let seconds = now.as_second();
    match time {
        Some(time) if end <= MILLISECONDS_MIN => {
            reading.part("end (se)", time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        _ => reading.part("end (se)", end.to_string()),
    }
    if end > MILLISECONDS_MIN {
        reading.wrong(
            "The end (se) is in milliseconds: taken for seconds it is tens of thousands of years ahead.",
            format!("se={}", end / 1_000),
        );
    } else if end < LIFETIME_MAX {
        reading.wrong(
            format!("The end (se) is {end}: a length of time, not a time."),
            format!("se={}, in seconds since 1970", seconds.saturating_add(end)),
        );
    } else if end < seconds {
        let late = time.map(|time| span(now.duration_since(time))).unwrap_or_default();
        reading.wrong(format!("The token ended {late} ago."), "a new token: `holdfast device token {id}`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn reading(text: &str) -> Reading {
        read(text, "2026-11-22T00:00:00Z".parse().expect("a time"))
    }

    fn problems(text: &str) -> Vec<String> {
        let reading = reading(text);
        for (_, value) in &reading.parts {
            assert!(!value.contains("MDEyMzQ1"), "a key is shown: {value}");
        }
        reading.problems.into_iter().map(|problem| problem.problem).collect()
    }

    #[test]
    fn every_kind_is_told_and_nothing_is_wrong_with_good_ones() {
        let cases = [
            (format!("HostName=h.net;DeviceId=d;SharedAccessKey={KEY}"), Kind::Device),
            ("HostName=h.net;DeviceId=d;x509=true".to_owned(), Kind::Device),
            (format!("HostName=h.net;DeviceId=d;ModuleId=m;SharedAccessKey={KEY}"), Kind::Module),
            (format!("HostName=h.net;SharedAccessKeyName=service;SharedAccessKey={KEY}"), Kind::Service),
            (
                format!(
                    "Endpoint=sb://h.net/;SharedAccessKeyName=service;SharedAccessKey={KEY};EntityPath=e"
                ),
                Kind::EventHubs,
            ),
            (
                format!(
                    "HostName=x.azure-devices-provisioning.net;SharedAccessKeyName=o;SharedAccessKey={KEY}"
                ),
                Kind::ProvisioningService,
            ),
            ("SharedAccessSignature sr=h.net%2Fdevices%2Fd&sig=aaaa&se=1900000000".to_owned(), Kind::Token),
        ];
        for (text, kind) in cases {
            assert_eq!(reading(&text).kind, kind, "{text}");
            assert_eq!(problems(&text), [] as [String; 0], "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (format!("\"HostName=h.net;DeviceId=d;SharedAccessKey={KEY}\""), "Quotes"),
            (format!("HostName=h.net;DeviceId=d;SharedAccessKey={KEY}\n"), "line ends"),
            (format!("HostName=h.net;DeviceId=d;Shared\nAccessKey={KEY}"), "line end within"),
            (format!("CONNECTION=HostName=h.net;DeviceId=d;SharedAccessKey={KEY}"), "`CONNECTION=`"),
            (format!("hostname=h.net;DeviceId=d;SharedAccessKey={KEY}"), "`hostname`"),
            (format!("HostName=h.net;DeviceID=d;SharedAccessKey={KEY}"), "`DeviceID`"),
            (format!("DeviceId=d;SharedAccessKey={KEY}"), "no host"),
            (format!("HostName=https://h.net/;DeviceId=d;SharedAccessKey={KEY}"), "URL"),
            (format!("HostName=h.net:8883;DeviceId=d;SharedAccessKey={KEY}"), "port"),
            ("HostName=h.net;DeviceId=d".to_owned(), "no credential"),
            (format!("HostName=h.net;DeviceId=d;SharedAccessKey={}", KEY.trim_end_matches('=')), "lost"),
            ("HostName=h.net;DeviceId=d;SharedAccessKey=c2hvcnQ=".to_owned(), "too short"),
            ("HostName=h.net;DeviceId=d;SharedAccessKey=!!!".to_owned(), "not base64"),
            (
                format!("HostName=h.net;DeviceId=d;SharedAccessKeyName=device;SharedAccessKey={KEY}"),
                "names a device and the policy",
            ),
            (
                format!("HostName=h.net;SharedAccessKeyName=s;SharedAccessKey={KEY};EntityPath=e"),
                "`EntityPath`",
            ),
            (format!("HostName=h.net;SharedAccessKey={KEY}"), "neither a device"),
            (
                format!("Endpoint=sb://h.net/;SharedAccessKeyName=s;SharedAccessKey={KEY}"),
                "does not name the event",
            ),
            ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=aaaa".to_owned(), "storage account"),
            (KEY.to_owned(), "key alone"),
            ("SharedAccessSignature sr=h.net%2Fdevices%2Fd&sig=aaaa&se=1700000000".to_owned(), "ended"),
            (
                "SharedAccessSignature sr=h.net%2Fdevices%2Fd&sig=aaaa&se=1900000000000".to_owned(),
                "milliseconds",
            ),
            ("SharedAccessSignature sr=h.net%2Fdevices%2Fd&sig=aaaa&se=3600".to_owned(), "length of time"),
            ("SharedAccessSignature sr=h.net%252Fdevices%252Fd&sig=aaaa&se=1900000000".to_owned(), "twice"),
            ("SharedAccessSignature sr=h.net&sig=aaaa&se=1900000000".to_owned(), "no policy"),
            ("SharedAccessSignature sr=h.net&sig=aaaa".to_owned(), "`se` is missing"),
            ("hello".to_owned(), "neither"),
        ];
        for (text, wanted) in cases {
            let problems = problems(&text);
            assert!(problems.iter().any(|problem| problem.contains(wanted)), "{text}: {problems:?}");
        }
    }
}
