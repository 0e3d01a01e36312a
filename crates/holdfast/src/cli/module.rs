//! `holdfast module`.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::Common;
use super::device::{CredentialArgs, hide, token, with_connection_string};
use super::output::{list, one};
use super::target::{Request, encoded};
use super::terminal::outln;

/// The commands about modules.
#[derive(Subcommand)]
pub(crate) enum ModuleCommand {
    /// Register a module on a device.
    Create {
        /// The device id.
        device: String,
        /// The module id.
        id: String,
        #[command(flatten)]
        credential: CredentialArgs,
        #[command(flatten)]
        common: Common,
    },
    /// List the modules of a device.
    List {
        /// The device id.
        device: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show a module.
    Show {
        /// The device id.
        device: String,
        /// The module id.
        id: String,
        /// Show its keys and connection string too.
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete a module.
    Delete {
        /// The device id.
        device: String,
        /// The module id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print a SAS token for a module.
    Token {
        /// The device id.
        device: String,
        /// The module id.
        id: String,
        /// How long it lives.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        seconds: u64,
        #[command(flatten)]
        common: Common,
    },
}

const LINES: &[(&str, &str)] = &[
    ("Device", "/deviceId"),
    ("Module", "/moduleId"),
    ("Connection", "/connectionState"),
    ("Authentication", "/authentication/type"),
    ("Managed by", "/managedBy"),
    ("Generation", "/generationId"),
    ("ETag", "/etag"),
    ("Primary key", "/authentication/symmetricKey/primaryKey"),
    ("Secondary key", "/authentication/symmetricKey/secondaryKey"),
    ("Connection string", "/connectionString"),
];

/// Runs a command about modules.
pub(super) fn run(command: ModuleCommand) -> anyhow::Result<ExitCode> {
    match command {
        ModuleCommand::Create { device, id, credential, common } => {
            let target = common.target.open()?;
            let mut body = json!({ "deviceId": device, "moduleId": id });
            if let Some(authentication) = credential.authentication(&Value::Null)? {
                body["authentication"] = authentication;
            }
            let module = target.service(Request::new("PUT", path(&device, &id)).with(body))?;
            one(common.output, &with_connection_string(module, &target), LINES);
        }
        ModuleCommand::List { device, common } => {
            let path = format!("/devices/{}/modules", encoded(&device));
            let modules = common.target.open()?.service(Request::new("GET", path))?;
            let modules: Vec<Value> =
                modules.as_array().cloned().unwrap_or_default().into_iter().map(hide).collect();
            list(
                common.output,
                &modules,
                &[
                    ("MODULE", "/moduleId"),
                    ("CONNECTION", "/connectionState"),
                    ("AUTHENTICATION", "/authentication/type"),
                    ("MANAGED BY", "/managedBy"),
                ],
            );
        }
        ModuleCommand::Show { device, id, keys, common } => {
            let target = common.target.open()?;
            let module = target.service(Request::new("GET", path(&device, &id)))?;
            let module = if keys { with_connection_string(module, &target) } else { hide(module) };
            one(common.output, &module, LINES);
        }
        ModuleCommand::Delete { device, id, common } => {
            common.target.open()?.service(Request::new("DELETE", path(&device, &id)).replacing())?;
        }
        ModuleCommand::Token { device, id, seconds, common } => {
            let target = common.target.open()?;
            let module = target.service(Request::new("GET", path(&device, &id)))?;
            let resource = format!("{}/devices/{device}/modules/{id}", target.host);
            outln!("{}", token(&module, &resource, seconds)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(device: &str, id: &str) -> String {
    format!("/devices/{}/modules/{}", encoded(device), encoded(id))
}
