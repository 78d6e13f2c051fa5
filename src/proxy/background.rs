//! The way from a worker to the store's runtime.
//!
//! Workers do nothing but proxying. What needs the store runs as a task of the background runtime, so that it neither holds
//! up other requests nor is cut in half when a client goes away: a revocation that was begun is finished.

use std::future::Future;

use tokio::runtime::Handle;
use tracing::error;

use super::rejection::Rejection;
use crate::causes::Causes;

/// Runs tasks on the background runtime; cheap to clone.
#[derive(Clone, Debug)]
pub struct Background {
    handle: Handle,
}

impl Background {
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// Nobody waits for `task`.
    pub fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Starts `task`, and waits for it; it goes on if nobody waits any more. Who waits holds a handle, not the task.
    pub fn run<F>(&self, task: F) -> impl Future<Output = Result<F::Output, Rejection>> + use<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = self.handle.spawn(task);
        async move {
            running.await.map_err(|error| {
                error!(
                    error = %Causes(&error),
                    "a task of the session store died"
                );
                Rejection::Internal
            })
        }
    }
}
