//! Where a worker listens: an address, a socket file, or what systemd hands over.
//!
//! The kernel deals the connections to an address out among all sockets that listen there: those of the workers and, while a
//! restart overlaps, those of the gateway that takes over. It decides when a SYN comes (RFC 9293 section 3.5), and resets what
//! has not been accepted when the socket closes. So a socket of an address is closed in two steps: first it hears no SYN any
//! more, which the client repeats a second later and another socket hears; and when the handshakes that were under way have
//! come to their end, it is closed.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix;
use std::path::Path;

use socket2::{Domain, Protocol, SockFilter, SockRef, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::stream::Socket;
use crate::socket_file::SocketFile;

/// A listener that is bound and does not block.
#[derive(Debug)]
pub enum Bound {
    Tcp(net::TcpListener, Queue),
    Unix(unix::net::UnixListener),
}

/// Whose the connections are that wait to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// This process's alone: they are lost when it closes the socket.
    Own,
    /// Also of others, which go on with it.
    Shared,
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
        Ok(Self::Tcp(socket.into(), Queue::Own))
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
            _ => Ok(Self::Tcp(socket.into(), Queue::Shared)),
        }
    }

    /// The same queue, for another worker.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener, _) => {
                let listener = listener.try_clone()?;
                Ok(Self::Tcp(listener, Queue::Shared))
            }
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr().map(Some),
            Self::Unix(_) => Ok(None),
        }
    }

    pub(super) fn start(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener, queue) => {
                let listener = TcpListener::from_std(listener)?;
                Ok(Listener::Tcp(listener, queue))
            }
            Self::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
        }
    }
}

/// A listener that is waited on.
pub(super) enum Listener {
    Tcp(TcpListener, Queue),
    Unix(UnixListener),
}

impl Listener {
    pub async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::tcp(stream), Peer::Network(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), Peer::Local))
            }
        }
    }

    /// From now on it is as if no new connection had come. Those whose handshake has begun still come into the queue. `false` if
    /// new ones cannot be told to others.
    pub fn hear_no_more(&self) -> bool {
        let Self::Tcp(listener, Queue::Own) = self else {
            return false;
        };
        SockRef::from(listener).attach_filter(&NO_SYN).is_ok()
    }

    /// Who was let into the queue before the end of the listener, and would be reset with it.
    pub fn into_queue(self) -> impl Iterator<Item = (Socket, Peer)> {
        let bound = match self {
            Self::Tcp(listener, queue) => listener
                .into_std()
                .map(|listener| Bound::Tcp(listener, queue)),
            Self::Unix(listener) => listener.into_std().map(Bound::Unix),
        };
        let bound = bound.ok();
        std::iter::from_fn(move || bound.as_ref().and_then(next_of_queue))
    }
}

fn next_of_queue(bound: &Bound) -> Option<(Socket, Peer)> {
    match bound {
        Bound::Tcp(listener, _) => {
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

/// A program for the kernel, in the instructions of its classic packet filters: a segment that begins with the TCP header passes
/// unless it is a client's first, with SYN and without ACK (RFC 9293 section 3.1).
const NO_SYN: [SockFilter; 5] = {
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
