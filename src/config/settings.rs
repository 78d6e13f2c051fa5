//! The configuration as meant: addresses, durations, rules; every check has been passed.
//!
//! One struct per section, each with the function that reads it; the numbers of a section's defaults and limits stand there
//! and nowhere else, beside their reasons.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;

use super::admin::{Admin, read_admin};
use super::reader::Section;
use super::rules::Rules;
use super::server::Server;
use super::session::{Session, Site, read_session};
use super::upstream::Upstreams;
use super::values::{self, Reason, shown_duration};
use super::written::Written;
use crate::cookie::CookieSettings;
use crate::revocation::{Acknowledge, Check, OnLapse, RevocationSettings};
use crate::session::{MasterKey, SigningAlgorithm};
use crate::store::{StoreLocation, StoreSettings};
use crate::telemetry::{LogFormat, LogSettings, check_filter};
use crate::upstream::UpstreamSettings;

/// What the gateway was told. Whoever has one has a configuration without errors.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    /// `None`: there is no private listener.
    pub admin: Option<Admin>,
    pub store: Store,
    pub session: Session,
    pub cookies: CookieSettings,
    pub revocation: RevocationSettings,
    pub keys: Keys,
    pub identity: Identity,
    pub telemetry: Telemetry,
    /// At least one. Rules name them by their position.
    pub upstreams: Vec<UpstreamSettings>,
    pub rules: Rules,
    /// Which configuration it is.
    pub written: Written,
}

impl Config {
    /// Reads all of it; what comes back is to be used only if nothing was reported.
    pub(super) fn read(root: &mut Section<'_>, base: &Path, written: Written) -> Self {
        let (server, short, has_short, has_url) = root.section("server", |section| {
            let (server, short) = Server::read(section, base);
            let has = |key| section.has(key);
            (server, short, has("upstream"), has("public_url"))
        });
        let site = match &server.public_url {
            Some(url) => Site::At(url),
            None if has_url => Site::Broken,
            None => Site::Unnamed,
        };
        let (session, cookies) = read_session(root, site);
        let upstreams = Upstreams::read(root, short, has_short, base);
        let rules = Rules::read(root, &upstreams, &session, &cookies.path);
        Self {
            admin: root.section("admin", |admin| read_admin(admin, &server.listeners, base)),
            store: root.section("store", |store| Store::read(store, base)),
            revocation: root.section("revocation", |section| {
                read_revocation(section, session.lifetimes.access)
            }),
            keys: root.section("keys", Keys::read),
            identity: root.section("identity", |identity| {
                Identity::read(identity, session.signing_algorithm)
            }),
            telemetry: root.section("telemetry", Telemetry::read),
            server,
            session,
            cookies,
            upstreams: upstreams.complete,
            rules,
            written,
        }
    }
}

/// Where sessions are kept, and the key that seals what is secret there.
#[derive(Clone, Debug)]
pub struct Store {
    pub location: StoreLocation,
    pub settings: StoreSettings,
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
            values::store_location(text, base)
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
        let default = StoreSettings::default();
        // The least is what the feed, the barrier and two revokers need; more than a server takes helps nobody.
        let connections = section.integer("connections", default.connections.into(), (8, 500));
        let settings = StoreSettings {
            connections: u16::try_from(connections).unwrap_or(default.connections),
            migrate: section.bool("migrate", default.migrate),
        };
        Self {
            location,
            settings,
            master_key: given.map_or(MasterKeySource::File(file), MasterKeySource::Given),
        }
    }
}

fn read_revocation(section: &mut Section<'_>, access_lifetime: Duration) -> RevocationSettings {
    let settings = RevocationSettings {
        check: section.one_of(
            "check",
            &[
                ("feed", Check::Feed),
                ("database", Check::Database),
                ("off", Check::Off),
            ],
        ),
        acknowledge: section.one_of(
            "acknowledge",
            &[("fleet", Acknowledge::Fleet), ("local", Acknowledge::Local)],
        ),
        // A logout waits so long for a replica that died, and a hiccup of the store that is shorter goes unnoticed.
        lease: section.duration("lease", "3s", ("500ms", "60s")),
        on_lapse: section.one_of(
            "on_lapse",
            &[("cut", OnLapse::Cut), ("keep", OnLapse::Keep)],
        ),
        // What a logout waits for at most while all is well; twenty small reads per second.
        poll: section.duration("poll", "50ms", ("10ms", "20s")),
        access_lifetime,
    };
    // Two polls may fail before the lease ends.
    if settings.poll > settings.lease / 3 {
        let key = if section.has("poll") { "poll" } else { "lease" };
        section.refuse(
            key,
            &format!(
                "a poll of at most a third of the lease: poll is {}, lease is {}",
                shown_duration(settings.poll),
                shown_duration(settings.lease)
            ),
        );
    }
    settings
}

/// When signing keys are replaced.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// The age at which a signing key gets a successor.
    pub rotate_after: Duration,
}

impl Keys {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            // A key that leaked unseen is worth nothing after a week. Below an hour the ring would grow long.
            rotate_after: section.duration("rotate_after", "7d", ("1h", "3650d")),
        }
    }
}

/// How the upstream is told who the caller is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Request header with the user's id, set or removed on every request.
    pub user_header: HeaderName,
    /// The same, signed, if the operator wants it.
    pub assertion: Option<AssertionTo>,
}

/// Where a signed assertion goes.
#[derive(Clone, Debug)]
pub struct AssertionTo {
    /// Request header, set or removed on every request.
    pub header: HeaderName,
    /// Who the application is in it.
    pub audience: String,
}

impl Identity {
    fn read(section: &mut Section<'_>, algorithm: SigningAlgorithm) -> Self {
        let user_header = section.text("user_header", "x-user-id", values::identity_header);
        let header = section.optional_text("assertion_header", values::identity_header);
        let audience = section.optional_text("assertion_audience", values::audience);
        let has = |key| section.has(key);
        if has("assertion_header") && !has("assertion_audience") {
            section.conflict(
                "assertion_header",
                "needs assertion_audience: whom the assertions are meant for",
            );
        }
        if has("assertion_audience") && !has("assertion_header") {
            section.conflict(
                "assertion_audience",
                "needs assertion_header: without one there are no assertions",
            );
        }
        if has("assertion_header") && !algorithm.is_asymmetric() {
            section.conflict(
                "assertion_header",
                "needs a session.signing_algorithm with public keys: with HS256 the application could verify nothing",
            );
        }
        if header.as_ref() == Some(&user_header) {
            section.refuse("assertion_header", "another header than user_header");
        }
        Self {
            user_header,
            assertion: header
                .zip(audience)
                .map(|(header, audience)| AssertionTo { header, audience }),
        }
    }
}

/// What the gateway tells about itself.
#[derive(Clone, Debug)]
pub struct Telemetry {
    pub log: LogSettings,
    /// Whether there is one line per request.
    pub access_log: bool,
}

impl Telemetry {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            log: LogSettings {
                filter: section.text("log", "info", log_filter),
                format: section.one_of(
                    "format",
                    &[("text", LogFormat::Text), ("json", LogFormat::Json)],
                ),
                ..LogSettings::default()
            },
            access_log: section.bool("access_log", true),
        }
    }
}

/// The syntax allows a word that is no level and takes it for the name of a module: here it is a spelling mistake.
fn log_filter(text: &str) -> Result<String, Reason> {
    let is_level = |word: &str| LOG_LEVELS.contains(&word);
    let is_plain = text
        .split(',')
        .all(|part| part.contains('=') || is_level(part.trim()));
    if !is_plain || check_filter(text).is_err() {
        let levels = values::one_of(&LOG_LEVELS.map(|level| format!("{level:?}")));
        return Err(
            format!("{levels}, or levels by module such as \"warn,portcullis=debug\"").into(),
        );
    }
    Ok(text.to_owned())
}

const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
