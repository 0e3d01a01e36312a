//! `holdfast device`.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Common;
use super::output::{list, one};
use super::simulate::{self, SimulateArgs};
use super::target::{Request, Target, encoded, sas_token_until};
use super::terminal::outln;
use super::watch::{self, WatchArgs};

/// The commands about devices.
#[derive(Subcommand)]
pub(crate) enum DeviceCommand {
    /// Register a device.
    #[command(after_help = "Examples:
  holdfast device create pump-1
  holdfast device create pump-2 --primary-key K --secondary-key K
  holdfast device create pump-3 --auth x509_thumbprint --primary-thumbprint 0123…
  holdfast device create pump-4 --auth x509_ca
  holdfast device create gateway-1 --edge
  holdfast device create pump-5 --parent gateway-1")]
    Create {
        /// The device id.
        id: String,
        #[command(flatten)]
        credential: CredentialArgs,
        /// Register it disabled, or with this status.
        #[arg(long, value_enum, default_value_t = StatusArg::Enabled)]
        status: StatusArg,
        /// Make it an edge device, which gets the modules $edgeAgent and $edgeHub and may have children.
        #[arg(long)]
        edge: bool,
        /// The edge device through which it may connect.
        #[arg(long, value_name = "ID")]
        parent: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List devices.
    List {
        /// At most so many, 1 to 1000.
        #[arg(long, default_value_t = 1000)]
        top: u16,
        #[command(flatten)]
        common: Common,
    },
    /// Show a device.
    Show {
        /// The device id.
        id: String,
        /// Show its keys and connection string too.
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List the children of an edge device: those that may connect through it.
    Children {
        /// The id of the edge device.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Change a device.
    Update {
        /// The device id.
        id: String,
        /// Enable or disable it.
        #[arg(long, value_enum)]
        status: Option<StatusArg>,
        /// Why it has this status.
        #[arg(long, value_name = "TEXT")]
        status_reason: Option<String>,
        /// The edge device through which it may connect.
        #[arg(long, value_name = "ID")]
        parent: Option<String>,
        /// Let it have no parent any more.
        #[arg(long, conflicts_with = "parent")]
        no_parent: bool,
        #[command(flatten)]
        credential: CredentialArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Delete a device with its modules.
    Delete {
        /// The device id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print a SAS token for a device.
    Token {
        /// The device id.
        id: String,
        /// How long it lives.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        seconds: u64,
        #[command(flatten)]
        common: Common,
    },
    Simulate(Box<SimulateArgs>),
    Watch(WatchArgs),
}

/// How an identity proves who it is.
#[derive(clap::Args, Clone, Default)]
pub(super) struct CredentialArgs {
    /// The kind of credential.
    #[arg(long, value_enum, value_name = "KIND")]
    auth: Option<AuthArg>,
    /// A key in base64 (16 to 64 bytes); random when absent.
    #[arg(long, value_name = "KEY")]
    primary_key: Option<String>,
    /// The other key.
    #[arg(long, value_name = "KEY")]
    secondary_key: Option<String>,
    /// SHA-1 or SHA-256 of its certificate, hexadecimal.
    #[arg(long, value_name = "HEX")]
    primary_thumbprint: Option<String>,
    /// The thumbprint of its next certificate.
    #[arg(long, value_name = "HEX")]
    secondary_thumbprint: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum AuthArg {
    /// Symmetric keys.
    SharedPrivateKey,
    /// The thumbprints of its own certificates.
    X509Thumbprint,
    /// A certificate under a verified authority.
    X509Ca,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum StatusArg {
    /// It may connect.
    Enabled,
    /// It may not.
    Disabled,
}

impl StatusArg {
    fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

impl CredentialArgs {
    /// The `authentication` of a body, over what is registered; `None` when nothing is to change.
    pub(super) fn authentication(&self, registered: &Value) -> anyhow::Result<Option<Value>> {
        let names_a_key = self.primary_key.is_some() || self.secondary_key.is_some();
        let names_a_thumbprint = self.primary_thumbprint.is_some() || self.secondary_thumbprint.is_some();
        let kind = match self.auth {
            Some(AuthArg::SharedPrivateKey) => "sas",
            Some(AuthArg::X509Thumbprint) => "selfSigned",
            Some(AuthArg::X509Ca) => "certificateAuthority",
            None if names_a_thumbprint => "selfSigned",
            None if names_a_key => "sas",
            None => return Ok(None),
        };
        if (names_a_key && kind != "sas") || (names_a_thumbprint && kind != "selfSigned") {
            bail!("keys go with shared_private_key, thumbprints with x509_thumbprint");
        }
        let or_registered = |given: &Option<String>, pointer: &str| match given {
            Some(given) => Value::String(given.clone()),
            None => registered.pointer(pointer).cloned().unwrap_or(Value::Null),
        };
        Ok(Some(json!({
            "type": kind,
            "symmetricKey": {
                "primaryKey": or_registered(&self.primary_key, "/symmetricKey/primaryKey"),
                "secondaryKey": or_registered(&self.secondary_key, "/symmetricKey/secondaryKey"),
            },
            "x509Thumbprint": {
                "primaryThumbprint": or_registered(&self.primary_thumbprint, "/x509Thumbprint/primaryThumbprint"),
                "secondaryThumbprint": or_registered(&self.secondary_thumbprint, "/x509Thumbprint/secondaryThumbprint"),
            },
        })))
    }
}

const LINES: &[(&str, &str)] = &[
    ("Device", "/deviceId"),
    ("Status", "/status"),
    ("Reason", "/statusReason"),
    ("Connection", "/connectionState"),
    ("Authentication", "/authentication/type"),
    ("Primary thumbprint", "/authentication/x509Thumbprint/primaryThumbprint"),
    ("Secondary thumbprint", "/authentication/x509Thumbprint/secondaryThumbprint"),
    ("Edge", "/capabilities/iotEdge"),
    ("Scope", "/deviceScope"),
    ("Parent", "/parentScopes/0"),
    ("Generation", "/generationId"),
    ("ETag", "/etag"),
    ("Primary key", "/authentication/symmetricKey/primaryKey"),
    ("Secondary key", "/authentication/symmetricKey/secondaryKey"),
    ("Connection string", "/connectionString"),
];

/// Runs a command about devices.
pub(super) fn run(command: DeviceCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeviceCommand::Create { id, credential, status, edge, parent, common } => {
            let target = common.target.open()?;
            let mut body = json!({
                "deviceId": id,
                "status": status.as_str(),
                "capabilities": { "iotEdge": edge },
            });
            if let Some(authentication) = credential.authentication(&Value::Null)? {
                body["authentication"] = authentication;
            }
            if let Some(parent) = parent {
                set_parent(&mut body, Some(scope_of(&target, &parent)?));
            }
            let device = target.service(Request::new("PUT", path(&id)).with(body))?;
            one(common.output, &with_connection_string(device, &target), LINES);
        }
        DeviceCommand::List { top, common } => {
            let devices =
                common.target.open()?.service(Request::new("GET", format!("/devices?top={top}")))?;
            let devices: Vec<Value> =
                devices.as_array().cloned().unwrap_or_default().into_iter().map(hide).collect();
            list(
                common.output,
                &devices,
                &[
                    ("DEVICE", "/deviceId"),
                    ("STATUS", "/status"),
                    ("CONNECTION", "/connectionState"),
                    ("AUTHENTICATION", "/authentication/type"),
                ],
            );
        }
        DeviceCommand::Show { id, keys, common } => {
            let target = common.target.open()?;
            let device = target.service(Request::new("GET", path(&id)))?;
            let device = if keys { with_connection_string(device, &target) } else { hide(device) };
            one(common.output, &device, LINES);
        }
        DeviceCommand::Children { id, common } => {
            let children = children(&common.target.open()?, &id)?;
            list(
                common.output,
                &children,
                &[
                    ("DEVICE", "/deviceId"),
                    ("STATUS", "/status"),
                    ("CONNECTION", "/connectionState"),
                    ("EDGE", "/capabilities/iotEdge"),
                ],
            );
        }
        DeviceCommand::Update { id, status, status_reason, parent, no_parent, credential, common } => {
            let target = common.target.open()?;
            let mut device = target.service(Request::new("GET", path(&id)))?;
            if let Some(authentication) = credential.authentication(&device["authentication"])? {
                device["authentication"] = authentication;
            }
            if let Some(status) = status {
                device["status"] = json!(status.as_str());
            }
            if let Some(reason) = status_reason {
                device["statusReason"] = json!(reason);
            }
            if let Some(parent) = parent {
                set_parent(&mut device, Some(scope_of(&target, &parent)?));
            }
            if no_parent {
                set_parent(&mut device, None);
            }
            let etag = device["etag"].as_str().unwrap_or_default().to_owned();
            let request = Request { if_match: Some(&etag), ..Request::new("PUT", path(&id)).with(device) };
            one(common.output, &hide(target.service(request)?), LINES);
        }
        DeviceCommand::Delete { id, common } => {
            common.target.open()?.service(Request::new("DELETE", path(&id)).replacing())?;
        }
        DeviceCommand::Token { id, seconds, common } => {
            let target = common.target.open()?;
            let device = target.service(Request::new("GET", path(&id)))?;
            let resource = format!("{}/devices/{id}", target.host);
            outln!("{}", token(&device, &resource, seconds)?);
        }
        DeviceCommand::Simulate(args) => return simulate::run(*args),
        DeviceCommand::Watch(args) => return watch::run(args),
    }
    Ok(ExitCode::SUCCESS)
}

fn path(id: &str) -> String {
    format!("/devices/{}", encoded(id))
}

/// The scope that the children of an edge device have.
fn scope_of(target: &Target, parent: &str) -> anyhow::Result<String> {
    let device = target.service(Request::new("GET", path(parent)))?;
    if device.pointer("/capabilities/iotEdge") != Some(&Value::Bool(true)) {
        bail!("`{parent}` is no edge device, and only those are parents");
    }
    Ok(device["deviceScope"].as_str().unwrap_or_default().to_owned())
}

/// Gives the body of a device this parent. That of an edge device stands in its parents, for its scope is its own.
fn set_parent(body: &mut Value, scope: Option<String>) {
    match body.pointer("/capabilities/iotEdge") {
        Some(Value::Bool(true)) => body["parentScopes"] = json!(Vec::from_iter(scope)),
        _ => body["deviceScope"] = json!(scope.unwrap_or_default()),
    }
}

/// All children of an edge device, page by page.
fn children(target: &Target, id: &str) -> anyhow::Result<Vec<Value>> {
    let (root, mut children) =
        (format!("/holdfast/v1/devices/{}/children", encoded(id)), Vec::<Value>::new());
    loop {
        let last = children.last().and_then(|child| child["deviceId"].as_str());
        let after = last.map(|last| format!("?after={}", encoded(last))).unwrap_or_default();
        let page = target.management(Request::new("GET", format!("{root}{after}")))?;
        match page.as_array() {
            Some(page) if !page.is_empty() => children.extend(page.iter().cloned()),
            _ => return Ok(children),
        }
    }
}

/// A token of an identity with symmetric keys.
pub(super) fn token(identity: &Value, resource: &str, seconds: u64) -> anyhow::Result<String> {
    let key = identity
        .pointer("/authentication/symmetricKey/primaryKey")
        .and_then(Value::as_str)
        .with_context(|| {
            format!("it has no symmetric key, its authentication is {}", identity["authentication"]["type"])
        })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    sas_token_until(resource, key, None, now + seconds)
}

/// The identity without its keys.
pub(super) fn hide(mut identity: Value) -> Value {
    if let Some(authentication) = identity.get_mut("authentication").and_then(Value::as_object_mut) {
        authentication.remove("symmetricKey");
    }
    identity
}

/// The identity with the connection string that a client needs.
pub(super) fn with_connection_string(mut identity: Value, target: &Target) -> Value {
    let text = |pointer: &str| identity.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let device = text("/deviceId").unwrap_or_default();
    let module = text("/moduleId").map(|module| format!("ModuleId={module};")).unwrap_or_default();
    let credential = match text("/authentication/symmetricKey/primaryKey") {
        Some(key) => format!("SharedAccessKey={key}"),
        None => "x509=true".to_owned(),
    };
    let host = &target.host;
    identity["connectionString"] = json!(format!("HostName={host};DeviceId={device};{module}{credential}"));
    identity
}
