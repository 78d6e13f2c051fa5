//! The master key: read, checked, and made when there is none yet.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::info;

use crate::config::MasterKeySource;
use crate::session::MasterKey;
use crate::store::{SessionStore, StoreError};

/// Why there is no master key to work with. Nothing is ever overwritten.
#[derive(Debug, Error)]
pub enum MasterKeyError {
    #[error(
        "master key file {} is missing, but the session store was made with one: restore the file, or name it in store.master_key_file",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("cannot read master key file {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot create master key file {}: check that its directory exists and is writable", path.display())]
    Uncreatable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("master key file {} holds no master key: it must be 43 characters of base64url, which are 32 bytes", .0.display())]
    Malformed(PathBuf),
    #[error("master key file {} can be read by others (mode {mode:04o}): chmod 600 it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "the session store was made with another master key than {0}: configure the one that it was made with"
    )]
    Other(String),
    #[error("the session store failed")]
    Store(#[from] StoreError),
}

/// The key that the store was made with, or a new one for a new store.
pub async fn obtain(
    source: &MasterKeySource,
    store: &SessionStore,
) -> Result<MasterKey, MasterKeyError> {
    let known = store.master_key_fingerprint().await?;
    let (key, named) = match source {
        MasterKeySource::Given(key) => (key.clone(), "PORTCULLIS_STORE__MASTER_KEY".to_owned()),
        MasterKeySource::File(path) => {
            let key = match read(path)? {
                Some(key) => key,
                None if known.is_some() => return Err(MasterKeyError::Missing(path.clone())),
                None => create(path)?,
            };
            (key, path.display().to_string())
        }
    };
    match known {
        Some(fingerprint) if fingerprint != key.fingerprint() => Err(MasterKeyError::Other(named)),
        _ => Ok(key),
    }
}

fn read(path: &Path) -> Result<Option<MasterKey>, MasterKeyError> {
    let unreadable = |cause| MasterKeyError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(MasterKeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    MasterKey::parse(&text)
        .map(Some)
        .ok_or_else(|| MasterKeyError::Malformed(path.to_owned()))
}

/// For its owner alone; whoever makes one at the same time wins or loses as a whole.
fn create(path: &Path) -> Result<MasterKey, MasterKeyError> {
    let key = MasterKey::generate();
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        writeln!(file, "{}", *key.to_text())?;
        file.sync_all()
    };
    match write() {
        Ok(()) => {
            info!(file = %path.display(), "made a master key: keep a copy of it apart from the session store");
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| MasterKeyError::Missing(path.to_owned()))
        }
        Err(cause) => Err(MasterKeyError::Uncreatable {
            path: path.to_owned(),
            cause,
        }),
    }
}
