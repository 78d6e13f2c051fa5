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

    /// Waits for `task`, which goes on if nobody waits any more.
    pub async fn run<F>(&self, task: F) -> Result<F::Output, Rejection>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(task).await.map_err(|error| {
            error!(
                error = %Causes(&error),
                "a task of the session store died"
            );
            Rejection::Internal
        })
    }
}
