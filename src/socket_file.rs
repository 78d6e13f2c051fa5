//! A listener at a path, and not at an address.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a listener; removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    /// A listener that does not block, open to whom `mode` names. A file that a process left behind is replaced; one on which
    /// somebody listens, and what is no socket, stays.
    pub fn bind(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, Self)> {
        remove_if_abandoned(path);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = Self {
            path: path.to_owned(),
        };
        // Nobody can connect before it listens, so the file is never open to others, whatever the umask.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        socket.listen(backlog)?;
        Ok((OwnedFd::from(socket).into(), file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that is left behind is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// A process that was killed leaves its file behind; one that runs answers.
fn remove_if_abandoned(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::SocketFile;

    #[test]
    fn a_socket_file_has_its_mode_and_is_replaced_only_when_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.sock");
        let bind = |mode| SocketFile::bind(&path, mode, 1);
        for expected in [0o600, 0o660, 0o666] {
            drop(UnixListener::bind(&path).unwrap());
            let (listener, file) = bind(expected).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, expected);
            assert!(bind(0o600).is_err(), "one that runs stays");
            drop((listener, file));
            assert!(!path.exists());
        }
        fs::write(&path, "not a socket").unwrap();
        assert!(bind(0o600).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a socket");
    }
}
