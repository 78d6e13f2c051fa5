//! The public listener of one worker: connections in, each served by the worker's [`Proxy`].

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::patience::TimedHeads;
use super::{ClientAddr, Proxy};
use crate::causes::Causes;

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

/// Binds an address for several listeners of this process, so that each worker has its own queue.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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
                self.start(stream, ClientAddr(peer.ip()));
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
            Ok((stream, peer)) => self.start(stream, ClientAddr(peer.ip())),
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

    fn start(&self, stream: TcpStream, client: ClientAddr) {
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let (proxy, stop, settings) = (Rc::clone(&self.proxy), self.stop.clone(), self.settings);
        let place = Place::take(&self.proxy, &self.open);
        self.connections.spawn_local(async move {
            let _place = place;
            serve_connection(proxy, stream, client, settings, stop).await;
        });
    }
}

async fn serve_connection(
    proxy: Rc<Proxy>,
    stream: TcpStream,
    client: ClientAddr,
    settings: ListenerSettings,
    stop: CancellationToken,
) {
    let stream = TimedHeads::new(stream, settings.head_timeout);
    let phase = stream.phase();
    let service = service_fn(|request| {
        phase.head_is_complete();
        let (proxy, answering) = (Rc::clone(&proxy), phase.until_answered());
        async move {
            let reply = proxy.handle(request, client).await;
            if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
                answering.for_good();
                return Ok::<_, Infallible>(reply);
            }
            Ok(reply.map(|body| body.answering(answering)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.keep_alive_timeout)
        .max_headers(settings.header_count)
        .max_header_size(settings.header_bytes)
        .max_buf_size(settings.header_bytes.max(MIN_BUFFER))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = last_call(&stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(
            error = %Causes(&error),
            "a client connection ended early"
        );
    }
}

/// The end, and a moment for requests that are on their way already.
async fn last_call(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_CALL).await;
}

/// A connection's place among those that are open.
struct Place {
    proxy: Rc<Proxy>,
    open: Rc<Cell<usize>>,
}

impl Place {
    fn take(proxy: &Rc<Proxy>, open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        proxy.worker.connection_opened();
        Self {
            proxy: Rc::clone(proxy),
            open: Rc::clone(open),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.proxy.worker.connection_closed();
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Longer than the first bytes of an accepted connection take within a data centre.
const LAST_CALL: Duration = Duration::from_millis(100);

/// After a failure to accept, which seldom passes at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// hyper takes no smaller buffer.
const MIN_BUFFER: usize = 8192;
