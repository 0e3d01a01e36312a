//! An account of Azure's storage that devices write to in place of the hub itself (`docs/protocol/file-upload.md` §2).
//! The hub makes the links; the bytes go past it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authenticate::{open_key, seal_key};
use crate::deed::PlainChange;
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::ports::registry::Write;
use crate::record::{Key, Record, SealedKey, Slot};
use crate::registry::{By, change};

/// The version of the signature; the first one with these fields is 2020-12-06.
const VERSION: &str = "2021-08-06";
/// Where the key is sealed for.
const PLACE: &str = "upload account";

/// An account, without its key but for the sealed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Its name.
    pub name: String,
    /// The host of its blobs, with the port where it is not 443.
    pub host: String,
    /// What stands before the container in paths: empty, or the account's name where the host does not name it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The container that devices write to.
    pub container: String,
    /// Its key.
    pub key: SealedKey,
    /// The certificate authority of the host, PEM, where it is none of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// An account as its owner gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountText {
    /// The connection string.
    pub connection_string: Zeroizing<String>,
    /// The container.
    pub container: String,
    /// The certificate authority, PEM.
    pub authority: Option<String>,
}

/// Where an upload goes that does not go to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elsewhere {
    /// The host of the storage.
    pub host: String,
    /// The container as it stands in paths.
    pub container: String,
}

impl Account {
    /// Where it is.
    pub fn place(&self) -> Elsewhere {
        let container = match self.prefix.as_str() {
            "" => self.container.clone(),
            prefix => format!("{prefix}/{}", self.container),
        };
        Elsewhere { host: self.host.clone(), container }
    }

    /// The query string that opens one blob, with its question mark: a service SAS of Azure's storage, over HTTPS only.
    pub(super) fn query(&self, key: &str, blob: &str, permissions: &str, ends: Timestamp) -> Option<String> {
        let ends = ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let resource = format!("/blob/{}/{}/{blob}", self.name, self.container);
        // Permissions, start, end, resource, identifier, addresses, protocol, version, kind, snapshot, encryption scope,
        // and five headers of answers.
        let fields = [permissions, "", &ends, &resource, "", "", "https", VERSION, "b"];
        let text = format!("{}{}", fields.join("\n"), "\n".repeat(7));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).ok()?);
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (ends, signature) = (encoded(&ends), encoded(&signature));
        Some(format!("?sv={VERSION}&spr=https&se={ends}&sr=b&sp={permissions}&sig={signature}"))
    }

    /// Reads a connection string and a container; the text says what is wrong. `seal` is given the key.
    fn parse(
        text: &AccountText,
        seal: impl FnOnce(&str) -> Result<SealedKey, String>,
    ) -> Result<Self, String> {
        let part = |wanted: &str| {
            let parts = text.connection_string.trim().split(';').filter_map(|part| part.split_once('='));
            parts.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
        };
        let needed = |name: &str| part(name).filter(|value| !value.is_empty()).ok_or_else(|| missing(name));
        let (name, key) = (needed("AccountName")?, needed("AccountKey")?);
        if STANDARD.decode(key).is_err() {
            return Err("AccountKey is not base64".to_owned());
        }
        if part("DefaultEndpointsProtocol").is_some_and(|protocol| !protocol.eq_ignore_ascii_case("https")) {
            return Err("DefaultEndpointsProtocol is not https: devices write over TLS only".to_owned());
        }
        let (host, prefix) = match part("BlobEndpoint") {
            Some(endpoint) => {
                let rest = endpoint.strip_prefix("https://");
                let rest =
                    rest.ok_or("BlobEndpoint does not begin with https://: devices write over TLS only")?;
                let (host, prefix) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest, ""));
                (host.trim_end_matches('/').to_owned(), prefix.to_owned())
            }
            None => {
                let suffix = part("EndpointSuffix").unwrap_or("core.windows.net");
                (format!("{name}.blob.{suffix}"), String::new())
            }
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || "-.:_/".contains(c);
        if host.is_empty() || !host.chars().all(legal) || !prefix.chars().all(legal) {
            return Err(format!("`{host}` is no host"));
        }
        let in_container = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '$';
        if !(3..=63).contains(&text.container.len()) || !text.container.chars().all(in_container) {
            return Err("a container's name has 3 to 63 lower-case letters, digits and dashes".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            host,
            prefix,
            container: text.container.clone(),
            key: seal(key)?,
            authority: text.authority.clone(),
        })
    }
}

fn missing(name: &str) -> String {
    format!("the connection string of the storage account has no {name}")
}

impl Hub {
    /// The account that devices write to; `None` where they write to the hub.
    pub async fn upload_account(&self) -> Result<Option<Account>, HubError> {
        Ok(match self.registry.load(Key::UploadAccount).await?.map(|stored| stored.record) {
            Some(Record::UploadAccount(account)) => Some(*account),
            _ => None,
        })
    }

    /// Has devices write to an account from now on, or to the hub again. Uploads that are open go on where they began.
    pub async fn set_upload_account(&self, text: Option<&AccountText>, by: &By) -> Result<(), HubError> {
        let now = self.now();
        let seal = |key: &str| {
            let place = (PLACE, Slot::Primary);
            seal_key(key, PLACE, place, &*self.secrets, now).map_err(|error| error.to_string())
        };
        let account = text.map(|text| Account::parse(text, seal)).transpose();
        let account = account.map_err(|problem| HubError::new(HubErrorCode::ArgumentInvalid, problem))?;
        self.change(&[Key::UploadAccount], |loaded| {
            let replaces = loaded[0].as_ref().map(|stored| stored.version);
            let target = account.as_ref().map_or_else(
                || "the hub".to_owned(),
                |account| format!("{}/{}", account.host, account.container),
            );
            let record = account.clone().map(|account| Record::UploadAccount(Box::new(account)));
            let write = Write { key: Key::UploadAccount, replaces, record };
            Ok((change(vec![write], PlainChange::SetUploadAccount, target, by, now), ()))
        })
        .await
    }

    /// A query string that opens a blob of an account.
    pub(super) fn account_query(
        &self,
        account: &Account,
        blob: &str,
        permissions: &str,
        ends: Timestamp,
    ) -> Result<String, HubError> {
        let key = open_key(&account.key, PLACE, Slot::Primary, &*self.secrets);
        key.and_then(|key| account.query(&key, blob, permissions, ends)).ok_or_else(|| {
            HubError::new(HubErrorCode::ServerError, "The key of the storage account does not open")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(connection_string: &str, container: &str) -> Result<Account, String> {
        let text = AccountText {
            connection_string: Zeroizing::new(connection_string.to_owned()),
            container: container.to_owned(),
            authority: None,
        };
        let sealed = |key: &str| {
            Ok(SealedKey {
                sealed: key.to_owned(),
                fingerprint: crate::ports::secrets::Fingerprint([0; 16]),
                set: Timestamp::UNIX_EPOCH,
                quality: None,
            })
        };
        Account::parse(&text, sealed)
    }

    #[test]
    fn connection_strings_are_read_in_both_forms() {
        let azure = read(
            "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=AAAA;EndpointSuffix=core.windows.net",
            "files",
        );
        let place = azure.expect("it is one").place();
        assert_eq!((place.host.as_str(), place.container.as_str()), ("acc.blob.core.windows.net", "files"));
        let own = read("AccountName=acc;AccountKey=AAAA;BlobEndpoint=https://127.0.0.9:10000/acc/", "files");
        let place = own.expect("it is one").place();
        assert_eq!((place.host.as_str(), place.container.as_str()), ("127.0.0.9:10000", "acc/files"));
    }

    #[test]
    fn what_cannot_be_written_to_safely_is_refused() {
        for (text, container, problem) in [
            ("AccountKey=AAAA", "files", "AccountName"),
            ("AccountName=acc", "files", "AccountKey"),
            ("AccountName=acc;AccountKey=?", "files", "base64"),
            ("AccountName=acc;AccountKey=AAAA;DefaultEndpointsProtocol=http", "files", "https"),
            ("AccountName=acc;AccountKey=AAAA;BlobEndpoint=http://h/acc", "files", "https"),
            ("AccountName=acc;AccountKey=AAAA;BlobEndpoint=https://h\n/acc", "files", "host"),
            ("AccountName=acc;AccountKey=AAAA", "Files", "container"),
            ("AccountName=acc;AccountKey=AAAA", "a/b", "container"),
        ] {
            let error = read(text, container).expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
