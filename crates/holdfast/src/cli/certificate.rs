//! `holdfast certificate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde_json::{Value, json};

use super::Common;
use super::output::{Format, list, one};
use super::target::{Request, encoded};

/// The commands about the certificate authorities of devices.
#[derive(Subcommand)]
pub(crate) enum CertificateCommand {
    /// Add a certificate authority.
    #[command(after_help = "Examples:
  holdfast certificate add ca.pem --verified
  holdfast certificate add ca.pem --name plant-ca      then: certificate verify plant-ca proof.pem")]
    Add {
        /// The certificate, PEM or DER.
        file: PathBuf,
        /// A name for it; the file's name when absent.
        #[arg(long)]
        name: Option<String>,
        /// You vouch that its key is held by who it should be; no proof of possession is asked for.
        #[arg(long)]
        verified: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List the certificate authorities.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show a certificate authority, with its verification code while one is awaited.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Prove possession of an authority's key, with a certificate that it issued to the verification code.
    Verify {
        /// Its name.
        name: String,
        /// The proof: a certificate whose common name is the verification code.
        #[arg(required_unless_present = "trust")]
        proof: Option<PathBuf>,
        /// You vouch for it instead.
        #[arg(long, conflicts_with = "proof")]
        trust: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Set a revocation list of an authority; certificates on it are refused.
    #[command(after_help = "Examples:
  holdfast certificate revoke plant-ca crl.pem         in place of the list of the same distribution point
  holdfast certificate revoke plant-ca --remove http://ca.example/1.crl     one that is not issued any more")]
    Revoke {
        /// The authority's name.
        name: String,
        /// The certificate revocation list, PEM or DER.
        #[arg(required_unless_present = "remove")]
        file: Option<PathBuf>,
        /// Remove the list of this scope instead, as `certificate show` has it.
        #[arg(long, value_name = "SCOPE", conflicts_with = "file")]
        remove: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Delete a certificate authority; connections that it admitted end.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show what a client must trust and which names it may use.
    ShowServer {
        #[command(flatten)]
        common: Common,
    },
}

const LINES: &[(&str, &str)] = &[
    ("Name", "/name"),
    ("Subject", "/subject"),
    ("Thumbprint", "/thumbprint"),
    ("Valid until", "/notAfter"),
    ("Verified", "/verified"),
    ("Verification code", "/verificationCode"),
];
const LIST_LINES: &[(&str, &str)] = &[
    ("REVOCATION LIST", "/scope"),
    ("NUMBER", "/number"),
    ("MADE", "/thisUpdate"),
    ("NEXT DUE", "/nextUpdate"),
    ("CERTIFICATES", "/revoked"),
    ("COUNTS", "/counts"),
];

/// Runs a command about certificate authorities.
pub(super) fn run(command: CertificateCommand) -> anyhow::Result<ExitCode> {
    match command {
        CertificateCommand::Add { file, name, verified, common } => {
            let stem =
                || file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let body = json!({ "certificate": certificate(&file)?, "verified": verified });
            let request = Request::new("PUT", path(&name.unwrap_or_else(stem))).with(body);
            show(&common, &common.target.open()?.management(request)?);
        }
        CertificateCommand::List { common } => {
            let authorities =
                common.target.open()?.management(Request::new("GET", "/holdfast/v1/certificates"))?;
            let authorities: Vec<Value> = authorities.as_array().cloned().unwrap_or_default();
            list(
                common.output,
                &authorities,
                &[
                    ("NAME", "/name"),
                    ("SUBJECT", "/subject"),
                    ("VALID UNTIL", "/notAfter"),
                    ("VERIFIED", "/verified"),
                ],
            );
        }
        CertificateCommand::Show { name, common } => {
            let authorities =
                common.target.open()?.management(Request::new("GET", "/holdfast/v1/certificates"))?;
            let named =
                authorities.as_array().and_then(|all| all.iter().find(|one| one["name"] == name.as_str()));
            show(&common, named.with_context(|| format!("there is no certificate authority `{name}`"))?);
        }
        CertificateCommand::Verify { name, proof, trust: _, common } => {
            let target = common.target.open()?;
            let request = match proof {
                Some(proof) => {
                    let body = json!({ "certificate": certificate(&proof)? });
                    Request::new("POST", format!("{}/verify", path(&name))).with(body)
                }
                None => Request::new("POST", format!("{}/trust", path(&name))),
            };
            show(&common, &target.management(request)?);
        }
        CertificateCommand::Revoke { name, file, remove, common } => {
            let place = format!("{}/revocation-list", path(&name));
            let request = match (file, remove) {
                (Some(file), _) => {
                    Request::new("PUT", place).with(json!({ "list": revocation_list(&file)? }))
                }
                (None, scope) => {
                    let scope = encoded(scope.as_deref().unwrap_or_default());
                    Request::new("DELETE", format!("{place}?scope={scope}"))
                }
            };
            show(&common, &common.target.open()?.management(request)?);
        }
        CertificateCommand::Delete { name, common } => {
            common.target.open()?.management(Request::new("DELETE", path(&name)))?;
        }
        CertificateCommand::ShowServer { common } => {
            let target = common.target.open()?;
            let mut hub = target.management(Request::new("GET", "/holdfast/v1/hub"))?;
            hub["caFile"] = json!(target.ca_file);
            one(
                common.output,
                &hub,
                &[("Names", "/hosts"), ("CA file", "/caFile"), ("TLS versions", "/tls")],
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows an authority, and its revocation lists below it.
fn show(common: &Common, authority: &Value) {
    one(common.output, authority, LINES);
    if let (Format::Table, Some(lists)) = (common.output, authority["revocationLists"].as_array())
        && !lists.is_empty()
    {
        list(common.output, lists, LIST_LINES);
    }
}

fn path(name: &str) -> String {
    format!("/holdfast/v1/certificates/{}", encoded(name))
}

/// The DER of a certificate file in base64.
fn certificate(file: &Path) -> anyhow::Result<String> {
    let bytes = read(file)?;
    let der = match bytes.starts_with(b"-----") || bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        true => CertificateDer::from_pem_slice(&bytes)
            .with_context(|| format!("{} holds no certificate in PEM", file.display()))?
            .to_vec(),
        false => bytes,
    };
    Ok(STANDARD.encode(der))
}

fn revocation_list(file: &Path) -> anyhow::Result<String> {
    let bytes = read(file)?;
    let der = match bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        true => CertificateRevocationListDer::from_pem_slice(&bytes)
            .with_context(|| format!("{} holds no certificate revocation list in PEM", file.display()))?
            .to_vec(),
        false => bytes,
    };
    Ok(STANDARD.encode(der))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
    if bytes.is_empty() {
        bail!("{} is empty", file.display());
    }
    Ok(bytes)
}
