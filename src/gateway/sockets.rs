//! The public sockets: bound before anything else, and what is spoken on each.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use listenfd::ListenFd;

use super::GatewayError;
use crate::certificates::Certificates;
use crate::config::{self, ListenAddress, ListenMode, ProxyPeer, PublicListener};
use crate::proxy::Asker;
use crate::proxy::listener::{Balancers, Bound, Entrance, PublicSocket, Purpose, Security};
use crate::socket_file::SocketFile;

/// All sockets of a gateway.
pub(super) struct Sockets {
    /// For each worker one of each listener.
    pub by_worker: Vec<Vec<PublicSocket>>,
    /// In the order of the configuration.
    pub places: Vec<Place>,
    /// Removed when the gateway has ended.
    pub files: Vec<SocketFile>,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the port that was picked for 0.
    Address(SocketAddr),
    File(PathBuf),
    /// A socket file that systemd made.
    Inherited(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::File(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(position) => write!(f, "systemd:{position}"),
        }
    }
}

impl Sockets {
    /// Each worker gets a queue of its own where the system allows it, and a share of one where not.
    pub fn bind(
        listeners: &[PublicListener],
        certificates: Option<&Certificates>,
        workers: usize,
    ) -> Result<Self, GatewayError> {
        let is_inherited =
            |listener: &PublicListener| matches!(listener.address, ListenAddress::Inherited(_));
        let mut inherited = match listeners.iter().any(is_inherited) {
            true => ListenFd::from_env(),
            false => ListenFd::empty(),
        };
        let mut sockets = Self {
            by_worker: (0..workers).map(|_| Vec::new()).collect(),
            places: Vec::new(),
            files: Vec::new(),
        };
        for listener in listeners {
            let bound = sockets.bind_one(listener, &mut inherited)?;
            let entrance = entrance(listener, certificates);
            for (worker, bound) in sockets.by_worker.iter_mut().zip(bound) {
                worker.push(PublicSocket {
                    bound,
                    entrance: entrance.clone(),
                });
            }
        }
        Ok(sockets)
    }

    fn bind_one(
        &mut self,
        listener: &PublicListener,
        inherited: &mut ListenFd,
    ) -> Result<Vec<Bound>, GatewayError> {
        let workers = self.by_worker.len();
        match &listener.address {
            ListenAddress::Tcp(address) => {
                let address = *address;
                let failed = |cause| GatewayError::Bind { address, cause };
                let first = Bound::tcp(address).map_err(failed)?;
                let picked = first.local_addr().map_err(failed)?.unwrap_or(address);
                let mut all = vec![first];
                for _ in 1..workers {
                    all.push(Bound::tcp(picked).map_err(failed)?);
                }
                self.places.push(Place::Address(picked));
                Ok(all)
            }
            ListenAddress::Unix(path) => {
                let failed = |cause| GatewayError::BindSocketFile {
                    path: path.clone(),
                    cause,
                };
                let (first, file) = Bound::unix(path, listener.socket_mode).map_err(failed)?;
                self.files.push(file);
                self.places.push(Place::File(path.clone()));
                shared(first, workers).map_err(failed)
            }
            ListenAddress::Inherited(position) => {
                let position = *position;
                let failed = |cause| GatewayError::Inherited { position, cause };
                let first = take(inherited, position).map_err(failed)?;
                self.places.push(match first.local_addr() {
                    Ok(Some(address)) => Place::Address(address),
                    _ => Place::Inherited(position),
                });
                shared(first, workers).map_err(failed)
            }
        }
    }
}

/// The same queue for each worker.
fn shared(first: Bound, workers: usize) -> io::Result<Vec<Bound>> {
    let mut all = vec![first];
    for _ in 1..workers {
        all.push(all[0].try_clone()?);
    }
    Ok(all)
}

fn take(inherited: &mut ListenFd, position: usize) -> io::Result<Bound> {
    // What is not of the first kind stays in its place.
    if let Ok(Some(listener)) = inherited.take_unix_listener(position) {
        return Bound::inherited(listener.into());
    }
    match inherited.take_tcp_listener(position)? {
        Some(listener) => Bound::inherited(listener.into()),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "systemd has handed over no socket at this position",
        )),
    }
}

fn entrance(listener: &PublicListener, certificates: Option<&Certificates>) -> Entrance {
    let mut balancers = Balancers::default();
    for peer in &listener.proxy_protocol {
        match peer {
            ProxyPeer::Network(network) => balancers.networks.push(*network),
            ProxyPeer::Unix => balancers.local = true,
        }
    }
    let security = match (listener.mode, certificates) {
        (ListenMode::Plain | ListenMode::Redirect | ListenMode::ForwardAuth(_), _) => {
            Security::Plain
        }
        (ListenMode::Tls, certificates) => {
            let certificates = certificates.expect("the configuration has certificates for it");
            Security::Tls(certificates.clone())
        }
    };
    let purpose = match listener.mode {
        ListenMode::Plain | ListenMode::Tls => Purpose::Proxy,
        ListenMode::Redirect => Purpose::Redirect,
        ListenMode::ForwardAuth(asker) => Purpose::ForwardAuth(match asker {
            config::Asker::Subrequest => Asker::Subrequest,
            config::Asker::Traefik => Asker::Traefik,
            config::Asker::Caddy => Asker::Caddy,
            config::Asker::Envoy => Asker::Envoy,
        }),
    };
    Entrance {
        security,
        purpose,
        http2: listener.http2,
        balancers,
    }
}
