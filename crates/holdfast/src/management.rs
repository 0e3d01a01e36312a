//! The credential of Holdfast's own API: made at first start, kept in a file that only its owner may read. No right
//! of Azure's opens that API, and this credential opens nothing of Azure's.

use std::path::{Path, PathBuf};

use anyhow::bail;
use aws_lc_rs::constant_time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub::ports::clock::Random as _;
use zeroize::Zeroizing;

use crate::files::{create_private, read_private};
use crate::secrets::SystemRandom;

/// The management credential.
pub(crate) struct Management {
    credential: Zeroizing<String>,
    /// The file that holds it.
    pub(crate) file: PathBuf,
}

impl Management {
    /// Opens the credential of a data directory, or makes it on first start.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        let file = directory.join("management.credential");
        if !file.exists() {
            let mut bytes = Zeroizing::new([0_u8; 32]);
            SystemRandom.fill(&mut *bytes);
            create_private(&file, format!("{}\n", URL_SAFE_NO_PAD.encode(*bytes)).as_bytes())?;
        }
        let credential = Zeroizing::new(read_private(&file)?.trim().to_owned());
        if credential.len() < 32 {
            bail!("{} holds no management credential; delete it to have a new one made", file.display());
        }
        Ok(Self { credential, file })
    }

    /// Whether this is the value of an `Authorization` header with the credential.
    pub(crate) fn admits(&self, header: Option<&str>) -> bool {
        let presented = header.and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default();
        constant_time::verify_slices_are_equal(presented.as_bytes(), self.credential.as_bytes()).is_ok()
    }
}
