//! `holdfast settings`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};

use super::Common;
use super::output::one;
use super::target::Request;

const PATH: &str = "/holdfast/v1/settings";

/// The commands about the settings of the running hub.
#[derive(Subcommand)]
pub(crate) enum SettingsCommand {
    /// Show the settings.
    Show {
        #[command(flatten)]
        common: Common,
    },
    /// Change a setting. Connections that it no longer allows end within a second.
    #[command(after_help = "Settings:
  deviceScopedTokensOnly   true: a device that comes with the key of a policy is refused (default: false)
  maxTokenLifetime         how long a token may live: 90m, 24h, 7d, or none (default: none)
  fileNotifications        true: services are told of files that devices uploaded (default: false)
  uploadLinkLifetime       how long the link of an upload lives: 10m, 4h, or none for an hour (1m to 24h)

Examples:
  holdfast settings set deviceScopedTokensOnly true
  holdfast settings set maxTokenLifetime 24h")]
    Set {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        #[command(flatten)]
        common: Common,
    },
}

const LINES: &[(&str, &str)] = &[
    ("deviceScopedTokensOnly", "/deviceScopedTokensOnly"),
    ("maxTokenLifetime", "/maxTokenLifetime"),
    ("fileNotifications", "/fileNotifications"),
    ("uploadLinkLifetime", "/uploadLinkLifetime"),
];

/// Runs a command about settings.
pub(super) fn run(command: SettingsCommand) -> anyhow::Result<ExitCode> {
    match command {
        SettingsCommand::Show { common } => {
            let settings = common.target.open()?.management(Request::new("GET", PATH))?;
            one(common.output, &settings, LINES);
        }
        SettingsCommand::Set { name, value, common } => {
            let value = parsed(&name, &value)?;
            let target = common.target.open()?;
            let mut settings = target.management(Request::new("GET", PATH))?;
            settings[&name] = value;
            let settings = target.management(Request::new("PUT", PATH).with(settings))?;
            one(common.output, &settings, LINES);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parsed(name: &str, value: &str) -> anyhow::Result<Value> {
    match name {
        "deviceScopedTokensOnly" | "fileNotifications" => match value {
            "true" => Ok(json!(true)),
            "false" => Ok(json!(false)),
            _ => bail!("{name} is true or false, not `{value}`"),
        },
        "maxTokenLifetime" | "uploadLinkLifetime" if value == "none" => Ok(Value::Null),
        "maxTokenLifetime" | "uploadLinkLifetime" => match seconds(value) {
            Some(seconds) => Ok(json!(seconds)),
            None => bail!("{name} is a number with s, m, h or d behind it (24h, 7d), or none, not `{value}`"),
        },
        _ => bail!(
            "there is no setting `{name}`: the settings are deviceScopedTokensOnly, maxTokenLifetime, fileNotifications \
             and uploadLinkLifetime"
        ),
    }
}

/// `90m` in seconds.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_with_their_unit() {
        assert_eq!(seconds("90m"), Some(5_400));
        assert_eq!(seconds("7d"), Some(604_800));
        for wrong in ["", "h", "24", "-1h", "1y", "99999999999999999999d", "1é"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
