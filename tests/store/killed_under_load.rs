//! A database server that is killed while many work on it, and comes back: waits are bounded, connections are made anew, and
//! nothing that was answered is lost.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::session::SessionHandle;
use portcullis::store::{RevocationReason, Sequence, SessionStore, StoreError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::{NOW, log_after, patiently, session};
use crate::{mysql, postgres_server};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_loses_nothing_that_was_answered() {
    let mut server = postgres_server::Server::start().await;
    let store = SessionStore::open(&server.url()).await.unwrap();
    let crowd = Crowd::of(&store);
    crowd.works().await;
    server.kill();
    crowd.fails().await;
    server.restart().await;
    crowd.works().await;
    crowd.lost_nothing(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mariadb_loses_nothing_that_was_answered() {
    let mut server = mysql::server::Server::start().await;
    let database = mysql::Database::on(&server.url()).await;
    let store = database.open().await;
    let crowd = Crowd::of(&store);
    crowd.works().await;
    server.kill();
    crowd.fails().await;
    server.restart().await;
    crowd.works().await;
    crowd.lost_nothing(&store).await;
}

/// People who log in and out as fast as they can.
struct Crowd {
    people: JoinSet<Answered>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    done: AtomicUsize,
    failed: AtomicUsize,
}

/// What one of them was told.
#[derive(Default)]
struct Answered {
    /// Opened, and never ended.
    there: Vec<SessionHandle>,
    ended: Vec<(SessionHandle, Sequence)>,
}

const PEOPLE: usize = 12;

/// For the whole of an operation, on a machine that is busy with the tests.
const BOUND: Duration = Duration::from_secs(10);

impl Crowd {
    fn of(store: &SessionStore) -> Self {
        let shared = Arc::new(Shared::default());
        let mut people = JoinSet::new();
        for number in 0..PEOPLE {
            people.spawn(live(store.clone(), number, Arc::clone(&shared)));
        }
        Self { people, shared }
    }

    /// Until some hundred operations more have succeeded.
    async fn works(&self) {
        until(&self.shared.done, 300).await;
    }

    async fn fails(&self) {
        until(&self.shared.failed, PEOPLE).await;
    }

    async fn lost_nothing(self, store: &SessionStore) {
        self.shared.over.store(true, Ordering::Relaxed);
        let answered = self.people.join_all().await;
        let log = log_after(store, 0).await;
        let logged: HashMap<_, _> = log
            .iter()
            .map(|entry| (entry.handle.unwrap(), entry.sequence))
            .collect();
        assert_eq!(logged.len(), log.len(), "each session ended once");
        let count = |of: fn(&Answered) -> usize| answered.iter().map(of).sum::<usize>();
        assert!(count(|one| one.there.len()) > 0 && count(|one| one.ended.len()) > 0);
        for Answered { there, ended } in answered {
            for handle in there {
                let found = patiently(|| store.session(handle)).await;
                assert!(found.is_some() && !logged.contains_key(&handle));
            }
            for (handle, sequence) in ended {
                assert_eq!(logged.get(&handle), Some(&sequence));
                assert!(patiently(|| store.session(handle)).await.is_none());
            }
        }
        let numbers: BTreeSet<u64> = log.iter().map(|entry| entry.sequence.as_u64()).collect();
        let head = patiently(|| store.head()).await.as_u64();
        assert!(numbers.into_iter().eq(1..=head), "no number is missing");
        store.close().await;
    }
}

async fn until(counter: &AtomicUsize, more: usize) {
    let (before, started) = (counter.load(Ordering::Relaxed), Instant::now());
    while counter.load(Ordering::Relaxed) < before + more {
        assert!(started.elapsed() < Duration::from_secs(40));
        sleep(Duration::from_millis(5)).await;
    }
}

async fn live(store: SessionStore, number: usize, shared: Arc<Shared>) -> Answered {
    let mut answered = Answered::default();
    let mut round = number;
    while !shared.over.load(Ordering::Relaxed) {
        round += 1;
        let new = session(&format!("user {number}"));
        let opened = shared.told(store.open_session(&new, Sequence::ZERO, None));
        if opened.await.is_none() {
            continue;
        }
        if round.is_multiple_of(4) {
            answered.there.push(new.handle);
            continue;
        }
        let handles = [new.handle];
        let revoked = store.revoke(&handles, RevocationReason::Logout, NOW);
        if let Some(revoked) = shared.told(revoked).await {
            answered.ended.push((new.handle, revoked.sequence));
        }
    }
    answered
}

impl Shared {
    /// `None` if it failed, as it may: soon, and such that it can be tried again.
    async fn told<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        let started = Instant::now();
        let told = asked.await;
        let took = started.elapsed();
        assert!(took < BOUND, "{took:?}");
        match told {
            Ok(done) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                Some(done)
            }
            Err(error) => {
                assert!(error.is_temporary(), "{error:?}");
                self.failed.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(5)).await;
                None
            }
        }
    }
}
