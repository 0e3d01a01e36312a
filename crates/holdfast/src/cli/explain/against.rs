//! A reading held against a hub: is there such an identity, and is this its key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::sas::{Token, host_without_port};
use serde_json::Value;

use super::super::target::{Request, Target, encoded};
use super::reading::{Kind, Reading};

/// Adds what is wrong with it at this hub. The error says why the hub could not be asked.
pub(super) fn check(reading: &mut Reading, target: &Target) -> anyhow::Result<()> {
    let known = target.management(Request::new("GET", "/holdfast/v1/hub"))?;
    let hosts: Vec<&str> =
        known["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(host) = reading.fields.host.clone()
        && !hosts.iter().any(|name| name.eq_ignore_ascii_case(host_without_port(&host)))
    {
        reading.wrong(format!("The host `{host}` is no name of this hub."), hosts.join(" or "));
    }
    let entity = known["eventHubName"].as_str().unwrap_or_default();
    if reading.kind == Kind::EventHubs
        && let Some(path) = reading.fields.entity_path.clone()
        && !path.eq_ignore_ascii_case(entity)
    {
        reading.wrong(format!("There is no event hub `{path}` here."), format!("EntityPath={entity}"));
    }
    match (reading.fields.policy.clone(), reading.fields.device.clone()) {
        (Some(policy), _) => check_policy(reading, target, &policy),
        (None, Some(device)) => check_identity(reading, target, &device),
        (None, None) => Ok(()),
    }
}

fn check_policy(reading: &mut Reading, target: &Target, name: &str) -> anyhow::Result<()> {
    let policies = target.management(Request::new("GET", "/holdfast/v1/policies"))?;
    let policies = policies.as_array().cloned().unwrap_or_default();
    let Some(policy) = policies.iter().find(|policy| policy["name"] == name) else {
        let names: Vec<&str> = policies.iter().filter_map(|policy| policy["name"].as_str()).collect();
        reading.wrong(format!("There is no shared access policy `{name}`."), names.join(" or "));
        return Ok(());
    };
    let keys = [&policy["primaryKey"], &policy["secondaryKey"]];
    if !matches(reading, &keys) {
        reading.wrong(
            format!("The key is none of the policy `{name}`."),
            format!("`holdfast policy show {name} --keys` shows the right ones"),
        );
    }
    Ok(())
}

fn check_identity(reading: &mut Reading, target: &Target, device: &str) -> anyhow::Result<()> {
    // Looked for in the list, so that a wrong id is no refusal on record.
    let devices = target.service(Request::new("GET", format!("/devices?top={DEVICES_MAX}")))?;
    let devices = devices.as_array().cloned().unwrap_or_default();
    let Some(found) = devices.iter().find(|found| found["deviceId"] == device) else {
        if devices.len() < DEVICES_MAX {
            let ids = devices.iter().filter_map(|found| found["deviceId"].as_str());
            let near = hub::explain::near_misses(device, ids);
            let expected = match near.is_empty() {
                true => format!("`holdfast device create {}`", hub::explain::quoted(device)),
                false => format!("{}; ids are case-sensitive", near.join(" or ")),
            };
            reading.wrong(format!("No device is called `{device}`."), expected);
            return Ok(());
        }
        anyhow::bail!("the device is not among the first {DEVICES_MAX}");
    };
    if found["status"] == "disabled" {
        reading.wrong(
            format!("The device `{device}` is disabled."),
            format!("`holdfast device update {} --status enabled`", hub::explain::quoted(device)),
        );
    }
    let module = match reading.fields.module.clone() {
        None => None,
        Some(id) => {
            let modules =
                target.service(Request::new("GET", format!("/devices/{}/modules", encoded(device))))?;
            let modules = modules.as_array().cloned().unwrap_or_default();
            let Some(module) = modules.into_iter().find(|module| module["moduleId"] == id.as_str()) else {
                reading.wrong(
                    format!("The device `{device}` has no module `{id}`."),
                    format!(
                        "`holdfast module create {} {}`",
                        hub::explain::quoted(device),
                        hub::explain::quoted(&id)
                    ),
                );
                return Ok(());
            };
            Some(module)
        }
    };
    let identity = module.as_ref().unwrap_or(found);
    let keys = keys_of(identity);
    let has_key = reading.fields.key.is_some() || reading.fields.token.is_some();
    if has_key && identity["authentication"]["type"] != "sas" {
        reading.wrong(
            "It has a key, but the identity is registered for certificates.",
            "`x509=true`, and the certificate given to the SDK",
        );
    } else if has_key && !matches(reading, &keys) {
        let owner = devices.iter().find(|other| matches(reading, &keys_of(other)));
        let owner = owner.and_then(|other| other["deviceId"].as_str());
        let whose = owner.map(|id| format!(": it is that of the device `{id}`")).unwrap_or_default();
        reading.wrong(
            format!("The key is none of this identity{whose}."),
            format!("`holdfast device show {} --keys` shows the right ones", hub::explain::quoted(device)),
        );
    }
    Ok(())
}

/// Devices that one request lists.
const DEVICES_MAX: usize = 1_000;

fn keys_of(identity: &Value) -> [&Value; 2] {
    let keys = &identity["authentication"]["symmetricKey"];
    [&keys["primaryKey"], &keys["secondaryKey"]]
}

/// Whether the key, or the key that signed the token, is one of these.
fn matches(reading: &Reading, keys: &[&Value; 2]) -> bool {
    let token = reading.fields.token.as_deref().and_then(|text| Token::parse(text).ok());
    keys.iter().filter_map(|key| key.as_str()).any(|text| {
        let bytes = STANDARD.decode(text).unwrap_or_default();
        let is_it =
            reading.fields.key.as_deref().is_some_and(|key| STANDARD.decode(key).is_ok_and(|k| k == bytes));
        // Event Hubs SDKs sign with the text of a policy's key.
        let by_text = reading.fields.policy.is_some();
        let signed =
            |token: &Token<'_>| token.signed_with(&bytes) || (by_text && token.signed_with(text.as_bytes()));
        is_it || token.as_ref().is_some_and(signed)
    })
}
