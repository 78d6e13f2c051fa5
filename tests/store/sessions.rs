//! Sessions are what was written, for as long as it says.

use std::time::Duration;

use portcullis::session::{Device, MasterKey, SessionHandle};
use portcullis::store::{
    Liveness, RETENTION_MARGIN, RevocationReason, Sequence, SessionStore, StoreError,
};

use crate::support::{
    ABSOLUTE, ACCESS, IDLE, NOW, assert_same, open, session, shown, signing_key, user,
};

const SECOND: Duration = Duration::from_secs(1);

pub async fn a_session_is_written_and_read_back(store: &SessionStore) {
    let mut plain = session("alice");
    plain.lineage.used_at = None;
    let mut full = session("Zoë 👩‍💻 ' -- %00");
    full.lineage.generation = u32::MAX;
    full.lineage.used_at = Some(NOW + SECOND);
    full.lineage.predecessor_used_at = Some(NOW - SECOND);
    full.claims = format!(r#"{{"big":"{}"}}"#, "é".repeat(100_000));
    full.claims_version = 7;
    full.data = r#"{"nul":"\u0000","quote":"'"}"#.into();
    full.device = Device {
        address: "2001:db8::1".into(),
        user_agent: "Mozilla/5.0 (X11) \u{fffd}".into(),
    };
    for session in [plain, full] {
        store
            .open_session(&session, Sequence::ZERO, None)
            .await
            .unwrap();
        let found = store.session(session.handle).await.unwrap().unwrap();
        assert_same(&found, &session);
    }
    let unknown = store.session(SessionHandle::random()).await.unwrap();
    assert!(unknown.is_none());
}

pub async fn a_session_is_live_until_either_end(store: &SessionStore) {
    let key = signing_key(store, &MasterKey::generate()).await;
    let idle = open(store, "alice").await.handle;
    let mut session = session("alice");
    session.lineage.idle_expires_at = NOW + ABSOLUTE;
    let absolute = session.handle;
    store
        .open_session(&session, Sequence::ZERO, None)
        .await
        .unwrap();
    let cases = [
        (idle, NOW, true),
        (idle, NOW + IDLE - SECOND, true),
        (idle, NOW + IDLE, false),
        (absolute, NOW + ABSOLUTE - SECOND, true),
        (absolute, NOW + ABSOLUTE, false),
        (SessionHandle::random(), NOW, false),
    ];
    for (handle, now, live) in cases {
        assert_eq!(
            store.liveness(handle, shown(&key), now).await.unwrap(),
            if live { Liveness::Live } else { Liveness::Over },
            "{handle} at {now}"
        );
    }
    store
        .revoke(&[idle], RevocationReason::Logout, NOW)
        .await
        .unwrap();
    let over = store.liveness(idle, shown(&key), NOW).await.unwrap();
    assert_eq!(over, Liveness::Over);
}

pub async fn a_handle_opens_one_session_only(store: &SessionStore) {
    let first = open(store, "alice").await;
    let mut second = session("mallory");
    second.handle = first.handle;
    let refused = store.open_session(&second, Sequence::ZERO, None).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    let found = store.session(first.handle).await.unwrap().unwrap();
    assert_same(&found, &first);
}

pub async fn sessions_are_listed_in_pages(store: &SessionStore) {
    let mut of_alice = Vec::new();
    let mut of_all = Vec::new();
    for number in 0..7 {
        of_alice.push(open(store, "alice").await.handle);
        if number % 2 == 0 {
            of_all.push(open(store, "bob").await.handle);
        }
    }
    of_all.extend(&of_alice);
    of_alice.sort();
    of_all.sort();

    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .sessions_of_user(&user("alice"), after, 3)
            .await
            .unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.handle);
        listed.extend(page.iter().map(|session| session.handle));
    }
    assert_eq!(listed, of_alice);

    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.all_sessions(after, 4).await.unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(last.handle);
        listed.extend(page.iter().map(|session| session.handle));
    }
    assert_eq!(listed, of_all);
}

pub async fn user_ids_are_compared_byte_for_byte(store: &SessionStore) {
    // Cases, a composed and a decomposed letter, a sharp s, a digit that some collations take for another.
    let names = [
        "alice", "Alice", "ALICE", "é", "e\u{301}", "e", "ß", "ss", "1", "①", "a b", "a  b",
    ];
    for name in names {
        open(store, name).await;
    }
    for name in names {
        let found = store.sessions_of_user(&user(name), None, 10).await.unwrap();
        assert_eq!(found.len(), 1, "{name:?}");
        assert_eq!(found[0].user.as_str(), name);
    }
}

pub async fn data_is_replaced(store: &SessionStore) {
    let mut session = open(store, "alice").await;
    assert!(
        store
            .replace_data(session.handle, r#"{"cart":3}"#)
            .await
            .unwrap()
    );
    session.data = r#"{"cart":3}"#.into();
    let found = store.session(session.handle).await.unwrap().unwrap();
    assert_same(&found, &session);
    let unknown = SessionHandle::random();
    assert!(!store.replace_data(unknown, "{}").await.unwrap());
    assert!(store.session(unknown).await.unwrap().is_none());
}

pub async fn what_is_over_is_removed_but_not_revoked(store: &SessionStore) {
    for _ in 0..5 {
        open(store, "alice").await;
    }
    let mut renewed = session("alice");
    renewed.lineage.idle_expires_at = NOW + IDLE + SECOND;
    // Idle before its access token has expired: a logout in between must still find it.
    let mut short = session("alice");
    short.lineage.idle_expires_at = NOW + SECOND;
    for session in [&renewed, &short] {
        store
            .open_session(session, Sequence::ZERO, None)
            .await
            .unwrap();
    }

    let removed = async |now| store.remove_expired(now, 100).await.unwrap();
    assert_eq!(removed(NOW + SECOND).await, 0);
    assert_eq!(removed(NOW + ACCESS + RETENTION_MARGIN - SECOND).await, 0);
    assert_eq!(removed(NOW + ACCESS + RETENTION_MARGIN).await, 1);
    assert!(store.session(short.handle).await.unwrap().is_none());
    assert_eq!(store.remove_expired(NOW + IDLE, 3).await.unwrap(), 3);
    assert_eq!(store.remove_expired(NOW + IDLE, 3).await.unwrap(), 2);
    assert_eq!(store.remove_expired(NOW + IDLE, 3).await.unwrap(), 0);
    assert!(store.session(renewed.handle).await.unwrap().is_some());
    assert_eq!(store.head().await.unwrap(), Sequence::ZERO);
}
