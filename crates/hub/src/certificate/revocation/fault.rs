//! Why a revocation list cannot be set.

use jiff::Timestamp;

/// What is wrong with a revocation list, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RevocationFault {
    /// It is none.
    #[error(
        "It is no certificate revocation list in DER ({problem}). Give what the authority wrote, PEM or DER, and nothing else"
    )]
    Unreadable {
        /// What the reader said.
        problem: String,
    },
    /// It is too large.
    #[error("The lists of an authority may take {limit} bytes together, and with this one they take {size}")]
    TooLarge {
        /// The size of all.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// There are too many of other scopes.
    #[error(
        "The authority has {limit} lists of other distribution points already, which is the most. Remove one that is not issued \
         any more: `holdfast certificate revoke NAME --remove SCOPE`"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// It is of version 1.
    #[error(
        "The list is of version 1, which has no number and no bounds. Have it issued as version 2, with cRLNumber and \
         authorityKeyIdentifier (openssl: crl_extensions)"
    )]
    Version,
    /// It bears another name than the authority.
    #[error(
        "The list was issued by `{issuer}`, and the authority is `{authority}`. Set a list that this authority issued"
    )]
    OtherIssuer {
        /// Who issued it.
        issuer: String,
        /// The subject of the authority.
        authority: String,
    },
    /// Its signature is of a kind that proves nothing.
    #[error(
        "The list is signed with {algorithm}, which proves nothing. Have it signed with SHA-256 or better"
    )]
    WeakSignature {
        /// How it is signed.
        algorithm: String,
    },
    /// Another key made its signature.
    #[error(
        "The list bears the name of the authority, but another key signed it{}. Set a list that is signed with the key of this \
         authority's certificate", whose(.signer)
    )]
    OtherKey {
        /// The authority of this hub whose key it is.
        signer: Option<String>,
    },
    /// The authority may sign no lists.
    #[error(
        "The key usage of the authority does not let it sign revocation lists (cRLSign is missing). Have its certificate issued \
         again with keyUsage = critical,keyCertSign,cRLSign for the same key, and add that"
    )]
    MayNotSign,
    /// It is of a time to come.
    #[error(
        "The list is of {this_update}, and by the hub's clock it is {now}. Look at the clocks of the hub and of the authority; if \
         they are right, set the list when its time has come"
    )]
    NotYet {
        /// When it was made.
        this_update: Timestamp,
        /// The time.
        now: Timestamp,
    },
    /// It does not say when the next one is due.
    #[error("The list does not say when the next one is due. Have it issued with nextUpdate")]
    NoEnd,
    /// The next one is due.
    #[error("A newer list was due at {next_update}, and it is {now}. Set the newest one of the authority")]
    Ended {
        /// When it was due.
        next_update: Timestamp,
        /// The time.
        now: Timestamp,
    },
    /// It tells changes only.
    #[error(
        "The list is a delta (deltaCRLIndicator): it says only what changed since another one. Set the complete list"
    )]
    Delta,
    /// It names certificates of other issuers.
    #[error(
        "The list is indirect: it names certificates of other issuers. Set the list of each issuer for its own authority"
    )]
    Indirect,
    /// It names certificates that no device brings.
    #[error(
        "The list is of attribute certificates only, which no device brings. Set one of public key certificates"
    )]
    AttributesOnly,
    /// It has a critical extension that the hub does not know.
    #[error(
        "The list has the critical extension {oid}, which this hub does not know. Have it issued without, or not critical"
    )]
    CriticalExtension {
        /// The extension.
        oid: String,
    },
    /// An entry has a critical extension that the hub does not know.
    #[error(
        "The entry of the certificate {serial} has the critical extension {oid}, which this hub does not know. Have the list \
         issued without, or not critical"
    )]
    CriticalEntryExtension {
        /// The serial number of the entry.
        serial: String,
        /// The extension.
        oid: String,
    },
    /// It has no number, and the one that it would replace has one.
    #[error(
        "The list has no cRLNumber, and the one that stands ({scope}) has {standing}: nothing says which is newer. Have it issued \
         with a greater number"
    )]
    NoNumber {
        /// Which certificates both speak of.
        scope: String,
        /// The number of the one that stands.
        standing: String,
    },
    /// It is older than the one that it would replace.
    #[error(
        "The list ({presented}) is older than the one that stands ({standing}), of the same certificates ({scope}). Set a newer one. \
         If the authority counts anew, remove the one that stands first: `holdfast certificate revoke NAME --remove SCOPE`"
    )]
    Older {
        /// Which certificates both speak of.
        scope: String,
        /// What tells its age.
        presented: String,
        /// What tells the age of the one that stands.
        standing: String,
    },
}

fn whose(signer: &Option<String>) -> String {
    match signer {
        Some(name) => format!(": that of the authority '{name}' of this hub, for which it can be set"),
        None => String::new(),
    }
}
