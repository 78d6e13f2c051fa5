//! The certificates of the public listeners: chosen by the name that a client asks for, replaced when their files change.
//!
//! All workers share them, and the keys of session tickets, so that a client resumes its session on whichever worker it comes
//! to. What is in use is replaced as a whole; a new file that cannot be used changes nothing but what is said about it.
//! Connections keep the certificate that they began with.

mod clients;
mod files;
mod names;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::causes::Causes;
use crate::file_stamp::FileStamp;

pub use clients::{ClientHosts, ClientSettings, client_cert_header};
pub use files::{Certificate, CertificateError, CertificateFiles};
pub use names::Names;

use files::Stamps;

/// Settings of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// For whoever names no host, or one that no certificate has.
    pub default: CertificateFiles,
    /// Chosen by the names that they have. The first of two with the same name has it.
    pub by_name: Vec<CertificateFiles>,
    /// TLS 1.2 is spoken too.
    pub allow_tls12: bool,
    /// `None`: clients are not asked who they are.
    pub clients: Option<ClientSettings>,
}

/// The certificates in use; cheap to clone.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    /// Draws new keys every six hours, and honours the ones before.
    tickets: Arc<dyn ProducesTickets>,
    active: ArcSwap<Active>,
    watch: Mutex<Watch>,
    reloads: AtomicU64,
}

/// What a new connection gets.
pub struct Active {
    open: Offers,
    /// For hosts that ask for a certificate.
    asking: Option<(ClientHosts, Offers)>,
    chooser: Arc<Chooser>,
}

/// The same, by what is spoken.
struct Offers {
    /// For who may speak HTTP/2.
    http2: Arc<ServerConfig>,
    /// For listeners without it.
    http1: Arc<ServerConfig>,
}

/// What is known of the files.
struct Watch {
    settings: CertificateSettings,
    /// As they were when they were last read.
    read: Vec<Stamps>,
    /// As they were when they were last looked at.
    seen: Vec<Stamps>,
    /// Why what is in the files is not in use.
    trouble: Option<String>,
}

/// Certificates of other settings, checked and ready to be shown.
pub struct Prepared {
    active: Active,
    watch: Watch,
}

/// What has come of a look at the files.
#[derive(Debug)]
pub enum Reloaded {
    /// They are the ones in use, or are still being written.
    Unchanged,
    /// They are in use now.
    Replaced,
    /// They cannot be used; those of before stay.
    Kept(CertificateError),
}

impl Certificates {
    pub fn load(settings: CertificateSettings) -> Result<Self, CertificateError> {
        let tickets = Ticketer::new().map_err(CertificateError::Setup)?;
        let stamps = stamps(&settings);
        let active = Active::load(&settings, &tickets)?;
        Ok(Self(Arc::new(Inner {
            active: ArcSwap::from_pointee(active),
            watch: Mutex::new(Watch {
                read: stamps.clone(),
                seen: stamps,
                trouble: None,
                settings,
            }),
            tickets,
            reloads: AtomicU64::new(0),
        })))
    }

    /// For a connection that begins now.
    pub fn active(&self) -> Arc<Active> {
        self.0.active.load_full()
    }

    /// Looks at the files, and takes them if they have changed and are the same at two looks in a row: certificate and key are
    /// two files, and neither is written at once. Blocks.
    pub fn look(&self) -> Reloaded {
        let mut watch = self.watch();
        let now = stamps(&watch.settings);
        let at_rest = now == watch.seen;
        watch.seen.clone_from(&now);
        if !at_rest || now == watch.read {
            return Reloaded::Unchanged;
        }
        self.read(&mut watch, now)
    }

    /// Takes the files as they are now. Blocks.
    pub fn reload(&self) -> Reloaded {
        let mut watch = self.watch();
        let now = stamps(&watch.settings);
        self.read(&mut watch, now)
    }

    /// Reads the files that other settings name, without taking them. Blocks.
    pub fn prepare(&self, settings: CertificateSettings) -> Result<Prepared, CertificateError> {
        let stamps = stamps(&settings);
        let active = Active::load(&settings, &self.0.tickets)?;
        Ok(Prepared {
            active,
            watch: Watch {
                read: stamps.clone(),
                seen: stamps,
                trouble: None,
                settings,
            },
        })
    }

    /// Shows from now on what was prepared, and watches its files.
    pub fn take(&self, prepared: Prepared) {
        let mut watch = self.watch();
        self.0.active.store(Arc::new(prepared.active));
        self.0.reloads.fetch_add(1, Ordering::Relaxed);
        *watch = prepared.watch;
    }

    fn read(&self, watch: &mut Watch, now: Vec<Stamps>) -> Reloaded {
        watch.read = now;
        match Active::load(&watch.settings, &self.0.tickets) {
            Ok(active) => {
                self.0.active.store(Arc::new(active));
                self.0.reloads.fetch_add(1, Ordering::Relaxed);
                watch.trouble = None;
                Reloaded::Replaced
            }
            Err(error) => {
                watch.trouble = Some(Causes(&error).to_string());
                Reloaded::Kept(error)
            }
        }
    }

    /// Why what is in the files is not in use.
    pub fn trouble(&self) -> Option<String> {
        self.watch().trouble.clone()
    }

    /// How often they were replaced.
    pub fn reloads(&self) -> u64 {
        self.0.reloads.load(Ordering::Relaxed)
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.0.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("settings", &self.watch().settings)
            .finish_non_exhaustive()
    }
}

fn stamps(settings: &CertificateSettings) -> Vec<Stamps> {
    let all = std::iter::once(&settings.default).chain(&settings.by_name);
    let issuers = settings.clients.iter();
    let issuers = issuers.map(|clients| [FileStamp::of(&clients.issuers), None, None]);
    all.map(CertificateFiles::stamps).chain(issuers).collect()
}

impl Active {
    fn load(
        settings: &CertificateSettings,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, CertificateError> {
        let chooser = Arc::new(Chooser::load(settings)?);
        let versions: &[_] = match settings.allow_tls12 {
            true => &[&TLS13, &TLS12],
            false => &[&TLS13],
        };
        let builder = || {
            let provider = Arc::new(aws_lc_rs::default_provider());
            ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .map_err(CertificateError::Setup)
        };
        let mut open = builder()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&chooser) as _);
        open.ticketer = Arc::clone(tickets);
        let asking = match &settings.clients {
            None => None,
            Some(clients) => {
                let mut asking = builder()?
                    .with_client_cert_verifier(clients.verifier()?)
                    .with_cert_resolver(Arc::clone(&chooser) as _);
                asking.session_storage = Arc::new(NoServerSessionStorage {});
                asking.send_tls13_tickets = 0;
                Some((clients.hosts.clone(), Offers::of(&asking)))
            }
        };
        Ok(Self {
            open: Offers::of(&open),
            asking,
            chooser,
        })
    }

    /// What every client gets, if that does not depend on the host that it asks for.
    pub fn for_all(&self, http2: bool) -> Option<&Arc<ServerConfig>> {
        match &self.asking {
            None => Some(self.open.with(http2)),
            Some((ClientHosts::All, asking)) => Some(asking.with(http2)),
            Some((ClientHosts::These(_), _)) => None,
        }
    }

    /// What a client gets who asks for `host`.
    pub fn for_host(&self, host: Option<&str>, http2: bool) -> &Arc<ServerConfig> {
        match &self.asking {
            Some((hosts, asking)) if hosts.include(host) => asking.with(http2),
            _ => self.open.with(http2),
        }
    }

    /// The one that a client gets who asks for `host`.
    pub fn of(&self, host: Option<&str>) -> &Arc<Certificate> {
        self.chooser.choose(host)
    }
}

impl Offers {
    fn of(config: &ServerConfig) -> Self {
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        Self {
            http2: offering(&[b"h2", b"http/1.1"]),
            http1: offering(&[b"http/1.1"]),
        }
    }

    fn with(&self, http2: bool) -> &Arc<ServerConfig> {
        match http2 {
            true => &self.http2,
            false => &self.http1,
        }
    }
}

impl Certificate {
    /// Whether it is for this host, which stands without port.
    pub fn covers(&self, host: &str) -> bool {
        self.names.cover(host)
    }
}

/// From the name that a client asks for to a certificate.
#[derive(Debug)]
struct Chooser {
    default: Arc<Certificate>,
    exact: HashMap<Box<str>, Arc<Certificate>>,
    /// By what follows the `*.`.
    wildcard: HashMap<Box<str>, Arc<Certificate>>,
}

impl Chooser {
    fn load(settings: &CertificateSettings) -> Result<Self, CertificateError> {
        let mut chooser = Self {
            default: Arc::new(settings.default.load()?),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        chooser.enter(&Arc::clone(&chooser.default));
        for files in &settings.by_name {
            chooser.enter(&Arc::new(files.load()?));
        }
        Ok(chooser)
    }

    fn enter(&mut self, certificate: &Arc<Certificate>) {
        for name in certificate.names.iter() {
            let (map, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcard, parent),
                None => (&mut self.exact, name),
            };
            map.entry(name.into())
                .or_insert_with(|| Arc::clone(certificate));
        }
    }

    fn choose(&self, host: Option<&str>) -> &Arc<Certificate> {
        let Some(host) = host.map(str::to_ascii_lowercase) else {
            return &self.default;
        };
        let by_parent = || {
            let (_, parent) = host.split_once('.')?;
            self.wildcard.get(parent)
        };
        self.exact
            .get(&*host)
            .or_else(by_parent)
            .unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.choose(hello.server_name()).key))
    }
}
