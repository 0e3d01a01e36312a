//! What a policy that was proved may do, and where: the rights of the policy, within the resource of the token.

use crate::access::{Operation, Policy, PolicyName, Right, Rights};
use crate::authenticate::resource_of;
use crate::decision::cut;
use crate::hub::Settings;
use crate::identity::Identity;
use crate::ports::secrets::Fingerprint;
use crate::record::Slot;
use crate::refusal::{Refusal, missing_device_right, missing_right, unknown_policy, wrong_key};
use crate::scope::Scope;
use crate::service_bound::Lane;

/// What an admitted service may do, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceGrant {
    /// The policy whose key signed the token.
    pub policy: PolicyName,
    /// Its rights.
    pub rights: Rights,
    /// What the token is for.
    pub scope: Scope,
    /// The slot of the key.
    pub slot: Slot,
    /// The fingerprint of the key.
    pub fingerprint: Fingerprint,
    /// When it ends, in seconds since 1970 UTC.
    pub ends: i64,
}

/// Where a service goes by a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServicePlace {
    /// Where cloud-to-device messages are sent to all devices.
    ToDevices,
    /// Where feedback or notices of files are received.
    ToServices(Lane),
    /// What there is to know of the event stream as a whole.
    Stream,
    /// A partition of the event stream, as a consumer group reads it.
    Partition {
        /// The consumer group.
        group: String,
        /// The partition.
        partition: String,
    },
}

impl ServicePlace {
    /// What is done there.
    pub fn operation(&self) -> Operation {
        match self {
            Self::ToDevices => Operation::SendToDevices,
            Self::ToServices(lane) => lane.operation(),
            Self::Stream | Self::Partition { .. } => Operation::ReadEvents,
        }
    }

    /// Its path below the host.
    fn path(&self, event_hub: &str) -> String {
        match self {
            Self::ToDevices => "/messages/devicebound".to_owned(),
            Self::ToServices(Lane::Feedback) => "/messages/servicebound/feedback".to_owned(),
            Self::ToServices(Lane::FileNotifications) => {
                "/messages/servicebound/filenotifications".to_owned()
            }
            Self::Stream => format!("/{event_hub}"),
            Self::Partition { group, partition } => {
                format!("/{event_hub}/ConsumerGroups/{group}/Partitions/{partition}")
            }
        }
    }

    fn is_in(&self, scope: &Scope, event_hub: &str) -> bool {
        match self {
            Self::ToDevices | Self::ToServices(_) => scope.covers(&self.path(event_hub)),
            Self::Stream => scope.meets_stream(event_hub),
            Self::Partition { group, partition } => {
                scope.covers_stream(event_hub, &format!("ConsumerGroups/{group}/Partitions/{partition}"))
            }
        }
    }
}

/// What the service's API has beside devices and messages, by the first word of its paths.
const ELSEWHERE: [&str; 10] = [
    "twins",
    "statistics",
    "jobs",
    "configurations",
    "modules",
    "digitaltwins",
    "query",
    "files",
    "holdfast",
    "metrics",
];

impl ServiceGrant {
    /// Whether it may do this.
    pub fn may(&self, operation: Operation) -> Result<(), Refusal> {
        if operation.needs().iter().all(|right| self.rights.has(right)) {
            return Ok(());
        }
        Err(missing_right(format!("policy {}", self.policy), self.rights, operation))
    }

    /// Whether a link to this place may be opened with it.
    pub fn opens(&self, place: &ServicePlace, settings: &Settings) -> Result<(), Refusal> {
        if !place.is_in(&self.scope, &settings.event_hub_name) {
            return Err(self.narrow(&place.path(&settings.event_hub_name), settings));
        }
        self.may(place.operation())
    }

    /// Whether a device or module may be connected with it.
    pub fn connects(&self, identity: &Identity) -> bool {
        self.rights.has(Right::DeviceConnect) && self.scope.covers_identity(identity)
    }

    /// Whether any link could be opened with it: it is put to open some.
    pub(crate) fn opens_any(&self, settings: &Settings) -> Result<(), Refusal> {
        let event_hub = settings.event_hub_name.as_str();
        let segments = self.scope.segments();
        let word = |literal: &str| segments.first().is_some_and(|have| have.eq_ignore_ascii_case(literal));
        let Some(first) = segments.first() else {
            return match self.rights.has(Right::DeviceConnect) {
                true => Ok(()),
                false => self.may(Operation::ReadEvents),
            };
        };
        if word("devices") {
            return match self.rights.has(Right::DeviceConnect) {
                true => Ok(()),
                false => Err(missing_device_right(format!("policy {}", self.policy), self.rights)),
            };
        }
        if word("messages") || word("$management") || word(event_hub) {
            return self.may(Operation::ReadEvents);
        }
        if ELSEWHERE.iter().any(|elsewhere| word(elsewhere)) {
            return Err(self.narrow("", settings));
        }
        Err(Refusal::UnknownEventHub { presented: cut(first), name: event_hub.to_owned() })
    }

    /// Why it does not reach a path of the hub.
    pub(crate) fn narrow(&self, path: &str, settings: &Settings) -> Refusal {
        let presented = cut(&self.resource(&settings.hosts));
        Refusal::TokenScope { presented, needed: resource_of(&settings.hosts, path) }
    }

    /// The resource of its token.
    pub fn resource(&self, hosts: &[String]) -> String {
        resource_of(hosts, &self.scope.to_string())
    }

    /// Decides again, after a change of the policy, whether it still holds.
    pub fn still_holds(&self, policy: Option<&Policy>) -> Result<(), Refusal> {
        let policy = policy.ok_or_else(|| unknown_policy(self.policy.to_string()))?;
        if policy.primary.fingerprint != self.fingerprint && policy.secondary.fingerprint != self.fingerprint
        {
            return Err(wrong_key(format!("policy {}", self.policy)));
        }
        if policy.rights != self.rights {
            return Err(Refusal::MissingRight {
                holder: format!("policy {}", self.policy),
                has: policy.rights,
                needs: self.rights,
                operation: "keep what it had when it connected".into(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub_events::HubEvents;

    fn settings() -> Settings {
        Settings {
            hosts: vec!["hub.example.net".into()],
            event_hub_name: "hub".into(),
            modules_per_device_max: 1,
            security_messages_in_events: false,
            events: HubEvents::default(),
            upload_bytes_max: 1,
        }
    }

    fn grant(scope: &str, rights: &[Right]) -> ServiceGrant {
        ServiceGrant {
            policy: PolicyName::parse("fleet").expect("a name"),
            rights: Rights::of(rights),
            scope: Scope::new(scope.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect()),
            slot: Slot::Primary,
            fingerprint: Fingerprint([0; 16]),
            ends: i64::MAX,
        }
    }

    #[test]
    fn a_token_opens_only_what_lies_under_its_resource() {
        let partition = |group: &str, partition: &str| ServicePlace::Partition {
            group: group.into(),
            partition: partition.into(),
        };
        let places = [
            ServicePlace::ToDevices,
            ServicePlace::ToServices(Lane::Feedback),
            ServicePlace::ToServices(Lane::FileNotifications),
            ServicePlace::Stream,
            partition("$Default", "0"),
            partition("$Default", "1"),
            partition("other", "0"),
        ];
        let cases: [(&str, [u8; 7]); 14] = [
            ("", [1, 1, 1, 1, 1, 1, 1]),
            ("/messages", [1, 1, 1, 1, 1, 1, 1]),
            ("/messages/deviceBound", [1, 0, 0, 0, 0, 0, 0]),
            ("/messages/serviceBound", [0, 1, 1, 0, 0, 0, 0]),
            ("/messages/servicebound/feedback", [0, 1, 0, 0, 0, 0, 0]),
            ("/messages/servicebound/fileNotifications", [0, 0, 1, 0, 0, 0, 0]),
            ("/hub", [0, 0, 0, 1, 1, 1, 1]),
            ("/hub/$management", [0, 0, 0, 1, 0, 0, 0]),
            ("/hub/consumergroups/$default", [0, 0, 0, 1, 1, 1, 0]),
            ("/hub/ConsumerGroups/$Default/Partitions/1", [0, 0, 0, 1, 0, 1, 0]),
            ("/hub/ConsumerGroups/$Default/Partitions/10", [0, 0, 0, 1, 0, 0, 0]),
            ("/messages/events", [0, 0, 0, 1, 1, 1, 1]),
            ("/twins/a", [0; 7]),
            ("/devices/a", [0; 7]),
        ];
        for (scope, expected) in cases {
            let grant = grant(scope, &Right::ALL);
            let opened = places.clone().map(|place| u8::from(grant.opens(&place, &settings()).is_ok()));
            assert_eq!(opened, expected, "{scope}");
        }
        let refusal = grant("/twins/a", &Right::ALL).opens(&ServicePlace::ToDevices, &settings());
        let (presented, needed) =
            ("hub.example.net/twins/a".into(), "hub.example.net/messages/devicebound".into());
        assert_eq!(refusal, Err(Refusal::TokenScope { presented, needed }));
        let refusal = grant("", &[Right::DeviceConnect]).opens(&ServicePlace::Stream, &settings());
        assert_eq!(refusal.expect_err("no right").cause(), "missing-right");
    }

    #[test]
    fn a_token_connects_only_the_devices_under_its_resource() {
        let cases = [
            ("", true, true),
            ("/devices", true, true),
            ("/devices/a", true, false),
            ("/devices/A", false, false),
            ("/devices/b", false, true),
            ("/twins/a", false, false),
            ("/hub", false, false),
        ];
        let (a, b) =
            (Identity::parse("a/m").expect("an identity"), Identity::parse("b").expect("an identity"));
        for (scope, opens_a, opens_b) in cases {
            let grant = grant(scope, &[Right::DeviceConnect]);
            assert_eq!((grant.connects(&a), grant.connects(&b)), (opens_a, opens_b), "{scope}");
        }
        assert!(!grant("", &[Right::ServiceConnect]).connects(&a));
    }

    #[test]
    fn a_token_that_could_open_nothing_is_refused_when_it_is_put() {
        let (service, device) = ([Right::ServiceConnect], [Right::DeviceConnect]);
        let cases = [
            ("", &service, None),
            ("", &device, None),
            ("/devices", &device, None),
            ("/devices", &service, Some("missing-right")),
            ("/hub/ConsumerGroups/x", &service, None),
            ("/hub", &device, Some("missing-right")),
            ("/$management", &service, None),
            ("/messages/events/$management", &service, None),
            ("/twins/a", &service, Some("token-scope")),
            ("/other/ConsumerGroups/x", &service, Some("unknown-event-hub")),
        ];
        for (scope, rights, cause) in cases {
            let refused = grant(scope, rights).opens_any(&settings()).err();
            assert_eq!(refused.as_ref().map(Refusal::cause), cause, "{scope}");
        }
    }
}
