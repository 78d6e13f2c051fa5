//! The configuration as meant: addresses, durations, rules; every check has been passed.
//!
//! One struct per section, each with the function that reads it; the numbers of a section's defaults and limits stand there
//! and nowhere else, beside their reasons.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use http::HeaderName;
use tracing::level_filters::LevelFilter;

use super::reader::Section;
use super::rules::Rules;
use super::session::{Cookies, Session, Site, read_session};
use super::upstream::{Upstream, Upstreams};
use super::values::{self, PublicUrl, StoreLocation, one_of, shown_duration};
use crate::session::MasterKey;

/// What the gateway was told. Whoever has one has a configuration without errors.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    /// Where the admin listener is; `None`: there is none.
    pub admin: Option<SocketAddr>,
    pub store: Store,
    pub session: Session,
    pub cookies: Cookies,
    pub revocation: Revocation,
    pub identity: Identity,
    pub telemetry: Telemetry,
    /// At least one. Rules name them by their position.
    pub upstreams: Vec<Upstream>,
    pub rules: Rules,
}

impl Config {
    /// Reads all of it; what comes back is to be used only if nothing was reported.
    pub(super) fn read(root: &mut Section<'_>, base: &Path) -> Self {
        let (server, short, has_short, has_url) = root.section("server", |section| {
            let (server, short) = Server::read(section);
            let has = |key| section.has(key);
            (server, short, has("upstream"), has("public_url"))
        });
        let site = match &server.public_url {
            Some(url) => Site::At(url),
            None if has_url => Site::Broken,
            None => Site::Unnamed,
        };
        let (session, cookies) = read_session(root, site);
        let upstreams = Upstreams::read(root, short, has_short);
        let rules = Rules::read(root, &upstreams, &session);
        Self {
            admin: root.section("admin", |admin| read_admin(admin, &server.listen)),
            store: root.section("store", |store| Store::read(store, base)),
            revocation: root.section("revocation", Revocation::read),
            identity: root.section("identity", Identity::read),
            telemetry: root.section("telemetry", Telemetry::read),
            server,
            session,
            cookies,
            upstreams: upstreams.complete,
            rules,
        }
    }
}

/// The public listeners.
#[derive(Clone, Debug)]
pub struct Server {
    /// At least one; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Scheme and host that browsers see, if the operator named them.
    pub public_url: Option<PublicUrl>,
    /// Threads that serve requests.
    pub workers: usize,
    pub limits: Limits,
}

impl Server {
    /// The server, and the upstream that its section may name in short.
    fn read(section: &mut Section<'_>) -> (Self, Option<Upstream>) {
        let server = Self {
            // Whoever opens the gateway to a network says so.
            listen: section.texts("listen", &["127.0.0.1:8080"], values::socket_address),
            public_url: section.optional_text("public_url", PublicUrl::parse),
            // More threads than cores only wait for each other.
            workers: section
                .optional_integer("workers", (1, MOST_WORKERS))
                .unwrap_or_else(cores),
            limits: section.section("limits", Limits::read),
        };
        if section.has("listen")
            && (section.count("listen") == 0 || has_equal_items(&server.listen))
        {
            section.refuse("listen", "at least one address, each of them once");
        }
        (server, Upstream::read_short(section))
    }
}

const MOST_WORKERS: i64 = 256;

fn cores() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().min(256))
}

fn has_equal_items(addresses: &[SocketAddr]) -> bool {
    let is_repeated = |(at, address): (usize, &SocketAddr)| {
        address.port() != 0 && addresses[..at].contains(address)
    };
    addresses.iter().enumerate().any(is_repeated)
}

/// What one client, or all of them, can take of the gateway.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of clients; more are not accepted until one closes.
    pub connections: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Header lines of a request.
    pub header_count: usize,
    /// From the first byte of a request's head to its last.
    pub head_timeout: Duration,
    /// A connection between two requests.
    pub keep_alive_timeout: Duration,
    /// From the wish to stop to the end of the last request.
    pub drain_timeout: Duration,
}

impl Limits {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            // Below what a process may have of open files, twice: one for the client, one for the upstream.
            connections: section.integer("connections", 10_000, (1, 1_000_000)),
            // Twice what browsers send with many cookies; hyper's buffer needs 8 KiB.
            header_bytes: section.bytes("header_bytes", "16KiB", ("8KiB", "1MiB")),
            header_count: section.integer("header_count", 100, (10, 1000)),
            // A slow mobile network sends a head in well under a second.
            head_timeout: section.duration("head_timeout", "10s", ("10ms", "10m")),
            // Above the 60s at which common load balancers close theirs, so that it is never us who close under them.
            keep_alive_timeout: section.duration("keep_alive_timeout", "75s", ("10ms", "1h")),
            // What container schedulers grant before they kill.
            drain_timeout: section.duration("drain_timeout", "30s", ("0s", "1h")),
        }
    }
}

fn read_admin(section: &mut Section<'_>, public: &[SocketAddr]) -> Option<SocketAddr> {
    // Loopback only: whoever reaches it may end sessions.
    let listen = section.text("listen", "127.0.0.1:9901", |text| {
        if text == "off" {
            return Ok(None);
        }
        match values::socket_address(text) {
            Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
            _ => Err(r#"a loopback address and a port such as "127.0.0.1:9901", or "off""#.into()),
        }
    });
    if let Some(address) = listen
        && address.port() != 0
        && public.iter().any(|public| shares_port(public, &address))
    {
        section.conflict(
            "listen",
            "server.listen has this address too: the admin listener is never public",
        );
    }
    listen
}

fn shares_port(public: &SocketAddr, admin: &SocketAddr) -> bool {
    public.port() == admin.port() && (public.ip() == admin.ip() || public.ip().is_unspecified())
}

/// Where sessions are kept, and the key that seals what is secret there.
#[derive(Clone, Debug)]
pub struct Store {
    pub location: StoreLocation,
    pub master_key: MasterKeySource,
}

/// Where the master key comes from.
#[derive(Clone, Debug)]
pub enum MasterKeySource {
    File(PathBuf),
    /// From the environment.
    Given(MasterKey),
}

impl Store {
    fn read(section: &mut Section<'_>, base: &Path) -> Self {
        // Beside the configuration, so that the quickstart needs no folder of its own.
        let location = section.text("url", "sqlite:portcullis.db", |text| {
            StoreLocation::parse(text, base)
        });
        let file = section.text("master_key_file", "portcullis.key", |text| {
            values::file(text, base)
        });
        let given = section.secret(
            "master_key",
            "a key does not belong in a file: set PORTCULLIS_STORE__MASTER_KEY in the environment, or name a file in store.master_key_file",
            "43 characters of base64url, which are 32 bytes",
            MasterKey::parse,
        );
        if given.is_some() && section.has("master_key_file") {
            section.conflict(
                "master_key_file",
                "PORTCULLIS_STORE__MASTER_KEY is set too: keep one of them",
            );
        }
        Self {
            location,
            master_key: given.map_or(MasterKeySource::File(file), MasterKeySource::Given),
        }
    }
}

/// How revocations reach this replica, and what it promises about its own.
#[derive(Clone, Debug)]
pub struct Revocation {
    pub check: RevocationCheck,
    pub acknowledge: Acknowledge,
    /// How long a replica trusts what it has read; no shorter than three polls.
    pub lease: Duration,
    pub on_lapse: OnLapse,
    /// Between two looks at the revocation log.
    pub poll: Duration,
}

/// How a request's session is known not to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationCheck {
    /// By the revocation set in memory.
    Feed,
    /// By a read of the store per request.
    Database,
    /// Not at all: access tokens are accepted until they expire.
    Off,
}

/// What the answer to a logout waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// Every replica.
    Fleet,
    /// This one; the others follow within the lease.
    Local,
}

/// What happens to open streams of a replica that has lost touch with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLapse {
    Cut,
    Keep,
}

impl Revocation {
    fn read(section: &mut Section<'_>) -> Self {
        let revocation = Self {
            check: section.one_of(
                "check",
                &[
                    ("feed", RevocationCheck::Feed),
                    ("database", RevocationCheck::Database),
                    ("off", RevocationCheck::Off),
                ],
            ),
            acknowledge: section.one_of(
                "acknowledge",
                &[("fleet", Acknowledge::Fleet), ("local", Acknowledge::Local)],
            ),
            // How long a logout waits for a replica that died; longer than a database takes to fail over in a blink.
            lease: section.duration("lease", "3s", ("500ms", "60s")),
            on_lapse: section.one_of(
                "on_lapse",
                &[("cut", OnLapse::Cut), ("keep", OnLapse::Keep)],
            ),
            // What a logout waits for at most while all is well; twenty small reads per second.
            poll: section.duration("poll", "50ms", ("10ms", "20s")),
        };
        if revocation.poll > revocation.lease / 3 {
            let key = if section.has("poll") { "poll" } else { "lease" };
            section.refuse(
                key,
                &format!(
                    "a poll of at most a third of the lease: poll is {}, lease is {}",
                    shown_duration(revocation.poll),
                    shown_duration(revocation.lease)
                ),
            );
        }
        revocation
    }
}

/// How the upstream is told who the caller is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Request header with the user's id, set or removed on every request.
    pub user_header: HeaderName,
}

impl Identity {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            user_header: section.text("user_header", "x-user-id", values::identity_header),
        }
    }
}

/// What the gateway tells about itself.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The least important messages that are still written.
    pub log: LevelFilter,
    pub format: LogFormat,
    /// One line per request.
    pub access_log: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Telemetry {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            log: section.text("log", "info", log_level),
            format: section.one_of(
                "format",
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            ),
            access_log: section.bool("access_log", true),
        }
    }
}

fn log_level(text: &str) -> Result<LevelFilter, values::Reason> {
    const LEVELS: [(&str, LevelFilter); 6] = [
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    LEVELS
        .into_iter()
        .find(|(word, _)| *word == text)
        .map(|(_, level)| level)
        .ok_or_else(|| one_of(&LEVELS.map(|(word, _)| format!("{word:?}"))).into())
}
