//! Revocations that were asked for while the store could not be reached, until they are written.
//!
//! They are written by one task (`settle`), in few transactions: an outage may leave thousands. However often one is asked for,
//! it is owed once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::identity::UserId;
use crate::session::SessionHandle;
use crate::store::RevocationReason;

/// What this process owes to the store.
#[derive(Debug, Default)]
pub(super) struct Owed {
    state: Mutex<State>,
    is_any: AtomicBool,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    pending: HashSet<Pending>,
    /// Users whose sessions are being ended right now, as often as somebody does it.
    underway: HashMap<UserId, usize>,
}

/// All sessions of a user are being ended, until this is dropped.
pub(super) struct Underway<'a> {
    owed: &'a Owed,
    user: UserId,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut state = self.owed.lock();
        if let Some(count) = state.underway.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                state.underway.remove(&self.user);
            }
        }
    }
}

/// A revocation that is owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pending {
    Session(SessionHandle, RevocationReason),
    User(UserId, RevocationReason),
}

/// What is written in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    Sessions(Vec<SessionHandle>, RevocationReason),
    User(UserId, RevocationReason),
}

impl Owed {
    pub(super) fn add(&self, revocations: impl IntoIterator<Item = Pending>) {
        let mut state = self.lock();
        state.pending.extend(revocations);
        self.is_any
            .store(!state.pending.is_empty(), Ordering::Release);
        self.added.notify_one();
    }

    /// Returns when something is owed.
    pub(super) async fn is_some(&self) {
        while self.is_empty() {
            self.added.notified().await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_any.load(Ordering::Acquire)
    }

    /// Says so to [`Self::is_ending`] for as long as the guard lives.
    pub(super) fn begin(&self, user: &UserId) -> Underway<'_> {
        *self.lock().underway.entry(user.clone()).or_default() += 1;
        Underway {
            owed: self,
            user: user.clone(),
        }
    }

    /// Whether it was asked for to end all sessions of the user, and that has not been written yet.
    pub(super) fn is_ending(&self, user: &UserId) -> bool {
        let state = self.lock();
        let is_owed = |pending: &Pending| matches!(pending, Pending::User(owed, _) if owed == user);
        state.underway.contains_key(user) || state.pending.iter().any(is_owed)
    }

    /// All that is owed; who cannot write it gives it back before the guards of its users go.
    pub(super) fn take(&self) -> (Vec<Batch>, Vec<Underway<'_>>) {
        let (pending, users) = {
            let mut state = self.lock();
            self.is_any.store(false, Ordering::Release);
            let pending = std::mem::take(&mut state.pending);
            let mut users = Vec::new();
            for owed in &pending {
                if let Pending::User(user, _) = owed {
                    *state.underway.entry(user.clone()).or_default() += 1;
                    users.push(Underway {
                        owed: self,
                        user: user.clone(),
                    });
                }
            }
            (pending, users)
        };
        let mut sessions: HashMap<RevocationReason, Vec<SessionHandle>> = HashMap::new();
        let mut batches = Vec::new();
        for owed in pending {
            match owed {
                Pending::Session(handle, reason) => {
                    sessions.entry(reason).or_default().push(handle);
                }
                Pending::User(user, reason) => batches.push(Batch::User(user, reason)),
            }
        }
        for (reason, handles) in sessions {
            let parts = handles.chunks(MOST_AT_ONCE);
            batches.extend(parts.map(|part| Batch::Sessions(part.to_vec(), reason)));
        }
        (batches, users)
    }

    pub(super) fn give_back(&self, batches: impl IntoIterator<Item = Batch>) {
        self.add(batches.into_iter().flat_map(Batch::into_pending));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Each for itself; none if it is one already.
    pub(super) fn split(&self) -> Vec<Self> {
        match self {
            Self::Sessions(handles, reason) if handles.len() > 1 => handles
                .iter()
                .map(|handle| Self::Sessions(vec![*handle], *reason))
                .collect(),
            Self::Sessions(..) | Self::User(..) => Vec::new(),
        }
    }

    fn into_pending(self) -> Vec<Pending> {
        match self {
            Self::Sessions(handles, reason) => handles
                .into_iter()
                .map(|handle| Pending::Session(handle, reason))
                .collect(),
            Self::User(user, reason) => vec![Pending::User(user, reason)],
        }
    }
}

/// Sessions that one transaction ends: keeps each write short.
pub(super) const MOST_AT_ONCE: usize = 500;

#[cfg(test)]
mod tests {
    use super::{Batch, MOST_AT_ONCE, Owed, Pending};
    use crate::identity::UserId;
    use crate::session::SessionHandle;
    use crate::store::RevocationReason;

    #[test]
    fn what_is_asked_for_twice_is_owed_once_and_nothing_is_lost() {
        let owed = Owed::default();
        assert!(owed.is_empty());
        let handles: Vec<_> = (0..MOST_AT_ONCE + 1)
            .map(|_| SessionHandle::random())
            .collect();
        let user = UserId::parse("alice").unwrap();
        for _ in 0..3 {
            let one = |handle: &SessionHandle| Pending::Session(*handle, RevocationReason::Logout);
            owed.add(handles.iter().map(one));
            owed.add([Pending::User(user.clone(), RevocationReason::LogoutUser)]);
        }
        let (batches, _) = owed.take();
        assert!(owed.is_empty());
        assert_eq!(batches.len(), 3, "two of sessions, one of a user");
        let (mut written, mut others): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for batch in batches {
            match batch {
                Batch::Sessions(part, RevocationReason::Logout) => written.extend(part),
                other => others.push(other),
            }
        }
        written.sort_unstable();
        let mut asked_for = handles;
        asked_for.sort_unstable();
        assert_eq!(written, asked_for);
        assert_eq!(others, [Batch::User(user, RevocationReason::LogoutUser)]);

        owed.give_back([]);
        assert!(owed.is_empty());
        owed.give_back(others.clone());
        assert!(!owed.is_empty());
        assert_eq!(owed.take().0, others);
    }

    #[test]
    fn a_user_is_ending_until_it_is_written() {
        let (owed, user) = (Owed::default(), UserId::parse("alice").unwrap());
        let other = UserId::parse("bob").unwrap();
        assert!(!owed.is_ending(&user));
        let first = owed.begin(&user);
        let second = owed.begin(&user);
        drop(first);
        assert!(owed.is_ending(&user) && !owed.is_ending(&other));
        owed.add([Pending::User(user.clone(), RevocationReason::LogoutUser)]);
        drop(second);
        assert!(owed.is_ending(&user), "it is owed");
        let (batches, writing) = owed.take();
        assert!(owed.is_ending(&user), "it is being written");
        owed.give_back(batches);
        drop(writing);
        assert!(owed.is_ending(&user), "it could not be written");
        drop(owed.take());
        assert!(!owed.is_ending(&user));
    }
}
