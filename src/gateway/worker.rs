//! The workers: threads that proxy, each with a runtime, listeners and upstream connections of its own.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::runtime::{self, LocalOptions};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::configuration::Configuration;
use super::{GatewayError, Tokens};
use crate::causes::Causes;
use crate::proxy::Proxy;
use crate::proxy::listener::{self, Current, Hand, PublicSocket, Served};
use crate::upstream::{SharedUpstream, Upstream};

/// Starts them all; `died` is told when one ends that nobody had asked to.
pub(super) fn start_workers(
    configurations: &watch::Receiver<Arc<Configuration>>,
    sockets: Vec<Vec<PublicSocket>>,
    tokens: &Tokens,
    died: oneshot::Sender<()>,
) -> Result<Vec<JoinHandle<()>>, GatewayError> {
    let died = Arc::new(Mutex::new(Some(died)));
    let mut workers = Vec::with_capacity(sockets.len());
    let hands = listener::hands(sockets.len());
    for (number, (sockets, hand)) in sockets.into_iter().zip(hands).enumerate() {
        let worker = Worker {
            number,
            hand,
            configurations: configurations.clone(),
            sockets,
            tokens: tokens.clone(),
        };
        let died = Arc::clone(&died);
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let end = Unexpected {
                    died,
                    stop: worker.tokens.stop_accepting.clone(),
                };
                worker.run();
                drop(end);
            });
        workers.push(thread.map_err(GatewayError::Runtime)?);
    }
    Ok(workers)
}

/// Tells that a worker ended, however it did, if nobody had asked it to.
struct Unexpected {
    died: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    stop: CancellationToken,
}

impl Drop for Unexpected {
    fn drop(&mut self) {
        if !self.stop.is_cancelled()
            && let Some(died) = self.died.lock().ok().and_then(|mut died| died.take())
        {
            // Nobody listens any more if the gateway is ending already.
            let _ = died.send(());
        }
    }
}

/// A thread that proxies.
struct Worker {
    number: usize,
    hand: Hand,
    configurations: watch::Receiver<Arc<Configuration>>,
    sockets: Vec<PublicSocket>,
    tokens: Tokens,
}

impl Worker {
    fn run(self) {
        let runtime = match runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
        {
            Ok(runtime) => runtime,
            Err(error) => {
                error!(
                    error = %Causes(&error),
                    "cannot start a worker"
                );
                return;
            }
        };
        let Self {
            number,
            hand,
            mut configurations,
            sockets,
            tokens,
        } = self;
        let first = Arc::clone(&configurations.borrow_and_update());
        let current = Rc::new(Current::new(served(&first, number, None)));
        first.note_taken();
        drop(first);
        runtime.block_on(async {
            tokio::select! {
                served = listener::serve(Rc::clone(&current), sockets, hand, tokens.stop_accepting) => {
                    if let Err(error) = served {
                        error!(error = %Causes(&error), "a worker cannot serve");
                    }
                }
                () = tokens.end_of_drain.cancelled() => {}
                () = keep_up(&current, configurations, number) => {}
            }
        });
    }
}

/// Goes by each configuration that comes.
async fn keep_up(
    current: &Current,
    mut configurations: watch::Receiver<Arc<Configuration>>,
    number: usize,
) {
    while configurations.changed().await.is_ok() {
        let next = Arc::clone(&configurations.borrow_and_update());
        let before = current.get();
        current.replace(served(&next, number, Some(&before.proxy)));
        next.note_taken();
    }
    // None can come any more.
    std::future::pending().await
}

/// What a worker goes by. Upstreams that are the same keep their connections.
fn served(configuration: &Configuration, number: usize, before: Option<&Proxy>) -> Served {
    let known = before.map(Proxy::upstreams).unwrap_or_default();
    let upstream = |shared: &SharedUpstream| {
        let same = known.iter().find(|known| known.shared().is(shared));
        same.cloned()
            .unwrap_or_else(|| Upstream::new(shared.clone()))
    };
    let upstreams = configuration.upstreams.iter().map(upstream).collect();
    let shared = configuration.shared.clone();
    let metrics = shared.metrics.worker(number, &configuration.labels);
    Served {
        proxy: match before {
            None => Proxy::new(shared, upstreams, metrics),
            Some(before) => before.successor(shared, upstreams, metrics),
        },
        settings: Rc::new(configuration.listener.clone()),
    }
}
