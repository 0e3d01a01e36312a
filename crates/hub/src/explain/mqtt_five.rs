//! What clients do over MQTT 5.

use super::{About, Words};

const SIGNED: &str = "HMAC-SHA256, as 32 bytes in Authentication Data, over host, client id, sas-policy, sas-at and \
                      sas-expiry, each followed by a line feed";

pub(super) fn authentication_properties(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!("The client speaks MQTT 5, and does not say how it authenticates: {problem}."),
        problem,
        "Authentication Method SAS or X509, and the user properties api-version=2020-10-01-preview, host (where TLS \
         names none), and for SAS sas-expiry in milliseconds since 1970; in AUTH the same method and policy",
        "Set what docs/mqtt5.md lists, or speak MQTT 3.1.1 with a token as password.",
        about.show(),
    )
}

pub(super) fn context_signed_other_text(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!("The client has the right key, but its signature is not made as MQTT 5 has it: {problem}."),
        format!("{}; {problem}", about.token_text()),
        SIGNED,
        "Sign exactly these five lines; one that has no value is an empty line. docs/mqtt5.md has an example.",
        about.show(),
    )
}

pub(super) fn in_seconds(about: &About<'_>, end: i64) -> Words {
    Words::new(
        format!("sas-expiry is {end}: seconds since 1970, where milliseconds have to stand."),
        format!("sas-expiry={end}"),
        format!("sas-expiry={}", end.saturating_mul(1_000)),
        "Multiply the time by 1000 before it is signed.",
        about.show(),
    )
}

pub(super) fn malformed_operation(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!(
            "`{}` sent a message of MQTT 5 that is not of the form of its operation: {problem}.",
            about.id
        ),
        problem,
        "the properties of the operation, and `@` before the names of the application's own",
        "Send the message as docs/mqtt5.md lists it.",
        about.send(),
    )
}

pub(super) fn subscriptions_full(about: &About<'_>, limit: usize) -> Words {
    Words::new(
        format!("`{}` has {limit} subscriptions already, and asked for one more.", about.id),
        format!("more than {limit} subscriptions"),
        format!("at most {limit}, those of an earlier connection with the same session included"),
        "Subscribe to all methods by one filter, and unsubscribe from what is not used.",
        about.show(),
    )
}
