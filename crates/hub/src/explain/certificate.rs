//! Client certificates.

use jiff::Timestamp;

use super::{About, Words, command, span, when};

pub(super) fn thumbprint(about: &About<'_>, presented: &str, registered: &[String]) -> Words {
    let fix = match about.module {
        None => command("device update", &[about.device], &format!("--secondary-thumbprint {presented}")),
        Some(_) => about.show(),
    };
    Words::new(
        "The certificate is not one of the registered ones.",
        format!("a certificate with the SHA-256 thumbprint {presented}"),
        format!("a certificate with the thumbprint {}", registered.join(" or ")),
        "Register the new certificate's thumbprint, or give the client the registered certificate.",
        fix,
    )
}

pub(super) fn untrusted(
    issuer: &str,
    authorities: &[String],
    unverified: Option<&str>,
    problem: &str,
) -> Words {
    if let Some(authority) = unverified {
        return not_verified(authority);
    }
    Words::new(
        format!("The certificate leads to no verified certificate authority of this hub: {problem}."),
        format!("a chain that ends at the issuer {issuer}"),
        chain_to(authorities),
        "Add the certificate authority, or issue the certificate under one that is there.",
        "holdfast certificate add ca.pem --verified",
    )
}

pub(super) fn not_verified(authority: &str) -> Words {
    Words::new(
        format!("The certificate leads to the authority `{authority}`, which is not verified yet."),
        format!("a chain to the authority {authority}"),
        "a chain to a verified certificate authority",
        "Prove possession of the authority's key, or declare it verified.",
        command("certificate verify", &[authority], "--trust"),
    )
}

pub(super) fn intermediate_missing(issuer: &str, authorities: &[String]) -> Words {
    Words::new(
        format!(
            "The client sent its own certificate alone. Its issuer `{issuer}` is no authority of this hub: it is most \
             likely an intermediate that the client has to send too. If it is an authority of its own, it has to be \
             added."
        ),
        format!("one certificate, issued by {issuer}"),
        chain_to(authorities),
        "Send the intermediate: put its certificate behind the client's own, in the same PEM file. Or add the \
         intermediate as an authority.",
        "holdfast certificate add intermediate.pem --verified",
    )
}

pub(super) fn self_signed(about: &About<'_>, subject: &str, authorities: &[String]) -> Words {
    Words::new(
        format!(
            "The certificate {subject} signs itself, but `{}` is registered for a certificate of an authority.",
            about.id
        ),
        format!("the self-signed certificate {subject}"),
        chain_to(authorities),
        "Issue the certificate under an authority, or register its thumbprint.",
        match about.decision.facts.chain.first() {
            Some(leaf) if about.module.is_none() => command(
                "device update",
                &[about.device],
                &format!("--auth x509_thumbprint --primary-thumbprint {}", leaf.thumbprint),
            ),
            _ => "holdfast certificate list".into(),
        },
    )
}

pub(super) fn expired(
    about: &About<'_>,
    subject: &str,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Words {
    Words::new(
        format!(
            "The certificate {subject} expired {} ago.",
            span(about.decision.time.duration_since(not_after))
        ),
        format!("a certificate valid from {} to {}", when(not_before), when(not_after)),
        format!("a certificate that is valid at {}", when(about.decision.time)),
        issue_again(about, subject, "Issue a new certificate to the client."),
        about.show_certificate(subject),
    )
}

pub(super) fn not_yet_valid(about: &About<'_>, subject: &str, not_before: Timestamp) -> Words {
    Words::new(
        format!(
            "The certificate {subject} is valid only in {}. Whoever issued it has a clock that is ahead, or meant it \
             for later.",
            span(not_before.duration_since(about.decision.time))
        ),
        format!("a certificate valid from {}", when(not_before)),
        format!("a certificate that is valid at {}", when(about.decision.time)),
        issue_again(about, subject, "Issue a certificate that is valid now, or wait."),
        about.show_certificate(subject),
    )
}

pub(super) fn weak(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!("The certificate is too weak, or cannot be read: {problem}."),
        problem,
        "a key of RSA 2048 bits or more, P-256, P-384, P-521 or Ed25519, signed with SHA-256 or better",
        "Issue a certificate with such a key and signature.",
        about.show_certificate(about.own_subject()),
    )
}

pub(super) fn revoked(serial: &str) -> Words {
    Words::new(
        "The certificate is on its issuer's revocation list.",
        format!("the certificate with the serial number {serial}"),
        "a certificate that is not revoked",
        "Issue a new certificate to the client. If it was revoked by mistake, set a revocation list without it.",
        "holdfast certificate list",
    )
}

pub(super) fn name(about: &About<'_>, presented: &str) -> Words {
    Words::new(
        format!("The certificate was issued to `{presented}`, not to `{}`.", about.id),
        format!("CN={presented}"),
        format!("CN={}", about.id),
        "Connect as the device or module that the certificate names, or issue a certificate with this common name.",
        match presented.split_once('/') {
            _ if presented.is_empty() => about.show_certificate(about.own_subject()),
            Some((device, module)) => command("module create", &[device, module], "--auth x509_ca"),
            None => command("device create", &[presented], "--auth x509_ca"),
        },
    )
}

pub(super) fn purpose(about: &About<'_>, subject: &str) -> Words {
    Words::new(
        format!(
            "The certificate {subject} is not for clients: its extended key usage does not have clientAuth. It may be \
             a certificate of a server."
        ),
        "a certificate without the purpose clientAuth",
        "extendedKeyUsage = clientAuth, or no such extension",
        issue_again(about, subject, "Issue a certificate for clients."),
        about.show_certificate(subject),
    )
}

/// What to do about a certificate: the client's own is issued anew, one above it for the same key, so that those below it stay good.
fn issue_again(about: &About<'_>, subject: &str, own: &str) -> String {
    match about.is_own_certificate(subject) {
        true => own.to_owned(),
        false => format!(
            "Have {subject} issued again for the same key, for clients and valid now. Where clients send it, they send the new one; where \
             it is an authority of this hub, add the new one."
        ),
    }
}

fn chain_to(authorities: &[String]) -> String {
    match authorities.is_empty() {
        true => "a chain to a verified certificate authority; this hub has none yet".into(),
        false => format!("a chain to {}, with all intermediates", authorities.join(" or ")),
    }
}
