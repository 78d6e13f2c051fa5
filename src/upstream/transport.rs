//! From a server's place to a stream of bytes: TCP, TLS over it, or a unix socket.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

use super::servers::{Place, Server};
use super::settings::HttpVersion;
use super::tls::HTTP_2;

/// A connected stream.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// A connection, and what is to be spoken on it.
#[derive(Debug)]
pub(super) struct Opened {
    pub transport: Transport,
    pub http2: bool,
    /// Where it leads; none for a unix socket.
    pub address: Option<SocketAddr>,
}

/// Why there is no connection. Nothing of any request was sent.
#[derive(Debug)]
pub(super) enum OpenError {
    Connect(io::Error),
    TimedOut,
    Tls(io::Error),
    /// The server does not speak the only HTTP that the operator lets us speak.
    NoHttp2,
}

/// Connects to `server` within `limit`. `http` is what may be spoken.
pub(super) async fn open(
    server: &Server,
    http: HttpVersion,
    limit: Duration,
) -> Result<Opened, OpenError> {
    let deadline = Instant::now() + limit;
    let (tls, server_name) = match &server.place {
        Place::Unix(path) => {
            let socket = timeout_at(deadline, UnixStream::connect(path)).await;
            let socket = socket.map_err(|_| OpenError::TimedOut)?;
            return Ok(Opened {
                transport: Transport::Unix(socket.map_err(OpenError::Connect)?),
                http2: http == HttpVersion::Http2,
                address: None,
            });
        }
        Place::Tcp { tls, .. } => match tls {
            None => (None, None),
            Some((tls, name)) => (Some(tls), Some(name)),
        },
    };
    let (socket, address) = connect_tcp(server, deadline).await?;
    let address = Some(address);
    let (Some(tls), Some(name)) = (tls, server_name) else {
        return Ok(Opened {
            transport: Transport::Tcp(socket),
            http2: http == HttpVersion::Http2,
            address,
        });
    };
    let connector = match http {
        HttpVersion::Http1 => &tls.http1,
        HttpVersion::Http2 | HttpVersion::Auto => &tls.as_set,
    };
    let handshake = timeout_at(deadline, connector.connect(name.clone(), socket)).await;
    let stream = handshake
        .map_err(|_| OpenError::TimedOut)?
        .map_err(OpenError::Tls)?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
    if http == HttpVersion::Http2 && !http2 {
        return Err(OpenError::NoHttp2);
    }
    Ok(Opened {
        transport: Transport::Tls(Box::new(stream)),
        http2,
        address,
    })
}

/// Tries the server's addresses in turn, each time from the next one on. Each gets its share of the time that is left, so that
/// one that says nothing does not use up all of it.
async fn connect_tcp(
    server: &Server,
    deadline: Instant,
) -> Result<(TcpStream, SocketAddr), OpenError> {
    let addresses = server.addresses.all();
    let first = server.addresses.next_turn();
    let mut last = OpenError::Connect(io::Error::new(
        io::ErrorKind::NotFound,
        "its name has no address yet",
    ));
    for nth in 0..addresses.len() {
        let address = addresses[(first + nth) % addresses.len()];
        let left = u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
        let now = Instant::now();
        let share = now + deadline.saturating_duration_since(now) / left;
        last = match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                prepare(&socket).map_err(OpenError::Connect)?;
                return Ok((socket, address));
            }
            Ok(Err(error)) => OpenError::Connect(error),
            Err(_) => OpenError::TimedOut,
        };
    }
    server.addresses.look_up_again();
    Err(last)
}

/// No waiting for more to send; and a machine that is gone without a word is noticed even while nobody waits for it.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    SockRef::from(socket).set_tcp_keepalive(&keep_alive)
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
