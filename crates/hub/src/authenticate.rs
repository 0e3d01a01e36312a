//! The one place where it is decided who somebody is: SAS tokens of devices, modules and policies, thumbprints,
//! and certificate chains, for every front alike.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use crate::access::{Policy, PolicyName, Right, Rights};
use crate::certificate::Chain;
use crate::decision::cut;
use crate::edge::{Behind, Lineage, still_behind};
use crate::identity::Identity;
use crate::key_quality::KeyQuality;
use crate::ports::secrets::{Fingerprint, Secrets};
use crate::record::{Authentication, Authority, Device, Module, SealedKey, Slot, Status};
use crate::refusal::{Refusal, missing_device_right, unknown_policy, wrong_key};
use crate::sas::{Token, key_bytes};
use crate::scope::Scope;
use crate::service_grant::ServiceGrant;
use crate::settings::HubSettings;
use crate::telemetry::{Sender, Source};

/// What a client shows to prove who it is.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// A SAS token.
    Token(&'a Token<'a>),
    /// The certificate chain of the handshake.
    Certificate(&'a Chain),
    /// Nothing.
    Nothing,
}

/// What the registry knows that the decision needs; loaded by the caller.
pub struct Known<'a> {
    /// The device.
    pub device: Option<&'a Device>,
    /// The module, when the identity is one.
    pub module: Option<&'a Module>,
    /// The policy that the token names.
    pub policy: Option<&'a Policy>,
    /// The gateway that the grant stands on, where it stands on one.
    pub lineage: Option<&'a Lineage>,
    /// All certificate authorities.
    pub authorities: &'a [Authority],
    /// The host names of this hub.
    pub hosts: &'a [String],
    /// What the operator set.
    pub settings: &'a HubSettings,
    /// Opens the sealed keys.
    pub secrets: &'a dyn Secrets,
}

/// What an admitted device or module connection may do, and for how long. The connection keeps it; messages touch
/// no registry.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose connection it is, and the stamps of its messages.
    pub sender: Arc<Sender>,
    /// When it ends, in seconds since 1970 UTC: with its token, or with its certificate or the first one above it.
    pub ends: Option<i64>,
    /// What it depends on.
    pub basis: Basis,
    /// How often the hub had rechecked grants before this one was decided (see [`Hub::confirm`](crate::hub::Hub::confirm)).
    pub rechecks: u64,
}

impl Grant {
    /// Whose connection it is.
    pub fn identity(&self) -> &Identity {
        &self.sender.identity
    }

    /// When the token that it stands on ends; `None` for a certificate, whose life is its authority's business.
    pub fn token_ends(&self) -> Option<i64> {
        match &self.basis {
            Basis::Key(..) | Basis::DeviceKey(..) | Basis::Policy(..) | Basis::Gateway(_) => self.ends,
            Basis::Thumbprint(..) | Basis::Authority(..) => None,
        }
    }

    /// The same after the token of the policy that it stands on was renewed; `None` where it stands on something else.
    pub fn renewed_by(&self, policy: &ServiceGrant) -> Option<Self> {
        let Basis::Policy(name, ..) = &self.basis else { return None };
        let basis = || Basis::Policy(name.clone(), policy.slot, policy.fingerprint);
        (*name == policy.policy && policy.scope.covers_identity(self.identity())).then(|| Self {
            ends: Some(policy.ends),
            basis: basis(),
            ..self.clone()
        })
    }

    /// The same after a token was renewed that it stands on: one of its device's that a policy signed, or its gateway's.
    /// `None` where it stands on something else.
    pub fn renewed_with(&self, renewed: &Self) -> Option<Self> {
        let basis = match (&self.basis, &renewed.basis) {
            (Basis::Policy(name, ..), Basis::Policy(other, ..))
                if name == other && renewed.identity().begins(self.identity()) =>
            {
                renewed.basis.clone()
            }
            (Basis::Gateway(behind), Basis::Key(slot, fingerprint)) if behind.is_of(renewed.identity()) => {
                let (slot, fingerprint) = (*slot, *fingerprint);
                Basis::Gateway(Box::new(Behind { slot, fingerprint, ..(**behind).clone() }))
            }
            _ => return None,
        };
        Some(Self { ends: renewed.ends, basis, ..self.clone() })
    }
}

/// What a grant depends on: when that changes, the grant ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// A symmetric key of the device or module.
    Key(Slot, Fingerprint),
    /// A symmetric key of the device that the module is on.
    DeviceKey(Slot, Fingerprint),
    /// A key of a shared access policy with DeviceConnect.
    Policy(PolicyName, Slot, Fingerprint),
    /// A registered thumbprint of the certificate.
    Thumbprint(Slot, Chain),
    /// A certificate authority, by name.
    Authority(String, Chain),
    /// A key of a gateway's, for one of its children.
    Gateway(Box<Behind>),
}

impl PartialEq for Chain {
    fn eq(&self, other: &Self) -> bool {
        self.leaf() == other.leaf()
    }
}

impl Eq for Chain {}

impl Basis {
    /// The slot that admitted, where there are slots.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Key(slot, _) | Self::Policy(_, slot, _) | Self::Thumbprint(slot, _) => Some(*slot),
            Self::Gateway(behind) => Some(behind.slot),
            // The slot of the device is none of the module's, whose keys nobody used.
            Self::DeviceKey(..) | Self::Authority(..) => None,
        }
    }

    /// The policy whose key admitted.
    pub fn policy(&self) -> Option<&PolicyName> {
        match self {
            Self::Policy(name, ..) => Some(name),
            Self::Key(..)
            | Self::DeviceKey(..)
            | Self::Thumbprint(..)
            | Self::Authority(..)
            | Self::Gateway(_) => None,
        }
    }
}

/// Decides whether a device or module is who it says it is, and enabled.
pub fn admit(
    identity: &Identity,
    presented: Presented<'_>,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    let admitted = match presented {
        Presented::Token(token) if token.skn.is_some() => admit_by_policy(identity, token, known, now),
        Presented::Token(token) => admit_by_key(identity, token, known, now),
        Presented::Certificate(chain) => admit_by_certificate(identity, chain, known, now),
        Presented::Nothing => {
            authentication(identity, known)?;
            Err(Refusal::NoCredential)
        }
    };
    let (basis, ends) = admitted?;
    grant_of(identity, basis, ends, known, now)
}

/// Decides whether a device or module may be connected under a policy that was proved before: by a token for the hub as
/// a whole, of which AMQP clients put one for many devices (`docs/protocol/amqp.md` §8), or for whatever its scope
/// covers.
pub fn admit_under(
    identity: &Identity,
    proved: &ServiceGrant,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    proved.still_holds(known.policy)?;
    if !proved.scope.covers_identity(identity) {
        let presented = cut(&proved.resource(known.hosts));
        return Err(Refusal::TokenScope {
            presented,
            needed: resource_of(known.hosts, &resource_path(identity)),
        });
    }
    device_right(known.policy.ok_or_else(|| unknown_policy(proved.policy.to_string()))?)?;
    authentication(identity, known)?;
    let basis = Basis::Policy(proved.policy.clone(), proved.slot, proved.fingerprint);
    grant_of(identity, basis, Some(proved.ends), known, now)
}

/// Decides whether a module may be connected under a token of its device that a policy's key signed: such a token is for
/// all that its scope begins (`docs/protocol/amqp.md` §4.2).
pub fn admit_module_under(
    identity: &Identity,
    device: &Grant,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    let grant = grant_of(identity, device.basis.clone(), device.ends, known, now)?;
    still_holds(&grant, known, now)?;
    Ok(grant)
}

/// What an identity is admitted with whose credential is good: it has to be registered and enabled, and the operator's
/// settings have to allow it.
pub(crate) fn grant_of(
    identity: &Identity,
    basis: Basis,
    ends: Option<i64>,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    let device = registered_device(known)?;
    if device.status == Status::Disabled {
        return Err(Refusal::Disabled { reason: device.status_reason.clone() });
    }
    let generation = match (&identity.module, known.module) {
        (None, _) => device.generation.clone(),
        (Some(_), Some(module)) => module.generation.clone(),
        (Some(_), None) => return Err(Refusal::UnknownModule { near: Vec::new() }),
    };
    let auth_method = auth_method(identity, &basis);
    let sender = Sender {
        identity: identity.clone(),
        generation,
        auth_method,
        source: Source::Telemetry,
        model_id: None,
    };
    let grant = Grant { sender: Arc::new(sender), ends, basis, rechecks: 0 };
    known.settings.allows(&grant, now)?;
    Ok(grant)
}

/// Decides again, after a change of the registry, whether a live grant still holds.
pub fn still_holds(grant: &Grant, known: &Known<'_>, now: Timestamp) -> Result<(), Refusal> {
    let identity = grant.identity();
    let device = registered_device(known)?;
    if device.status == Status::Disabled {
        return Err(Refusal::Disabled { reason: device.status_reason.clone() });
    }
    known.settings.allows(grant, now)?;
    let authentication = authentication(identity, known)?;
    let generation = known.module.map_or(&device.generation, |module| &module.generation);
    if *generation != grant.sender.generation {
        return Err(Refusal::UnknownDevice { near: Vec::new() });
    }
    let in_a_slot = |fingerprint: &Fingerprint, slots: [&SealedKey; 2]| {
        slots.iter().any(|key| key.fingerprint == *fingerprint)
    };
    match (&grant.basis, authentication) {
        (Basis::Key(_, fingerprint), Authentication::Sas { primary, secondary })
            if in_a_slot(fingerprint, [primary, secondary]) =>
        {
            Ok(())
        }
        (Basis::Key(..), Authentication::Sas { .. }) => Err(wrong_key(holder(identity))),
        (Basis::DeviceKey(_, fingerprint), Authentication::Sas { .. }) => match &device.authentication {
            Authentication::Sas { primary, secondary } if in_a_slot(fingerprint, [primary, secondary]) => {
                Ok(())
            }
            Authentication::Sas { .. }
            | Authentication::SelfSigned { .. }
            | Authentication::CertificateAuthority
            | Authentication::None => Err(wrong_key(holder(&Identity::device(identity.device.clone())))),
        },
        (Basis::Gateway(behind), _) => still_behind(identity, behind, known),
        (Basis::Policy(name, _, fingerprint), _) => {
            let policy = known.policy.ok_or_else(|| unknown_policy(name.to_string()))?;
            if !in_a_slot(fingerprint, [&policy.primary, &policy.secondary]) {
                return Err(wrong_key(format!("policy {name}")));
            }
            device_right(policy)
        }
        (Basis::Thumbprint(_, chain), Authentication::SelfSigned { primary, secondary }) => {
            chain.matches([primary, secondary], now).map(|_| ())
        }
        (Basis::Authority(_, chain), Authentication::CertificateAuthority) => {
            chain.leads_to(known.authorities, &identity.to_string(), now).map(|_| ())
        }
        (basis, registered) => Err(wrong_kind(kind_of(basis), registered)),
    }
}

fn admit_by_key(
    identity: &Identity,
    token: &Token<'_>,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<(Basis, Option<i64>), Refusal> {
    let (primary, secondary) = match authentication(identity, known)? {
        Authentication::Sas { primary, secondary } => (primary, secondary),
        other => return Err(wrong_kind("a SAS token", other)),
    };
    // A token for another resource was signed with another key: that is the cause worth naming.
    in_scope(identity, token, known)?;
    let place = key_place(identity);
    let own = signing_slot(token, &place, [primary, secondary], known.secrets, false);
    let basis = match own {
        Some((slot, fingerprint)) => Basis::Key(slot, fingerprint),
        None => by_key_of_device(identity, token, known).ok_or_else(|| wrong_key(holder(identity)))?,
    };
    Ok((basis, Some(in_time(token, now)?)))
}

/// A device's key is good for its modules too, as long as they have keys: it can give them others anyway (azure-iot-sdk-c).
fn by_key_of_device(identity: &Identity, token: &Token<'_>, known: &Known<'_>) -> Option<Basis> {
    identity.module.as_ref()?;
    let Authentication::Sas { primary, secondary } = &known.device?.authentication else { return None };
    let place = key_place(&Identity::device(identity.device.clone()));
    let (slot, fingerprint) = signing_slot(token, &place, [primary, secondary], known.secrets, false)?;
    Some(Basis::DeviceKey(slot, fingerprint))
}

fn admit_by_policy(
    identity: &Identity,
    token: &Token<'_>,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<(Basis, Option<i64>), Refusal> {
    let (policy, slot, fingerprint) = verified_policy(token, known.policy, known.secrets)?;
    let ends = in_time(token, now)?;
    in_scope(identity, token, known)?;
    device_right(policy)?;
    authentication(identity, known)?;
    Ok((Basis::Policy(policy.name.clone(), slot, fingerprint), Some(ends)))
}

fn admit_by_certificate(
    identity: &Identity,
    chain: &Chain,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<(Basis, Option<i64>), Refusal> {
    let (basis, ends) = match authentication(identity, known)? {
        Authentication::SelfSigned { primary, secondary } => {
            let slot = match chain.matches([primary, secondary], now)? {
                0 => Slot::Primary,
                _ => Slot::Secondary,
            };
            (Basis::Thumbprint(slot, chain.clone()), chain.leaf_ends())
        }
        Authentication::CertificateAuthority => {
            let path = chain.leads_to(known.authorities, &identity.to_string(), now)?;
            (Basis::Authority(path.authority.name.clone(), chain.clone()), path.ends)
        }
        other => return Err(wrong_kind("a client certificate", other)),
    };
    // It is still good in its last second (RFC 5280 section 4.1.2.5).
    Ok((basis, Some(ends.saturating_add(1))))
}

fn registered_device<'a>(known: &Known<'a>) -> Result<&'a Device, Refusal> {
    known.device.ok_or(Refusal::UnknownDevice { near: Vec::new() })
}

pub(crate) fn authentication<'a>(
    identity: &Identity,
    known: &Known<'a>,
) -> Result<&'a Authentication, Refusal> {
    let device = registered_device(known)?;
    match (&identity.module, known.module) {
        (None, _) => Ok(&device.authentication),
        (Some(_), Some(module)) => Ok(&module.authentication),
        (Some(_), None) => Err(Refusal::UnknownModule { near: Vec::new() }),
    }
}

/// An end before 1980 is no time but a length of time: clocks that were never set begin in 1970 too, but their tokens
/// are valid for an hour or a year, not for ten.
const LIFETIME_SECONDS_MAX: i64 = 10 * 365 * 86_400;

pub(crate) fn in_time(token: &Token<'_>, now: Timestamp) -> Result<i64, Refusal> {
    if token.is_expired(now.as_second()) {
        if let Some(end) = token.in_seconds(now.as_second(), LIFETIME_SECONDS_MAX) {
            return Err(Refusal::TokenInSeconds { end });
        }
        if token.se < LIFETIME_SECONDS_MAX {
            return Err(Refusal::TokenLifetimeAsEnd { seconds: token.se });
        }
        let ended = Timestamp::from_second(token.se).unwrap_or(Timestamp::MIN);
        return Err(Refusal::TokenExpired { ended });
    }
    Ok(token.session_end(now.as_second()))
}

fn in_scope(identity: &Identity, token: &Token<'_>, known: &Known<'_>) -> Result<(), Refusal> {
    let path = resource_path(identity);
    if token.covers(known.hosts, &path) {
        return Ok(());
    }
    Err(out_of_scope(token, known.hosts, &path))
}

/// Why a token does not cover a path of the hub: it is for another host, or for another resource of this one.
pub(crate) fn out_of_scope(token: &Token<'_>, hosts: &[String], path: &str) -> Refusal {
    if !token.names_host(hosts) {
        return Refusal::TokenHost { presented: cut(&token.host()), names: hosts.to_vec() };
    }
    Refusal::TokenScope { presented: token.facts().sr, needed: resource_of(hosts, path) }
}

/// A path of the hub, as a token's resource names it.
pub(crate) fn resource_of(hosts: &[String], path: &str) -> String {
    format!("{}{path}", hosts.first().map_or("", String::as_str))
}

/// The path of an identity below the host, as tokens name it.
pub fn resource_path(identity: &Identity) -> String {
    match &identity.module {
        None => format!("/devices/{}", identity.device),
        Some(module) => format!("/devices/{}/modules/{module}", identity.device),
    }
}

fn verified_policy<'a>(
    token: &Token<'_>,
    policy: Option<&'a Policy>,
    secrets: &dyn Secrets,
) -> Result<(&'a Policy, Slot, Fingerprint), Refusal> {
    let named = token.skn.as_deref().unwrap_or_default();
    let policy = policy.ok_or_else(|| unknown_policy(cut(named)))?;
    let place = policy_place(&policy.name);
    signing_slot(token, &place, [&policy.primary, &policy.secondary], secrets, true)
        .map(|(slot, fingerprint)| (policy, slot, fingerprint))
        .ok_or_else(|| wrong_key(format!("policy {}", policy.name)))
}

fn device_right(policy: &Policy) -> Result<(), Refusal> {
    if policy.rights.has(Right::DeviceConnect) {
        return Ok(());
    }
    Err(missing_device_right(format!("policy {}", policy.name), policy.rights))
}

/// The slot whose key signed the token. Event Hubs SDKs sign with the text of a policy key, all others with the
/// bytes that it encodes (`docs/protocol/event-hubs-endpoint.md` §1).
pub(crate) fn signing_slot(
    token: &Token<'_>,
    place: &str,
    keys: [&SealedKey; 2],
    secrets: &dyn Secrets,
    by_text_too: bool,
) -> Option<(Slot, Fingerprint)> {
    keys.into_iter().zip([Slot::Primary, Slot::Secondary]).find_map(|(key, slot)| {
        let text = open_key(key, place, slot, secrets)?;
        let by_bytes = key_bytes(&text).is_some_and(|bytes| token.signed_with(&bytes));
        let by_text = || by_text_too && token.signed_with(text.as_bytes());
        (by_bytes || by_text()).then_some((slot, key.fingerprint))
    })
}

/// The text of a sealed key; `None` when it does not open, which is the operator's to find in the log.
pub fn open_key(
    key: &SealedKey,
    place: &str,
    slot: Slot,
    secrets: &dyn Secrets,
) -> Option<zeroize::Zeroizing<String>> {
    let sealed = STANDARD.decode(&key.sealed).ok()?;
    let mut plain = secrets.open(&slot_place(place, slot), &sealed).ok()?;
    let text = String::from_utf8(std::mem::take(&mut *plain));
    text.map_err(|error| zeroize::Zeroizing::new(error.into_bytes())).ok().map(zeroize::Zeroizing::new)
}

/// Seals the text of a key of an owner with this name, for a place and slot.
pub fn seal_key(
    text: &str,
    owner: &str,
    (place, slot): (&str, Slot),
    secrets: &dyn Secrets,
    now: Timestamp,
) -> Result<SealedKey, crate::ports::secrets::SecretError> {
    let sealed = secrets.seal(&slot_place(place, slot), text.as_bytes())?;
    // Fingerprints compare keys, so they are taken of the key's bytes, not of one of its spellings.
    let bytes = zeroize::Zeroizing::new(key_bytes(text).unwrap_or_else(|| text.as_bytes().to_vec()));
    Ok(SealedKey {
        sealed: STANDARD.encode(sealed),
        fingerprint: secrets.fingerprint(&bytes),
        set: now,
        quality: Some(Box::new(KeyQuality::of(&bytes, owner))),
    })
}

fn slot_place(place: &str, slot: Slot) -> String {
    match slot {
        Slot::Primary => format!("{place}/primary"),
        Slot::Secondary => format!("{place}/secondary"),
    }
}

/// The place of an identity's keys, to which their ciphertext is bound.
pub fn key_place(identity: &Identity) -> String {
    format!("hub{}", resource_path(identity))
}

/// The place of a policy's keys.
pub fn policy_place(name: &PolicyName) -> String {
    format!("hub/policies/{name}")
}

pub(crate) fn holder(identity: &Identity) -> String {
    match &identity.module {
        None => format!("device {}", identity.device),
        Some(module) => format!("module {}/{module}", identity.device),
    }
}

pub(crate) fn wrong_kind(presented: &str, registered: &Authentication) -> Refusal {
    let registered = match registered {
        Authentication::Sas { .. } => "symmetric keys (sas)",
        Authentication::SelfSigned { .. } => "certificate thumbprints (selfSigned)",
        Authentication::CertificateAuthority => {
            "a certificate of a verified authority (certificateAuthority)"
        }
        Authentication::None => "no credential of its own (none)",
    };
    Refusal::CredentialKind { presented: presented.into(), registered: registered.into() }
}

fn kind_of(basis: &Basis) -> &'static str {
    match basis {
        Basis::Key(..) | Basis::DeviceKey(..) | Basis::Policy(..) | Basis::Gateway(_) => "a SAS token",
        Basis::Thumbprint(..) | Basis::Authority(..) => "a client certificate",
    }
}

/// The text of `iothub-connection-auth-method` (`docs/protocol/event-hubs-endpoint.md` §7).
fn auth_method(identity: &Identity, basis: &Basis) -> String {
    let own = if identity.module.is_some() { "module" } else { "device" };
    let (scope, kind) = match basis {
        Basis::Key(..) | Basis::DeviceKey(..) | Basis::Gateway(_) => (own, "sas"),
        Basis::Policy(..) => ("hub", "sas"),
        Basis::Thumbprint(..) | Basis::Authority(..) => (own, "x509"),
    };
    format!(r#"{{"scope":"{scope}","type":"{kind}","issuer":"iothub","acceptingIpFilterRule":null}}"#)
}

/// Decides which policy a service's token proves. The grant keeps the scope, which is held against whatever is asked.
pub fn admit_service(
    token: &Token<'_>,
    policy: Option<&Policy>,
    hosts: &[String],
    secrets: &dyn Secrets,
    now: Timestamp,
) -> Result<ServiceGrant, Refusal> {
    if token.skn.is_none() {
        return Err(Refusal::MissingRight {
            holder: "a device's own key".into(),
            has: Rights::of(&[Right::DeviceConnect]),
            needs: Rights::of(&[Right::ServiceConnect]),
            operation: "use the service endpoints".into(),
        });
    }
    let (policy, slot, fingerprint) = verified_policy(token, policy, secrets)?;
    let ends = in_time(token, now)?;
    let scope = token.scope(hosts).ok_or_else(|| out_of_scope(token, hosts, ""))?;
    Ok(ServiceGrant { policy: policy.name.clone(), rights: policy.rights, scope, slot, fingerprint, ends })
}

/// Decides whether a key, given as such, is one of a policy's. Keys are compared by fingerprint.
pub fn admit_service_by_key(
    name: &str,
    key: &str,
    policy: Option<&Policy>,
    secrets: &dyn Secrets,
) -> Result<ServiceGrant, Refusal> {
    let policy = policy.ok_or_else(|| unknown_policy(cut(name)))?;
    let fingerprint = key_bytes(key).map(|bytes| secrets.fingerprint(&bytes));
    let slots = [(&policy.primary, Slot::Primary), (&policy.secondary, Slot::Secondary)];
    let (_, slot) = slots
        .into_iter()
        .find(|(sealed, _)| Some(&sealed.fingerprint) == fingerprint.as_ref())
        .ok_or_else(|| wrong_key(format!("policy {}", policy.name)))?;
    let fingerprint = match slot {
        Slot::Primary => policy.primary.fingerprint,
        Slot::Secondary => policy.secondary.fingerprint,
    };
    Ok(ServiceGrant {
        policy: policy.name.clone(),
        rights: policy.rights,
        scope: Scope::WHOLE,
        slot,
        fingerprint,
        ends: i64::MAX,
    })
}

#[cfg(test)]
#[path = "authenticate_tests.rs"]
mod tests;
