use jiff::Timestamp;

use super::parents::Parent;
use super::*;
use crate::identity::DeviceId;
use crate::record::{Authentication, Device, Status};
use crate::registry::DeviceSpec;

#[test]
fn the_parent_of_a_leaf_stands_in_its_scope_and_that_of_a_gateway_in_the_list() {
    let (leaf, edge) = (child_of("leaf", None), gateway("edge", None));
    let own = edge.device_scope.clone().unwrap_or_default();
    let check = |stored: Option<&Device>, is_edge, scope: Option<&str>, list: Option<&[&str]>| {
        let spec = DeviceSpec {
            edge: is_edge,
            device_scope: scope.map(str::to_owned),
            parent_scopes: list.map(|list| list.iter().map(|scope| (*scope).to_owned()).collect()),
            ..DeviceSpec::default()
        };
        let id = stored.map_or_else(|| id("edge"), |device| device.id.clone());
        match parent_named(&id, stored, &spec) {
            Ok(Parent::Unchanged) => "unchanged".to_owned(),
            Ok(Parent::Nobody) => "nobody".to_owned(),
            Ok(Parent::Scope(scope)) => scope.to_owned(),
            Err(error) => error.code.number().to_string(),
        }
    };
    assert_eq!(check(Some(&leaf), false, None, None), "unchanged");
    assert_eq!(check(Some(&leaf), false, Some("s1"), None), "s1");
    assert_eq!(check(Some(&leaf), false, Some("s1"), Some(&["s2"])), "s1");
    assert_eq!(check(Some(&leaf), false, Some(""), Some(&["s1"])), "nobody");
    assert_eq!(check(Some(&leaf), false, None, Some(&["s1"])), "s1");
    assert_eq!(check(Some(&leaf), false, None, Some(&[])), "unchanged");
    assert_eq!(check(Some(&leaf), false, Some("s1"), Some(&["s1", "s2"])), "400028");
    assert_eq!(check(Some(&edge), false, None, None), "unchanged");
    assert_eq!(check(Some(&edge), false, Some(&own), Some(&["s1"])), "s1");
    assert_eq!(check(Some(&edge), false, Some(""), Some(&[])), "nobody");
    assert_eq!(check(Some(&edge), false, Some("s1"), None), "400028");
    assert_eq!(check(None, true, Some("s1"), None), "400028");
    assert_eq!(check(None, true, Some("ms-azure-iot-edge://edge-1"), Some(&["s1"])), "s1");
}

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).expect("legal")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn scope(name: &str) -> String {
    own_scope(&id(name), "1")
}

fn child_of(name: &str, parent: Option<&str>) -> Device {
    Device {
        id: id(name),
        generation: format!("{name}-generation"),
        etag: "e".into(),
        status: Status::Enabled,
        status_reason: None,
        status_updated: None,
        authentication: Authentication::None,
        edge: false,
        device_scope: parent.map(scope),
        parent_scopes: parent.map(scope).into_iter().collect(),
        created: now(),
    }
}

fn gateway(name: &str, parent: Option<&str>) -> Device {
    Device { edge: true, device_scope: Some(scope(name)), ..child_of(name, parent) }
}
