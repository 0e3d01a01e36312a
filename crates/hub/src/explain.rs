//! Refusals in plain words: what was presented, what would have been right, the smallest change that would have admitted
//! it, and the command that makes the change.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::access::Rights;
use crate::decision::Decision;
use crate::refusal::Refusal;

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
    let id = decision.identity.as_deref().unwrap_or("the client");
    let (device, module) = id.split_once('/').map_or((id, None), |(device, module)| (device, Some(module)));
    let show = match module {
        None => format!("holdfast device show {} --keys", quoted(device)),
        Some(module) => format!("holdfast module show {} {} --keys", quoted(device), quoted(module)),
    };
    let why = format!("holdfast why {}", quoted(device));
    let (explanation, presented, expected, change, fix) = match refusal {
        Refusal::WrongKey { holder } => (
            format!("The token's signature was not made with a key of {holder}."),
            token_text(decision),
            format!("a token signed with the primary or secondary key of {holder}"),
            "Give the client one of the registered keys, or register the key that it has.".into(),
            match holder.strip_prefix("policy ") {
                Some(policy) => format!("holdfast policy show {} --keys", quoted(policy)),
                None => show,
            },
        ),
        Refusal::TokenExpired { ended } => {
            let late = decision.time.duration_since(*ended);
            (
                format!(
                    "The token ended {} before it was presented. A client that makes a new token for each \
                     connection has a clock that is {} or more behind.",
                    span(late),
                    span(late)
                ),
                format!("a token that ended at {}", when(*ended)),
                format!(
                    "a token that ends after {} (the hub's time; 5 minutes of skew are allowed)",
                    when(decision.time)
                ),
                "Set the client's clock, or give it a new token.".into(),
                match module {
                    None => format!("holdfast device token {}", quoted(device)),
                    Some(module) => format!("holdfast module token {} {}", quoted(device), quoted(module)),
                },
            )
        }
        Refusal::TokenMalformed { problem } => (
            format!("What came is no SAS token: {problem}."),
            "a text that is no SAS token".into(),
            "SharedAccessSignature sr={host}/devices/{id}&sig={signature}&se={seconds since 1970}".into(),
            "Let the SDK make the token from the connection string.".into(),
            show,
        ),
        Refusal::TokenScope { presented, needed } => (
            "The token is good, but for another resource.".into(),
            format!("sr={presented}"),
            format!("sr={needed}, or a prefix of it by whole segments"),
            "Make the token for this resource.".into(),
            show,
        ),
        Refusal::UnknownHost { presented, names } => (
            "The client names a host that is no name of this hub.".into(),
            presented.clone(),
            names.join(" or "),
            "Use a name of this hub in the connection string, or add the name to the hub.".into(),
            format!("holdfast serve --hostname {}", quoted(presented)),
        ),
        Refusal::UnknownDevice { near } => (
            match near.first() {
                Some(near) => format!("No device is called `{device}`. There is one called `{near}`."),
                None => format!("No device is called `{device}`."),
            },
            format!("device id {device}"),
            match near.is_empty() {
                true => "the id of a registered device; ids are case-sensitive".into(),
                false => format!("{}; ids are case-sensitive", near.join(" or ")),
            },
            match near.first() {
                Some(near) => {
                    format!("Use `{near}` in the client's connection string, or register `{device}`.")
                }
                None => format!("Register `{device}`."),
            },
            format!("holdfast device create {}", quoted(device)),
        ),
        Refusal::UnknownModule { near } => (
            match near.first() {
                Some(near) => format!(
                    "The device `{device}` has no module `{}`. It has one called `{near}`.",
                    module.unwrap_or_default()
                ),
                None => format!("The device `{device}` has no module `{}`.", module.unwrap_or_default()),
            },
            format!("module id {}", module.unwrap_or_default()),
            match near.is_empty() {
                true => "the id of a registered module; ids are case-sensitive".into(),
                false => near.join(" or "),
            },
            "Register the module, or use the id of one that is.".into(),
            format!("holdfast module create {} {}", quoted(device), quoted(module.unwrap_or_default())),
        ),
        Refusal::UnknownPolicy { policy } => (
            format!("There is no shared access policy `{policy}`."),
            format!("skn={policy}"),
            "the name of a shared access policy of this hub".into(),
            "Use a policy that exists, or create this one.".into(),
            format!("holdfast policy create {} --rights ServiceConnect", quoted(policy)),
        ),
        Refusal::IllegalId { problem } => (
            format!("The id is not a legal one: {problem}."),
            id.to_owned(),
            "1 to 128 of A-Z a-z 0-9 and - . _ : + % # * ? ! ( ) , = @ $ ' ;".into(),
            "Use a legal id.".into(),
            "holdfast device list".into(),
        ),
        Refusal::Disabled { reason } => (
            match reason {
                Some(reason) => format!("The device `{device}` is disabled: {reason}."),
                None => format!("The device `{device}` is disabled."),
            },
            "a valid credential of a disabled device".into(),
            "a device whose status is enabled".into(),
            "Enable the device.".into(),
            format!("holdfast device update {} --status enabled", quoted(device)),
        ),
        Refusal::MissingRight { holder, has, needs, operation } => {
            let missing: Vec<_> = needs.iter().filter(|right| !has.has(*right)).map(|r| r.as_str()).collect();
            let missing = missing.join(", ");
            (
                format!("{holder} may not {operation}: it lacks {missing}."),
                format!(
                    "{holder} with the rights {}",
                    if *has == Rights::NONE { "none".into() } else { has.to_string() }
                ),
                format!("a credential with {needs}"),
                format!("Use a policy that has {missing}, or give it to this one."),
                match holder.strip_prefix("policy ") {
                    Some(policy) => {
                        format!("holdfast policy update {} --rights \"{has}, {missing}\"", quoted(policy))
                    }
                    None => "holdfast policy list".into(),
                },
            )
        }
        Refusal::HubKeyNotAllowed { policy } => (
            format!(
                "The token is good, but it is signed with the key of the policy {policy}, which opens every device; the \
                 setting deviceScopedTokensOnly refuses such keys to devices."
            ),
            token_text(decision),
            "a token signed with the device's own key".into(),
            "Give the device a key of its own.".into(),
            show,
        ),
        Refusal::TokenTooLong { ends, longest } => (
            format!(
                "The token is good, but it lives until {}; the setting maxTokenLifetime allows {}.",
                when(*ends),
                span(SignedDuration::from_secs(*longest as i64))
            ),
            token_text(decision),
            format!("a token that ends within {}", span(SignedDuration::from_secs(*longest as i64))),
            "Have the client make short-lived tokens, as the SDKs do from a connection string.".into(),
            format!("holdfast device token {}", quoted(device)),
        ),
        Refusal::NoCredential => (
            "Neither a token nor a certificate was presented.".into(),
            "no credential".into(),
            "a SAS token, or a client certificate in the TLS handshake".into(),
            "Give the client a credential.".into(),
            show,
        ),
        Refusal::CredentialKind { presented, registered } => (
            format!("`{id}` is registered for {registered}, but presented {presented}."),
            presented.clone(),
            registered.clone(),
            "Present the registered kind of credential, or register the other kind.".into(),
            show.trim_end_matches(" --keys").into(),
        ),
        Refusal::ThumbprintMismatch { presented, registered } => (
            "The certificate is not one of the registered ones.".into(),
            format!("a certificate with the SHA-256 thumbprint {presented}"),
            format!("a certificate with the thumbprint {}", registered.join(" or ")),
            "Register the new certificate's thumbprint, or give the client the registered certificate."
                .into(),
            format!("holdfast device update {} --secondary-thumbprint {presented}", quoted(device)),
        ),
        Refusal::UntrustedChain { issuer, authorities, unverified, problem } => (
            match unverified {
                Some(name) => {
                    format!("The certificate leads to the authority `{name}`, which is not verified yet.")
                }
                None => format!(
                    "The certificate leads to no verified certificate authority of this hub: {problem}."
                ),
            },
            format!("a chain that ends at the issuer {issuer}"),
            match authorities.is_empty() {
                true => "a chain to a verified certificate authority; this hub has none yet".into(),
                false => format!("a chain to {}, with all intermediates", authorities.join(" or ")),
            },
            match unverified {
                Some(_) => "Prove possession of the authority's key, or declare it verified.".into(),
                None => "Add the certificate authority, or let the client send its intermediates.".into(),
            },
            match unverified {
                Some(name) => format!("holdfast certificate verify {} --trust", quoted(name)),
                None => "holdfast certificate add ca.pem --verified".into(),
            },
        ),
        Refusal::CertificateExpired { subject, not_before, not_after } => (
            if decision.time < *not_before {
                format!(
                    "The certificate {subject} is valid only in {}.",
                    span(not_before.duration_since(decision.time))
                )
            } else {
                format!(
                    "The certificate {subject} expired {} ago.",
                    span(decision.time.duration_since(*not_after))
                )
            },
            format!("a certificate valid from {} to {}", when(*not_before), when(*not_after)),
            format!("a certificate that is valid at {}", when(decision.time)),
            "Issue a new certificate to the client.".into(),
            why,
        ),
        Refusal::CertificateWeak { problem } => (
            format!("The certificate is too weak: {problem}."),
            problem.clone(),
            "a key of RSA 2048 bits or more, P-256, P-384, P-521 or Ed25519, signed with SHA-256 or better"
                .into(),
            "Issue a certificate with a stronger key.".into(),
            why,
        ),
        Refusal::CertificateRevoked { serial } => (
            "The certificate is on its issuer's revocation list.".into(),
            format!("the certificate with the serial number {serial}"),
            "a certificate that is not revoked".into(),
            "Issue a new certificate to the client.".into(),
            why,
        ),
        Refusal::CertificateName { presented } => (
            format!("The certificate was issued to `{presented}`, not to `{device}`."),
            format!("CN={presented}"),
            format!("CN={device}"),
            "Connect as the device that the certificate names, or issue a certificate with this common name."
                .into(),
            format!("holdfast device create {} --auth x509_ca", quoted(presented)),
        ),
        Refusal::ClientId { client_id, user_name } => (
            "The MQTT client id is not the identity that the user name names.".into(),
            format!("client id {client_id}, user name for {user_name}"),
            format!("client id {user_name}"),
            "Use the device id (and /module id) as client id.".into(),
            why,
        ),
        Refusal::UserName { problem } => (
            format!("The MQTT user name is not of the expected form: {problem}."),
            "a user name of another form".into(),
            "{host}/{device}/?api-version=2021-04-12".into(),
            "Let the SDK make the user name from the connection string.".into(),
            why,
        ),
        Refusal::Topic { topic } => (
            format!("`{id}` used a topic that is not one of its own."),
            topic.clone(),
            format!("devices/{device}/messages/events/, or another topic of this identity"),
            "Publish and subscribe to the identity's own topics.".into(),
            why,
        ),
        Refusal::MessageTooLarge { size, limit } => (
            format!("A message of {size} bytes is over the limit of {limit}."),
            format!("{size} bytes, properties included"),
            format!("at most {limit} bytes"),
            "Send smaller messages, or upload the data as a file.".into(),
            why,
        ),
        Refusal::Protocol { problem } => (
            format!("The client broke the protocol: {problem}."),
            problem.clone(),
            "what the standard and IoT Hub's documents describe".into(),
            "Correct the client, or use an Azure SDK.".into(),
            why,
        ),
        Refusal::PlainText { protocol } => (
            format!("{protocol} came in clear to a port that speaks TLS only."),
            format!("{protocol} without TLS"),
            "a TLS handshake, version 1.2 or 1.3".into(),
            "Turn TLS on in the client.".into(),
            "holdfast certificate show-server".into(),
        ),
        Refusal::TlsVersion { offered } => (
            format!("The client offers TLS up to {offered}; this hub speaks 1.2 and 1.3 only."),
            format!("TLS {offered} at the most"),
            "TLS 1.2 or 1.3".into(),
            "Update the client's TLS library, or allow TLS 1.2 in it.".into(),
            "holdfast certificate show-server".into(),
        ),
        Refusal::TlsParameters { problem } => (
            format!("Client and hub share no TLS parameters: {problem}."),
            problem.clone(),
            "an ECDHE suite with AES-GCM or ChaCha20-Poly1305, and ECDSA P-256 signatures".into(),
            "Allow such a suite in the client.".into(),
            "holdfast certificate show-server".into(),
        ),
        Refusal::TlsServerNotTrusted { alert } => (
            format!("The client does not trust the hub's certificate (it sent the alert {alert})."),
            format!("the alert {alert}"),
            "a client that trusts the hub's CA and connects by a name in the hub's certificate".into(),
            "Give the CA file to the client.".into(),
            "holdfast certificate show-server".into(),
        ),
        Refusal::TlsFailed { problem } => (
            format!("The TLS handshake failed: {problem}."),
            problem.clone(),
            "a TLS 1.2 or 1.3 handshake".into(),
            "See what the client's TLS library reports.".into(),
            "holdfast certificate show-server".into(),
        ),
        Refusal::LinkAddress { address, problem } => (
            format!("The AMQP link address leads nowhere: {problem}."),
            address.clone(),
            "{hub}/ConsumerGroups/{group}/Partitions/{n}, with a group and partition that exist".into(),
            "Use the Event Hubs connection string of this hub, with its EntityPath.".into(),
            "holdfast events connection-string".into(),
        ),
        Refusal::ManagementCredential => (
            "Holdfast's own API was called without its management credential.".into(),
            "no credential, or another one".into(),
            "the content of the management credential file".into(),
            "Name the ready file or the credential file of the hub.".into(),
            "holdfast why --recent --ready-file FILE".into(),
        ),
    };
    Some(Explanation { cause: refusal.cause().into(), explanation, presented, expected, change, fix })
}

/// What is told of a presented token.
fn token_text(decision: &Decision) -> String {
    match &decision.facts.token {
        None => "a token".into(),
        Some(token) => match &token.skn {
            None => format!("a token for {} without policy name", token.sr),
            Some(skn) => format!("a token for {} of the policy {skn}", token.sr),
        },
    }
}

/// A time for people: whole seconds are enough.
fn when(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A length of time for people, in its largest two units.
fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs().unsigned_abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min {} s", seconds % 60),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// A word of a shell command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:+%@=,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Ids that are an edit or two away from `wanted`, or differ in case only; nearest first, at most three.
pub fn near_misses<'a>(wanted: &str, ids: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = ids
        .filter_map(|id| {
            let distance = match id.eq_ignore_ascii_case(wanted) {
                true => 0,
                false => edit_distance(wanted.as_bytes(), id.as_bytes(), 2)?,
            };
            Some((distance, id))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, id)| id.to_owned()).collect()
}

/// The Levenshtein distance, or `None` when it is over `max`.
fn edit_distance(a: &[u8], b: &[u8], max: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > max {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for j in 0..b.len() {
            let substitution = diagonal + usize::from(*byte != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(diagonal + 1).min(row[j] + 1);
        }
        if row.iter().min().is_some_and(|least| *least > max) {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Act;

    #[test]
    fn a_near_miss_is_found_by_case_and_by_typing_error() {
        let ids = ["pump-07", "pump-08", "Thermostat", "gateway"];
        assert_eq!(near_misses("pump-7", ids.into_iter()), ["pump-07", "pump-08"]);
        assert_eq!(near_misses("thermostat", ids.into_iter()), ["Thermostat"]);
        assert_eq!(near_misses("valve", ids.into_iter()), [] as [&str; 0]);
    }

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
}
