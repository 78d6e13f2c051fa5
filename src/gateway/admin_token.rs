//! The admin token: read from its file, and checked before anything listens.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::admin::AdminToken;

/// Why there is no admin token to compare with.
#[derive(Debug, Error)]
pub enum AdminTokenError {
    #[error(
        "cannot read admin token file {}: make one with `(umask 077; openssl rand -hex 32 > FILE)`",
        path.display()
    )]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("admin token file {} can be read by others (mode {mode:04o}): chmod 600 it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "admin token file {} holds no admin token: it must be one line of at least {} visible ASCII characters",
        .0.display(),
        AdminToken::MIN_BYTES
    )]
    Malformed(PathBuf),
}

pub fn read(path: &Path) -> Result<AdminToken, AdminTokenError> {
    let unreadable = |cause| AdminTokenError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let text = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(AdminTokenError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    AdminToken::parse(&text).ok_or_else(|| AdminTokenError::Malformed(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::{AdminTokenError, read};

    #[test]
    fn a_token_that_others_know_or_can_guess_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.token");
        let missing = read(&path).unwrap_err();
        assert!(matches!(missing, AdminTokenError::Unreadable { .. }));
        assert!(missing.to_string().contains("make one with"));
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        write(&"t".repeat(32), 0o644);
        assert!(matches!(
            read(&path),
            Err(AdminTokenError::Exposed { mode: 0o644, .. })
        ));
        write(&"t".repeat(31), 0o600);
        let weak = read(&path).unwrap_err();
        assert!(matches!(weak, AdminTokenError::Malformed(_)));
        assert!(!weak.to_string().contains("ttt"));
        write(&"t".repeat(32), 0o600);
        assert!(read(&path).is_ok());
    }
}
