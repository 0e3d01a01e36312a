//! The hub as the fronts see it: rules on one side, ports on the other. It loads what a decision needs, decides,
//! makes it durable, and records it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use crate::access::{Operation, Policy, PolicyName};
use crate::authenticate::{self, Basis, Grant, Known, Presented};
use crate::backoff::Backoff;
use crate::certificate::Chain;
use crate::decision::{Act, Decision, Facts, Origin};
use crate::edge::Lineage;
use crate::error::HubError;
use crate::hub_events::{EventStream, HubEvents};
use crate::identity::{DeviceId, Identity, ModuleId};
use crate::key_search::Clue;
pub use crate::limits::AUTHORITIES_MAX;
use crate::method::Calls;
use crate::ports::blobs::Blobs;
use crate::ports::bus::{Bus, Ending, Holder};
use crate::ports::clock::{Clock, Random, Recorder};
use crate::ports::event_log::{AppendError, EventLog, Ticket};
use crate::ports::registry::{Change, Registry, StoreError, Write};
use crate::ports::remote::RemoteFiles;
use crate::ports::secrets::Secrets;
use crate::positions::Positions;
use crate::readers::Readers;
use crate::record::{Authority, Device, Key, Kind, Module, Record, Session};
use crate::refusal::Refusal;
use crate::sas::{Token, TokenError, key_bytes};
use crate::service_grant::ServiceGrant;
use crate::settings::HubSettings;
use crate::signed_context::SignedContext;
use crate::telemetry::{MESSAGE_BYTES_MAX, Message};
use crate::upload::Staging;

/// Partitions of the log behind those of the event stream.
pub const SECURITY_PARTITIONS: u16 = 1;

/// How often a change is decided again on fresh values before the hub gives up.
const STALE_RETRIES_MAX: usize = 16;

/// An IoT hub.
pub struct Hub {
    /// Versioned records.
    pub registry: Arc<dyn Registry>,
    /// Telemetry.
    pub log: Arc<dyn EventLog>,
    /// The way of the hub's own events into it.
    pub events: Arc<EventStream>,
    /// Sealed keys.
    pub secrets: Arc<dyn Secrets>,
    /// The contents of files that devices upload.
    pub blobs: Arc<dyn Blobs>,
    /// Storages of others that devices write files to.
    pub remote: Arc<dyn RemoteFiles>,
    /// Who is connected.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for keys and generations.
    pub random: Arc<dyn Random>,
    /// Where decisions go.
    pub recorder: Arc<dyn Recorder>,
    /// Who reads the built-in endpoint through this node.
    pub readers: Arc<Readers>,
    /// How far they have come.
    pub positions: Positions,
    /// Slows down those who are refused again and again.
    pub backoff: Arc<Backoff>,
    /// The calls of direct methods that are under way.
    pub calls: Arc<Calls>,
    /// What is written of files at the moment.
    pub staging: Arc<Staging>,
    /// What the operator set.
    pub settings: Settings,
    /// How often grants were rechecked since the start.
    pub rechecks: AtomicU64,
}

/// What the operator sets of a hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The names that clients may know the hub by; the first one stands in connection strings.
    pub hosts: Vec<String>,
    /// The Event Hubs-compatible name (`EntityPath`).
    pub event_hub_name: String,
    /// How many modules a device may have.
    pub modules_per_device_max: usize,
    /// Whether security messages go into the event stream too, instead of the partition kept for the guard.
    pub security_messages_in_events: bool,
    /// Which of its own events the hub puts into the stream.
    pub events: HubEvents,
    /// The largest file that a device may upload, in bytes.
    pub upload_bytes_max: u64,
}

impl Settings {
    /// The name that Azure gives a hub: the first label of its host.
    pub fn name(&self) -> &str {
        let host = self.hosts.first().map_or("", String::as_str);
        match host.parse::<std::net::IpAddr>() {
            Ok(_) => host,
            Err(_) => host.split('.').next().unwrap_or(host),
        }
    }
}

/// What a connection brings to be admitted.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// The text of a SAS token.
    Token(&'a str),
    /// What a client of MQTT 5 signs in place of one.
    Context(&'a SignedContext),
    /// The certificate chain of the handshake.
    Certificate(&'a Chain),
    /// Nothing.
    Nothing,
}

/// Why somebody was not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The decision was no.
    Refused(Refusal),
    /// No decision could be made.
    Unavailable(StoreError),
}

impl From<Refusal> for NotAdmitted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for NotAdmitted {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}

impl Hub {
    /// Decides whether a device or module connection is admitted. `facts` gets what was presented, for the record
    /// that the caller makes with [`Hub::record`].
    pub async fn admit(
        &self,
        identity: &Identity,
        credential: Credential<'_>,
        facts: &mut Facts,
    ) -> Result<Grant, NotAdmitted> {
        let token = match credential {
            Credential::Token(text) => Some(parsed(text)?),
            Credential::Context(context) => Some(context.token()),
            Credential::Certificate(_) | Credential::Nothing => None,
        };
        self.admit_read(identity, credential, token.as_ref(), facts).await
    }

    /// The same when the token of the credential is read already.
    pub(crate) async fn admit_read(
        &self,
        identity: &Identity,
        credential: Credential<'_>,
        token: Option<&Token<'_>>,
        facts: &mut Facts,
    ) -> Result<Grant, NotAdmitted> {
        facts.token = token.map(Token::facts);
        let rechecks = self.rechecks_begun();
        let policy_name = token.and_then(|token| token.skn.as_deref());
        let by_certificate = matches!(credential, Credential::Certificate(_));
        let loaded = self.load_known(identity, policy_name, by_certificate).await?;
        let presented = match (token, credential) {
            (Some(token), _) => Presented::Token(token),
            (None, Credential::Certificate(chain)) => Presented::Certificate(chain),
            (None, _) => Presented::Nothing,
        };
        if let Credential::Certificate(chain) = credential {
            facts.chain = chain.facts();
        }
        let admitted = authenticate::admit(identity, presented, &self.known(&loaded), self.clock.now());
        let mut grant = admitted.inspect_err(|refusal| {
            facts.clue = clue_of(refusal, Some(identity), credential);
        })?;
        grant.rechecks = rechecks;
        facts.slot = grant.basis.slot();
        facts.policy = grant.basis.policy().cloned();
        Ok(grant)
    }

    /// How many rechecks have begun: a grant that is decided now has seen what changed before them.
    pub(crate) fn rechecks_begun(&self) -> u64 {
        self.rechecks.load(Ordering::SeqCst)
    }

    /// Decides again on a grant that [`Hub::admit`] gave, once its connection is on the bus: a change that committed
    /// meanwhile found no connection to end. Records are looked at only if a recheck began since, for one that begins
    /// later finds the connection.
    pub async fn confirm(&self, grant: &Grant) -> Result<(), NotAdmitted> {
        match self.rechecks_begun() == grant.rechecks {
            true => Ok(()),
            false => self.still_holds(grant).await,
        }
    }

    /// Decides, after a change of the registry, whether a grant still holds.
    pub async fn still_holds(&self, grant: &Grant) -> Result<(), NotAdmitted> {
        let policy = grant.basis.policy().map(PolicyName::as_str);
        let mut loaded =
            self.load_known(grant.identity(), policy, matches!(grant.basis, Basis::Authority(..))).await?;
        if let Basis::Gateway(behind) = &grant.basis {
            loaded.lineage = Some(self.lineage(grant.identity(), behind.gateway.clone()).await?);
        }
        Ok(authenticate::still_holds(grant, &self.known(&loaded), self.clock.now())?)
    }

    /// Decides which policy a service's token proves, and that its scope covers the path.
    pub async fn admit_service(
        &self,
        text: &str,
        path: &str,
        facts: &mut Facts,
    ) -> Result<ServiceGrant, NotAdmitted> {
        let token = parsed(text)?;
        facts.token = Some(token.facts());
        let grant = self.proved_policy(&token, text, facts).await?;
        if !grant.scope.covers(path) {
            return Err(authenticate::out_of_scope(&token, &self.settings.hosts, path).into());
        }
        Ok(grant)
    }

    /// Decides which policy a token proves, and that it may live so long; what its scope covers is the caller's to judge.
    pub(crate) async fn proved_policy(
        &self,
        token: &Token<'_>,
        text: &str,
        facts: &mut Facts,
    ) -> Result<ServiceGrant, NotAdmitted> {
        let policy = self.policy(token.skn.as_deref()).await?;
        let now = self.clock.now();
        let hosts = &self.settings.hosts;
        let admitted = authenticate::admit_service(token, policy.as_ref(), hosts, &*self.secrets, now);
        let grant = admitted.inspect_err(|refusal| {
            facts.clue = clue_of(refusal, None, Credential::Token(text));
        })?;
        self.hub_settings().await?.allows_life(grant.ends, now)?;
        facts.slot = Some(grant.slot);
        facts.policy = Some(grant.policy.clone());
        Ok(grant)
    }

    /// Decides whether a policy's key, given as such, proves the policy to a reader (SASL PLAIN of Event Hubs clients).
    /// Such a grant has no end of its own.
    pub async fn admit_reader_by_key(
        &self,
        policy: &str,
        key: &str,
        facts: &mut Facts,
    ) -> Result<ServiceGrant, NotAdmitted> {
        let found = self.policy(Some(policy)).await?;
        let grant = authenticate::admit_service_by_key(policy, key, found.as_ref(), &*self.secrets)?;
        facts.slot = Some(grant.slot);
        facts.policy = Some(grant.policy.clone());
        grant.may(Operation::ReadEvents)?;
        Ok(grant)
    }

    /// Whether a live grant of a service still holds after a change of policies.
    pub async fn service_still_holds(&self, grant: &ServiceGrant) -> Result<(), NotAdmitted> {
        Ok(grant.still_holds(self.policy(Some(grant.policy.as_str())).await?.as_ref())?)
    }

    /// Whether there is a consumer group of this name, compared without case. `$Default` always is.
    pub async fn has_consumer_group(&self, name: &str) -> Result<bool, StoreError> {
        if name.eq_ignore_ascii_case("$default") {
            return Ok(true);
        }
        Ok(self.registry.load(Key::ConsumerGroup(name.to_ascii_lowercase())).await?.is_some())
    }

    /// The partitions of the event stream. The log has one more, the last, which keeps security messages for the guard
    /// and which no reader of the stream sees.
    pub fn partition_count(&self) -> u16 {
        self.log.partition_count() - SECURITY_PARTITIONS
    }

    /// The partition of a device.
    pub fn partition_of(&self, device: &DeviceId) -> u16 {
        self.log.placement().partition_of(device, self.partition_count())
    }

    /// Takes messages of one sender, all or none, and gives the ticket that is durable when they are. Security messages
    /// are taken apart from others: whether the first one is decides for all.
    pub fn take(&self, messages: &[Message]) -> Result<Ticket, NotTaken> {
        for message in messages {
            let size = message.metered_bytes();
            if size > MESSAGE_BYTES_MAX {
                return Err(NotTaken::TooLarge { size });
            }
        }
        let Some(first) = messages.first() else { return Err(NotTaken::Nothing) };
        let partition = match first.is_security() && !self.settings.security_messages_in_events {
            true => self.partition_count(),
            false => self.partition_of(&first.sender.identity.device),
        };
        Ok(self.log.append(partition, messages)?)
    }

    /// Takes a batch of one sender, which is held to the limit of a message as a whole (`docs/protocol/limits.md` §1),
    /// and gives the tickets that are durable when it is: one for the stream, and one where there are security messages
    /// in it.
    pub fn take_batch(&self, messages: Vec<Message>) -> Result<Vec<Ticket>, NotTaken> {
        let size = messages.iter().map(Message::metered_bytes).sum();
        if size > MESSAGE_BYTES_MAX {
            return Err(NotTaken::TooLarge { size });
        }
        if messages.is_empty() {
            return Err(NotTaken::Nothing);
        }
        self.parts(messages).iter().map(|part| self.take(part)).collect()
    }

    /// The parts in which messages are taken: those for the stream, and apart from them security messages. No part is
    /// empty.
    pub fn parts(&self, messages: Vec<Message>) -> Vec<Vec<Message>> {
        let apart = |message: &Message| message.is_security() && !self.settings.security_messages_in_events;
        let (security, ordinary): (Vec<_>, Vec<_>) = messages.into_iter().partition(apart);
        [ordinary, security].into_iter().filter(|part| !part.is_empty()).collect()
    }

    /// The stored session of an identity, or an empty one of this generation; and the version to replace.
    pub async fn session(
        &self,
        identity: &Identity,
        generation: &str,
    ) -> Result<(Session, Option<u64>), StoreError> {
        let empty = Session { generation: generation.to_owned(), subscriptions: Vec::new() };
        Ok(match self.registry.load(Key::Session(identity.clone())).await? {
            Some(stored) => match stored.record {
                Record::Session(session) if session.generation == generation => {
                    (session, Some(stored.version))
                }
                _ => (empty, Some(stored.version)),
            },
            None => (empty, None),
        })
    }

    /// Stores what a session must remember, durably. An empty session is removed.
    pub async fn store_session(&self, identity: &Identity, session: Session) -> Result<(), StoreError> {
        let key = Key::Session(identity.clone());
        for _ in 0..STALE_RETRIES_MAX {
            let replaces = self.registry.load(key.clone()).await?.map(|stored| stored.version);
            let record = (!session.subscriptions.is_empty()).then(|| Record::Session(session.clone()));
            if record.is_none() && replaces.is_none() {
                return Ok(());
            }
            let write = Write { key: key.clone(), replaces, record };
            match self.registry.commit(Change { writes: vec![write], ..Change::default() }).await {
                Err(StoreError::Stale(_)) => continue,
                other => return other.map(|_| ()),
            }
        }
        Err(StoreError::Stale(key))
    }

    /// Ends the connections whose right ended with a committed change; those of other records go on.
    pub async fn recheck(&self, changed: &[Key]) {
        self.rechecks.fetch_add(1, Ordering::SeqCst);
        for key in changed {
            self.recheck_each(self.concerned(key).await).await;
        }
    }

    /// The same of all connections, when it is not known what changed.
    pub async fn recheck_all(&self) {
        self.rechecks.fetch_add(1, Ordering::SeqCst);
        self.recheck_each(self.bus.holders()).await;
    }

    async fn recheck_each(&self, holders: Vec<Arc<dyn Holder>>) {
        for holder in holders {
            if matches!(self.still_holds(holder.grant()).await, Err(NotAdmitted::Refused(_))) {
                holder.end(Ending::RightEnded);
            }
        }
    }

    /// The live connections whose grant may depend on a record. Those of a device are found by name, for devices change
    /// often; for a policy or an authority all are looked at.
    async fn concerned(&self, key: &Key) -> Vec<Arc<dyn Holder>> {
        let depending = |depends: &dyn Fn(&Basis) -> bool| {
            let mut holders = self.bus.holders();
            holders.retain(|holder| depends(&holder.grant().basis));
            holders
        };
        match key {
            Key::Device(device) => {
                // A deleted device takes its modules with it: their own keys are in the same change.
                let modules = self.registry.list_of(Kind::Module, device.clone()).await.unwrap_or_default();
                let modules = modules.into_iter().filter_map(|(key, _)| match key {
                    Key::Module(device, module) => Some(Identity::module(device, module)),
                    _ => None,
                });
                let identities = std::iter::once(Identity::device(device.clone())).chain(modules);
                let mut holders: Vec<_> =
                    identities.filter_map(|identity| self.bus.holder(&identity)).collect();
                if matches!(self.edge_record(device).await, Ok(true) | Err(_)) {
                    holders.extend(depending(&|basis| goes_through(basis, device)));
                }
                holders
            }
            Key::Module(device, module) => {
                let identity = Identity::module(device.clone(), module.clone());
                let mut holders: Vec<_> = self.bus.holder(&identity).into_iter().collect();
                // It goes with its gateway, so that those behind a deleted one are found here.
                if *module == ModuleId::edge_hub() {
                    holders.extend(depending(&|basis| goes_through(basis, device)));
                }
                holders
            }
            Key::Policy(name) => depending(&|basis| matches!(basis, Basis::Policy(used, ..) if used == name)),
            Key::Authority(_) => depending(&|basis| matches!(basis, Basis::Authority(..))),
            // What the settings may refuse stands on a token.
            Key::Settings => {
                let on_token = |basis: &Basis| match basis {
                    Basis::Key(..) | Basis::DeviceKey(..) | Basis::Policy(..) | Basis::Gateway(_) => true,
                    Basis::Thumbprint(..) | Basis::Authority(..) => false,
                };
                depending(&on_token)
            }
            Key::Session(_)
            | Key::ConsumerGroup(_)
            | Key::Activity(_)
            | Key::PolicyUse(_)
            | Key::Finding(_)
            | Key::AppliedFix(_)
            | Key::ReadPositions(_)
            | Key::Twin(_)
            | Key::Inbox(_)
            | Key::InboxMessage(..)
            | Key::InboxDeadline(_)
            | Key::Feedback(_)
            | Key::ServiceBound(..)
            | Key::Uploads(_)
            | Key::Blob(..)
            | Key::Duty(_)
            | Key::UploadAccount => Vec::new(),
        }
    }

    /// Whether a device is an edge device, through which others may be connected.
    async fn edge_record(&self, device: &DeviceId) -> Result<bool, StoreError> {
        let stored = self.registry.load(Key::Device(device.clone())).await?;
        Ok(matches!(stored.map(|stored| stored.record), Some(Record::Device(device)) if device.edge))
    }

    /// Hands a decision that changed no record to the recorder.
    pub fn record(
        &self,
        act: Act,
        identity: Option<String>,
        origin: Origin,
        facts: Facts,
        refusal: Option<Refusal>,
    ) {
        let mut decision = Decision::new(self.clock.now(), act);
        decision.identity = identity;
        decision.origin = origin;
        decision.facts = facts;
        decision.refusal = refusal;
        match decision.facts.clue.take() {
            Some(clue) => self.recorder.search(decision, clue),
            None => self.recorder.record(decision),
        }
    }

    /// Loads, decides and commits, again on fresh values while another write came in between. `decide` gets the
    /// loaded records in the order of the keys and gives the change and the answer.
    pub async fn change<T>(
        &self,
        keys: &[Key],
        mut decide: impl FnMut(&[Option<crate::ports::registry::Versioned>]) -> Result<(Change, T), HubError>,
    ) -> Result<T, HubError> {
        let mut last = None;
        for _ in 0..STALE_RETRIES_MAX {
            let loaded = self.registry.load_many(keys.to_vec()).await?;
            let (change, answer) = decide(&loaded)?;
            match self.registry.commit(change).await {
                Ok(_) => return Ok(answer),
                Err(StoreError::Stale(key)) => last = Some(StoreError::Stale(key)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last
            .map_or_else(|| HubError::new(crate::error::HubErrorCode::ServerBusy, "Try again"), Into::into))
    }

    /// The policy of a name, if there is one.
    pub async fn policy(&self, name: Option<&str>) -> Result<Option<Policy>, StoreError> {
        let Some(name) = name.and_then(|name| PolicyName::parse(name).ok()) else { return Ok(None) };
        Ok(match self.registry.load(Key::Policy(name)).await? {
            Some(stored) => match stored.record {
                Record::Policy(policy) => Some(policy),
                _ => None,
            },
            None => None,
        })
    }

    /// All certificate authorities.
    pub async fn authorities(&self) -> Result<Vec<Authority>, StoreError> {
        let stored = self.registry.list(Kind::Authority, None, AUTHORITIES_MAX).await?;
        let authority = |(_, stored): (Key, crate::ports::registry::Versioned)| match stored.record {
            Record::Authority(authority) => Some(authority),
            _ => None,
        };
        Ok(stored.into_iter().filter_map(authority).collect())
    }

    pub(crate) async fn load_known(
        &self,
        identity: &Identity,
        policy: Option<&str>,
        authorities: bool,
    ) -> Result<Loaded, StoreError> {
        let policy = policy.and_then(|name| PolicyName::parse(name).ok());
        let mut keys = vec![Key::Device(identity.device.clone()), Key::Settings];
        keys.extend(identity.module.clone().map(|module| Key::Module(identity.device.clone(), module)));
        keys.extend(policy.map(Key::Policy));
        let mut loaded = Loaded::default();
        for stored in self.registry.load_many(keys).await?.into_iter().flatten() {
            loaded.take(stored.record);
        }
        if authorities {
            loaded.authorities = self.authorities().await?;
        }
        Ok(loaded)
    }

    pub(crate) fn known<'a>(&'a self, loaded: &'a Loaded) -> Known<'a> {
        Known {
            device: loaded.device.as_ref(),
            module: loaded.module.as_ref(),
            policy: loaded.policy.as_ref(),
            lineage: loaded.lineage.as_ref(),
            authorities: &loaded.authorities,
            hosts: &self.settings.hosts,
            settings: &loaded.settings,
            secrets: &*self.secrets,
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Whether a device is one of those by which somebody is connected.
fn goes_through(basis: &Basis, device: &DeviceId) -> bool {
    matches!(basis, Basis::Gateway(behind) if behind.path.contains(device))
}

/// What was loaded for a decision.
#[derive(Default)]
pub(crate) struct Loaded {
    device: Option<Device>,
    module: Option<Module>,
    policy: Option<Policy>,
    settings: HubSettings,
    lineage: Option<Lineage>,
    authorities: Vec<Authority>,
}

impl Loaded {
    /// Takes a record of those that a decision asks for; there is one of each kind at most.
    fn take(&mut self, record: Record) {
        match record {
            Record::Device(device) => self.device = Some(device),
            Record::Module(module) => self.module = Some(module),
            Record::Policy(policy) => self.policy = Some(policy),
            Record::Settings(settings) => self.settings = settings,
            _ => {}
        }
    }
}

/// Why messages were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// A message is over the limit.
    #[error("a message of {size} bytes is over the limit of {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// Its size, as the limit counts.
        size: usize,
    },
    /// There was no message.
    #[error("there is no message")]
    Nothing,
    /// The journal did not take it.
    #[error(transparent)]
    Log(#[from] AppendError),
}

pub(crate) fn parsed(text: &str) -> Result<Token<'_>, Refusal> {
    Token::parse(text).map_err(|error| {
        let text = text.trim();
        let names = |part: &str| text.to_ascii_lowercase().contains(part);
        match error {
            TokenError::Scheme if names("sharedaccesskey=") || names("hostname=") => {
                Refusal::ConnectionStringAsPassword
            }
            TokenError::Scheme if names("bearer ") || text.starts_with("eyJ") => Refusal::EntraToken,
            TokenError::Scheme if key_bytes(text).is_some_and(|key| (16..=64).contains(&key.len())) => {
                Refusal::KeyAsPassword
            }
            error => Refusal::TokenMalformed { problem: error.to_string() },
        }
    })
}

/// What a search for the mistake behind a wrong signature needs; nothing for any other refusal.
pub(crate) fn clue_of(
    refusal: &Refusal,
    identity: Option<&Identity>,
    credential: Credential<'_>,
) -> Option<Box<Clue>> {
    match (refusal, credential) {
        (Refusal::WrongKey { .. }, Credential::Token(text)) => Some(Clue::new(identity, text)),
        (Refusal::WrongKey { .. }, Credential::Context(context)) => Some(Clue::of_context(identity, context)),
        _ => None,
    }
}
