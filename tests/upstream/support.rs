//! A server that does exactly what a test says, and a worker to run the client in.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use portcullis::clock::Clock;
use portcullis::route::{CanonicalPath, EncodedSlash};
use portcullis::upstream::{
    EjectionSettings, FitHeaders, HttpVersion, Outgoing, Replay, ServerUrl, SharedUpstream,
    Timeouts, TlsSettings, Upstream, UpstreamBody, UpstreamError, UpstreamSettings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Runs the test as a worker runs: one thread, local tasks. Nothing here may take long.
pub fn worker<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test hangs")
    })
}

/// What the upstream server saw.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    connections: Rc<Cell<usize>>,
    closed: Rc<Cell<usize>>,
    heads: Rc<RefCell<Vec<String>>>,
    accepting: Option<tokio::task::AbortHandle>,
}

/// Starts a server that plays the script on each connection; the script is told the connection's number, from 0.
pub async fn serve<F, Fut>(script: F) -> Server
where
    F: Fn(usize, Peer) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
}

/// The same, on a listener that is there already.
pub fn serve_on<F, Fut>(listener: TcpListener, script: F) -> Server
where
    F: Fn(usize, Peer) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let mut server = Server {
        address: listener.local_addr().unwrap(),
        connections: Rc::default(),
        closed: Rc::default(),
        heads: Rc::default(),
        accepting: None,
    };
    let seen = server.clone();
    let accepting = tokio::task::spawn_local(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let number = seen.connections.get();
            seen.connections.set(number + 1);
            let peer = Peer {
                socket,
                read: Vec::new(),
                heads: Rc::clone(&seen.heads),
            };
            let played = script(number, peer);
            let closed = Rc::clone(&seen.closed);
            tokio::task::spawn_local(async move {
                played.await;
                closed.set(closed.get() + 1);
            });
        }
    });
    server.accepting = Some(accepting.abort_handle());
    server
}

/// A server that gives every request the same answer.
pub async fn answering(answer: &'static str) -> Server {
    serve(move |_, mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(answer).await;
        }
    })
    .await
}

impl Server {
    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Waits until that many scripts have come to their end, which most do when the client closes, and lets the
    /// client's connections hear of it if it was the server that closed.
    pub async fn scripts_over(&self, count: usize) {
        while self.closed.get() < count {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }

    /// Closes the listener: further connections are refused.
    pub fn stop(&self) {
        self.accepting.as_ref().unwrap().abort();
    }

    /// The request lines, in the order of arrival.
    pub fn requests(&self) -> Vec<String> {
        let heads = self.heads.borrow();
        heads
            .iter()
            .map(|head| head.lines().next().unwrap().to_owned())
            .collect()
    }

    /// The heads as they came.
    pub fn heads(&self) -> Vec<String> {
        self.heads.borrow().clone()
    }

    pub fn upstream(&self) -> Upstream {
        self.upstream_with(Clock::system(), |_| {})
    }

    pub fn upstream_with(
        &self,
        clock: Clock,
        change: impl FnOnce(&mut UpstreamSettings),
    ) -> Upstream {
        let mut settings = settings(&self.address.to_string());
        change(&mut settings);
        Upstream::new(SharedUpstream::new(settings, clock).unwrap())
    }
}

pub fn settings(authority: &str) -> UpstreamSettings {
    UpstreamSettings {
        name: "app".into(),
        servers: vec![ServerUrl::Tcp {
            tls: false,
            authority: authority.parse().unwrap(),
        }],
        weights: Vec::new(),
        http: HttpVersion::Http1,
        tls: TlsSettings::default(),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(5),
            stall: Duration::from_secs(5),
            total: None,
        },
        idle_timeout: Duration::from_secs(60),
        idle_connections: 8,
        connections: 128,
        waiting: 128,
        retries: 2,
        ejection: EjectionSettings {
            failures: 3,
            time: Duration::from_secs(10),
        },
        health: None,
        resolve_interval: Duration::from_secs(30),
    }
}

/// A server that speaks plain HTTP.
pub fn plain(address: SocketAddr) -> ServerUrl {
    ServerUrl::Tcp {
        tls: false,
        authority: address.to_string().parse().unwrap(),
    }
}

/// The client of a worker.
pub fn upstream_of(settings: UpstreamSettings) -> Upstream {
    Upstream::new(SharedUpstream::new(settings, Clock::system()).unwrap())
}

/// The server's end of a connection.
pub struct Peer {
    pub socket: TcpStream,
    read: Vec<u8>,
    heads: Rc<RefCell<Vec<String>>>,
}

impl Peer {
    /// The head of the next request, noted; none when the client has closed.
    pub async fn request(&mut self) -> Option<String> {
        let head = self.read_to("\r\n\r\n").await?;
        self.heads.borrow_mut().push(head.clone());
        Some(head)
    }

    /// All up to and with the marker; none if the client closes before.
    pub async fn read_to(&mut self, marker: &str) -> Option<String> {
        loop {
            let found = self
                .read
                .windows(marker.len())
                .position(|window| window == marker.as_bytes());
            if let Some(position) = found {
                let rest = self.read.split_off(position + marker.len());
                let taken = std::mem::replace(&mut self.read, rest);
                return Some(String::from_utf8(taken).unwrap());
            }
            match self.socket.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert_ne!(self.socket.read_buf(&mut self.read).await.unwrap(), 0);
        }
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    pub async fn send(&mut self, text: &str) {
        let _ = self.socket.write_all(text.as_bytes()).await;
    }

    /// Waits until the client closes, whatever it sends before.
    pub async fn closed(&mut self) {
        while !matches!(self.socket.read_buf(&mut self.read).await, Ok(0) | Err(_)) {
            self.read.clear();
        }
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        self.socket.set_zero_linger().unwrap();
    }
}

pub fn get(path: &str) -> Request<Empty<Bytes>> {
    bodiless(Method::GET, path)
}

pub fn bodiless(method: Method, path: &str) -> Request<Empty<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "app.test")
        .body(Empty::new())
        .unwrap()
}

pub fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "app.test")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

/// Headers as a test writes them: the rule over them is the gateway's, and is not tried here.
#[derive(Debug)]
pub struct AsWritten(HeaderMap);

impl FitHeaders for AsWritten {
    fn into_map(self) -> HeaderMap {
        self.0
    }
}

/// A request such as [`get`] gives, fit to be sent.
pub fn outgoing<B>(request: Request<B>) -> Outgoing<AsWritten, B> {
    let (head, body) = request.into_parts();
    Outgoing {
        method: head.method,
        path: CanonicalPath::parse_uri(&head.uri, EncodedSlash::Reject).unwrap(),
        headers: AsWritten(head.headers),
        body,
    }
}

/// Sends, allowing a repetition, and reads the whole body.
pub async fn fetch<B>(upstream: &Upstream, request: Request<B>) -> Result<String, UpstreamError>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let answer = upstream.send(outgoing(request), Replay::Allowed).await?;
    Ok(text(answer).await)
}

pub async fn text(answer: Response<UpstreamBody>) -> String {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}
