use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::gateway::admit_by_gateway;
use super::parents::Parent;
use super::*;
use crate::authenticate::{Basis, Grant, Known, key_place, seal_key, still_holds};
use crate::identity::{DeviceId, Identity, ModuleId};
use crate::ports::secrets::{Fingerprint, SecretError, Secrets};
use crate::record::{Authentication, Device, Module, Slot, Status};
use crate::refusal::Refusal;
use crate::registry::DeviceSpec;
use crate::sas::Token;
use crate::settings::HubSettings;

const HOST: &str = "hub.example.net";

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

#[test]
fn a_gateway_connects_those_below_it_and_nobody_else() {
    let (top, middle) = (gateway("top", None), gateway("middle", Some("top")));
    let leaf = child_of("leaf", Some("middle"));
    let fleet = Fleet { gateway: top.clone(), parents: vec![middle.clone(), top.clone()], device: leaf };
    let leaf = Identity::device(id("leaf"));
    let chain = Some("leaf;middle;top");
    let grant = fleet.ask(&leaf, chain).expect("admitted");
    assert_eq!(grant.sender.identity, leaf);
    assert_eq!(grant.sender.generation, "leaf-generation");
    assert!(matches!(&grant.basis, Basis::Gateway(behind) if behind.path.len() == 3));

    for wrong in [Some("leaf;top"), Some("leaf;middle"), Some("other;middle;top"), Some("leaf;top;middle")] {
        assert_eq!(fleet.cause(&leaf, wrong), "auth-chain", "{wrong:?}");
    }
    assert_eq!(fleet.cause(&leaf, None), "auth-chain");

    let orphan = Fleet { parents: vec![middle.clone()], ..fleet.clone() };
    assert_eq!(orphan.cause(&leaf, chain), "not-its-gateway");
    let disabled = Device { status: Status::Disabled, ..middle };
    let below_disabled = Fleet { parents: vec![disabled, top.clone()], ..fleet.clone() };
    assert_eq!(below_disabled.cause(&leaf, chain), "gateway-disabled");
    let no_edge = Fleet { gateway: Device { edge: false, ..top.clone() }, ..fleet.clone() };
    assert_eq!(no_edge.cause(&leaf, chain), "unknown-gateway");
    let off = Fleet { gateway: Device { status: Status::Disabled, ..top }, ..fleet.clone() };
    assert_eq!(off.cause(&leaf, chain), "gateway-disabled");
    assert_eq!(fleet.by_key(&leaf, chain, "another").expect_err("refused").cause(), "wrong-key");
}

#[test]
fn a_gateway_connects_its_own_modules_without_a_chain_but_not_itself() {
    let top = gateway("top", None);
    let fleet = Fleet { gateway: top.clone(), parents: vec![], device: top };
    let module = Identity::module(id("top"), ModuleId::parse("m1").expect("legal"));
    assert!(fleet.ask(&module, None).is_ok());
    assert!(fleet.ask(&module, Some("top/m1;top")).is_ok());
    assert_eq!(fleet.cause(&module, Some("top")), "auth-chain");
    assert_eq!(fleet.cause(&Identity::device(id("top")), None), "not-its-gateway");
}

#[test]
fn a_grant_ends_with_its_gateway_its_key_and_the_way_to_it() {
    let top = gateway("top", None);
    let device = child_of("leaf", Some("top"));
    let fleet = Fleet { gateway: top.clone(), parents: vec![top.clone()], device };
    let grant = fleet.ask(&Identity::device(id("leaf")), None).expect("admitted");
    assert_eq!(fleet.still(&grant, "edge-hub"), "ok");
    assert_eq!(fleet.still(&grant, "rotated"), "wrong-key");
    assert_eq!(Fleet { parents: vec![], ..fleet.clone() }.still(&grant, "edge-hub"), "not-its-gateway");
    let between = vec![gateway("middle", Some("top")), top.clone()];
    assert_eq!(Fleet { parents: between, ..fleet.clone() }.still(&grant, "edge-hub"), "auth-chain");
    let off = Device { status: Status::Disabled, ..top };
    assert_eq!(Fleet { gateway: off, ..fleet }.still(&grant, "edge-hub"), "gateway-disabled");
}

/// A device, and a gateway that comes for it.
#[derive(Clone)]
struct Fleet {
    gateway: Device,
    parents: Vec<Device>,
    device: Device,
}

impl Fleet {
    fn ask(&self, identity: &Identity, chain: Option<&str>) -> Result<Grant, Refusal> {
        self.by_key(identity, chain, "edge-hub")
    }

    fn by_key(&self, identity: &Identity, chain: Option<&str>, key: &str) -> Result<Grant, Refusal> {
        let (lineage, module) = (self.lineage("edge-hub"), self.module(identity));
        let text = token(&format!("{HOST}/devices/{}/modules/$edgeHub", self.gateway.id), key);
        let token = Token::parse(&text).expect("a token");
        self.known(None, module.as_ref(), |known| {
            admit_by_gateway(identity, &token, chain, &lineage, known, now())
        })
    }

    fn cause(&self, identity: &Identity, chain: Option<&str>) -> &'static str {
        self.ask(identity, chain).expect_err("refused").cause()
    }

    /// What becomes of a live grant when the key of the gateway's module is this one.
    fn still(&self, grant: &Grant, key: &str) -> &'static str {
        let lineage = self.lineage(key);
        let held = self.known(Some(&lineage), None, |known| still_holds(grant, known, now()));
        held.err().map_or("ok", |refusal| refusal.cause())
    }

    fn known<T>(
        &self,
        lineage: Option<&Lineage>,
        module: Option<&Module>,
        decide: impl FnOnce(&Known<'_>) -> T,
    ) -> T {
        decide(&Known {
            device: Some(&self.device),
            module,
            policy: None,
            lineage,
            authorities: &[],
            hosts: &[HOST.to_owned()],
            settings: &HubSettings::default(),
            secrets: &Open,
        })
    }

    fn lineage(&self, key: &str) -> Lineage {
        let gateway = self.gateway.id.clone();
        let module = Some(module(&Identity::module(gateway.clone(), ModuleId::edge_hub()), key));
        Lineage { gateway, device: Some(self.gateway.clone()), module, parents: self.parents.clone() }
    }

    fn module(&self, identity: &Identity) -> Option<Module> {
        identity.module.as_ref().map(|_| module(identity, "its-own"))
    }
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

fn module(identity: &Identity, key: &str) -> Module {
    let place = key_place(identity);
    let seal = |slot| seal_key(&key_text(key), key, (&place, slot), &Open, now()).expect("seals");
    Module {
        device: identity.device.clone(),
        id: identity.module.clone().expect("a module"),
        generation: "m".into(),
        etag: "e".into(),
        managed_by: None,
        authentication: Authentication::Sas {
            primary: seal(Slot::Primary),
            secondary: seal(Slot::Secondary),
        },
        created: now(),
    }
}

fn key_text(name: &str) -> String {
    STANDARD.encode(format!("{name:-<32}"))
}

fn token(resource: &str, key: &str) -> String {
    let (key, end) = (STANDARD.decode(key_text(key)).expect("base64"), now().as_second() + 60);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{resource}\n{end}").as_bytes());
    let sig = STANDARD.encode(tag).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("SharedAccessSignature sr={resource}&sig={sig}&se={end}")
}

/// Seals nothing.
struct Open;

impl Secrets for Open {
    fn seal(&self, _place: &str, plain: &[u8]) -> Result<Vec<u8>, SecretError> {
        Ok(plain.to_vec())
    }

    fn open(&self, _place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        Ok(Zeroizing::new(sealed.to_vec()))
    }

    fn sign(&self, _purpose: &str, _message: &[u8]) -> [u8; 32] {
        [0; 32]
    }

    fn fingerprint(&self, plain: &[u8]) -> Fingerprint {
        let mut fingerprint = [0; Fingerprint::BYTES];
        fingerprint.copy_from_slice(&digest(&SHA256, plain).as_ref()[..Fingerprint::BYTES]);
        Fingerprint(fingerprint)
    }
}
