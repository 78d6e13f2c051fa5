//! What all workers know of an upstream: its servers, where they are and how they stand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::{Authority, Scheme};
use rustls::pki_types::ServerName;
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::addresses::Addresses;
use super::health;
use super::settings::{ServerUrl, UpstreamSettings};
use super::standing::Standing;
use super::tls::{Tls, TlsSetupError};
use crate::causes::Causes;
use crate::clock::{BootTime, Clock};

/// An upstream, shared by all workers; cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedUpstream(Arc<Known>);

#[derive(Debug)]
pub(super) struct Known {
    pub settings: UpstreamSettings,
    pub servers: Box<[Server]>,
    pub clock: Clock,
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    /// As the operator writes it.
    pub label: Arc<str>,
    pub weight: u32,
    pub place: Place,
    pub addresses: Addresses,
    /// Its own name, for routes that ask for it in `Host`.
    pub host: HeaderValue,
    pub standing: Standing,
}

/// How a server is reached.
#[derive(Debug)]
pub(super) enum Place {
    Tcp {
        tls: Option<(Tls, ServerName<'static>)>,
    },
    Unix(PathBuf),
}

/// How a server stands, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    pub upstream: Arc<str>,
    /// As the operator writes it.
    pub server: Arc<str>,
    /// What the health checks say; true if there are none.
    pub passes_checks: bool,
    pub is_ejected: bool,
    /// Since the start.
    pub ejections: u64,
}

impl ServerStatus {
    /// Whether it gets requests.
    pub fn is_in(&self) -> bool {
        self.passes_checks && !self.is_ejected
    }
}

impl SharedUpstream {
    /// Reads the files that TLS needs, and connects to nothing.
    pub fn new(settings: UpstreamSettings, clock: Clock) -> Result<Self, TlsSetupError> {
        let tls = match settings.needs_tls() {
            true => Some(Tls::load(&settings.tls, settings.http)?),
            false => None,
        };
        let servers = settings
            .servers
            .iter()
            .enumerate()
            .map(|(at, url)| {
                let weight = settings.weights.get(at).copied().unwrap_or(1).max(1);
                Ok(Server {
                    weight,
                    ..Server::new(url, tls.as_ref(), &settings)?
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Known {
            settings,
            servers,
            clock,
        })))
    }

    pub fn settings(&self) -> &UpstreamSettings {
        &self.0.settings
    }

    /// Whether both are the same one, and not only alike.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Looks the servers' names up once. A name that is not found is logged, and is no error.
    pub async fn look_up_names(&self) {
        let mut look_ups = JoinSet::new();
        for at in 0..self.0.servers.len() {
            let known = Arc::clone(&self.0);
            look_ups.spawn(async move {
                let addresses = &known.servers[at].addresses;
                addresses.look_up(&known.settings.name).await;
            });
        }
        look_ups.join_all().await;
    }

    /// Keeps up with names and health. Ends only if there is nothing to keep up with.
    pub async fn watch(self) {
        let mut tasks = JoinSet::new();
        for at in 0..self.0.servers.len() {
            let known = Arc::clone(&self.0);
            tasks.spawn(async move {
                let interval = known.settings.resolve_interval;
                let addresses = &known.servers[at].addresses;
                addresses.keep_up(&known.settings.name, interval).await;
            });
            if let Some(settings) = self.0.settings.health.clone() {
                tasks.spawn(health::watch(Arc::clone(&self.0), at, settings));
            }
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                let upstream = &*self.0.settings.name;
                error!(upstream, error = %Causes(&error), "a task that watches an upstream died");
            }
        }
    }

    /// How each server stands.
    pub fn servers(&self) -> Vec<ServerStatus> {
        let now = self.0.clock.boot();
        let server = |server: &Server| ServerStatus {
            upstream: Arc::clone(&self.0.settings.name),
            server: Arc::clone(&server.label),
            passes_checks: server.standing.passes_checks(),
            is_ejected: server.standing.is_ejected(now),
            ejections: server.standing.ejections(),
        };
        self.0.servers.iter().map(server).collect()
    }

    pub(super) fn known(&self) -> &Known {
        &self.0
    }
}

impl Known {
    /// A request to a server failed, in a way for which the server is to blame.
    pub fn failed(&self, server: usize, now: BootTime) {
        let others_out = self
            .servers
            .iter()
            .enumerate()
            .filter(|(at, other)| *at != server && other.standing.is_ejected(now))
            .count();
        let Server {
            standing, label, ..
        } = &self.servers[server];
        let all = self.servers.len();
        if let Some(time) = standing.failed(self.settings.ejection, now, others_out, all) {
            warn!(
                upstream = &*self.settings.name,
                server = &**label,
                time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                "ejected a server of an upstream: it failed several times in a row"
            );
        }
    }
}

impl Server {
    fn new(
        url: &ServerUrl,
        tls: Option<&Tls>,
        settings: &UpstreamSettings,
    ) -> Result<Self, TlsSetupError> {
        let (place, addresses, host) = match url {
            ServerUrl::Tcp {
                tls: is_tls,
                authority,
            } => {
                let port = authority
                    .port_u16()
                    .unwrap_or(if *is_tls { 443 } else { 80 });
                let tls = match tls.filter(|_| *is_tls) {
                    None => None,
                    Some(tls) => Some((tls.clone(), server_name(authority, settings)?)),
                };
                let host = HeaderValue::from_str(authority.as_str());
                let addresses = Addresses::of(authority.host(), port);
                (Place::Tcp { tls }, addresses, host)
            }
            ServerUrl::Unix(path) => (
                Place::Unix(path.clone()),
                Addresses::none(),
                Ok(HeaderValue::from_static("localhost")),
            ),
        };
        Ok(Self {
            label: url.to_string().into(),
            weight: 1,
            place,
            addresses,
            host: host.expect("an authority is visible ASCII"),
            standing: Standing::default(),
        })
    }

    /// Whether a connection to `address` still leads here.
    pub fn is_at(&self, address: Option<SocketAddr>) -> bool {
        address.is_none_or(|address| self.addresses.has(address))
    }

    /// What an HTTP/2 request names as its scheme.
    pub fn scheme(&self) -> Scheme {
        match &self.place {
            Place::Tcp { tls: Some(_) } => Scheme::HTTPS,
            Place::Tcp { tls: None } | Place::Unix(_) => Scheme::HTTP,
        }
    }
}

/// The name that the server has to prove: the one that the operator gives, or its host.
fn server_name(
    authority: &Authority,
    settings: &UpstreamSettings,
) -> Result<ServerName<'static>, TlsSetupError> {
    let host = authority.host().trim_matches(['[', ']']);
    let name = settings.tls.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| TlsSetupError::ServerName {
        name: name.to_owned(),
    })
}
