use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::*;
use crate::access::Operation;
use crate::identity::{DeviceId, ModuleId};
use crate::ports::secrets::SecretError;
use crate::signed_context::{Context, SignedContext};

const HOST: &str = "hub.example.net";
const NOW: i64 = 1_800_000_000;

/// Seals nothing, but minds the place.
struct Open;

impl Secrets for Open {
    fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SecretError> {
        Ok([place.as_bytes(), b"\n", plain].concat())
    }

    fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let prefix = format!("{place}\n");
        match sealed.strip_prefix(prefix.as_bytes()) {
            Some(plain) => Ok(Zeroizing::new(plain.to_vec())),
            None => Err(SecretError::DoesNotOpen { place: place.to_owned() }),
        }
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

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn key(name: &str) -> String {
    STANDARD.encode(format!("{name:-<32}"))
}

fn sas(identity: &Identity, primary: &str, secondary: &str) -> Authentication {
    let seal = |name: &str, slot| {
        seal_key(&key(name), name, (&key_place(identity), slot), &Open, now()).expect("seals")
    };
    Authentication::Sas { primary: seal(primary, Slot::Primary), secondary: seal(secondary, Slot::Secondary) }
}

fn d1() -> Identity {
    Identity::device(DeviceId::parse("d1").expect("legal"))
}

fn m1() -> Identity {
    Identity::module(DeviceId::parse("d1").expect("legal"), ModuleId::parse("m1").expect("legal"))
}

fn device() -> Device {
    Device {
        id: d1().device,
        generation: "g1".into(),
        etag: "e".into(),
        status: Status::Enabled,
        status_reason: None,
        status_updated: None,
        authentication: sas(&d1(), "d1-primary", "d1-secondary"),
        edge: false,
        device_scope: None,
        parent_scopes: Vec::new(),
        created: now(),
    }
}

fn module() -> Module {
    Module {
        device: m1().device,
        id: m1().module.expect("a module"),
        generation: "g2".into(),
        etag: "e".into(),
        managed_by: None,
        authentication: sas(&m1(), "m1-primary", "m1-secondary"),
        created: now(),
    }
}

fn policy(rights: &[Right]) -> Policy {
    let name = PolicyName::parse("fleet").expect("legal");
    let seal = |text: &str, slot| {
        seal_key(&key(text), text, (&policy_place(&name), slot), &Open, now()).expect("seals")
    };
    Policy {
        primary: seal("policy-primary", Slot::Primary),
        secondary: seal("policy-secondary", Slot::Secondary),
        rights: Rights::of(rights),
        created: now(),
        name,
    }
}

fn token(resource: &str, key_name: &str, end: i64, skn: Option<&str>) -> String {
    let key = STANDARD.decode(key(key_name)).expect("base64");
    let resource = format!("{HOST}{resource}").replace('/', "%2F");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{resource}\n{end}").as_bytes());
    let sig = STANDARD.encode(tag).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let skn = skn.map(|skn| format!("&skn={skn}")).unwrap_or_default();
    format!("SharedAccessSignature sr={resource}&sig={sig}&se={end}{skn}")
}

/// What the fleet of these tests is, and one question to it.
struct Fleet {
    device: Option<Device>,
    module: Option<Module>,
    policy: Option<Policy>,
    hosts: Vec<String>,
    settings: HubSettings,
}

impl Fleet {
    fn new() -> Self {
        Self {
            device: Some(device()),
            module: Some(module()),
            policy: Some(policy(&[Right::DeviceConnect])),
            hosts: vec![HOST.to_owned()],
            settings: HubSettings::default(),
        }
    }

    fn known(&self, identity: &Identity) -> Known<'_> {
        Known {
            device: self.device.as_ref(),
            module: self.module.as_ref().filter(|_| identity.module.is_some()),
            policy: self.policy.as_ref(),
            lineage: None,
            authorities: &[],
            hosts: &self.hosts,
            settings: &self.settings,
            secrets: &Open,
        }
    }

    fn admit(&self, identity: &Identity, token: &str) -> Result<Grant, Refusal> {
        let token = Token::parse(token).expect("a token");
        admit(identity, Presented::Token(&token), &self.known(identity), now())
    }

    fn cause(&self, identity: &Identity, token: &str) -> &'static str {
        self.admit(identity, token).map_or_else(|refusal| refusal.cause(), |_| "admitted")
    }
}

#[test]
fn a_device_is_admitted_by_either_key_until_its_token_ends() {
    let fleet = Fleet::new();
    for (name, slot) in [("d1-primary", Slot::Primary), ("d1-secondary", Slot::Secondary)] {
        let grant = fleet.admit(&d1(), &token("/devices/d1", name, NOW + 60, None)).expect("admitted");
        assert_eq!((grant.basis.slot(), grant.ends), (Some(slot), Some(NOW + 60)));
        assert_eq!(grant.sender.generation, "g1");
        assert!(grant.sender.auth_method.contains(r#""scope":"device""#), "{}", grant.sender.auth_method);
    }
}

#[test]
fn a_signed_context_is_decided_as_a_token_is() {
    let fleet = Fleet::new();
    let cause = |host: &str, policy: &str, key_name: &str, expiry: i64| {
        let (at, expiry) = ((NOW * 1_000).to_string(), expiry.to_string());
        let context = Context { host, policy, at: &at, expiry: &expiry };
        let text = format!("{host}\nd1\n{policy}\n{at}\n{expiry}\n");
        let key = STANDARD.decode(key(key_name)).expect("base64");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        let signed = SignedContext::read(&d1(), context, tag.as_ref()).expect("a context");
        let admitted = admit(&d1(), Presented::Token(&signed.token()), &fleet.known(&d1()), now());
        admitted.map_or_else(
            |refusal| refusal.cause(),
            |grant| if grant.ends == Some(NOW + 60) { "admitted" } else { "" },
        )
    };
    let end = (NOW + 60) * 1_000;
    assert_eq!(cause(HOST, "", "d1-secondary", end + 999), "admitted");
    assert_eq!(cause(HOST, "fleet", "policy-primary", end), "admitted");
    assert_eq!(cause(HOST, "", "m1-primary", end), "wrong-key");
    assert_eq!(cause(HOST, "fleet", "d1-primary", end), "wrong-key");
    assert_eq!(cause("elsewhere.net", "", "d1-primary", end), "token-host");
    assert_eq!(cause(HOST, "", "d1-primary", (NOW - 301) * 1_000), "token-expired");
    assert_eq!(cause(HOST, "", "d1-primary", NOW + 60), "token-in-seconds");
    assert_eq!(cause(HOST, "", "d1-primary", 3_600_000), "token-lifetime-as-end");
}

#[test]
fn the_settings_refuse_keys_of_policies_and_tokens_that_live_too_long() {
    let by_policy = token("", "policy-primary", NOW + 60, Some("fleet"));
    let year = token("/devices/d1", "d1-primary", NOW + 365 * 86_400, None);
    let day = token("/devices/d1", "d1-primary", NOW + 86_400, None);
    let settings = HubSettings {
        device_scoped_tokens_only: true,
        max_token_lifetime: Some(86_400),
        ..HubSettings::default()
    };
    let (open, strict) = (Fleet::new(), Fleet { settings, ..Fleet::new() });
    for (token, cause) in [(&by_policy, "hub-key-not-allowed"), (&year, "token-too-long"), (&day, "admitted")]
    {
        assert_eq!(open.cause(&d1(), token), "admitted");
        assert_eq!(strict.cause(&d1(), token), cause);
    }
    let live = open.admit(&d1(), &year).expect("admitted");
    let cause = still_holds(&live, &strict.known(&d1()), now()).expect_err("ends a live connection");
    assert_eq!(cause.cause(), "token-too-long");
}

#[test]
fn each_cause_has_its_own_name() {
    let fleet = Fleet::new();
    let good = token("/devices/d1", "d1-primary", NOW + 60, None);
    let cases = [
        (token("/devices/d1", "other", NOW + 60, None), "wrong-key"),
        (token("/devices/d2", "d1-primary", NOW + 60, None), "token-scope"),
        (token("/devices/d1", "d1-primary", NOW - 301, None), "token-expired"),
        (token("/devices/d1", "d1-primary", NOW - 300, None), "admitted"),
        (token("", "policy-primary", NOW + 60, Some("fleet")), "admitted"),
        (token("", "policy-primary", NOW - 301, Some("fleet")), "token-expired"),
        (token("", "d1-primary", NOW + 60, Some("fleet")), "wrong-key"),
        (token("/devices/d2", "policy-primary", NOW + 60, Some("fleet")), "token-scope"),
    ];
    for (token, cause) in cases {
        assert_eq!(fleet.cause(&d1(), &token), cause, "{token}");
    }
    assert_eq!(Fleet { device: None, ..Fleet::new() }.cause(&d1(), &good), "unknown-device");
    let unnamed = token("", "policy-primary", NOW + 60, Some("fleet"));
    assert_eq!(Fleet { policy: None, ..Fleet::new() }.cause(&d1(), &unnamed), "unknown-policy");
    let weak = Fleet { policy: Some(policy(&[Right::ServiceConnect])), ..Fleet::new() };
    assert_eq!(weak.cause(&d1(), &unnamed), "missing-right");
    let disabled = Device { status: Status::Disabled, ..device() };
    assert_eq!(Fleet { device: Some(disabled), ..Fleet::new() }.cause(&d1(), &good), "disabled");
    let by_certificate = Device { authentication: Authentication::CertificateAuthority, ..device() };
    assert_eq!(Fleet { device: Some(by_certificate), ..Fleet::new() }.cause(&d1(), &good), "credential-kind");
}

#[test]
fn a_module_has_keys_of_its_own() {
    let fleet = Fleet::new();
    let own = token("/devices/d1/modules/m1", "m1-primary", NOW + 60, None);
    let grant = fleet.admit(&m1(), &own).expect("admitted");
    assert_eq!(grant.sender.generation, "g2");
    assert_eq!(fleet.cause(&d1(), &own), "token-scope");
    assert_eq!(fleet.cause(&d1(), &token("/devices/d1", "m1-primary", NOW + 60, None)), "wrong-key");
    assert_eq!(Fleet { module: None, ..Fleet::new() }.cause(&m1(), &own), "unknown-module");
}

#[test]
fn the_key_of_a_device_opens_its_modules_that_have_keys_as_long_as_it_is_one() {
    let fleet = Fleet::new();
    let by_device = |path: &str| token(path, "d1-secondary", NOW + 60, None);
    let grant = fleet.admit(&m1(), &by_device("/devices/d1/modules/m1")).expect("admitted");
    assert!(matches!(grant.basis, Basis::DeviceKey(Slot::Secondary, _)));
    assert_eq!((&grant.sender.identity, grant.basis.slot()), (&m1(), None));
    assert_eq!(fleet.cause(&m1(), &by_device("/devices/d1/modules/m2")), "token-scope");
    assert_eq!(fleet.cause(&m1(), &by_device("/devices/d2")), "token-scope");
    let without_keys =
        |authentication| Fleet { module: Some(Module { authentication, ..module() }), ..Fleet::new() };
    for authentication in [Authentication::None, Authentication::CertificateAuthority] {
        let fleet = without_keys(authentication);
        assert_eq!(fleet.cause(&m1(), &by_device("/devices/d1/modules/m1")), "credential-kind");
    }

    let ends = |fleet: &Fleet| still_holds(&grant, &fleet.known(&m1()), now()).is_err();
    let with = |device: Device| Fleet { device: Some(device), ..Fleet::new() };
    assert!(!ends(&fleet));
    assert!(!ends(&with(Device { authentication: sas(&d1(), "d1-secondary", "new"), ..device() })));
    assert!(ends(&with(Device { authentication: sas(&d1(), "d1-primary", "new"), ..device() })));
    assert!(ends(&with(Device { authentication: Authentication::None, ..device() })));
    assert!(ends(&with(Device { status: Status::Disabled, ..device() })));
    assert!(ends(&without_keys(Authentication::None)));
    assert!(ends(&Fleet { module: None, ..Fleet::new() }));
}

#[test]
fn nothing_presented_is_refused_and_an_unknown_device_is_told_apart_for_the_operator() {
    let fleet = Fleet::new();
    let refused = admit(&d1(), Presented::Nothing, &fleet.known(&d1()), now());
    assert_eq!(refused.err(), Some(Refusal::NoCredential));
}

#[test]
fn a_grant_ends_with_what_it_depends_on_and_with_nothing_else() {
    let fleet = Fleet::new();
    let by_key = fleet.admit(&d1(), &token("/devices/d1", "d1-primary", NOW + 60, None)).expect("admitted");
    let by_policy =
        fleet.admit(&d1(), &token("", "policy-primary", NOW + 60, Some("fleet"))).expect("admitted");
    let ends = |grant: &Grant, fleet: &Fleet| still_holds(grant, &fleet.known(&d1()), now()).is_err();
    let with = |device: Device| Fleet { device: Some(device), ..Fleet::new() };

    assert!(!ends(&by_key, &fleet) && !ends(&by_policy, &fleet));
    let other_slot = with(Device { authentication: sas(&d1(), "new", "d1-primary"), ..device() });
    assert!(!ends(&by_key, &other_slot), "the key went on in the other slot");
    let rotated = with(Device { authentication: sas(&d1(), "new", "d1-secondary"), ..device() });
    assert!(ends(&by_key, &rotated) && !ends(&by_policy, &rotated));
    let disabled = with(Device { status: Status::Disabled, ..device() });
    assert!(ends(&by_key, &disabled) && ends(&by_policy, &disabled));
    let made_again = with(Device { generation: "g9".into(), ..device() });
    assert!(ends(&by_key, &made_again) && ends(&by_policy, &made_again));
    let gone = Fleet { device: None, ..Fleet::new() };
    assert!(ends(&by_key, &gone) && ends(&by_policy, &gone));
    let narrowed = Fleet { policy: Some(policy(&[Right::RegistryRead])), ..Fleet::new() };
    assert!(!ends(&by_key, &narrowed) && ends(&by_policy, &narrowed));
    let no_policy = Fleet { policy: None, ..Fleet::new() };
    assert!(!ends(&by_key, &no_policy) && ends(&by_policy, &no_policy));
}

#[test]
fn a_service_is_admitted_by_both_ways_to_sign_and_held_to_its_rights() {
    let (reader, hosts) = (policy(&[Right::ServiceConnect]), [HOST.to_owned()]);
    let text = token("", "policy-secondary", NOW + 60, Some("fleet"));
    let grant = admit_service(&Token::parse(&text).expect("a token"), Some(&reader), &hosts, &Open, now())
        .expect("admitted");
    assert_eq!(grant.slot, Slot::Secondary);
    assert!(grant.may(Operation::ReadEvents).is_ok());
    assert!(grant.may(Operation::ReadIdentities).is_err() && grant.may(Operation::WriteIdentities).is_err());
    assert!(grant.still_holds(Some(&reader)).is_ok());
    assert!(grant.still_holds(Some(&policy(&[Right::RegistryRead]))).is_err());

    // Event Hubs SDKs sign with the text of the key.
    let resource = format!("sb%3A%2F%2F{HOST}%2Fhub");
    let signing = hmac::Key::new(hmac::HMAC_SHA256, key("policy-primary").as_bytes());
    let tag = STANDARD.encode(hmac::sign(&signing, format!("{resource}\n{NOW}").as_bytes()));
    let tag = tag.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let text = format!("SharedAccessSignature sr={resource}&sig={tag}&se={NOW}&skn=fleet");
    assert!(
        admit_service(&Token::parse(&text).expect("a token"), Some(&reader), &hosts, &Open, now()).is_ok()
    );

    let own_key = token("/devices/d1", "d1-primary", NOW + 60, None);
    let refused = admit_service(&Token::parse(&own_key).expect("a token"), None, &hosts, &Open, now());
    assert_eq!(refused.expect_err("a device is no service").cause(), "missing-right");

    assert!(admit_service_by_key("fleet", &key("policy-primary"), Some(&reader), &Open).is_ok());
    assert!(admit_service_by_key("fleet", &key("other"), Some(&reader), &Open).is_err());
}

#[test]
fn a_policy_s_token_connects_and_renews_only_what_its_resource_covers() {
    let fleet = Fleet::new();
    let proved = |resource: &str, end: i64| {
        let text = token(resource, "policy-primary", end, Some("fleet"));
        let token = Token::parse(&text).expect("a token");
        admit_service(&token, fleet.policy.as_ref(), &fleet.hosts, &Open, now()).expect("proved")
    };
    let under = |identity: &Identity, resource: &str| {
        admit_under(identity, &proved(resource, NOW + 60), &fleet.known(identity), now())
    };
    for (resource, device, module) in [
        ("", true, true),
        ("/devices", true, true),
        ("/devices/d1", true, true),
        ("/devices/D1", false, false),
        ("/devices/d1/modules/m1", false, true),
        ("/devices/d2", false, false),
        ("/twins/d1", false, false),
    ] {
        assert_eq!(
            (under(&d1(), resource).is_ok(), under(&m1(), resource).is_ok()),
            (device, module),
            "{resource}"
        );
    }
    let refused = under(&d1(), "/twins/d1").expect_err("another resource");
    let (presented, needed) = (format!("{HOST}/twins/d1"), format!("{HOST}/devices/d1"));
    assert_eq!(refused, Refusal::TokenScope { presented, needed });

    let online = under(&d1(), "").expect("admitted");
    let renewed = |resource: &str| online.renewed_by(&proved(resource, NOW + 600)).map(|grant| grant.ends);
    assert_eq!(renewed("/devices"), Some(Some(NOW + 600)));
    assert_eq!((renewed("/devices/d2"), renewed("/twins/d1")), (None, None));

    // A token for a module keeps no other one, and not its device.
    let module =
        fleet.admit(&m1(), &token("/devices/d1/modules/m1", "policy-primary", NOW + 600, Some("fleet")));
    let device = fleet.admit(&d1(), &token("/devices/d1", "policy-primary", NOW + 600, Some("fleet")));
    let (module, device) = (module.expect("admitted"), device.expect("admitted"));
    assert!(online.renewed_with(&module).is_none() && online.renewed_with(&device).is_some());
    assert!(under(&m1(), "").expect("admitted").renewed_with(&device).is_some());
}
