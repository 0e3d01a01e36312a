//! Devices and modules on a connection. Each brings a credential, is connected as long as it has a link, and ends on its
//! own: a gateway has hundreds on one connection (`docs/protocol/amqp.md` §8).

use std::collections::BTreeMap;
use std::sync::Arc;

use hub::access::Right;
use hub::authenticate::{Basis, Grant, resource_path};
use hub::decision::{Act, Facts, TokenFacts, cut};
use hub::hub::{Credential, NotAdmitted};
use hub::identity::{Identity, ModuleId};
use hub::limits::AMQP_IDENTITIES_MAX as IDENTITIES_MAX;
use hub::ports::bus::{Ending, Epoch, Holder as _};
use hub::refusal::{Refusal, missing_device_right};
use hub::service_grant::ServiceGrant;
use hub::telemetry::Sender;
use hub::twin::check_model_id;
use wire::amqp::connection::LinkId;
use wire::amqp::performative::{Attach, Error, condition};

use super::inbox::Messages;
use super::links::{Bound, stamped};
use super::{Conversation, Link};
use crate::fronts::amqp::live::{Ended, Live};
use crate::fronts::mailbox::Mailbox;
use crate::io::Stream;
use crate::metrics::Connected;

const CLIENT_VERSION: &str = "com.microsoft:client-version";
const API_VERSION: &str = "com.microsoft:api-version";
const MODEL_ID: &str = "com.microsoft:model-id";
const AUTH_CHAIN: &str = "com.microsoft:auth-chain";

/// Who has a credential on a connection.
#[derive(Default)]
pub(super) struct Devices {
    /// Boxed, for a node of the tree has room for eleven and most connections have one.
    known: BTreeMap<Identity, Box<Known>>,
    /// When the first of them ends, in seconds since 1970.
    ends: Option<i64>,
    serials: u64,
}

struct Known {
    live: Arc<Live>,
    /// The token that it was admitted by, for the record of its connection.
    token: Option<Box<TokenFacts>>,
    /// Whether that token was put for it alone. What it has otherwise is there without it too: the token of a policy, or
    /// the certificate of the handshake.
    is_own: bool,
    online: Option<Online>,
}

/// What there is of a device or module while it has a link.
struct Online {
    epoch: Epoch,
    links: Vec<LinkId>,
    /// What it is sent by; most send telemetry only.
    bound: Option<Box<Bound>>,
    _connected: Connected,
}

/// Who is sent things.
pub(super) struct Recipient<'a> {
    /// Its stamps.
    pub(super) sender: &'a Arc<Sender>,
    /// What waits for it.
    pub(super) mailbox: &'a Mailbox,
    /// The links that it is sent by.
    pub(super) bound: &'a mut Bound,
}

impl Devices {
    /// Whether nobody has a credential.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether an identity has a credential.
    pub(super) fn knows(&self, identity: &Identity) -> bool {
        self.known.contains_key(identity)
    }

    /// When the first credential ends, in seconds since 1970.
    pub(super) fn ends(&self) -> Option<i64> {
        self.ends
    }

    /// A device or module that has links to be sent things by.
    pub(super) fn recipient(&mut self, identity: &Identity) -> Option<Recipient<'_>> {
        let Known { live, online, .. } = &mut **self.known.get_mut(identity)?;
        let bound = online.as_mut()?.bound.as_deref_mut()?;
        Some(Recipient { sender: &live.grant().sender, mailbox: live.mailbox(), bound })
    }

    /// A device or module that is connected, and is going to be sent things.
    pub(super) fn new_recipient(&mut self, identity: &Identity) -> Option<Recipient<'_>> {
        let Known { live, online, .. } = &mut **self.known.get_mut(identity)?;
        let bound = online.as_mut()?.bound.get_or_insert_default();
        Some(Recipient { sender: &live.grant().sender, mailbox: live.mailbox(), bound })
    }

    /// All links for device-bound messages.
    pub(super) fn all_messages(&mut self) -> impl Iterator<Item = (&Identity, &mut Messages)> {
        self.known.iter_mut().filter_map(|(identity, known)| {
            Some((identity, known.online.as_mut()?.bound.as_mut()?.messages.as_mut()?))
        })
    }

    fn forget(&mut self, identity: &Identity) -> Option<Box<Known>> {
        let known = self.known.remove(identity)?;
        if known.live.grant().ends == self.ends {
            self.ends = self.known.values().filter_map(|known| known.live.grant().ends).min();
        }
        Some(known)
    }
}

impl<S: Stream> Conversation<S> {
    /// Takes note of the token of a device or module. Where it has links already they go on with the new one.
    pub(super) async fn take_token(
        &mut self,
        grant: Grant,
        token: Option<TokenFacts>,
    ) -> Result<(), Refusal> {
        let identity = grant.identity().clone();
        if self.devices.known.len() >= IDENTITIES_MAX && !self.devices.known.contains_key(&identity) {
            return Err(Refusal::TokensFull { limit: IDENTITIES_MAX });
        }
        let (renews, token) = (grant.clone(), token.map(Box::new));
        if self.keep(grant, token.clone(), true) {
            self.recheck_device(&identity).await;
        }
        let others = self.devices.known.values().filter(|known| !known.is_own);
        let renewed = others.filter_map(|known| known.live.grant().renewed_with(&renews));
        self.renew(renewed.collect(), token).await;
        Ok(())
    }

    /// Moves the end of those who are connected by a policy whose token was renewed.
    pub(super) async fn renew_by_policy(&mut self, policy: &ServiceGrant) {
        let renewed = self.devices.known.values().filter(|known| !known.is_own);
        let renewed: Vec<_> = renewed.filter_map(|known| known.live.grant().renewed_by(policy)).collect();
        self.renew(renewed, Some(Box::new(self.token_of(policy)))).await;
    }

    async fn renew(&mut self, renewed: Vec<Grant>, token: Option<Box<TokenFacts>>) {
        for grant in renewed {
            let identity = grant.identity().clone();
            if self.keep(grant, token.clone(), false) {
                self.recheck_device(&identity).await;
            }
        }
    }

    /// Puts a grant in the place of the one that its identity has. True when it is connected, and goes on with it.
    fn keep(&mut self, grant: Grant, token: Option<Box<TokenFacts>>, is_own: bool) -> bool {
        let identity = grant.identity().clone();
        self.devices.serials += 1;
        let ends = grant.ends;
        let was = self.devices.forget(&identity);
        // What waits for it goes on waiting.
        let mailbox = was.as_ref().map_or_else(Arc::default, |was| was.live.mailbox().clone());
        let live = Arc::new(Live::new(grant, self.devices.serials, mailbox, self.signals.clone()));
        let online = was.and_then(|was| was.online);
        let is_online = online.is_some();
        if let Some(online) = &online
            && !self.front.hub.bus.renew(online.epoch, live.clone())
        {
            // A newer connection has the identity already.
            live.end(Ending::TakenOver);
        }
        for link in online.iter().flat_map(|online| &online.links) {
            if let Some(Link::Device(_, sender)) = self.links.get_mut(link) {
                *sender = stamped(&live.grant().sender, sender.model_id.clone());
            }
        }
        self.devices.known.insert(identity, Box::new(Known { live, token, is_own, online }));
        self.devices.ends = [self.devices.ends, ends].into_iter().flatten().min();
        self.token_deadline = None;
        is_online
    }

    /// Connects the identity of a link that a client attaches; the link counts from now on.
    pub(super) async fn connect(
        &mut self,
        link: LinkId,
        identity: &Identity,
        attach: &Attach,
        facts: &mut Facts,
    ) -> Result<Arc<Sender>, NotAdmitted> {
        facts.sdk = attach.properties.text(CLIENT_VERSION).map(cut).or(facts.sdk.take());
        facts.api_version = attach.properties.text(API_VERSION).map(cut);
        let model_id = attach.properties.text(MODEL_ID);
        model_id.map_or(Ok(()), check_model_id).map_err(|problem| Refusal::Protocol { problem })?;
        self.identify(identity, attach.properties.text(AUTH_CHAIN), facts).await?;
        self.visitor.admission.admit().await;
        let door = self.door.clone();
        let Some(known) = self.devices.known.get_mut(identity) else {
            return Err(Refusal::NoCredential.into());
        };
        let sender = stamped(&known.live.grant().sender, model_id.map(str::to_owned));
        if let Some(online) = &mut known.online {
            online.links.push(link);
            return Ok(sender);
        }
        let grant = known.live.grant();
        facts.token = known.token.as_deref().cloned();
        facts.slot = grant.basis.slot();
        facts.policy = grant.basis.policy().cloned();
        match &grant.basis {
            Basis::Thumbprint(_, chain) | Basis::Authority(_, chain) => facts.chain = chain.facts(),
            Basis::Gateway(behind) => facts.gateway = Some(behind.gateway.to_string()),
            Basis::Key(..) | Basis::DeviceKey(..) | Basis::Policy(..) => {}
        }
        let _connected = door.connected(&grant.basis);
        let epoch = self.front.hub.claim(known.live.clone());
        known.online = Some(Online { epoch, links: vec![link], bound: None, _connected });
        let (hub, live) = (self.front.hub.clone(), known.live.clone());
        match hub.confirm(live.grant()).await {
            Err(NotAdmitted::Refused(refusal)) => {
                self.forget_device(identity);
                Err(refusal.into())
            }
            Ok(()) | Err(NotAdmitted::Unavailable(_)) => {
                let (origin, facts) = (self.visitor.origin.clone(), std::mem::take(facts));
                hub.record(Act::Connect, Some(identity.to_string()), origin, facts, None);
                Ok(sender)
            }
        }
    }

    /// Finds the credential of an identity: the token that was put for it, that of a policy with DeviceConnect, that of its
    /// gateway, or the certificate of the handshake.
    async fn identify(
        &mut self,
        identity: &Identity,
        chain: Option<&str>,
        facts: &mut Facts,
    ) -> Result<(), NotAdmitted> {
        if let Some(known) = self.devices.known.get(identity) {
            if known.online.is_some() {
                return Ok(());
            }
            // The token may have been put hours ago, and whoever it admits ends the connection that the identity has.
            facts.token = known.token.as_deref().cloned();
            let (hub, live) = (self.front.hub.clone(), known.live.clone());
            return hub.still_holds(live.grant()).await.inspect_err(|error| {
                if matches!(error, NotAdmitted::Refused(_)) {
                    self.devices.forget(identity);
                }
            });
        }
        let hub = self.front.hub.clone();
        let policy = self.grants.iter().find(|grant| grant.connects(identity)).cloned();
        if let Some(policy) = policy {
            let token = self.token_of(&policy);
            facts.token = Some(token.clone());
            let grant = hub.admit_under(identity, &policy).await?;
            self.keep(grant, Some(Box::new(token)), false);
            return Ok(());
        }
        if let Some((owner, token)) = self.owner_by_policy(identity) {
            facts.token = token.as_deref().cloned();
            let grant = hub.admit_module_under(identity, owner.grant()).await?;
            self.keep(grant, token, false);
            return Ok(());
        }
        if let Some((gateway, token)) = self.gateway(chain) {
            facts.token = token.as_deref().cloned();
            let grant = hub.admit_behind(identity, gateway.grant(), chain, facts).await?;
            self.keep(grant, token, false);
            return Ok(());
        }
        if let Some(chain) = self.visitor.chain.clone() {
            let grant = hub.admit(identity, Credential::Certificate(&chain), facts).await?;
            self.keep(grant, None, false);
            return Ok(());
        }
        Err(self.has_no_token(identity).into())
    }

    /// The device of a module, where a policy's token for that device was put: its scope covers the modules too.
    fn owner_by_policy(&self, identity: &Identity) -> Option<(Arc<Live>, Option<Box<TokenFacts>>)> {
        identity.module.as_ref()?;
        let known = self.devices.known.get(&Identity::device(identity.device.clone()))?;
        matches!(known.live.grant().basis, Basis::Policy(..))
            .then(|| (known.live.clone(), known.token.clone()))
    }

    /// The gateway whose token was put: the one at the end of the way that a link names, or the only one.
    fn gateway(&self, chain: Option<&str>) -> Option<(Arc<Live>, Option<Box<TokenFacts>>)> {
        let named = chain.and_then(|chain| chain.rsplit(';').find(|id| !id.is_empty()));
        let mut gateways = self.devices.known.iter().filter(|(identity, known)| {
            identity.module == Some(ModuleId::edge_hub())
                && matches!(known.live.grant().basis, Basis::Key(..))
        });
        let (_, known) = gateways
            .clone()
            .find(|(identity, _)| named == Some(identity.device.as_str()))
            .or_else(|| gateways.next())?;
        Some((known.live.clone(), known.token.clone()))
    }

    /// Why a link of this identity cannot be opened with what was put on the connection.
    fn has_no_token(&self, identity: &Identity) -> Refusal {
        let host = self.front.hub.settings.hosts.first().map_or("", String::as_str);
        let resource = |identity: &Identity| format!("{host}{}", resource_path(identity));
        let may_connect = |grant: &&ServiceGrant| grant.rights.has(Right::DeviceConnect);
        if let Some(narrow) = self.grants.iter().find(may_connect) {
            let presented = cut(&narrow.resource(&self.front.hub.settings.hosts));
            return Refusal::TokenScope { presented, needed: resource(identity) };
        }
        match (self.grants.first(), self.devices.known.first_key_value()) {
            (Some(policy), _) => missing_device_right(format!("policy {}", policy.policy), policy.rights),
            (None, Some((other, _))) => {
                Refusal::TokenScope { presented: resource(other), needed: resource(identity) }
            }
            (None, None) => Refusal::NoCredential,
        }
    }

    /// What a policy's token says, for the record.
    fn token_of(&self, policy: &ServiceGrant) -> TokenFacts {
        let sr = cut(&policy.resource(&self.front.hub.settings.hosts));
        TokenFacts { sr, se: policy.ends, skn: Some(policy.policy.to_string()) }
    }

    /// A link of a device or module is gone; with the last one it is not connected any more.
    pub(super) fn unlink(&mut self, link: LinkId, sender: &Sender) {
        let Some(known) = self.devices.known.get_mut(&sender.identity) else { return };
        let Some(online) = known.online.as_mut() else { return };
        online.links.retain(|have| *have != link);
        let mailbox = known.live.mailbox().clone();
        let messages = online.bound.as_mut().and_then(|bound| bound.close(link, &mailbox));
        let sender = known.live.grant().sender.clone();
        if online.links.is_empty() {
            let (epoch, is_own) = (online.epoch, known.is_own);
            known.online = None;
            mailbox.close();
            self.release(&sender.identity, epoch, ("the client said good-bye".to_owned(), None), None);
            if !is_own {
                self.devices.forget(&sender.identity);
            }
        }
        if let Some(messages) = messages {
            self.give_back(sender, messages.tokens());
        }
    }

    fn release(
        &self,
        identity: &Identity,
        epoch: Epoch,
        (reason, ending): (String, Option<Ending>),
        refusal: Option<Refusal>,
    ) {
        let hub = &self.front.hub;
        hub.release(identity, epoch);
        let (act, origin) = (Act::Disconnect { reason, ending }, self.visitor.origin.clone());
        hub.record(act, Some(identity.to_string()), origin, Facts::default(), refusal);
    }

    /// Ends those whom the hub told to go. When the hub stops, the connection ends as a whole.
    pub(super) async fn end_devices(&mut self) {
        let ended = self.signals.take_ended().into_iter();
        for Ended { identity, serial, ending } in ended.filter(|ended| ended.ending != Ending::Draining) {
            let Some(known) = self.devices.known.get(&identity) else { continue };
            if known.live.serial() == serial {
                self.end_device(&identity, ending).await;
            }
        }
    }

    /// Ends those whose token has ended.
    pub(super) async fn end_expired_devices(&mut self) {
        let now = self.front.hub.now().as_second();
        if self.devices.ends.is_none_or(|ends| ends > now) {
            return;
        }
        let has_ended = |known: &Known| known.live.grant().ends.is_some_and(|ends| ends <= now);
        let expired = self.devices.known.iter().filter(|(_, known)| has_ended(known));
        let expired: Vec<Identity> = expired.map(|(identity, _)| identity.clone()).collect();
        for identity in expired {
            self.end_device(&identity, Ending::TokenEnded).await;
        }
        self.expect_token();
    }

    /// Decides again on a grant that took the place of another: a change that committed meanwhile may have found the
    /// other one.
    async fn recheck_device(&mut self, identity: &Identity) {
        let Some(live) = self.devices.known.get(identity).map(|known| known.live.clone()) else { return };
        let hub = self.front.hub.clone();
        if matches!(hub.confirm(live.grant()).await, Err(NotAdmitted::Refused(_))) {
            self.end_device(identity, Ending::RightEnded).await;
        }
    }

    async fn end_device(&mut self, identity: &Identity, ending: Ending) {
        let Some(known) = self.forget_device(identity) else { return };
        let error = match ending {
            Ending::TakenOver => Error::new(condition::STOLEN, "A newer connection took over."),
            Ending::RightEnded => Error::new(condition::UNAUTHORIZED_ACCESS, "Unauthorized access."),
            Ending::TokenEnded => Error::new(condition::UNAUTHORIZED_ACCESS, "The token has expired."),
            Ending::NotReading | Ending::Draining => {
                Error::new(condition::DETACH_FORCED, "The hub ends this link.")
            }
        };
        let Some(online) = known.online else { return };
        for link in &online.links {
            if self.links.remove(link).is_some() {
                let _ = self.machine.detach(*link, Some(error.clone()));
            }
        }
        let (epoch, sender) = (online.epoch, known.live.grant().sender.clone());
        self.leave(online, &known.live);
        let hub = self.front.hub.clone();
        let refusal = hub.cause_of_end(ending, known.live.grant()).await;
        self.release(&sender.identity, epoch, (ending.as_str().to_owned(), Some(ending)), refusal);
    }

    /// Somebody is not connected any more: nobody waits for its answers, and others may have what it did not settle.
    fn leave(&mut self, online: Online, live: &Live) {
        live.mailbox().close();
        if let Some(messages) = online.bound.and_then(|bound| bound.messages) {
            self.give_back(live.grant().sender.clone(), messages.tokens());
        }
    }

    /// Takes the credential of an identity away; whoever else has the identity on the bus keeps it.
    fn forget_device(&mut self, identity: &Identity) -> Option<Box<Known>> {
        let known = self.devices.forget(identity)?;
        if let Some(online) = &known.online {
            self.front.hub.release(identity, online.epoch);
        }
        Some(known)
    }

    /// The connection is over: everybody on it goes. Says whether there was anybody.
    pub(super) fn end_all_devices(&mut self, reason: &str, refusal: Option<&Refusal>) -> bool {
        let mut any = false;
        for (identity, known) in std::mem::take(&mut self.devices).known {
            if let Some(online) = known.online {
                any = true;
                self.release(&identity, online.epoch, (reason.to_owned(), None), refusal.cloned());
                self.leave(online, &known.live);
            }
        }
        any
    }
}
