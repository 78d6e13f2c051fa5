//! From a TOML file, the environment and flags to a checked [`Config`].
//!
//! Two forms: the configuration as written (`document`, a tree that remembers where everything stands) and as meant
//! ([`Config`], with the settings structs of the modules below as they are). Nothing outside of this module sees the first. Between them stands the `reader`, which reports every mistake
//! at once. Checks have no side effects: nothing is opened, created or looked up.
//!
//! | file | what it has |
//! |---|---|
//! | `document` | file, environment and flags as one tree |
//! | `reader`, `kinds` | sections and unknown keys; values by name and kind |
//! | `values` | what a text can mean: durations, sizes, URLs |
//! | `settings`, `server`, `listeners`, `tls`, `admin`, `session`, `upstream` | [`Config`] and its sections |
//! | `rule_sections`, `rules` | what happens on which path: as written one by one, then as one table |
//! | `written` | the hash of a configuration, and in which keys two differ |
//! | `error` | [`ConfigErrors`] |

mod admin;
mod document;
mod error;
mod exposed;
mod kinds;
mod listeners;
mod reader;
mod rule_sections;
mod rules;
mod server;
mod session;
mod settings;
mod tls;
mod upstream;
mod values;
mod written;

use std::ffi::OsString;
use std::path::Path;

use document::Document;
use reader::{Report, Section};

pub use admin::{Admin, AdminAddress};
pub use document::QuickFlags;
pub use error::{ConfigError, ConfigErrors, Origin, Problem};
pub use listeners::{Asker, ListenAddress, ListenMode, ProxyPeer, PublicListener};
pub use reader::KnownKey;
pub use rules::{
    Auth, ClearSiteData, ForwardRule, LoginRule, LogoutRule, LogoutScope, Route, RouteTimeouts,
    RuleTarget, Rules, Unauthenticated, Upstream401, UpstreamHost,
};
pub use server::{ForwardedHeaders, Limits, Rates, Server, TrustedProxies};
pub use session::{AntiCsrf, Refresh, Session};
pub use settings::{AssertionTo, Config, Identity, Keys, MasterKeySource, Store, Telemetry};
pub use tls::Tls;
pub use upstream::UpstreamId;
pub use values::{PublicUrl, RedirectTarget};
pub use written::Written;

impl Config {
    /// Reads a file; relative paths in it start from its folder. `environment` is usually [`std::env::vars_os`]:
    /// `PORTCULLIS_SECTION__KEY` takes the place of `section.key`.
    pub fn load<K, V>(
        path: &Path,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigErrors>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                Self::parse(&text, &name, folder, environment)
            }
            Err(error) => Err(ConfigErrors::new(vec![ConfigError {
                origin: Origin::File {
                    name: name.into(),
                    line: None,
                },
                key: String::new(),
                problem: Problem::Unreadable(format!("cannot read the file: {error}")),
                hint: None,
            }])),
        }
    }

    /// The same for a text that is called `name` in errors, with relative paths from `base`.
    pub fn parse<K, V>(
        text: &str,
        name: &str,
        base: &Path,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigErrors>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let document = Document::parse(text, name);
        Self::from_document(document, base, environment)
    }

    /// No file: all that is known comes from a command line and the environment. Relative paths start from the working
    /// directory.
    pub fn from_flags<K, V>(
        flags: &QuickFlags,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigErrors>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        Self::from_document(Document::from_flags(flags), Path::new(""), environment)
    }

    /// Every key that a configuration can have, in the order in which they are read.
    pub fn known_keys() -> Vec<KnownKey> {
        let document = Document::from_flags(&QuickFlags::default());
        let report = Report::survey();
        Section::read_root(&document.root, &report, |root| {
            Self::read(root, Path::new(""), Written::of(&document.root))
        });
        report.into_known_keys()
    }

    fn from_document<K, V>(
        mut document: Document,
        base: &Path,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigErrors>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        if !document.errors.is_empty() {
            return Err(ConfigErrors::new(document.errors));
        }
        document.override_by(environment);
        let report = Report::default();
        let written = Written::of(&document.root);
        let read = |root: &mut Section<'_>| Self::read(root, base, written);
        let config = Section::read_root(&document.root, &report, read);
        let mut errors = document.errors;
        errors.extend(report.into_errors());
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors::new(errors))
        }
    }
}
