//! Who drives an HTTP/1.1 connection to an upstream: whoever waits for what comes on it, or a task.
//!
//! hyper's connection is a future that somebody has to poll. A task of its own would be woken for each request and each answer,
//! and would wake the request's task in turn; so while a connection serves a request without a body, the request's own task polls
//! it, before and after it asks for the answer. While it rests, its pool looks after it.
//!
//! A body on its way up must go on while nobody asks for more of the answer, and an upgrade outlives its request: such connections
//! are given to a task, for good.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tracing::debug;

use super::request_body::RequestBody;
use super::stream::UpstreamStream;

type Http1 = http1::Connection<TokioIo<UpstreamStream>, RequestBody>;

/// Drives one connection; drops it, if that is not left to others, when this is dropped.
pub(super) enum Driver {
    Here(Here),
    Task(JoinHandle<()>),
    /// It lives on until it has given the socket to whoever holds the answer's `OnUpgrade`.
    Left,
}

/// Polled by whoever asks.
pub(super) struct Here {
    name: Arc<str>,
    /// None once it has ended: what was handed to it comes back when it is dropped.
    connection: Option<Box<Http1>>,
    relay: Arc<Relay>,
    /// Of the relay.
    waker: Waker,
}

/// Wakes who asked last. What wakes it during a poll is looked at by that poll: the connection and its reader wake each other, and
/// both are about to be polled anyway.
struct Relay {
    asker: Mutex<Option<Waker>>,
    polling: AtomicBool,
    woken: AtomicBool,
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.polling.load(Ordering::Relaxed) {
            self.woken.store(true, Ordering::Relaxed);
            return;
        }
        let asker = self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = &*asker {
            asker.wake_by_ref();
        }
    }
}

impl Relay {
    fn wake_from_now_on(&self, waker: &Waker) {
        let mut asker = self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *asker {
            Some(asker) => asker.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

impl Driver {
    pub fn new(connection: Http1, name: &Arc<str>) -> Self {
        let relay = Arc::new(Relay {
            asker: Mutex::new(None),
            polling: AtomicBool::new(false),
            woken: AtomicBool::new(false),
        });
        Self::Here(Here {
            name: Arc::clone(name),
            connection: Some(Box::new(connection)),
            waker: Waker::from(Arc::clone(&relay)),
            relay,
        })
    }

    /// Goes on until `wanted` is ready, as far as that is possible now.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match self {
            Self::Here(here) => here.poll(cx, wanted),
            Self::Task(_) | Self::Left => wanted(cx),
        }
    }

    /// Hands something to the connection, which is polled right after: nobody has to be woken for that.
    pub fn hand<T>(&self, handed: impl FnOnce() -> T) -> T {
        let Self::Here(here) = self else {
            return handed();
        };
        here.relay.polling.store(true, Ordering::Relaxed);
        let handed = handed();
        here.relay.polling.store(false, Ordering::Relaxed);
        handed
    }

    /// From now on a task drives it. Must run within a local runtime.
    pub fn give_to_task(&mut self) {
        let Self::Here(here) = self else { return };
        let (name, connection) = (Arc::clone(&here.name), here.connection.take());
        *self = Self::Task(tokio::task::spawn_local(async move {
            let Some(connection) = connection else { return };
            if let Err(error) = connection.with_upgrades().await {
                debug!(upstream = &*name, %error, "upstream connection ended with an error");
            }
        }));
    }

    /// Lets the task go on alone.
    pub fn leave(&mut self) {
        *self = Self::Left;
    }

    /// While it rests, `waker` learns that something has happened to it.
    pub fn rest(&self, waker: &Waker) {
        if let Self::Here(here) = self {
            here.relay.wake_from_now_on(waker);
        }
    }

    /// Looks what has become of a connection that rests.
    pub fn look(&mut self) {
        if let Self::Here(here) = self {
            let mut cx = Context::from_waker(&here.waker);
            drive(&here.name, &mut here.connection, &mut cx);
        }
    }
}

impl Here {
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.relay.wake_from_now_on(cx.waker());
        self.relay.polling.store(true, Ordering::Relaxed);
        let mut relayed = Context::from_waker(&self.waker);
        let mut polled = wanted(&mut relayed);
        let mut turns = 0;
        while polled.is_pending() && turns < MAX_TURNS {
            self.relay.woken.store(false, Ordering::Relaxed);
            drive(&self.name, &mut self.connection, &mut relayed);
            polled = wanted(&mut relayed);
            if !self.relay.woken.load(Ordering::Relaxed) {
                break;
            }
            turns += 1;
        }
        self.relay.polling.store(false, Ordering::Relaxed);
        if polled.is_pending() && turns == MAX_TURNS {
            cx.waker().wake_by_ref();
        }
        polled
    }
}

/// A connection that has ended is dropped at once.
fn drive(name: &str, connection: &mut Option<Box<Http1>>, cx: &mut Context<'_>) {
    let Some(driven) = connection else { return };
    let Poll::Ready(ended) = Pin::new(&mut **driven).poll(cx) else {
        return;
    };
    if let Err(error) = ended {
        debug!(upstream = name, %error, "upstream connection ended with an error");
    }
    *connection = None;
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Self::Task(task) = self {
            task.abort();
        }
    }
}

/// So often connection and reader may wake each other before others have their turn.
const MAX_TURNS: u32 = 8;
