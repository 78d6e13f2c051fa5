//! The workers: threads that proxy, each with a runtime, listeners and upstream connections of its own.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{GatewayError, Tokens, assemble};
use crate::causes::Causes;
use crate::config::Config;
use crate::proxy::listener::{self, ListenerSettings, PublicSocket};
use crate::proxy::{Proxy, SharedProxy};
use crate::upstream::{SharedUpstream, Upstream};

/// Starts them all; `died` is told when one ends that nobody had asked to.
pub(super) fn start_workers(
    config: &Config,
    shared: &SharedProxy,
    sockets: Vec<Vec<PublicSocket>>,
    upstreams: &[SharedUpstream],
    tokens: &Tokens,
    died: oneshot::Sender<()>,
) -> Result<Vec<JoinHandle<()>>, GatewayError> {
    let died = Arc::new(Mutex::new(Some(died)));
    let mut workers = Vec::with_capacity(config.server.workers);
    let settings = assemble::listener(config);
    for (number, sockets) in sockets.into_iter().enumerate() {
        let worker = Worker {
            number,
            shared: shared.clone(),
            sockets,
            upstreams: upstreams.to_vec(),
            settings: settings.clone(),
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
    shared: SharedProxy,
    sockets: Vec<PublicSocket>,
    upstreams: Vec<SharedUpstream>,
    settings: ListenerSettings,
    tokens: Tokens,
}

impl Worker {
    fn run(self) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
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
            shared,
            sockets,
            upstreams,
            settings,
            tokens,
        } = self;
        let metrics = shared.metrics.worker(number);
        let upstreams = upstreams.into_iter().map(Upstream::new).collect();
        let proxy = Rc::new(Proxy::new(shared, upstreams, metrics));
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                served = listener::serve(proxy, sockets, settings, tokens.stop_accepting) => {
                    if let Err(error) = served {
                        error!(error = %Causes(&error), "a worker cannot serve");
                    }
                }
                () = tokens.end_of_drain.cancelled() => {}
            }
        });
    }
}
