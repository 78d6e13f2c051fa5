//! What comes before HTTP on a connection: a PROXY header, a TLS handshake, the choice between HTTP/1.1 and HTTP/2.

use std::cell::Cell;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use rustls::ServerConnection;
use rustls::server::Acceptor;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::super::ClientAddr;
use super::activity::Activity;
use super::connection::{AskedFor, ConnectionInfo, Purpose};
use super::places::{AddressPlace, ConnectionsByAddress, HandshakePlace};
use super::proxy_protocol::{self, Header, MAX_HEADER, Source};
use super::socket::Peer;
use super::stream::{ClientStream, Socket};
use crate::certificates::{Active, Certificates, client_cert_header};

/// What is spoken at an address, and with whom.
#[derive(Clone, Debug)]
pub struct Entrance {
    pub security: Security,
    pub purpose: Purpose,
    /// HTTP/2 is spoken too: over TLS if the client asks for it, without TLS if it begins with it (RFC 9113 section 3.3).
    pub http2: bool,
    /// Whose connections begin with a PROXY header.
    pub balancers: Balancers,
}

/// Whether an address speaks TLS.
#[derive(Clone, Debug)]
pub enum Security {
    Plain,
    Tls(Certificates),
}

/// Who may say where a connection comes from.
#[derive(Clone, Debug, Default)]
pub struct Balancers {
    pub networks: Vec<IpNet>,
    /// Whoever can open the socket file.
    pub local: bool,
}

impl Balancers {
    fn include(&self, peer: Peer) -> bool {
        match peer {
            Peer::Local => self.local,
            Peer::Network(peer) => {
                let address = peer.ip().to_canonical();
                self.networks.iter().any(|net| net.contains(&address))
            }
        }
    }
}

/// A connection on which HTTP can be spoken.
pub(super) struct Introduced {
    pub stream: ClientStream,
    pub info: ConnectionInfo,
    pub http2: bool,
    /// Among the connections of its address, if these are counted.
    pub place: Option<AddressPlace>,
}

/// Why a connection came to nothing.
#[derive(Debug, Error)]
pub(super) enum NotIntroduced {
    #[error(
        "as many connections are open from its address as server.limits.connections_per_address allows"
    )]
    /// With the socket, if HTTP is what its client expects.
    TooManyFromAddress(Option<Box<Socket>>),
    #[error("no PROXY header came in time")]
    LateHeader,
    #[error("a balancer's connection does not begin with a PROXY header")]
    NoHeader,
    #[error("as many handshakes are under way as server.limits.handshakes allows")]
    TooManyHandshakes,
    #[error("the TLS handshake took too long")]
    LateHandshake,
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("no request came")]
    Silent,
    #[error("the connection failed before its first request")]
    Lost(#[from] io::Error),
}

impl NotIntroduced {
    /// As the metrics tell it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::TooManyFromAddress(_) => "address",
            Self::TooManyHandshakes => "handshakes",
            Self::LateHeader | Self::LateHandshake | Self::Silent => "late",
            Self::NoHeader => "proxy_header",
            Self::Handshake(_) => "handshake",
            Self::Lost(_) => "lost",
        }
    }
}

/// Bounds of what comes before HTTP.
pub(super) struct Patience<'a> {
    pub by_address: Option<&'a ConnectionsByAddress>,
    pub handshake_timeout: Duration,
    /// Until the first byte of a request.
    pub keep_alive_timeout: Duration,
    /// From that byte on.
    pub head_timeout: Duration,
    pub handshakes: usize,
    pub under_way: &'a Cell<usize>,
}

impl Patience<'_> {
    /// The place of a client's connection, if they are counted. Gives the socket back.
    fn enter(
        &self,
        client: ClientAddr,
        socket: Socket,
        speaks_tls: bool,
    ) -> Result<(Option<AddressPlace>, Socket), NotIntroduced> {
        let Some(all) = self.by_address else {
            return Ok((None, socket));
        };
        match all.enter(client.0) {
            Some(place) => Ok((Some(place), socket)),
            None => {
                let told = (!speaks_tls).then(|| Box::new(socket));
                Err(NotIntroduced::TooManyFromAddress(told))
            }
        }
    }
}

impl Entrance {
    /// Whether HTTP/1.1 begins with the first byte, so that there is nothing to wait for.
    pub(super) fn is_bare(&self, peer: Peer) -> bool {
        !self.speaks_tls() && !self.http2 && !self.balancers.include(peer)
    }

    pub(super) fn speaks_tls(&self) -> bool {
        matches!(self.security, Security::Tls(_))
    }

    /// A connection that is bare.
    pub(super) fn introduce_bare(
        &self,
        socket: Socket,
        peer: Peer,
        patience: &Patience<'_>,
    ) -> Result<Introduced, NotIntroduced> {
        let client = address_of(peer);
        let (place, socket) = patience.enter(client, socket, false)?;
        Ok(Introduced {
            place,
            stream: ClientStream::Plain(socket),
            info: self.info(client),
            http2: false,
        })
    }

    pub(super) async fn introduce(
        &self,
        mut socket: Socket,
        peer: Peer,
        patience: &Patience<'_>,
    ) -> Result<Introduced, NotIntroduced> {
        let deadline = Instant::now() + patience.handshake_timeout;
        let mut client = address_of(peer);
        if self.balancers.include(peer) {
            let header = timeout_at(deadline, proxy_header(&mut socket)).await;
            if let Source::Client(address) = header.map_err(|_| NotIntroduced::LateHeader)?? {
                client = ClientAddr(address.ip());
            }
        }
        let (place, mut socket) = patience.enter(client, socket, self.speaks_tls())?;
        let info = self.info(client);
        if let Security::Tls(certificates) = &self.security {
            let handshake_place = HandshakePlace::take(patience.under_way, patience.handshakes)
                .ok_or(NotIntroduced::TooManyHandshakes)?;
            let handshake = self.shake_hands(socket, info, place, certificates);
            let introduced = timeout_at(deadline, handshake).await;
            drop(handshake_place);
            return introduced.map_err(|_| NotIntroduced::LateHandshake)?;
        }
        if !self.http2 {
            return Ok(Introduced {
                stream: ClientStream::Plain(socket),
                info,
                http2: false,
                place,
            });
        }
        let (first, http2) = first_bytes(&mut socket, patience).await?;
        Ok(Introduced {
            stream: ClientStream::Begun(Box::new((first, socket))),
            info,
            http2,
            place,
        })
    }

    fn info(&self, client: ClientAddr) -> ConnectionInfo {
        ConnectionInfo {
            client,
            secure: false,
            asked_for: None,
            certificate: None,
            purpose: self.purpose,
            activity: Activity::default(),
        }
    }

    async fn shake_hands(
        &self,
        socket: Socket,
        info: ConnectionInfo,
        place: Option<AddressPlace>,
        certificates: &Certificates,
    ) -> Result<Introduced, NotIntroduced> {
        let active = certificates.active();
        let stream = match active.for_all(self.http2) {
            Some(config) => TlsAcceptor::from(config.clone()).accept(socket).await,
            None => self.accept_by_host(socket, &active).await,
        };
        let stream = stream.map_err(NotIntroduced::Handshake)?;
        let session: &ServerConnection = stream.get_ref().1;
        // The first one is the client's own.
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let asked_for = session.server_name().map(|host| AskedFor {
            host: host.into(),
            certificate: active.of(Some(host)).clone(),
        });
        Ok(Introduced {
            http2: session.alpn_protocol() == Some(b"h2"),
            info: ConnectionInfo {
                secure: true,
                asked_for,
                certificate: shown.and_then(client_cert_header).map(Box::new),
                ..info
            },
            stream: ClientStream::Tls(Box::new(stream)),
            place,
        })
    }

    /// Looks at the name in the handshake first.
    async fn accept_by_host(
        &self,
        socket: Socket,
        active: &Active,
    ) -> io::Result<TlsStream<Socket>> {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let config = active.for_host(begun.client_hello().server_name(), self.http2);
        begun.into_stream(config.clone()).await
    }
}

/// The other end of a connection as a client.
fn address_of(peer: Peer) -> ClientAddr {
    ClientAddr(match peer {
        Peer::Network(peer) => peer.ip(),
        // On this machine, whoever it is.
        Peer::Local => Ipv4Addr::LOCALHOST.into(),
    })
}

/// Reads it, and no byte more: what follows belongs to TLS or HTTP. The text form does not say how long it is, so its last
/// part is read two bytes at a time; balancers keep connections, and those that do not can speak version 2.
async fn proxy_header(socket: &mut Socket) -> Result<Source, NotIntroduced> {
    let mut header = [0; MAX_HEADER];
    let mut have = 0;
    loop {
        match proxy_protocol::parse(&header[..have]) {
            Ok(Header::Complete(source)) => return Ok(source),
            Ok(Header::Incomplete(more)) => {
                let missing = header
                    .get_mut(have..have + more)
                    .ok_or(NotIntroduced::NoHeader)?;
                socket.read_exact(missing).await?;
                have += more;
            }
            Err(proxy_protocol::Invalid) => return Err(NotIntroduced::NoHeader),
        }
    }
}

/// As much as tells HTTP/2 from HTTP/1.1, and which of them it is.
async fn first_bytes(
    socket: &mut Socket,
    patience: &Patience<'_>,
) -> Result<(Bytes, bool), NotIntroduced> {
    let mut first = [0; PREFACE.len()];
    let mut have = 0;
    let mut deadline = Instant::now() + patience.keep_alive_timeout;
    while have < PREFACE.len() && first[..have] == PREFACE[..have] {
        let read = timeout_at(deadline, socket.read(&mut first[have..])).await;
        match read.map_err(|_| NotIntroduced::Silent)?? {
            0 => break,
            count => {
                if have == 0 {
                    deadline = Instant::now() + patience.head_timeout;
                }
                have += count;
            }
        }
    }
    Ok((
        Bytes::copy_from_slice(&first[..have]),
        first[..have] == *PREFACE,
    ))
}

/// How HTTP/2 begins (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
