//! A disk that fills up: a file system of four megabytes, in a mount namespace of its own.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use portcullis::store::{RevocationReason, Sequence, SessionStore, StoreError};

use crate::support::{NOW, log_after, session, user};

const SMALL_DISK: &str = "PORTCULLIS_TEST_SMALL_DISK";

/// Runs itself again where the small disk is mounted: in a mount namespace of its own.
#[tokio::test]
async fn a_full_disk_is_unavailable_and_half_writes_nothing() {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return fill_the_disk(Path::new(&disk)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    // Root needs no user namespace, and may not be allowed one; everybody else needs it.
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let user: &[&str] = if is_root {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    let status = Command::new("unshare")
        .args(user)
        .args(["--mount", "sh", "-ec"])
        .arg(r#"mount -t tmpfs -o size=4m none "$1"; exec "$2" --exact --nocapture "$3""#)
        .arg("sh")
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .arg("full_disk::a_full_disk_is_unavailable_and_half_writes_nothing")
        .env(SMALL_DISK, directory.path())
        .status()
        .unwrap();
    assert!(status.success());
}

async fn fill_the_disk(disk: &Path) {
    let url = format!("sqlite:{}", disk.join("sessions.db").display());
    let store = SessionStore::open(&url).await.unwrap();
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![0; 2 * 1024 * 1024]).unwrap();
    let mut opened = 0;
    let error = loop {
        let mut session = session("alice");
        session.data = "x".repeat(8 * 1024);
        match store.open_session(&session, Sequence::ZERO, None).await {
            Ok(_) => opened += 1,
            Err(error) => break error,
        }
        assert!(opened < 1_000, "the disk does not fill up");
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let alice = user("alice");
    let left = store.sessions_of_user(&alice, None, 1_000).await.unwrap();
    assert_eq!(left.len(), opened);
    let revoked = store
        .revoke_user(&alice, RevocationReason::Admin, NOW)
        .await;
    assert!(
        matches!(revoked, Err(StoreError::Unavailable(_))),
        "{revoked:?}"
    );
    assert_eq!(store.head().await.unwrap(), Sequence::ZERO);

    std::fs::remove_file(ballast).unwrap();
    let revoked = store
        .revoke_user(&alice, RevocationReason::Admin, NOW)
        .await
        .unwrap();
    assert_eq!(revoked.ended.len(), opened);
    assert_eq!(log_after(&store, 0).await.len(), opened);
}
