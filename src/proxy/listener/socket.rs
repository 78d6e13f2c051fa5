//! Where a worker listens: an address, a socket file, or what systemd hands over.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix;
use std::path::Path;

use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::stream::Socket;
use crate::socket_file::SocketFile;

/// A listener that is bound and does not block.
#[derive(Debug)]
pub enum Bound {
    Tcp(net::TcpListener),
    Unix(unix::net::UnixListener),
}

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Network(SocketAddr),
    /// Through a socket file.
    Local,
}

impl Bound {
    /// An address, bound so that each worker can have a queue of its own.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(socket.into()))
    }

    /// A socket file, which goes with what is given beside the listener.
    pub fn unix(path: &Path, mode: u32) -> io::Result<(Self, SocketFile)> {
        let (listener, file) = SocketFile::bind(path, mode, BACKLOG)?;
        Ok((Self::Unix(listener), file))
    }

    /// A socket that somebody else has opened and listens on.
    pub fn inherited(socket: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        socket.set_nonblocking(true)?;
        match socket.local_addr()?.domain() {
            Domain::UNIX => Ok(Self::Unix(OwnedFd::from(socket).into())),
            _ => Ok(Self::Tcp(socket.into())),
        }
    }

    /// The same queue, for another worker.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Unix(_) => Ok(None),
        }
    }

    pub(super) fn start(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
            Self::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
        }
    }
}

/// A listener that is waited on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::tcp(stream), Peer::Network(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), Peer::Local))
            }
        }
    }

    /// Who was let into the queue before the end of the listener, and would be reset with it.
    pub fn into_queue(self) -> impl Iterator<Item = (Socket, Peer)> {
        let bound = match self {
            Self::Tcp(listener) => listener.into_std().map(Bound::Tcp),
            Self::Unix(listener) => listener.into_std().map(Bound::Unix),
        };
        let bound = bound.ok();
        std::iter::from_fn(move || bound.as_ref().and_then(next_of_queue))
    }
}

fn next_of_queue(bound: &Bound) -> Option<(Socket, Peer)> {
    match bound {
        Bound::Tcp(listener) => {
            let (stream, peer) = listener.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            let stream = TcpStream::from_std(stream).ok()?;
            Some((Socket::tcp(stream), Peer::Network(peer)))
        }
        Bound::Unix(listener) => {
            let (stream, _) = listener.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            Some((
                Socket::Unix(UnixStream::from_std(stream).ok()?),
                Peer::Local,
            ))
        }
    }
}

impl Socket {
    fn tcp(stream: TcpStream) -> Self {
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
