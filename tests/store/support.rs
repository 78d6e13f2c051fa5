//! Sessions to store, and patience.

use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::identity::UserId;
use portcullis::secret::{Secret, random_bytes};
use portcullis::session::{
    Device, KeyId, Lineage, MasterKey, RefreshHash, Session, SessionHandle, SigningAlgorithm,
    SigningKey,
};
use portcullis::store::{
    LogEntry, OpenOutcome, ReplicaId, ReplicaRow, Rotation, Sequence, SessionStore, Shown,
    StoreError,
};

pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub const ACCESS: Duration = Duration::from_secs(3600);
pub const IDLE: Duration = Duration::from_secs(100 * 24 * 3600);
pub const ABSOLUTE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What `scripts/databases up` has said of a server: in the environment, or in the file that it writes.
pub fn server_url(variable: &str) -> String {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.test/databases/env");
    if let Ok(url) = std::env::var(variable) {
        return url;
    }
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(variable)?.strip_prefix('='))
        .unwrap_or_else(|| {
            panic!("there is no {variable}: run ./scripts/databases up before the tests")
        })
        .to_owned()
}

pub fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// A session of the user that begins at [`NOW`].
pub fn session(name: &str) -> Session {
    Session {
        handle: SessionHandle::random(),
        user: user(name),
        secret: Secret::random(),
        lineage: Lineage::begin(NOW, IDLE, ABSOLUTE),
        refresh_hash: RefreshHash::from_bytes(random_bytes()),
        claims: r#"{"role":"reader"}"#.into(),
        claims_version: 0,
        data: "{}".into(),
        created_at: NOW,
        last_seen_at: NOW,
        access_expires_at: NOW + ACCESS,
        device: Device::default(),
    }
}

/// The first signing key of a new store.
pub async fn signing_key(store: &SessionStore, master: &MasterKey) -> KeyId {
    let key = SigningKey::generate(SigningAlgorithm::Hs256).unwrap();
    let sealed = key.seal(master, NOW);
    patiently(|| store.initialise_keys(master.fingerprint(), &sealed)).await;
    key.id().clone()
}

/// A session of the user, opened by a login that knew everything.
pub async fn open(store: &SessionStore, name: &str) -> Session {
    let session = session(name);
    let known = patiently(|| store.head()).await;
    let outcome = patiently(|| store.open_session(&session, known, None)).await;
    assert_eq!(outcome, OpenOutcome::Opened { replaced: None });
    session
}

/// The rotation that follows a look at the session.
pub fn rotation_of(session: &Session, now: Timestamp) -> Rotation {
    Rotation {
        handle: session.handle,
        from_generation: session.lineage.generation,
        claims_version: session.claims_version,
        to: session.lineage.rotated(now, IDLE),
        refresh_hash: RefreshHash::from_bytes(random_bytes()),
        access_expires_at: now + ACCESS,
        now,
    }
}

/// What a replica writes that has applied nothing.
pub fn replica_row(id: ReplicaId, beat: u64) -> ReplicaRow {
    ReplicaRow {
        id,
        beat,
        applied: Sequence::ZERO,
        lease: Duration::from_secs(3),
    }
}

pub async fn log_after(store: &SessionStore, applied: u64) -> Vec<LogEntry> {
    store
        .read_log(Sequence::new(applied))
        .await
        .unwrap()
        .entries
}

/// Tries again while the store is busy: on a loaded machine a queue may be longer than the store lets anyone wait.
pub async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    mut operation: impl FnMut() -> F,
) -> T {
    loop {
        match operation().await {
            Err(error) if error.is_temporary() => tokio::task::yield_now().await,
            result => return result.unwrap(),
        }
    }
}

/// All fields of a session, for comparison; secrets are only told apart.
pub fn assert_same(found: &Session, expected: &Session) {
    assert!(found.secret == expected.secret && found.refresh_hash == expected.refresh_hash);
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

/// A token that was signed with the key, of a session whose claims never changed.
pub fn shown(key: &KeyId) -> Option<Shown<'_>> {
    Some(Shown {
        key,
        claims_version: 0,
    })
}
