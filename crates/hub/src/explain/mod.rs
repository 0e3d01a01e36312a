//! Refusals in plain words: what was presented, what would have been right, the smallest change that would have admitted
//! it, and the command that makes the change.

mod admission;
mod amqp;
mod certificate;
mod certificate_fault;
#[cfg(test)]
mod certificate_tests;
mod ends;
mod gateway;
mod https;
mod identity;
mod mqtt;
mod mqtt_five;
mod near;
mod pace;
mod tls;
mod token;
mod upload;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::near::near_misses;
use crate::decision::Decision;
use crate::refusal::{ChangeFacts, Refusal};

/// A refusal in plain words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The stable id of the cause.
    pub cause: String,
    /// What happened, in one or two sentences.
    pub explanation: String,
    /// What was presented.
    pub presented: String,
    /// What would have been right.
    pub expected: String,
    /// The smallest change that would have admitted it.
    pub change: String,
    /// The command that makes the change, or that shows what is needed for it.
    pub fix: String,
}

/// Explains a refused decision; `None` for an allowed one.
pub fn explain(decision: &Decision) -> Option<Explanation> {
    let refusal = decision.refusal.as_ref()?;
    let words = words(refusal, &About::new(decision));
    let slowed = decision.facts.slowed.as_ref().map(pace::slowed).unwrap_or_default();
    Some(Explanation {
        cause: refusal.cause().into(),
        explanation: words.explanation + &slowed,
        presented: words.presented,
        expected: words.expected,
        change: words.change,
        fix: words.fix,
    })
}

/// The words of each cause; what they are about stands in the files of this module.
fn words(refusal: &Refusal, about: &About<'_>) -> Words {
    match refusal {
        Refusal::WrongKey { holder, change, unsearched } => {
            token::wrong_key(about, holder, change.as_deref(), *unsearched)
        }
        Refusal::KeyOfAnother { holder, owner } => token::key_of_another(about, holder, owner),
        Refusal::KeyNotDecoded { holder } => token::key_not_decoded(about, holder),
        Refusal::HubKeyWithoutSkn { policy, .. } => token::hub_key_without_skn(about, policy),
        Refusal::TokenSignedOtherSr { presented, signed } => token::signed_other_sr(about, presented, signed),
        Refusal::TokenSignedOtherText { problem } => token::signed_other_text(about, problem),
        Refusal::TokenExpired { ended } => token::expired(about, *ended),
        Refusal::TokenLifetimeAsEnd { seconds } => token::lifetime_as_end(about, *seconds),
        Refusal::TokenMalformed { problem } => token::malformed(about, problem),
        Refusal::TokenScope { presented, needed } => token::scope(about, presented, needed),
        Refusal::TokenHost { presented, names } => token::host(about, presented, names),
        Refusal::UnknownPolicy { policy, near } => token::unknown_policy(policy, near),
        Refusal::MissingRight { holder, has, needs, operation } => {
            token::missing_right(holder, *has, *needs, operation)
        }
        Refusal::HubKeyNotAllowed { policy } => token::hub_key_not_allowed(about, policy),
        Refusal::TokenTooLong { ends, longest } => token::too_long(about, *ends, *longest),
        Refusal::TokenInMilliseconds { end } => token::in_milliseconds(about, *end),
        Refusal::NoCredential => token::no_credential(about),
        Refusal::KeyAsPassword => token::key_as_password(about),
        Refusal::ConnectionStringAsPassword => token::connection_string_as_password(about),
        Refusal::EntraToken => token::entra(about),
        Refusal::TokenInQuery => token::in_query(about),
        Refusal::ManagementCredential => token::management_credential(),
        Refusal::UnknownHost { presented, names } => identity::unknown_host(presented, names),
        Refusal::UnknownDevice { near } => identity::unknown_device(about, near),
        Refusal::DeletedDevice { change } => identity::deleted_device(about, change),
        Refusal::UnknownModule { near } => identity::unknown_module(about, near),
        Refusal::IllegalId { problem } => identity::illegal_id(about, problem),
        Refusal::Disabled { reason } => identity::disabled(about, reason.as_deref()),
        Refusal::UnknownGateway { gateway } => gateway::unknown(about, gateway),
        Refusal::GatewayDisabled { gateway, reason } => gateway::disabled(about, gateway, reason.as_deref()),
        Refusal::NotItsGateway { gateway, parent } => gateway::not_its(about, gateway, parent.as_deref()),
        Refusal::AuthChain { presented, registered } => {
            gateway::chain(about, presented.as_deref(), registered)
        }
        Refusal::CredentialKind { presented, registered } => {
            identity::credential_kind(about, presented, registered)
        }
        Refusal::ThumbprintMismatch { presented, registered } => {
            certificate::thumbprint(about, presented, registered)
        }
        Refusal::UntrustedChain { issuer, authorities, unverified, problem } => {
            certificate::untrusted(issuer, authorities, unverified.as_deref(), problem)
        }
        Refusal::AuthorityNotVerified { authority } => certificate::not_verified(authority),
        Refusal::IntermediateMissing { issuer, authorities } => {
            certificate::intermediate_missing(issuer, authorities)
        }
        Refusal::SelfSigned { subject, authorities } => certificate::self_signed(about, subject, authorities),
        Refusal::CertificateExpired { subject, not_before, not_after } => {
            certificate::expired(about, subject, *not_before, *not_after)
        }
        Refusal::CertificateNotYetValid { subject, not_before } => {
            certificate::not_yet_valid(about, subject, *not_before)
        }
        Refusal::CertificateWeak { problem } => certificate::weak(about, problem),
        Refusal::CertificateRevoked { serial } => certificate::revoked(serial),
        Refusal::CertificateName { presented } => certificate::name(about, presented),
        Refusal::CertificatePurpose { subject } => certificate::purpose(about, subject),
        Refusal::CertificateFault { subject, fault } => certificate_fault::fault(about, subject, fault),
        Refusal::CertificateEnded { ended } => ends::certificate_ended(about, *ended),
        Refusal::PlainText { protocol } => tls::plain_text(protocol),
        Refusal::TlsVersion { offered } => tls::version(offered),
        Refusal::NoCommonCipher { offered } => tls::no_common_cipher(offered),
        Refusal::TlsParameters { problem } => tls::parameters(problem),
        Refusal::TlsServerNotTrusted { alert } => tls::server_not_trusted(alert),
        Refusal::TlsServerName { presented, names, alert } => {
            tls::server_name(presented.as_deref(), names, alert)
        }
        Refusal::TlsFailed { problem } => tls::failed(problem),
        Refusal::WrongPort { spoken, served } => tls::wrong_port(spoken, served),
        Refusal::ClientId { client_id, user_name } => mqtt::client_id(about, client_id, user_name),
        Refusal::UserName { problem } => mqtt::user_name(about, problem),
        Refusal::MqttVersion => mqtt::version(),
        Refusal::AuthenticationProperties { problem } => mqtt_five::authentication_properties(about, problem),
        Refusal::ContextSignedOtherText { problem } => mqtt_five::context_signed_other_text(about, problem),
        Refusal::TokenInSeconds { end } => mqtt_five::in_seconds(about, *end),
        Refusal::MalformedOperation { problem } => mqtt_five::malformed_operation(about, problem),
        Refusal::SubscriptionsFull { limit } => mqtt_five::subscriptions_full(about, *limit),
        Refusal::QosTwo => mqtt::qos_two(about),
        Refusal::ConnectTimeout => mqtt::connect_timeout(),
        Refusal::NotAdmittedWithin { bound } => admission::not_within(*bound),
        Refusal::Topic { topic } => mqtt::topic(about, topic),
        Refusal::TopicFilter { filter } => mqtt::topic_filter(about, filter),
        Refusal::MessageTooLarge { size, limit } => mqtt::message_too_large(about, *size, *limit),
        Refusal::Protocol { problem } => mqtt::protocol(problem),
        Refusal::KeepAliveMissed { seconds } => ends::keep_alive(about, *seconds),
        Refusal::TakenOver { by } => ends::taken_over(about, by.as_deref()),
        Refusal::NotReading => ends::not_reading(about),
        Refusal::RightEnded { because, change } => {
            ends::right_ended(about, because.as_deref(), change.as_deref())
        }
        Refusal::TokenEnded { ended } => ends::token_ended(about, *ended),
        Refusal::CbsTokenType { presented } => amqp::token_type(presented),
        Refusal::TokensFull { limit } => amqp::tokens_full(about, *limit),
        Refusal::SaslMechanism { presented } => amqp::mechanism(presented),
        Refusal::LinkAddress { address, problem } => amqp::address(about, address, problem),
        Refusal::UnknownConsumerGroup { group, groups } => amqp::consumer_group(group, groups),
        Refusal::UnknownPartition { partition, count } => amqp::partition(partition, *count),
        Refusal::UnknownEventHub { presented, name } => amqp::event_hub(presented, name),
        Refusal::SendToEvents { address } => amqp::send(address),
        Refusal::ReaderOutranked { problem } => amqp::outranked(problem),
        Refusal::ReaderDisplaced { problem } => amqp::displaced(problem),
        Refusal::ReadersFull { problem } => amqp::full(problem),
        Refusal::ApiVersion { presented } => https::api_version(presented.as_deref()),
        Refusal::UnknownPath { method, path } => https::path(method, path),
        Refusal::WebsocketPath { path } => https::websocket_path(path),
        Refusal::WebsocketProtocol { offered } => https::websocket_protocol(offered),
        Refusal::UploadName { problem } => upload::name(problem),
        Refusal::UploadsFull { limit } => upload::full(about, *limit),
        Refusal::UploadUnknown { id, ended } => upload::unknown(about, id.as_deref(), *ended),
        Refusal::UploadNotWritten { problem } => upload::not_written(about, problem),
        Refusal::UploadLink { problem } => upload::link(problem),
        Refusal::UploadLinkEnded { ended } => upload::link_ended(*ended),
        Refusal::UploadLinkWritesOnly { method } => upload::link_writes_only(about, method),
        Refusal::UploadTooLarge { limit } => upload::too_large(*limit),
        Refusal::DiskFull => disk_full(),
    }
}

fn disk_full() -> Words {
    Words::new(
        "The disk of the hub has no more room for messages: what is free is kept for the registry.",
        "a message",
        "room on the disk",
        "Free space on the disk, bound the event log by retention-gigabytes or retention-hours, or disable the device that sends too \
         much.",
        "holdfast posture",
    )
}

/// The words of an explanation.
struct Words {
    explanation: String,
    presented: String,
    expected: String,
    change: String,
    fix: String,
}

impl Words {
    fn new(
        explanation: impl Into<String>,
        presented: impl Into<String>,
        expected: impl Into<String>,
        change: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            explanation: explanation.into(),
            presented: presented.into(),
            expected: expected.into(),
            change: change.into(),
            fix: fix.into(),
        }
    }
}

/// Whom a decision is about.
struct About<'a> {
    decision: &'a Decision,
    /// As it was claimed.
    id: &'a str,
    device: &'a str,
    module: Option<&'a str>,
    /// Whether there was a name at all.
    named: bool,
}

impl<'a> About<'a> {
    fn new(decision: &'a Decision) -> Self {
        let named = decision.identity.as_deref().filter(|id| !id.is_empty());
        let id = named.unwrap_or("the client");
        let (device, module) =
            id.split_once('/').map_or((id, None), |(device, module)| (device, Some(module)));
        Self { decision, id, device, module, named: named.is_some() }
    }

    /// The command that shows the keys and the connection string of the identity; where none was claimed, those of the
    /// policies.
    fn show(&self) -> String {
        match self.module {
            _ if !self.named => "holdfast policy list".to_owned(),
            None => command("device show", &[self.device], "--keys"),
            Some(module) => command("module show", &[self.device, module], "--keys"),
        }
    }

    /// The command that shows what a certificate must be for: the registration of the identity, which has no keys; for a certificate
    /// above the client's own, the authorities of the hub.
    fn show_certificate(&self, subject: &str) -> String {
        match (self.is_own_certificate(subject), self.module) {
            (true, None) if self.named => command("device show", &[self.device], ""),
            (true, Some(module)) if self.named => command("module show", &[self.device, module], ""),
            _ => "holdfast certificate list".to_owned(),
        }
    }

    /// Whether a subject is that of the client's own certificate, and not of one above it.
    fn is_own_certificate(&self, subject: &str) -> bool {
        self.decision.facts.chain.first().is_none_or(|own| own.subject == subject)
    }

    /// The subject of the client's own certificate.
    fn own_subject(&self) -> &str {
        self.decision.facts.chain.first().map_or("", |own| own.subject.as_str())
    }

    /// The command that shows the keys of whoever holds a key: `device d1`, `module d1/m1` or `policy service`.
    fn show_holder(&self, holder: &str) -> String {
        match holder.split_once(' ') {
            Some(("policy", policy)) => command("policy show", &[policy], "--keys"),
            // A gateway signs for others.
            Some(("module", module)) => {
                let (device, module) = module.split_once('/').unwrap_or((module, ""));
                command("module show", &[device, module], "--keys")
            }
            _ => self.show(),
        }
    }

    /// The command that makes a token for the identity.
    fn token(&self) -> String {
        match self.module {
            _ if !self.named => "holdfast policy list".to_owned(),
            None => command("device token", &[self.device], ""),
            Some(module) => command("module token", &[self.device, module], ""),
        }
    }

    /// The command that sends a message as the identity, the way it should be.
    fn send(&self) -> String {
        match self.module {
            _ if !self.named => "holdfast device list".to_owned(),
            None => command("send", &[self.device, "hello"], ""),
            Some(module) => command("send", &[self.device, "hello"], &format!("--module={}", quoted(module))),
        }
    }

    /// What is told of the presented token.
    fn token_text(&self) -> String {
        match &self.decision.facts.token {
            None => "a token".into(),
            Some(token) => match &token.skn {
                None => format!("a token for {} without policy name", token.sr),
                Some(skn) => format!("a token for {} of the policy {skn}", token.sr),
            },
        }
    }
}

/// Who made a change, and when.
fn who_and_when(change: &ChangeFacts) -> String {
    let actor = change.actor.as_deref().unwrap_or("somebody");
    let from = change.address.map(|address| format!(" from {address}")).unwrap_or_default();
    format!("by {actor}{from} at {}", when(change.time))
}

/// A time for people: whole seconds are enough.
fn when(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A length of time for people, in its largest two units.
pub fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs().unsigned_abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min {} s", seconds % 60),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// A command of this program. Names are a client's own choice, so that one which begins with a dash stands where it cannot
/// be taken for an option.
fn command(words: &str, names: &[&str], options: &str) -> String {
    let dashes = names.iter().any(|name| name.starts_with('-'));
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let names = names.join(" ");
    match (options, dashes) {
        ("", false) => format!("holdfast {words} {names}"),
        ("", true) => format!("holdfast {words} -- {names}"),
        (options, false) => format!("holdfast {words} {names} {options}"),
        (options, true) => format!("holdfast {words} {options} -- {names}"),
    }
}

/// A word of a shell command.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:+%@=,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Act;

    #[test]
    fn an_expired_token_says_by_how_much() {
        let time: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let mut decision = Decision::new(time, Act::Connect);
        decision.identity = Some("pump 1".into());
        decision.refusal =
            Some(Refusal::TokenExpired { ended: "2026-11-21T09:58:30Z".parse().expect("a time") });
        let explained = explain(&decision).expect("a refusal is explained");
        assert_eq!(explained.cause, "token-expired");
        assert!(explained.explanation.contains("2 h 1 min"), "{}", explained.explanation);
        assert_eq!(explained.fix, "holdfast device token 'pump 1'");
    }

    #[test]
    fn a_word_of_a_command_cannot_end_it() {
        assert_eq!(quoted("pump-1"), "pump-1");
        assert_eq!(quoted("a;rm -rf ~"), "'a;rm -rf ~'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(
            command("device show", &["--ready-file=x"], "--keys"),
            "holdfast device show --keys -- --ready-file=x"
        );
    }
}
