//! Accepts and serves private connections, each bounded in number, in waiting and in age.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answers;
use super::api::{Api, CALL_LIMIT};
use super::readiness::Readiness;
use super::socket::{Connection, Listener};
use crate::telemetry::Metrics;

/// What the private listener shows.
#[derive(Clone, Debug)]
pub struct AdminState {
    pub metrics: Metrics,
    pub readiness: Readiness,
    /// Names under which the listener may be called, besides `localhost` and any address; without port.
    pub host_names: Vec<String>,
    /// For who shows its token; `None`: there is nothing.
    pub api: Option<Api>,
}

/// The private listener, bound and not yet serving: a port that is taken is known before anything else begins.
#[derive(Debug)]
pub struct AdminListener {
    listener: Listener,
}

impl AdminListener {
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = Listener::tcp(addr).await?;
        Ok(Self { listener })
    }

    /// A socket file, for its owner alone. One that a process left behind is replaced.
    pub async fn bind_unix(path: &Path) -> io::Result<Self> {
        let listener = Listener::unix(path)?;
        Ok(Self { listener })
    }

    /// The TCP address, with the port that was given, or chosen if that was 0.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then lets what runs finish, for a moment.
    pub async fn serve(self, state: AdminState, shutdown: CancellationToken) {
        let state = Arc::new(state);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        while let Some(stream) = shutdown.run_until_cancelled(self.accept()).await {
            // Waiting for a slot with a connection in hand leaves the others to the kernel's queue.
            let acquire = slots.clone().acquire_owned();
            let Some(Ok(slot)) = shutdown.run_until_cancelled(acquire).await else {
                break;
            };
            let (state, shutdown) = (state.clone(), shutdown.clone());
            connections.spawn(async move {
                match stream {
                    Connection::Tcp(stream) => serve_connection(stream, state, shutdown).await,
                    Connection::Unix(stream) => serve_connection(stream, state, shutdown).await,
                }
                drop(slot);
            });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }

    async fn accept(&self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok(connection) => return connection,
                Err(error) => {
                    // Out of file descriptors, or a client that was gone before it was accepted: both pass.
                    tracing::warn!(%error, "cannot accept a connection to the admin listener");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    state: Arc<AdminState>,
    shutdown: CancellationToken,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answers::answer(request, &state).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A connection that breaks is its client's business: there is nothing to do, and nothing worth a line.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(MAX_AGE) => {}
        () = shutdown.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = timeout(CALL_LIMIT, connection.as_mut()) => return,
        () = shutdown.cancelled() => {}
    }
    let _ = timeout(LINGER, connection).await;
}

/// More than all orchestrators, monitors and people of one replica need.
const MAX_CONNECTIONS: usize = 64;

/// From the end of one answer, or the connection's start, to the end of the next head: a silent client gives its slot back.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A client that reads too slowly gives its slot back, too, after the call that runs; one that is honest connects again.
const MAX_AGE: Duration = Duration::from_secs(60);

/// For the answer that is being written when the gateway ends.
const LINGER: Duration = Duration::from_secs(2);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
