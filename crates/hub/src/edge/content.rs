//! What the modules of one edge device are to be: the desired properties of each, and which of them there are
//! (`docs/protocol/service-rest.md` §10).

use serde_json::Value;

use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::identity::{DeviceId, Identity, ModuleId};
use crate::record::{Key, Kind};
use crate::registry::{By, ModuleSpec, unknown_module};
use crate::twin::{Edit, How, Members, Twin, TwinEdit};

/// What a module is managed by that comes with such content.
const MANAGED_BY: &str = "IotEdge";
/// Where all desired properties of a module stand in it.
const DESIRED: &str = "properties.desired";

/// The content for one edge device, read and found to be legal.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeContent {
    /// What each module is given: `$edgeAgent` last, for it starts what it reads of.
    modules: Vec<(ModuleId, TwinEdit)>,
    /// The modules that `$edgeAgent` is told to run.
    listed: Vec<ModuleId>,
}

impl EdgeContent {
    /// Reads `modulesContent`: of each module, all of its desired properties.
    pub fn of(document: &Members) -> Result<Self, HubError> {
        for other in ["deviceContent", "moduleContent"] {
            if document.get(other).and_then(Value::as_object).is_some_and(|content| !content.is_empty()) {
                return Err(wrong(format!("`{other}` is not for an edge device, `modulesContent` is")));
            }
        }
        let given = document.get("modulesContent").and_then(Value::as_object);
        let given = given.filter(|given| !given.is_empty());
        let given = given.ok_or_else(|| wrong("`modulesContent` is missing".to_owned()))?;
        let (mut modules, mut listed) = (Vec::with_capacity(given.len()), Vec::new());
        for (name, content) in given {
            let module = module_id(name)?;
            let desired = content
                .as_object()
                .filter(|content| content.len() == 1)
                .and_then(|content| content.get(DESIRED)?.as_object())
                .ok_or_else(|| {
                    wrong(format!("`modulesContent.{name}` is an object with `{DESIRED}` alone"))
                })?;
            if module == ModuleId::edge_agent() {
                listed = listed_in(desired)?;
            }
            modules.push((module, legal_edit(name, desired)?));
        }
        modules.sort_by_key(|(module, _)| *module == ModuleId::edge_agent());
        Ok(Self { modules, listed })
    }
}

/// The modules that the desired properties of `$edgeAgent` name, beside its own and `$edgeHub`.
fn listed_in(desired: &Members) -> Result<Vec<ModuleId>, HubError> {
    let modules = match desired.get("modules") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(modules)) => modules,
        Some(_) => return Err(wrong("`modules` of `$edgeAgent` is an object".to_owned())),
    };
    modules
        .keys()
        .map(|name| match module_id(name)? {
            module if module.is_system() => {
                Err(wrong(format!("`{name}` is a system module, and stands in `systemModules`")))
            }
            module => Ok(module),
        })
        .collect()
}

fn module_id(name: &str) -> Result<ModuleId, HubError> {
    ModuleId::parse(name).map_err(|error| wrong(format!("The module id '{name}' is illegal: {error}")))
}

/// The change that puts these in the place of all desired properties; an error when no twin could have them.
fn legal_edit(name: &str, desired: &Members) -> Result<TwinEdit, HubError> {
    let edit = TwinEdit { tags: None, desired: Some(Edit::Set(desired.clone()).without_system_members()) };
    let (empty, long_ago) = (Twin::new("", jiff::Timestamp::UNIX_EPOCH), jiff::Timestamp::UNIX_EPOCH);
    match empty.edited(&edit, How::Replace, None, long_ago) {
        Ok(_) => Ok(edit),
        Err(error) => Err(wrong(format!("`modulesContent.{name}`: {error}"))),
    }
}

impl Hub {
    /// Gives the modules of an edge device their desired properties, and makes those that `$edgeAgent` is told to run and that
    /// there are not. What can be wrong with it is found before anything is changed; then one module follows the other.
    pub async fn apply_edge_content(
        &self,
        device: &DeviceId,
        content: &EdgeContent,
        by: &By,
    ) -> Result<(), HubError> {
        if !self.device(device).await?.device.edge {
            let text = format!("'{device}' is no edge device");
            return Err(HubError::new(HubErrorCode::InvalidOperation, text));
        }
        let there = self.registry.list_of(Kind::Module, device.clone()).await?;
        let is_there = |module: &ModuleId| {
            there.iter().any(|(key, _)| matches!(key, Key::Module(_, there) if there == module))
        };
        let new: Vec<_> = content.listed.iter().filter(|module| !is_there(module)).collect();
        let missing = content.modules.iter().find(|(module, _)| !is_there(module) && !new.contains(&module));
        if let Some((missing, _)) = missing {
            return Err(unknown_module(device, missing));
        }
        let max = self.settings.modules_per_device_max;
        if there.len() + new.len() > max {
            let count = there.len() + new.len();
            let text = format!("The device '{device}' would have {count} modules, the limit is {max}.");
            return Err(HubError::new(HubErrorCode::TooManyModulesOnDevice, text));
        }
        for module in new {
            let spec = ModuleSpec { managed_by: Some(MANAGED_BY.to_owned()), ..ModuleSpec::default() };
            match self.put_module(device, module, spec, None, by).await {
                // Somebody else made it meanwhile.
                Err(error) if error.code == HubErrorCode::ModuleAlreadyExistsOnDevice => {}
                made => drop(made?),
            }
        }
        for (module, edit) in &content.modules {
            let identity = Identity::module(device.clone(), module.clone());
            self.edit_twin(&identity, edit, How::Replace, None, by).await?;
        }
        Ok(())
    }
}

fn wrong(text: String) -> HubError {
    HubError::new(HubErrorCode::InvalidConfigurationContent, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: Value) -> Result<EdgeContent, HubError> {
        EdgeContent::of(document.as_object().expect("an object"))
    }

    #[test]
    fn the_agent_comes_last_and_says_which_modules_there_are() {
        let content = read(json!({ "deviceContent": {}, "modulesContent": {
            "$edgeAgent": { "properties.desired": { "modules": { "camera": {}, "m-2": {} }, "$version": 4 } },
            "camera": { "properties.desired": { "rate": 5 } },
        }}));
        let content = content.expect("legal");
        let names: Vec<_> = content.modules.iter().map(|(module, _)| module.as_str()).collect();
        assert_eq!(names, ["camera", "$edgeAgent"]);
        let listed: Vec<_> = content.listed.iter().map(ModuleId::as_str).collect();
        assert_eq!(listed, ["camera", "m-2"]);
        let Some(Edit::Set(agent)) = &content.modules[1].1.desired else { panic!("no edit") };
        assert!(!agent.contains_key("$version"));
    }

    #[test]
    fn what_no_module_can_have_is_refused_before_anything_is_done() {
        let of_module = |content: Value| json!({ "modulesContent": { "m": content } });
        let of_agent = |modules: Value| json!({ "modulesContent": { "$edgeAgent": { "properties.desired": { "modules": modules } } } });
        for wrong in [
            json!({}),
            json!({ "modulesContent": {} }),
            json!({ "modulesContent": [] }),
            json!({ "deviceContent": { "properties.desired": {} }, "modulesContent": { "m": {} } }),
            of_module(json!({})),
            of_module(json!({ "properties.desired": 5 })),
            of_module(json!({ "properties.desired.rate": 5 })),
            of_module(json!({ "properties.desired": {}, "properties.desired.rate": 5 })),
            of_module(json!({ "properties.desired": { "a.b": 1 } })),
            of_module(json!({ "properties.desired": { "a": vec!["x".repeat(4_000); 10] } })),
            json!({ "modulesContent": { "a b": { "properties.desired": {} } } }),
            of_agent(json!(["camera"])),
            of_agent(json!({ "a/b": {} })),
            of_agent(json!({ "$edgeHub": {} })),
        ] {
            let error = read(wrong.clone()).expect_err("refused");
            assert_eq!(error.code, HubErrorCode::InvalidConfigurationContent, "{wrong}");
        }
    }
}
