//! A stream of HTTP/2 whose client makes no room for its answer.
//!
//! The connection is alive, it answers pings and other streams go on, so nobody else notices; what is held for the stream is
//! small, but it is held, at the upstream too (RFC 9113 section 10.5). hyper asks an answer for its next piece only when there
//! is room. So an answer that has given a piece and is not asked again is one whose client owes room; one that is asked
//! and has nothing waits for its upstream, which is no fault of the client's.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

tokio::task_local! {
    /// Of the stream that is being polled.
    static PROGRESS: Progress;
}

/// What an answer has given so far; shared by its body and its stream.
#[derive(Clone, Debug, Default)]
pub struct Progress(Rc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// How often it was asked for more.
    asked: Cell<u64>,
    /// It has given its head or a piece, and was not asked since.
    owed: Cell<bool>,
}

impl Progress {
    /// That of the stream that runs now.
    pub fn of_this_stream() -> Self {
        PROGRESS.try_with(Clone::clone).unwrap_or_default()
    }

    /// The answer was asked for more, or for its head: it has given it, or waits itself.
    pub fn asked(&self, gave: bool) {
        self.0.asked.set(self.0.asked.get() + 1);
        self.0.owed.set(gave);
    }
}

/// A stream that ends, which resets it, when its client makes no room for as long as `limit`.
pub fn bounded<F: Future<Output = ()>>(stream: F, limit: Duration) -> impl Future<Output = ()> {
    let progress = Progress::default();
    PROGRESS.scope(
        progress.clone(),
        Bounded {
            stream: Box::pin(stream),
            limit,
            progress,
            asked: 0,
            timer: None,
        },
    )
}

struct Bounded<F> {
    stream: Pin<Box<F>>,
    limit: Duration,
    progress: Progress,
    /// How often the answer had been asked when the timer was set.
    asked: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for Bounded<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let seen = &this.progress.0;
        if !seen.owed.get() {
            this.timer = None;
            return Poll::Pending;
        }
        let limit = this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if this.asked != seen.asked.get() {
            this.asked = seen.asked.get();
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}
