//! The notary of the audit log: it has the log's key, and signs and keeps a checkpoint now and then, so that a later
//! verification can tell between which two the log was changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::audit::checkpoint::Checkpoint;
use hub::audit::evidence::Kept;
use hub::audit::note::{SigningKey, VerifierKey};
use hub::ports::clock::{Clock, Random as _};
use hub::ports::registry::{Registry, StoreError};
use hub::ports::secrets::Secrets;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files::create_private;
use crate::secrets::SystemRandom;

/// Records after which a checkpoint is due.
const EVERY_RECORDS: u64 = 4_096;
/// Time after which one is due when something was added.
const EVERY: Duration = Duration::from_secs(3_600);
/// How often the notary looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The place that the private key is sealed for.
const PLACE: &str = "audit log key";

/// The key as it rests: the public half for whoever verifies the data directory, the private one sealed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyFile {
    verifier: String,
    sealed: String,
}

/// Signs checkpoints.
pub(crate) struct Notary {
    key: SigningKey,
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    /// The size of the newest checkpoint that this process signed, and when.
    newest: Mutex<(u64, Instant)>,
}

impl Notary {
    /// Opens the key of a data directory. On first start one is made, and the log is named after the host and a random
    /// number: a name that stays, whatever the host is called later.
    pub(crate) fn open(
        directory: &Path,
        secrets: &dyn Secrets,
        host: &str,
        registry: Arc<dyn Registry>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Arc<Self>> {
        let path = key_file(directory);
        let key = match path.exists() {
            true => open_key(&path, secrets)?,
            false => make_key(&path, secrets, host)?,
        };
        Ok(Arc::new(Self { key, registry, clock, newest: Mutex::new((0, Instant::now())) }))
    }

    /// The public half of the key.
    pub(crate) fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// Signs and keeps a checkpoint of the log as it is; one that is `exported` is never thinned out.
    pub(crate) async fn checkpoint(&self, exported: bool) -> Result<Kept, StoreError> {
        let head = self.registry.head().await?;
        let origin = self.verifier().name().to_owned();
        let note = Checkpoint { origin, size: head.size, root: head.root }.sign(&self.key);
        let kept = Kept { size: head.size, time: self.clock.now(), note, exported, path: None };
        self.registry.keep_checkpoint(kept.clone()).await?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = (head.size, Instant::now());
        Ok(kept)
    }

    /// Signs a checkpoint unless the newest one is for the same size.
    pub(crate) async fn checkpoint_if_grown(&self) -> Result<(), StoreError> {
        if self.registry.head().await?.size > self.newest().0 {
            self.checkpoint(false).await?;
        }
        Ok(())
    }

    /// Signs whenever one is due, for as long as the process lives.
    pub(crate) fn start(self: &Arc<Self>) {
        let notary = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut look = tokio::time::interval(LOOK_EVERY);
            loop {
                look.tick().await;
                let Some(notary) = notary.upgrade() else { return };
                if let Err(error) = notary.checkpoint_if_due().await {
                    tracing::error!(%error, "a checkpoint of the audit log could not be signed");
                }
            }
        });
    }

    async fn checkpoint_if_due(&self) -> Result<(), StoreError> {
        let (signed, when) = self.newest();
        let size = self.registry.head().await?.size;
        if size >= signed + EVERY_RECORDS || size > signed && when.elapsed() >= EVERY {
            self.checkpoint(false).await?;
        }
        Ok(())
    }

    fn newest(&self) -> (u64, Instant) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file of the log's key in a data directory.
fn key_file(directory: &Path) -> PathBuf {
    directory.join("audit-key.json")
}

/// The public half of the key of a data directory, which rests unsealed.
pub(crate) fn verifier_in(directory: &Path) -> anyhow::Result<VerifierKey> {
    let path = key_file(directory);
    read(&path)?.verifier.parse().with_context(|| format!("{} is damaged", path.display()))
}

fn read(path: &Path) -> anyhow::Result<KeyFile> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

fn open_key(path: &Path, secrets: &dyn Secrets) -> anyhow::Result<SigningKey> {
    let file = read(path)?;
    let damaged = || format!("the key of the audit log in {} does not open", path.display());
    let verifier: VerifierKey = file.verifier.parse().with_context(damaged)?;
    let sealed = STANDARD.decode(&file.sealed).with_context(damaged)?;
    let seed = secrets.open(PLACE, &sealed).with_context(damaged)?;
    let key = SigningKey::from_seed(verifier.name(), &seed).with_context(damaged)?;
    anyhow::ensure!(*key.verifier() == verifier, "{}: its two halves are of different keys", damaged());
    Ok(key)
}

fn make_key(path: &Path, secrets: &dyn Secrets, host: &str) -> anyhow::Result<SigningKey> {
    let (mut seed, mut number) = (Zeroizing::new([0_u8; 32]), [0_u8; 4]);
    SystemRandom.fill(&mut *seed);
    SystemRandom.fill(&mut number);
    let key = SigningKey::from_seed(&format!("{host}/audit/{:08x}", u32::from_be_bytes(number)), &*seed)?;
    let sealed = secrets.seal(PLACE, &*seed).context("the key of the audit log cannot be sealed")?;
    let file = KeyFile { verifier: key.verifier().to_string(), sealed: STANDARD.encode(sealed) };
    create_private(path, serde_json::to_string_pretty(&file)?.as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::KeyRing;

    #[test]
    fn the_key_is_the_same_after_a_restart_and_does_not_rest_in_clear() {
        let directory = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::open(directory.path(), None).expect("opens");
        let path = key_file(directory.path());
        let made = make_key(&path, &ring, "hub.example").expect("made");
        let opened = open_key(&path, &ring).expect("opens");
        assert_eq!(opened.sign("text\n"), made.sign("text\n"));
        assert_eq!(&verifier_in(directory.path()).expect("there"), made.verifier());
        assert!(made.verifier().name().starts_with("hub.example/audit/"));
        let mut file = read(&path).expect("reads");
        file.verifier =
            SigningKey::from_seed(made.verifier().name(), &[1; 32]).expect("a key").verifier().to_string();
        std::fs::write(&path, serde_json::to_string(&file).expect("JSON")).expect("writes");
        assert!(open_key(&path, &ring).is_err(), "a verifier key put in the place of another");
    }
}
