//! Connections that a gateway makes for its children: the token is that of the gateway's module `$edgeHub`, the identity is
//! the child's, and the registry says whether the one leads to the other (docs/sdk-notes.md has the wire).

use jiff::Timestamp;

use super::parents::EDGE_LEVELS_MAX;
use crate::access::{Right, Rights};
use crate::authenticate::{
    Basis, Grant, Known, authentication, grant_of, holder, in_time, key_place, resource_path, signing_slot,
    wrong_kind,
};
use crate::decision::{Facts, cut};
use crate::hub::{Credential, Hub, NotAdmitted, clue_of, parsed};
use crate::identity::{DeviceId, Identity, ModuleId};
use crate::ports::registry::StoreError;
use crate::ports::secrets::Fingerprint;
use crate::record::{Authentication, Device, Key, Module, Record, SealedKey, Slot, Status};
use crate::refusal::{Refusal, wrong_key};
use crate::sas::Token;

/// That a connection was made by a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The gateway.
    pub gateway: DeviceId,
    /// Which key of its module signed.
    pub slot: Slot,
    /// The fingerprint of that key.
    pub fingerprint: Fingerprint,
    /// How the registry leads to the gateway: the device that is connected, or whose module is, first, the gateway last.
    pub path: Vec<DeviceId>,
}

impl Behind {
    /// Whether this is the module of the gateway that signs.
    pub(crate) fn is_of(&self, signer: &Identity) -> bool {
        signer.device == self.gateway && signer.module.as_ref() == Some(&ModuleId::edge_hub())
    }
}

/// What the registry knows of a gateway and of how a device leads to it.
#[derive(Debug, Clone)]
pub struct Lineage {
    /// The gateway's id.
    pub gateway: DeviceId,
    /// The gateway.
    pub device: Option<Device>,
    /// Its module `$edgeHub`.
    pub module: Option<Module>,
    /// The parents of the device, the nearest first, to the gateway or as far as they go.
    pub parents: Vec<Device>,
}

impl Lineage {
    /// The keys of the gateway's module.
    fn keys(&self) -> Result<[&SealedKey; 2], Refusal> {
        let unknown = || Refusal::UnknownGateway { gateway: self.gateway.to_string() };
        self.device.as_ref().filter(|device| device.edge).ok_or_else(unknown)?;
        match &self.module.as_ref().ok_or_else(unknown)?.authentication {
            Authentication::Sas { primary, secondary } => Ok([primary, secondary]),
            other => Err(wrong_kind("a SAS token", other)),
        }
    }

    /// The way from a device to the gateway, if it may be taken now: the gateway is its parent, or a parent of its parents;
    /// or it is a module of the gateway's own.
    fn path(&self, identity: &Identity) -> Result<Vec<DeviceId>, Refusal> {
        let enabled = |device: &Device| match device.status {
            Status::Enabled => Ok(()),
            Status::Disabled => Err(Refusal::GatewayDisabled {
                gateway: device.id.to_string(),
                reason: device.status_reason.clone(),
            }),
        };
        self.device.as_ref().map_or(Ok(()), enabled)?;
        let mut path = vec![identity.device.clone()];
        if identity.device == self.gateway && identity.module.is_some() {
            return Ok(path);
        }
        for parent in &self.parents {
            enabled(parent)?;
            path.push(parent.id.clone());
            if parent.id == self.gateway {
                return Ok(path);
            }
        }
        Err(Refusal::NotItsGateway {
            gateway: self.gateway.to_string(),
            parent: self.parents.first().map(|parent| parent.id.to_string()),
        })
    }
}

/// Decides whether a gateway's token admits a device or module that is not the gateway's module itself.
pub(crate) fn admit_by_gateway(
    identity: &Identity,
    token: &Token<'_>,
    chain: Option<&str>,
    lineage: &Lineage,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    let signer = edge_hub(&lineage.gateway);
    let (slot, fingerprint) = signing_slot(token, &key_place(&signer), lineage.keys()?, known.secrets, false)
        .ok_or_else(|| wrong_key(holder(&signer)))?;
    let ends = in_time(token, now)?;
    behind(identity, (slot, fingerprint, ends), chain, lineage, known, now)
}

fn behind(
    identity: &Identity,
    (slot, fingerprint, ends): (Slot, Fingerprint, i64),
    chain: Option<&str>,
    lineage: &Lineage,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    authentication(identity, known)?;
    let path = lineage.path(identity)?;
    check_chain(identity, chain, &path)?;
    let gateway = lineage.gateway.clone();
    let basis = Basis::Gateway(Box::new(Behind { gateway, slot, fingerprint, path }));
    grant_of(identity, basis, Some(ends), known, now)
}

/// Decides whether the chain that a gateway names is the way that the registry knows. Without one only the gateway's own
/// modules, its children and theirs are within reach: so connects a gateway that knows of no gateways below it.
fn check_chain(identity: &Identity, chain: Option<&str>, path: &[DeviceId]) -> Result<(), Refusal> {
    let module = identity.module.as_ref().map(|_| identity.to_string());
    let registered: Vec<String> = module.into_iter().chain(path.iter().map(ToString::to_string)).collect();
    let is_right = match chain {
        None => path.len() <= 2,
        Some(chain) => chain.split(';').filter(|id| !id.is_empty()).eq(registered.iter()),
    };
    match is_right {
        true => Ok(()),
        false => {
            Err(Refusal::AuthChain { presented: chain.map(cut), registered: cut(&registered.join(";")) })
        }
    }
}

/// Decides, after a change of the registry, whether a gateway may still speak for a device or module.
pub(crate) fn still_behind(identity: &Identity, behind: &Behind, known: &Known<'_>) -> Result<(), Refusal> {
    let unknown = || Refusal::UnknownGateway { gateway: behind.gateway.to_string() };
    let lineage = known.lineage.ok_or_else(unknown)?;
    if !lineage.keys()?.iter().any(|key| key.fingerprint == behind.fingerprint) {
        return Err(wrong_key(holder(&edge_hub(&behind.gateway))));
    }
    let (was, is) = (&behind.path, lineage.path(identity)?);
    match *was == is {
        true => Ok(()),
        false => {
            let text =
                |path: &[DeviceId]| cut(&path.iter().map(DeviceId::as_str).collect::<Vec<_>>().join(";"));
            Err(Refusal::AuthChain { presented: Some(text(was)), registered: text(&is) })
        }
    }
}

/// The module of a gateway that signs for its children.
fn edge_hub(gateway: &DeviceId) -> Identity {
    Identity::module(gateway.clone(), ModuleId::edge_hub())
}

impl Hub {
    /// Decides as [`Hub::admit`] does, and where the token is a gateway's, whether that gateway may connect this device or
    /// module. `chain` is the way to the gateway as the client names it, `leaf;edge1;edge2`; a client that comes with a
    /// token of its own may name one too, and needs none.
    pub async fn admit_client(
        &self,
        identity: &Identity,
        credential: Credential<'_>,
        chain: Option<&str>,
        facts: &mut Facts,
    ) -> Result<Grant, NotAdmitted> {
        let Credential::Token(text) = credential else {
            return self.admit(identity, credential, facts).await;
        };
        let token = parsed(text)?;
        let Some(gateway) = self.gateway_of(&token, identity).await? else {
            return self.admit_read(identity, credential, Some(&token), facts).await;
        };
        facts.token = Some(token.facts());
        facts.gateway = Some(gateway.to_string());
        let rechecks = self.rechecks_begun();
        let loaded = self.load_known(identity, None, false).await?;
        let lineage = self.lineage(identity, gateway.clone()).await?;
        let admitted = admit_by_gateway(identity, &token, chain, &lineage, &self.known(&loaded), self.now());
        let mut grant = admitted.inspect_err(|refusal| {
            facts.clue = clue_of(refusal, Some(&edge_hub(&gateway)), credential);
        })?;
        grant.rechecks = rechecks;
        facts.slot = grant.basis.slot();
        Ok(grant)
    }

    /// Decides whether a device or module may use the connection on which a gateway's token was put.
    pub async fn admit_behind(
        &self,
        identity: &Identity,
        gateway: &Grant,
        chain: Option<&str>,
        facts: &mut Facts,
    ) -> Result<Grant, NotAdmitted> {
        let rechecks = self.rechecks_begun();
        self.still_holds(gateway).await?;
        let loaded = self.load_known(identity, None, false).await?;
        let lineage = self.lineage(identity, gateway.identity().device.clone()).await?;
        facts.gateway = Some(lineage.gateway.to_string());
        let (Basis::Key(slot, fingerprint), Some(ends)) = (&gateway.basis, gateway.ends) else {
            return Err(Refusal::NoCredential.into());
        };
        let proved = (*slot, *fingerprint, ends);
        let mut grant = behind(identity, proved, chain, &lineage, &self.known(&loaded), self.now())?;
        grant.rechecks = rechecks;
        Ok(grant)
    }

    /// Decides whether a module may call methods of a device or module as if it were a service: one of an edge device may,
    /// of what is on that device and of its children (`docs/protocol/device-https.md` §5).
    pub async fn may_call(&self, caller: &Identity, target: &Identity) -> Result<(), NotAdmitted> {
        let lineage = self.lineage(target, caller.device.clone()).await?;
        let is_edge = lineage.device.as_ref().is_some_and(|device| device.edge);
        let is_near = target.device == caller.device
            || lineage.parents.last().is_some_and(|parent| parent.id == caller.device);
        if is_edge && is_near {
            return Ok(());
        }
        let operation =
            format!("call methods of {target}, which is neither on {} nor below it", caller.device);
        Err(Refusal::MissingRight {
            holder: holder(caller),
            has: Rights::of(&[Right::DeviceConnect]),
            needs: Rights::of(&[Right::ServiceConnect]),
            operation,
        }
        .into())
    }

    /// The gateway whose token this is, where it is one's and the client is somebody else.
    async fn gateway_of(
        &self,
        token: &Token<'_>,
        identity: &Identity,
    ) -> Result<Option<DeviceId>, StoreError> {
        if token.skn.is_some() || token.covers(&self.settings.hosts, &resource_path(identity)) {
            return Ok(None);
        }
        let mut signers = token.identities(&self.settings.hosts);
        signers.retain(|signer| signer.module.as_ref().is_some_and(|module| *module == ModuleId::edge_hub()));
        let Some(last) = signers.pop().map(|signer| signer.device) else { return Ok(None) };
        for signer in signers {
            if self.registry.load(Key::Device(signer.device.clone())).await?.is_some() {
                return Ok(Some(signer.device));
            }
        }
        Ok(Some(last))
    }

    /// What the registry knows of a gateway, and of the way from a device to it.
    pub(crate) async fn lineage(
        &self,
        identity: &Identity,
        gateway: DeviceId,
    ) -> Result<Lineage, StoreError> {
        let device = self.device_record(gateway.clone()).await?;
        let signer = Key::Module(gateway.clone(), ModuleId::edge_hub());
        let module = match self.registry.load(signer).await?.map(|stored| stored.record) {
            Some(Record::Module(module)) => Some(module),
            _ => None,
        };
        let mut parents: Vec<Device> = Vec::new();
        if identity.device != gateway {
            let mut below = self.device_record(identity.device.clone()).await?;
            // A leaf is below the lowest edge device, and that one below so many.
            while parents.len() <= EDGE_LEVELS_MAX {
                let scope = below.as_ref().and_then(Device::parent_scope);
                let Some(scope) = scope else { break };
                let Some(parent) = self.edge_device(scope).await? else { break };
                let is_found = parent.id == gateway;
                parents.push(parent.clone());
                if is_found {
                    break;
                }
                below = Some(parent);
            }
        }
        Ok(Lineage { gateway, device, module, parents })
    }

    async fn device_record(&self, id: DeviceId) -> Result<Option<Device>, StoreError> {
        Ok(match self.registry.load(Key::Device(id)).await?.map(|stored| stored.record) {
            Some(Record::Device(device)) => Some(device),
            _ => None,
        })
    }
}
