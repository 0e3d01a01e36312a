//! `holdfast policy`.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Common;
use super::output::{list, one};
use super::target::{Request, Target, encoded};

/// The commands about shared access policies.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Create a policy with two random keys.
    #[command(after_help = "Example:
  holdfast policy create dashboard --rights ServiceConnect")]
    Create {
        /// Its name.
        name: String,
        /// RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect, separated by commas.
        #[arg(long)]
        rights: String,
        #[command(flatten)]
        common: Common,
    },
    /// List the policies.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show a policy.
    Show {
        /// Its name.
        name: String,
        /// Show its keys and connection string too.
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Change the rights of a policy.
    Update {
        /// Its name.
        name: String,
        /// RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect, separated by commas.
        #[arg(long)]
        rights: String,
        #[command(flatten)]
        common: Common,
    },
    /// Give a policy a new key in one slot; connections on the old one end.
    RotateKey {
        /// Its name.
        name: String,
        /// Which key.
        #[arg(long, value_enum)]
        slot: SlotArg,
        #[command(flatten)]
        common: Common,
    },
    /// Delete a policy; connections that depend on it end.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SlotArg {
    /// The primary key.
    Primary,
    /// The secondary key.
    Secondary,
}

const LINES: &[(&str, &str)] = &[
    ("Policy", "/name"),
    ("Rights", "/rights"),
    ("Created", "/created"),
    ("Primary key", "/primaryKey"),
    ("Secondary key", "/secondaryKey"),
    ("Connection string", "/connectionString"),
];

/// Runs a command about policies.
pub(super) fn run(command: PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Create { name, rights, common } => {
            let target = common.target.open()?;
            let policy =
                target.management(Request::new("PUT", path(&name)).with(json!({ "rights": rights })))?;
            one(common.output, &with_connection_string(policy, &target), LINES);
        }
        PolicyCommand::Update { name, rights, common } => {
            let target = common.target.open()?;
            target.management(Request::new("GET", path(&name)))?;
            let policy =
                target.management(Request::new("PUT", path(&name)).with(json!({ "rights": rights })))?;
            one(common.output, &hide(policy), LINES);
        }
        PolicyCommand::List { common } => {
            let policies = common.target.open()?.management(Request::new("GET", "/holdfast/v1/policies"))?;
            let policies: Vec<Value> =
                policies.as_array().cloned().unwrap_or_default().into_iter().map(hide).collect();
            list(
                common.output,
                &policies,
                &[("POLICY", "/name"), ("RIGHTS", "/rights"), ("CREATED", "/created")],
            );
        }
        PolicyCommand::Show { name, keys, common } => {
            let target = common.target.open()?;
            let policy = target.management(Request::new("GET", path(&name)))?;
            let policy = if keys { with_connection_string(policy, &target) } else { hide(policy) };
            one(common.output, &policy, LINES);
        }
        PolicyCommand::RotateKey { name, slot, common } => {
            let target = common.target.open()?;
            let slot = match slot {
                SlotArg::Primary => "primary",
                SlotArg::Secondary => "secondary",
            };
            let policy =
                target.management(Request::new("POST", format!("{}/regenerate/{slot}", path(&name))))?;
            one(common.output, &with_connection_string(policy, &target), LINES);
        }
        PolicyCommand::Delete { name, common } => {
            common.target.open()?.management(Request::new("DELETE", path(&name)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(name: &str) -> String {
    format!("/holdfast/v1/policies/{}", encoded(name))
}

fn hide(mut policy: Value) -> Value {
    if let Some(policy) = policy.as_object_mut() {
        policy.remove("primaryKey");
        policy.remove("secondaryKey");
    }
    policy
}

fn with_connection_string(mut policy: Value, target: &Target) -> Value {
    let text = |name: &str| policy[name].as_str().unwrap_or_default().to_owned();
    let (name, key, host) = (text("name"), text("primaryKey"), &target.host);
    policy["connectionString"] =
        json!(format!("HostName={host};SharedAccessKeyName={name};SharedAccessKey={key}"));
    policy
}
