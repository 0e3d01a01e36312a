//! What happened lately, as far as detections need it: windows of minutes, bounded, built from the stream of decisions.
//! They do not outlive the process; a finding that they opened does.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;

use hub::backoff::network;
use hub::decision::{Act, Decision, Door};
use hub::error::HubErrorCode;
use hub::ports::bus::Ending;
use hub::record::Slot;
use hub::refusal::Refusal;
use jiff::{SignedDuration, Timestamp};

/// Sources and identities that are watched at once; when there are more, the new ones take the places of those of which little is
/// known, or have to wait.
const WATCHED_MAX: usize = 10_000;
/// Registered identities whose refused credentials are watched at once. Strangers cannot take their places.
const IDENTITIES_MAX: usize = 50_000;
/// Happenings that are kept of each.
const KEPT_MAX: usize = 64;
/// The longest window of a detection that counts.
const WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// What happened lately.
#[derive(Debug, Default)]
pub struct Events {
    /// Connections that were taken over, by identity.
    pub takeovers: HashMap<String, VecDeque<Takeover>>,
    /// Refused credentials, by identity. Only registered ones are in here: made-up names neither fill it nor open findings.
    pub failures_of: HashMap<String, VecDeque<Timestamp>>,
    /// Refused credentials, by network: an IPv4 address, or an IPv6 /64.
    pub failures_from: HashMap<IpAddr, VecDeque<Timestamp>>,
    /// Identities that were admitted after many refusals.
    pub guessed: HashMap<String, Guessed>,
    /// Tokens for an identity that the key of a policy signed without saying so.
    pub leaks: HashMap<String, Leak>,
    /// Clients that speak no TLS which the hub speaks.
    pub legacy: HashMap<IpAddr, Legacy>,
    /// Where each identity was admitted last, as far as that was lately; by the hash of its name, which then needs not be kept.
    admitted: HashMap<u64, (Timestamp, Option<IpAddr>)>,
    hasher: RandomState,
}

/// A connection that a newer one of the same identity ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// When.
    pub time: Timestamp,
    /// From where the one that ended came.
    pub old: Option<IpAddr>,
    /// From where the newer one came.
    pub new: Option<IpAddr>,
}

/// An identity that was admitted after many refusals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guessed {
    /// When.
    pub time: Timestamp,
    /// From where.
    pub address: Option<IpAddr>,
    /// The refusals in the ten minutes before.
    pub failures: usize,
}

/// A token that the key of a policy signed without saying so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// When.
    pub time: Timestamp,
    /// From where.
    pub address: Option<IpAddr>,
    /// The SDK.
    pub sdk: Option<String>,
    /// The policy.
    pub policy: String,
    /// The slot of the key.
    pub slot: Slot,
}

/// A client that speaks no TLS which the hub speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// When last.
    pub time: Timestamp,
    /// How often.
    pub count: u64,
    /// What it offered, or what is missing.
    pub offered: String,
    /// The door it knocked at.
    pub door: Option<Door>,
}

impl Events {
    /// Takes one decision in.
    pub fn observe(&mut self, decision: &Decision) {
        let (time, address) = (decision.time, decision.origin.address);
        match (&decision.act, &decision.refusal) {
            (Act::Disconnect { ending: Some(Ending::TakenOver), .. }, _) => {
                let Some(identity) = &decision.identity else { return };
                let new =
                    self.admitted.get(&self.hasher.hash_one(identity)).and_then(|(_, address)| *address);
                push(
                    &mut self.takeovers,
                    identity.clone(),
                    Takeover { time, old: address, new },
                    WATCHED_MAX,
                );
            }
            (Act::Connect, None) => {
                let Some(identity) = &decision.identity else { return };
                self.admit(identity, time, address);
            }
            (Act::Handshake, Some(Refusal::TlsVersion { offered })) => {
                self.legacy(decision, format!("TLS {offered}"));
            }
            (Act::Handshake, Some(Refusal::TlsParameters { problem })) => {
                self.legacy(decision, problem.clone());
            }
            (Act::Handshake, Some(Refusal::NoCommonCipher { offered })) => {
                self.legacy(decision, offered.join(", "));
            }
            (Act::Connect | Act::Token | Act::Operation { .. }, Some(refusal)) if is_failure(refusal) => {
                self.leak(decision, refusal);
                if let Some(address) = address {
                    push(&mut self.failures_from, network(address), time, WATCHED_MAX);
                }
                if let Some(identity) =
                    decision.identity.as_ref().filter(|_| is_of_registered(decision, refusal))
                {
                    push(&mut self.failures_of, identity.clone(), time, IDENTITIES_MAX);
                }
            }
            _ => {}
        }
    }

    fn admit(&mut self, identity: &str, time: Timestamp, address: Option<IpAddr>) {
        let failures = self.failures_of.get(identity).map_or(0, |times| within(times.iter(), time, WINDOW));
        if failures >= GUESSES_MIN && self.guessed.len() < WATCHED_MAX {
            self.guessed.insert(identity.to_owned(), Guessed { time, address, failures });
        }
        // Only who is watched already, or could be taken over soon.
        let place = self.hasher.hash_one(identity);
        if self.admitted.len() < WATCHED_MAX || self.admitted.contains_key(&place) {
            self.admitted.insert(place, (time, address));
        }
    }

    fn leak(&mut self, decision: &Decision, refusal: &Refusal) {
        let (Refusal::HubKeyWithoutSkn { policy, slot }, Some(identity)) = (refusal, &decision.identity)
        else {
            return;
        };
        if self.leaks.len() >= WATCHED_MAX && !self.leaks.contains_key(identity) {
            return;
        }
        let leak = Leak {
            time: decision.time,
            address: decision.origin.address,
            sdk: decision.facts.sdk.clone(),
            policy: policy.clone(),
            slot: *slot,
        };
        self.leaks.insert(identity.clone(), leak);
    }

    fn legacy(&mut self, decision: &Decision, offered: String) {
        let Some(address) = decision.origin.address else { return };
        if self.legacy.len() >= WATCHED_MAX && !self.legacy.contains_key(&address) {
            return;
        }
        let new = Legacy { time: decision.time, count: 0, offered, door: decision.origin.door };
        let seen = self.legacy.entry(address).or_insert(new.clone());
        *seen = Legacy { count: seen.count + 1, ..new };
    }

    /// Forgets what no detection asks for any more.
    pub fn prune(&mut self, now: Timestamp) {
        let recent = |time: Timestamp| now.duration_since(time) <= WINDOW;
        self.takeovers.retain(|_, takeovers| takeovers.back().is_some_and(|last| recent(last.time)));
        self.failures_of.retain(|_, times| times.back().is_some_and(|last| recent(*last)));
        self.failures_from.retain(|_, times| times.back().is_some_and(|last| recent(*last)));
        self.guessed.retain(|_, guessed| recent(guessed.time));
        self.leaks.retain(|_, leak| recent(leak.time));
        self.legacy.retain(|_, legacy| recent(legacy.time));
        self.admitted.retain(|_, (time, _)| recent(*time));
    }
}

/// Refusals of one identity after which being admitted is worth a look.
pub const GUESSES_MIN: usize = 5;

/// How many of the times are within a window before `now`.
pub fn within<'a>(
    times: impl Iterator<Item = &'a Timestamp>,
    now: Timestamp,
    window: SignedDuration,
) -> usize {
    times.filter(|time| now.duration_since(**time) <= window).count()
}

/// Whether a refusal is of who somebody says to be, rather than of what they do.
fn is_failure(refusal: &Refusal) -> bool {
    matches!(
        refusal.code(),
        HubErrorCode::IotHubUnauthorizedAccess | HubErrorCode::DeviceNotFound | HubErrorCode::ModuleNotFound
    ) && !matches!(
        refusal,
        Refusal::UserName { .. }
            | Refusal::NoCredential
            // Whoever comes with these proved to hold the key.
            | Refusal::TokenExpired { .. }
            | Refusal::TokenInSeconds { .. }
            | Refusal::TokenTooLong { .. }
            | Refusal::HubKeyNotAllowed { .. }
    )
}

/// Whether a refusal shows that the identity is registered. A token of a policy is judged before the identity is looked up.
fn is_of_registered(decision: &Decision, refusal: &Refusal) -> bool {
    let by_policy = decision.facts.token.as_ref().is_some_and(|token| token.skn.is_some());
    !by_policy && refusal.shows_that_identity_exists()
}

fn push<K: Hash + Eq, T>(map: &mut HashMap<K, VecDeque<T>>, key: K, value: T, most: usize) {
    if map.len() >= most && !map.contains_key(&key) {
        // Who came once gives way: a flood of names or addresses does not hide who comes again and again.
        map.retain(|_, kept| kept.len() > 1);
        if map.len() >= most {
            return;
        }
    }
    let kept = map.entry(key).or_default();
    if kept.len() == KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(seconds: i64, act: Act, refusal: Option<Refusal>) -> Decision {
        let mut decision = Decision::new(Timestamp::from_second(seconds).expect("a time"), act);
        decision.identity = Some("d1".to_owned());
        decision.origin.address = Some(IpAddr::from([10, 0, 0, 1]));
        decision.refusal = refusal;
        decision
    }

    #[test]
    fn made_up_names_and_many_addresses_hide_no_guessed_device() {
        let mut events = Events::default();
        for n in 0..10_500_u32 {
            let mut unknown = decision(0, Act::Connect, Some(Refusal::UnknownDevice { near: Vec::new() }));
            unknown.identity = Some(format!("made-up-{n}"));
            unknown.origin.address = Some(std::net::Ipv4Addr::from(0x0a00_0000 + n).into());
            events.observe(&unknown);
        }
        (0..5).for_each(|n| {
            let wrong = hub::refusal::wrong_key("device d1");
            let mut guess = decision(n, Act::Connect, Some(wrong));
            guess.origin.address = Some(IpAddr::from([192, 0, 2, 1]));
            events.observe(&guess);
        });
        events.observe(&decision(5, Act::Connect, None));
        assert_eq!(events.guessed["d1"].failures, 5);
        assert_eq!(
            events.failures_of.keys().collect::<Vec<_>>(),
            ["d1"],
            "no finding is opened of who is not there"
        );
        assert_eq!(events.failures_from[&IpAddr::from([192, 0, 2, 1])].len(), 5);
        assert!(events.failures_from.len() <= WATCHED_MAX);
    }

    #[test]
    fn a_wrong_key_of_a_policy_is_no_guess_at_the_name_beside_it() {
        let mut events = Events::default();
        let mut guess = decision(1, Act::Connect, Some(hub::refusal::wrong_key("policy device")));
        let token = hub::decision::TokenFacts { sr: String::new(), se: 60, skn: Some("device".to_owned()) };
        guess.facts.token = Some(token);
        events.observe(&guess);
        assert!(events.failures_of.is_empty() && !events.failures_from.is_empty());
    }

    #[test]
    fn a_success_after_many_failures_is_a_guess() {
        let wrong = || Some(hub::refusal::wrong_key("device d1"));
        let mut events = Events::default();
        (0..4).for_each(|n| events.observe(&decision(n, Act::Connect, wrong())));
        events.observe(&decision(4, Act::Connect, None));
        assert!(events.guessed.is_empty());
        events.observe(&decision(5, Act::Connect, wrong()));
        events.observe(&decision(6, Act::Connect, None));
        assert_eq!(events.guessed["d1"].failures, 5);
        events.prune(Timestamp::from_second(700).expect("a time"));
        assert!(events.guessed.is_empty() && events.failures_of.is_empty());
    }

    #[test]
    fn a_policys_key_in_the_field_is_a_leak_and_a_failure() {
        let mut events = Events::default();
        let refusal = Refusal::HubKeyWithoutSkn { policy: "device".to_owned(), slot: Slot::Secondary };
        events.observe(&decision(1, Act::Connect, Some(refusal)));
        let leak = &events.leaks["d1"];
        assert_eq!((leak.policy.as_str(), leak.slot), ("device", Slot::Secondary));
        assert_eq!(events.failures_of["d1"].len(), 1);
    }

    #[test]
    fn a_takeover_knows_both_addresses() {
        let mut events = Events::default();
        let mut newer = decision(1, Act::Connect, None);
        newer.origin.address = Some(IpAddr::from([10, 0, 0, 2]));
        events.observe(&newer);
        let reason = Ending::TakenOver.as_str().to_owned();
        events.observe(&decision(1, Act::Disconnect { reason, ending: Some(Ending::TakenOver) }, None));
        let takeover = &events.takeovers["d1"][0];
        assert_eq!((takeover.old, takeover.new), (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into())));
    }

    #[test]
    fn a_flood_from_many_addresses_is_bounded() {
        let mut events = Events::default();
        for number in 0..60_000_u32 {
            let mut refused = decision(1, Act::Connect, Some(hub::refusal::wrong_key("")));
            refused.origin.address = Some(IpAddr::from(number.to_be_bytes()));
            refused.identity = Some(format!("d{number}"));
            events.observe(&refused);
        }
        assert!(events.failures_from.len() <= WATCHED_MAX && events.failures_of.len() <= IDENTITIES_MAX);
        // One that comes back is seen beside them.
        for second in 2..4 {
            let mut refused = decision(second, Act::Connect, Some(hub::refusal::wrong_key("")));
            refused.identity = Some("again".to_owned());
            events.observe(&refused);
        }
        assert_eq!(events.failures_of["again"].len(), 2);
    }
}
