//! The public listeners of one worker: connections in, each served by the worker's [`Proxy`].
//!
//! | file | what it has |
//! |---|---|
//! | this | accepting, up to the end |
//! | `socket` | binding |
//! | `connection` | what is known of a connection; HTTP on it, until it ends |
//! | `places` | how many connections are open |

mod connection;
mod places;
mod socket;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use connection::ConnectionInfo;
pub use socket::bind;

use super::{ClientAddr, Proxy};
use crate::causes::Causes;
use connection::serve_connection;
use places::Place;

/// Settings of this module.
#[derive(Clone, Copy, Debug)]
pub struct ListenerSettings {
    /// Open client connections of one worker.
    pub connections: usize,
    /// A request head can have so many bytes.
    pub header_bytes: usize,
    /// A request head can have so many header lines.
    pub header_count: usize,
    /// From the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// From the end of an answer, or the beginning of a connection, to the end of the next head.
    pub keep_alive_timeout: Duration,
}

/// Accepts until `stop`, then ends each connection after the answer that it is giving. Returns when all have ended.
pub async fn serve(
    proxy: Rc<Proxy>,
    listeners: Vec<std::net::TcpListener>,
    settings: ListenerSettings,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    let open = Rc::new(Cell::new(0));
    for listener in listeners {
        let listener = TcpListener::from_std(listener)?;
        let worker = Worker {
            proxy: Rc::clone(&proxy),
            settings,
            stop: stop.clone(),
            connections: connections.clone(),
            open: Rc::clone(&open),
        };
        connections.spawn_local(async move { worker.accept(listener).await });
    }
    stop.cancelled().await;
    connections.close();
    connections.wait().await;
    proxy.tunnels_ended().await;
    Ok(())
}

struct Worker {
    proxy: Rc<Proxy>,
    settings: ListenerSettings,
    stop: CancellationToken,
    connections: TaskTracker,
    open: Rc<Cell<usize>>,
}

impl Worker {
    async fn accept(&self, listener: TcpListener) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return self.accept_the_queue(listener),
                accepted = listener.accept() => self.met(accepted).await,
            }
        }
    }

    /// Who was let into the queue before the end would be reset with it.
    fn accept_the_queue(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else {
            return;
        };
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.start(stream, peer);
            }
        }
    }

    async fn met(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok(_) if self.open.get() >= self.settings.connections => {
                debug!(
                    "refused a connection: as many are open as server.limits.connections allows"
                );
            }
            Ok((stream, peer)) => self.start(stream, peer),
            Err(error) => {
                // Out of file descriptors, or a client that was gone before it was met: neither ends the listener.
                warn!(
                    error = %Causes(&error),
                    "cannot accept a connection"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr) {
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let (proxy, stop, settings) = (Rc::clone(&self.proxy), self.stop.clone(), self.settings);
        let place = Place::take(&self.proxy, &self.open);
        let info = ConnectionInfo {
            client: ClientAddr(peer.ip()),
            secure: false,
        };
        self.connections.spawn_local(async move {
            let _place = place;
            serve_connection(proxy, stream, info, settings, stop).await;
        });
    }
}

/// After a failure to accept, which seldom passes at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
