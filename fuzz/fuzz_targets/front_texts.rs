//! Any text that a front reads: user names, topics, filters and property bags of MQTT, link addresses and selectors of AMQP,
//! lists of blocks over HTTPS. The modules are those of the binary, which is no library to link.
#![no_main]

#[path = "../../crates/holdfast/src/fronts/amqp/address.rs"]
#[allow(dead_code)]
mod amqp_address;
#[path = "../../crates/holdfast/src/fronts/amqp/filter.rs"]
#[allow(dead_code)]
mod amqp_filter;
#[path = "../../crates/holdfast/src/fronts/https/block_list.rs"]
mod block_list;
#[path = "../../crates/holdfast/src/fronts/mqtt/three/address.rs"]
#[allow(dead_code)]
mod mqtt_address;
#[path = "../../crates/holdfast/src/fronts/mqtt/three/properties.rs"]
#[allow(dead_code)]
mod mqtt_properties;

use std::collections::HashSet;

use hub::identity::{DeviceId, Identity, ModuleId};
use libfuzzer_sys::fuzz_target;
use wire::amqp::codec::{Described, Fields, Symbol, Value};

/// The condition that the module of filters takes from the front around it.
const ARGUMENT_ERROR: Symbol = Symbol::from_static("com.microsoft:argument-error");

fuzz_target!(|bytes: &[u8]| {
    let Some((&door, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match door % 6 {
        0 => user_name(text),
        1 => topic(text),
        2 => bag(text),
        3 => {
            let _ = amqp_address::Address::parse(text, "holdfast");
        }
        4 => selector(text),
        _ => blocks(text),
    }
});

fn user_name(text: &str) {
    if let Ok(name) = mqtt_address::UserName::parse(text) {
        assert!(!name.host.is_empty() && text.starts_with(&name.host));
        let id = mqtt_address::client_id(&name.identity);
        assert!(text.contains(&id), "{id} is not in the user name");
    }
}

fn topic(text: &str) {
    let device = DeviceId::parse("d1").expect("a legal id");
    let module = ModuleId::parse("m1").expect("a legal id");
    for identity in [Identity::device(device.clone()), Identity::module(device, module)] {
        let own = if identity.module.is_some() { "devices/d1/modules/m1/" } else { "devices/d1/" };
        if let Some(found) = mqtt_address::events_bag(text, &identity) {
            assert!(format!("{text}/").starts_with(own), "a device publishes as another");
            bag(found);
        }
        if mqtt_address::may_subscribe(text, &identity) {
            assert!(text.starts_with(own) || text.starts_with("$iothub/"), "a device listens to another");
        }
        let _ = mqtt_address::Request::parse(text);
    }
}

fn bag(text: &str) {
    let (system, application) = mqtt_properties::parse(text);
    let names: HashSet<_> = application.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), application.len(), "a name stands twice");
    assert!(system.len() <= hub::telemetry::SystemProperty::ALL.len());
}

fn blocks(text: &str) {
    let Ok(ids) = block_list::parse(text.as_bytes()) else { return };
    let list: String = ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
    let again = block_list::parse(format!("<BlockList>{list}</BlockList>").as_bytes());
    assert_eq!(again.as_ref(), Ok(&ids), "a list that was read is not read again");
}

fn selector(text: &str) {
    const KEY: Symbol = Symbol::from_static("apache.org:selector-filter:string");
    let mut filters = Fields::default();
    let filter = Described { descriptor: Value::Symbol(KEY), value: Value::String(text.to_owned()) };
    filters.push(KEY, Value::Described(Box::new(filter)));
    let _ = amqp_filter::start_position(&filters);
}
