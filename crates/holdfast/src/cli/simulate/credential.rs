//! Who the simulated device is, and how it proves it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use sim::{Credential, Issued, SasKey, TlsVersions, Trust};

use crate::cli::connection_string::DeviceConnectionString;
use crate::cli::target::{Request, Target, encoded};

/// How the device proves who it is: by its registered key, which the hub is asked for, unless another way is named.
#[derive(clap::Args)]
pub(super) struct CredentialArgs {
    /// The device's own connection string; the hub need not be asked for its key then.
    #[arg(
        long = "as",
        value_name = "CONNECTION STRING",
        conflicts_with_all = ["id", "module", "token", "policy"]
    )]
    pub(super) connect_as: Option<String>,
    /// A SAS token that was made elsewhere. It is not renewed.
    #[arg(long, value_name = "SAS", conflicts_with_all = ["policy", "certificate"])]
    token: Option<String>,
    /// The key of this shared access policy, instead of the device's.
    #[arg(long, value_name = "NAME", conflicts_with = "certificate")]
    policy: Option<String>,
    /// A client certificate in PEM, with those above it behind it.
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// How long its tokens live. They are renewed when four fifths of that are over.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(5..))]
    token_seconds: u64,
}

/// A credential, what it is called, and whom the device trusts, which holds its certificate.
pub(super) struct Proof {
    pub(super) credential: Credential,
    pub(super) name: String,
    pub(super) trust: Trust,
}

impl CredentialArgs {
    /// Finds the credential of an identity.
    pub(super) fn proof(
        &self,
        given: Option<&DeviceConnectionString>,
        target: &Target,
        device: &str,
        module: Option<&str>,
    ) -> anyhow::Result<Proof> {
        let ca = read(&target.ca_file)?;
        let lifetime = Duration::from_secs(self.token_seconds);
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.private_key) {
            let own = Issued { chain: read(certificate)?, key: read(key)? };
            let trust = Trust::presenting(&ca, TlsVersions::Both, &own).with_context(|| {
                format!("{} and {} are no certificate and its key", certificate.display(), key.display())
            })?;
            let name = format!("certificate {}", certificate.display());
            return Ok(Proof { credential: Credential::Certificate, name, trust });
        }
        let (credential, name) = if let Some(token) = &self.token {
            (Credential::Token(token.clone()), "token as given".to_owned())
        } else if let Some(policy) = &self.policy {
            let key = policy_key(target, policy)?;
            let key = SasKey::of_policy(policy, &key)?;
            (Credential::Sas { key, lifetime }, format!("key of the policy {policy}"))
        } else if let Some(given) = given {
            let Some(key) = &given.key else {
                bail!(
                    "the connection string is that of a device with a certificate: give it by --certificate and \
                     --private-key"
                );
            };
            let key = match &given.policy {
                None => SasKey::of_device(key)?,
                Some(policy) => SasKey::of_policy(policy, key)?,
            };
            (Credential::Sas { key, lifetime }, "key of the connection string".to_owned())
        } else {
            let key = registered_key(target, device, module)?;
            (Credential::Sas { key: SasKey::of_device(&key)?, lifetime }, "its registered key".to_owned())
        };
        Ok(Proof { credential, name, trust: Trust::in_pem(&ca, TlsVersions::Both)? })
    }
}

/// The primary key of an identity, as the service API gives it.
fn registered_key(target: &Target, device: &str, module: Option<&str>) -> anyhow::Result<String> {
    let module = module.map(|module| format!("/modules/{}", encoded(module))).unwrap_or_default();
    let identity = target.service(Request::new("GET", format!("/devices/{}{module}", encoded(device))))?;
    let key = identity.pointer("/authentication/symmetricKey/primaryKey").and_then(Value::as_str);
    key.filter(|key| !key.is_empty()).map(str::to_owned).with_context(|| {
        let kind = identity.pointer("/authentication/type").and_then(Value::as_str).unwrap_or("none");
        format!(
            "it has no key: its authentication is {kind}. Give its certificate by --certificate and --private-key, or \
             connect with --policy NAME"
        )
    })
}

/// The key of a policy: that of the target's own connection string, or as the management API gives it.
fn policy_key(target: &Target, name: &str) -> anyhow::Result<String> {
    if let Ok((own, key)) = target.policy()
        && own == name
    {
        return Ok(key.to_owned());
    }
    let policy =
        target.management(Request::new("GET", format!("/holdfast/v1/policies/{}", encoded(name))))?;
    let key = policy["primaryKey"].as_str().context("the hub does not say the key of the policy")?;
    Ok(key.to_owned())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}
