//! Links that clients attach: where they lead, and why they are declined.

use std::collections::VecDeque;

use hub::decision::{Act, cut};
use hub::refusal::Refusal;
use hub::service_grant::ServicePlace;
use wire::amqp::codec::{Symbol, Value};
use wire::amqp::connection::{AttachAnswer, CreditPolicy, LinkId};
use wire::amqp::performative::{Attach, Error, Role, condition};

use super::links::Purpose;
use super::{Conversation, Link};
use crate::fronts::amqp::address::Address;
use crate::io::Stream;

/// Credit on links that requests come in by.
const REQUEST_CREDIT: u32 = 100;
const NO_LINK: &str = "The link address did not match any of the expected formats";

impl<S: Stream> Conversation<S> {
    pub(super) async fn on_attach(&mut self, link: LinkId, attach: Attach) {
        let text = match attach.role {
            Role::Receiver => attach.source.as_ref().and_then(|source| source.address.as_deref()),
            Role::Sender => attach.target.as_ref().and_then(|target| target.address.as_deref()),
        };
        let text = text.unwrap_or_default().to_owned();
        let entity = self.front.hub.settings.event_hub_name.clone();
        let accepted = match (Address::parse(&text, &entity), attach.role) {
            (Address::Device(place, decoded, written), role) => {
                let identity = written.filter(|written| self.devices.knows(written)).unwrap_or(decoded);
                match Purpose::of(place, role, &identity) {
                    Some(purpose) => return self.open_device_link(link, attach, identity, purpose).await,
                    None => Err(Error::new(condition::NOT_ALLOWED, NO_LINK).into()),
                }
            }
            (Address::ToDevices, Role::Sender) => {
                let refused = |refusal| {
                    let text =
                        "Unauthorized access. The right ServiceConnect is required to send to devices.";
                    Declined::because(Error::new(condition::UNAUTHORIZED_ACCESS, text), refusal)
                };
                self.may_go(&ServicePlace::ToDevices).map_err(refused).map(|()| (Link::ToDevices, requests()))
            }
            (Address::ToServices(lane), Role::Receiver) => self.open_to_service(lane),
            (Address::Cbs, Role::Sender) => Ok((Link::CbsRequests, requests())),
            (Address::Cbs, Role::Receiver) => {
                Ok((Link::CbsAnswers(VecDeque::new()), AttachAnswer::default()))
            }
            (Address::Management, role) => {
                self.may_go(&ServicePlace::Stream).map_err(refused).map(|()| match role {
                    Role::Sender => (Link::ManagementRequests, requests()),
                    Role::Receiver => (Link::ManagementAnswers(VecDeque::new()), AttachAnswer::default()),
                })
            }
            (Address::Partition { group, partition }, Role::Receiver) => {
                self.open_reader(link, &attach, &group, &partition).await
            }
            (Address::Partition { .. } | Address::EventHub, _) => Err(Declined::because(
                Error::new(
                    condition::UNAUTHORIZED_ACCESS,
                    "Unauthorized access. 'Send' claim(s) are required.",
                ),
                Refusal::SendToEvents { address: cut(&text) },
            )),
            (Address::Redirect(rest), _) => self
                .may_go(&ServicePlace::Stream)
                .map_err(refused)
                .and_then(|()| Err(Declined { error: self.redirect(&rest), refusal: None })),
            (Address::OtherEntity(name), _) => Err(Declined::because(
                not_found(&format!("eventhub:{name}")),
                Refusal::UnknownEventHub { presented: cut(&name), name: entity },
            )),
            (Address::ToDevices | Address::ToServices(_) | Address::Unknown, _) => {
                Err(Error::new(condition::NOT_ALLOWED, NO_LINK).into())
            }
        };
        match accepted {
            Ok((kind, answer)) => {
                if self.machine.accept_attach(link, answer).is_ok() {
                    if matches!(kind, Link::Reader(..)) {
                        self.readers.push(link);
                    }
                    if matches!(kind, Link::ToService(_)) {
                        self.services.push(link);
                    }
                    self.links.insert(link, kind);
                }
            }
            Err(Declined { error, refusal }) => {
                if error.condition != condition::LINK_REDIRECT {
                    let problem = error.description.clone().unwrap_or_else(|| error.condition.to_string());
                    let refusal = refusal.map_or_else(
                        || Refusal::LinkAddress { address: cut(&text), problem },
                        |refusal| *refusal,
                    );
                    self.record(Act::Link { address: cut(&text) }, None, Some(refusal));
                }
                let _ = self.machine.refuse_attach(link, error);
            }
        }
    }

    fn redirect(&self, rest: &str) -> Error {
        let settings = &self.front.hub.settings;
        let host = settings.hosts.first().map_or("", String::as_str);
        let mut error =
            Error::new(condition::LINK_REDIRECT, "The built-in endpoint is an event hub of its own.");
        error.info.push(Symbol::from_static("hostname"), host);
        error.info.push(Symbol::from_static("network-host"), host);
        error.info.push(Symbol::from_static("port"), Value::Uint(5671));
        let address = format!("amqps://{host}:5671/{}/{rest}", settings.event_hub_name);
        error.info.push(Symbol::from_static("address"), address);
        let tracking = uuid::Uuid::new_v4().to_string();
        error.info.push(Symbol::from_static("com.microsoft:tracking-id"), tracking);
        error
    }
}

fn requests() -> AttachAnswer {
    AttachAnswer { credit: CreditPolicy::TopUp(REQUEST_CREDIT), ..AttachAnswer::default() }
}

/// Why a link is not opened: what the client is told, and the cause where it is a known one.
pub(super) struct Declined {
    error: Error,
    refusal: Option<Box<Refusal>>,
}

impl Declined {
    pub(super) fn because(error: Error, refusal: Refusal) -> Self {
        Self { error, refusal: Some(Box::new(refusal)) }
    }
}

impl From<Error> for Declined {
    fn from(error: Error) -> Self {
        Self { error, refusal: None }
    }
}

pub(super) fn refused(refusal: Refusal) -> Declined {
    let text = match refusal {
        Refusal::NoCredential => "Unauthorized access. No token was put for this resource.",
        _ => "Unauthorized access. 'Listen' claim(s) are required to perform this operation.",
    };
    Declined::because(Error::new(condition::UNAUTHORIZED_ACCESS, text), refusal)
}

pub(super) fn not_found(entity: &str) -> Error {
    Error::new(condition::NOT_FOUND, format!("The messaging entity '{entity}' could not be found."))
}
