//! Tokens, keys and rights.

use jiff::{SignedDuration, Timestamp};

use super::{About, Words, command, span, when, who_and_when};
use crate::access::Rights;
use crate::deed::PlainChange;
use crate::refusal::ChangeFacts;

const FORM: &str = "SharedAccessSignature sr={host}/devices/{id}&sig={signature}&se={seconds since 1970}";

pub(super) fn wrong_key(
    about: &About<'_>,
    holder: &str,
    change: Option<&ChangeFacts>,
    unsearched: bool,
) -> Words {
    let others = if unsearched {
        ". Whose key made it was not looked for: too many wrong signatures came in that minute, or the registry could \
         not be read."
    } else {
        ", nor with one of the keys that it may have been mistaken for."
    };
    let changed = change.map(|change| {
        let what = if change.what == PlainChange::RegenerateKeys { "got new keys" } else { "was changed" };
        format!(
            " `{}` {what} {}: the client may still have the old key.",
            change.target,
            who_and_when(change)
        )
    });
    Words::new(
        format!(
            "The token's signature was not made with a key of {holder}{others}{}",
            changed.unwrap_or_default()
        ),
        about.token_text(),
        format!("a token signed with the primary or secondary key of {holder}"),
        "Give the client one of the registered keys, or register the key that it has.",
        about.show_holder(holder),
    )
}

pub(super) fn key_of_another(about: &About<'_>, holder: &str, owner: &str) -> Words {
    Words::new(
        format!("The token was signed with a key of {owner}, but it is a token for {holder}."),
        format!("{}, signed with a key of {owner}", about.token_text()),
        format!("a token signed with a key of {holder}"),
        format!("Give the client the key of {holder}; it has that of {owner}."),
        about.show_holder(holder),
    )
}

pub(super) fn key_not_decoded(about: &About<'_>, holder: &str) -> Words {
    Words::new(
        format!(
            "The client has the right key of {holder}, but signed with its text. A key is written in base64 and has to \
             be decoded before it signs."
        ),
        format!("{}, signed with the base64 text of the key", about.token_text()),
        "HMAC-SHA256 with the decoded bytes of the key: base64_decode(key)",
        "Decode the key from base64 before signing, or let the SDK make the token.",
        about.token(),
    )
}

pub(super) fn hub_key_without_skn(about: &About<'_>, policy: &str) -> Words {
    Words::new(
        format!(
            "The token was signed with a key of the policy `{policy}`, but does not name it (skn is missing), so that \
             it was held against the keys of `{}`. The Python device SDK does this when it is given the key of a \
             policy.",
            about.id
        ),
        format!("{}, signed with a key of the policy {policy}", about.token_text()),
        format!("the device's own key, or a token with skn={policy} (where that policy has DeviceConnect)"),
        "Give the client the connection string of its device.",
        about.show(),
    )
}

pub(super) fn signed_other_sr(about: &About<'_>, presented: &str, signed: &str) -> Words {
    Words::new(
        "The client has the right key, but signed another spelling of the resource than the one that it sent. What is \
         signed has to be the text of sr exactly as it stands in the token.",
        format!("sr={presented}, signed as {signed}"),
        format!("a signature of {presented}, a line feed and se"),
        "Encode the resource once, sign that text, and put the same text into the token.",
        about.token(),
    )
}

pub(super) fn signed_other_text(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!("The client has the right key, but its signature is not made as it should be: {problem}."),
        format!("{}; {problem}", about.token_text()),
        "base64 of HMAC-SHA256 over sr, one line feed, and se, with nothing before or behind them",
        "Sign exactly sr, a line feed (one byte, 0x0A), and se.",
        about.token(),
    )
}

pub(super) fn expired(about: &About<'_>, ended: Timestamp) -> Words {
    let late = about.decision.time.duration_since(ended);
    // Zones lie between 12 hours behind and 14 before UTC.
    let zone = match late.as_hours() {
        0..14 => " A clock that is right in local time but taken for UTC has the same effect.",
        _ => "",
    };
    Words::new(
        format!(
            "The token ended {} before it was presented. A client that makes a new token for each connection has a \
             clock that is {} or more behind.{zone}",
            span(late),
            span(late)
        ),
        format!("a token that ended at {}", when(ended)),
        format!(
            "a token that ends after {} (the hub's time; 5 minutes of skew are allowed)",
            when(about.decision.time)
        ),
        "Set the client's clock, or give it a new token.",
        about.token(),
    )
}

pub(super) fn lifetime_as_end(about: &About<'_>, seconds: i64) -> Words {
    let now = about.decision.time.as_second();
    Words::new(
        format!(
            "The end of the token (se) is {seconds}: a length of time, not a time. It has to be the seconds since \
             1970-01-01 at which the token ends."
        ),
        format!("se={seconds}"),
        format!("se={} for a token of {seconds} s made now", now.saturating_add(seconds)),
        "Add the time now, in seconds since 1970, to the lifetime. Where the client's clock was never set, set it.",
        about.token(),
    )
}

pub(super) fn malformed(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!("What came is no SAS token: {problem}."),
        "a text that is no SAS token",
        FORM,
        "Let the SDK make the token from the connection string.",
        about.token(),
    )
}

pub(super) fn key_as_password(about: &About<'_>) -> Words {
    Words::new(
        "What came in place of a token looks like a key. The key itself is never sent: it signs a token.",
        "a text that looks like a key in base64",
        FORM,
        "Sign a token with the key, or let the SDK do it from the connection string. A key that was sent is known to \
         whoever read the connection: replace it.",
        about.token(),
    )
}

pub(super) fn connection_string_as_password(about: &About<'_>) -> Words {
    Words::new(
        "A connection string came in place of a token. It holds the key, and is never sent: an SDK makes a token of it.",
        "a connection string",
        FORM,
        "Give the connection string to the SDK, or send a token. A key that was sent is known to whoever read the \
         connection: replace it.",
        about.token(),
    )
}

pub(super) fn entra(about: &About<'_>) -> Words {
    Words::new(
        "A token of Microsoft Entra ID (a JWT) came. This hub knows SAS tokens and certificates only.",
        "a bearer token",
        FORM,
        "Use the connection string of a shared access policy, or of the device, in place of a TokenCredential.",
        about.show(),
    )
}

pub(super) fn in_query(about: &About<'_>) -> Words {
    Words::new(
        "The token stands in the query of the URL, where nobody looks for it, and the Authorization header is missing.",
        "a token in the query",
        "the header `Authorization: SharedAccessSignature sr=…&sig=…&se=…`",
        "Send the token in the Authorization header. URLs are written to logs: replace a key whose token stood there \
         for long.",
        about.token(),
    )
}

pub(super) fn scope(about: &About<'_>, presented: &str, needed: &str) -> Words {
    let what = match presented.eq_ignore_ascii_case(needed) {
        true => "The token names the id in another case, and ids are compared with case.",
        false => "The token is for another resource than the one that was asked for.",
    };
    Words::new(
        what,
        format!("sr={presented}"),
        format!("sr={needed}, or a prefix of it by whole segments"),
        "Make the token for this resource.",
        match needed.contains("/devices/") {
            true => about.token(),
            false => "holdfast policy list".into(),
        },
    )
}

pub(super) fn host(about: &About<'_>, presented: &str, names: &[String]) -> Words {
    Words::new(
        format!("The token was made for the host `{presented}`, which is no name of this hub."),
        format!("sr={presented}…"),
        format!("sr={}…", names.join(" or ")),
        "Use the connection string of this hub; the token then names it too.",
        match about.named {
            true => about.show(),
            false => "holdfast events connection-string".into(),
        },
    )
}

pub(super) fn unknown_policy(policy: &str, near: &[String]) -> Words {
    let (hint, fix) = match near.first() {
        Some(near) => (format!(" There is one called `{near}`."), command("policy show", &[near], "--keys")),
        None => (String::new(), command("policy create", &[policy], "--rights ServiceConnect")),
    };
    Words::new(
        format!("There is no shared access policy `{policy}`.{hint}"),
        format!("skn={policy}"),
        match near.is_empty() {
            true => "the name of a shared access policy of this hub".into(),
            false => near.join(" or "),
        },
        "Use a policy that exists, or create this one.",
        fix,
    )
}

pub(super) fn missing_right(holder: &str, has: Rights, needs: Rights, operation: &str) -> Words {
    let missing: Vec<_> = needs.iter().filter(|right| !has.has(*right)).map(|r| r.as_str()).collect();
    let missing = missing.join(", ");
    let held = if has == Rights::NONE { "none".into() } else { has.to_string() };
    Words::new(
        format!("{holder} may not {operation}: it lacks {missing}."),
        format!("{holder} with the rights {held}"),
        format!("a credential with {needs}"),
        format!("Use a policy that has {missing}, or give it to this one."),
        match holder.strip_prefix("policy ") {
            Some(policy) if has == Rights::NONE => {
                command("policy update", &[policy], &format!("--rights \"{missing}\""))
            }
            Some(policy) => command("policy update", &[policy], &format!("--rights \"{has}, {missing}\"")),
            None => "holdfast policy list".into(),
        },
    )
}

pub(super) fn hub_key_not_allowed(about: &About<'_>, policy: &str) -> Words {
    Words::new(
        format!(
            "The token is good, but it is signed with the key of the policy {policy}, which opens every device; the \
             setting deviceScopedTokensOnly refuses such keys to devices."
        ),
        about.token_text(),
        "a token signed with the device's own key",
        "Give the device a key of its own.",
        about.show(),
    )
}

pub(super) fn too_long(about: &About<'_>, ends: Timestamp, longest: u64) -> Words {
    let longest = span(SignedDuration::from_secs(i64::try_from(longest).unwrap_or(i64::MAX)));
    Words::new(
        format!(
            "The token is good, but it lives until {}; the setting maxTokenLifetime allows {longest}.",
            when(ends)
        ),
        about.token_text(),
        format!("a token that ends within {longest}"),
        "Have the client make short-lived tokens, as the SDKs do from a connection string.",
        about.token(),
    )
}

pub(super) fn in_milliseconds(about: &About<'_>, end: i64) -> Words {
    Words::new(
        format!(
            "The end of the token (se) is {end}: milliseconds since 1970, where seconds have to stand. Taken for seconds \
             it is tens of thousands of years ahead, and the setting maxTokenLifetime refuses it."
        ),
        format!("se={end}"),
        format!("se={}", end / 1_000),
        "Divide the time by 1000 before it is signed.",
        about.token(),
    )
}

pub(super) fn no_credential(about: &About<'_>) -> Words {
    Words::new(
        "Neither a token nor a certificate was presented.",
        "no credential",
        "a SAS token, or a client certificate in the TLS handshake",
        "Give the client a credential.",
        about.show(),
    )
}

pub(super) fn management_credential() -> Words {
    Words::new(
        "Holdfast's own API was called without its management credential.",
        "no credential, or another one",
        "the content of the management credential file",
        "Name the ready file or the credential file of the hub.",
        "holdfast why --recent --ready-file FILE",
    )
}
