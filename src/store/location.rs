//! Where a store is: a URL, checked once, that shows no password.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// Which database, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// The database file.
    Sqlite(PathBuf),
    Postgres(ServerUrl),
    /// MySQL or MariaDB.
    Mysql(ServerUrl),
}

impl StoreLocation {
    /// By the scheme of the URL. `Err` is what would have been accepted; it repeats nothing of the text, which may hold a
    /// password.
    pub fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        let (scheme, rest) = text.split_once(':').ok_or(EXPECTED)?;
        match scheme {
            "sqlite" => file(rest).map(Self::Sqlite),
            "postgres" | "postgresql" => {
                ServerUrl::parse(text, rest, &POSTGRES_PARAMETERS).map(Self::Postgres)
            }
            "mysql" | "mariadb" => ServerUrl::parse(text, rest, &MYSQL_PARAMETERS).map(Self::Mysql),
            _ => Err(EXPECTED.into()),
        }
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) | Self::Mysql(url) => url.fmt(f),
        }
    }
}

const EXPECTED: &str = "\"sqlite:FILE\", \"postgres://USER:PASSWORD@HOST/DATABASE\" or \"mysql://USER:PASSWORD@HOST/DATABASE\"";

const POSTGRES_PARAMETERS: [&str; 10] = [
    "application_name",
    "dbname",
    "host",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

const MYSQL_PARAMETERS: [&str; 5] = ["socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode"];

fn file(rest: &str) -> Result<PathBuf, Cow<'static, str>> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    // SQLite would read `file:` as a URI and `:memory:` as "no file"; neither is one that two connections share.
    if path.is_empty()
        || path.starts_with("file:")
        || path.starts_with(':')
        || path.contains(['?', '\0'])
    {
        return Err("the file of a SQLite database, such as \"sqlite:portcullis.db\"".into());
    }
    Ok(path.into())
}

/// The URL of a database server, as the driver takes it. Printed without user, password and parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
    shown: String,
    /// On this machine: a loopback address or a Unix socket.
    is_local: bool,
    /// The names of its parameters.
    parameters: Vec<String>,
}

impl ServerUrl {
    /// `rest` is what follows the scheme. Names of parameters that the driver would pass over with a line in the log are
    /// refused: a misspelt `sslmode` must not go unnoticed.
    fn parse(text: &str, rest: &str, known: &[&str]) -> Result<Self, Cow<'static, str>> {
        let whole = rest
            .strip_prefix("//")
            .filter(|rest| !rest.contains(['#', '\0']) && !rest.contains(char::is_whitespace))
            .ok_or(EXPECTED)?;
        let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
        let (authority, database) = path.split_once('/').unwrap_or((path, ""));
        let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, at)| at);
        let parameters = parameters(query, known)?;
        let value = |name: &str| parameters.iter().find(|(other, _)| *other == name);
        let named_elsewhere = ["host", "socket"].iter().find_map(|name| value(name));
        if host_and_port.is_empty() && named_elsewhere.is_none() {
            return Err(
                "a URL with a host, as in \"postgres://USER:PASSWORD@HOST/DATABASE\"".into(),
            );
        }
        if database.is_empty() && value("dbname").is_none() {
            return Err("a URL with the name of a database, as in \"postgres://USER:PASSWORD@HOST/DATABASE\"".into());
        }
        let scheme = &text[..text.len() - rest.len()];
        let is_local = named_elsewhere.map_or_else(
            || is_loopback(host_and_port),
            |(_, host)| host.starts_with('/') || host.starts_with("%2F") || is_loopback(host),
        );
        Ok(Self {
            text: text.to_owned(),
            shown: format!("{scheme}//{host_and_port}/{database}"),
            is_local,
            parameters: parameters
                .into_iter()
                .map(|(name, _)| name.to_owned())
                .collect(),
        })
    }

    /// With the password; the name makes each use easy to find.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// On this machine: a loopback address or a Unix socket.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Whether the URL has a parameter of this name.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.parameters.iter().any(|other| other == name)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parameters<'q>(
    query: &'q str,
    known: &[&str],
) -> Result<Vec<(&'q str, &'q str)>, Cow<'static, str>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let names = known.join(", ");
                return Err(format!("a URL without other parameters than {names}").into());
            }
            Ok((name, value))
        })
        .collect()
}

fn is_loopback(host_and_port: &str) -> bool {
    let host = match host_and_port.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host_and_port.split(':').next().unwrap_or(host_and_port),
    };
    // A percent-encoded path is a Unix socket.
    host == "localhost"
        || host.starts_with("%2F")
        || host.starts_with("%2f")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::StoreLocation;

    #[test]
    fn the_scheme_chooses_and_no_password_is_shown() {
        for (text, shown) in [
            ("sqlite:x.db", "sqlite:x.db"),
            ("sqlite:///var/x.db", "sqlite:/var/x.db"),
            ("postgres://me:hunter2@db/p", "postgres://db/p"),
            (
                "postgresql://me:h@unter2@db:1/p?sslmode=require",
                "postgresql://db:1/p",
            ),
            (
                "postgres:///?host=/run/pg&user=me&password=hunter2&dbname=p",
                "postgres:///",
            ),
            (
                "mysql://me:hunter2@[::1]:3306/p?ssl-mode=DISABLED",
                "mysql://[::1]:3306/p",
            ),
            ("mariadb://hunter2@db/p", "mariadb://db/p"),
        ] {
            let location = StoreLocation::parse(text).unwrap();
            assert_eq!(location.to_string(), shown);
            assert!(!format!("{location:?}").contains("hunter2"), "{location:?}");
        }
    }

    #[test]
    fn what_no_driver_should_see_is_refused() {
        for text in [
            "",
            "x.db",
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "sqlite:file:x",
            "sqlite:x.db?key=hunter2",
            "postgres:",
            "postgres:db/p",
            "postgres://",
            "postgres://me:hunter2@db",
            "postgres://me:hunter2@db/",
            "postgres://me:hunter2@/p",
            "postgres://me:hunter2@db/p?sslmodus=require",
            "postgres://me:hunter2@db/p?ssl%6Dode=require",
            "postgres://me:hunter2@db/p#x",
            "postgres://me:hunter2@db /p",
            "mysql://me:hunter2@db/p?sslmode=require",
            "redis://me:hunter2@db/p",
        ] {
            let refused = StoreLocation::parse(text).unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn loopback_addresses_and_sockets_are_local() {
        for (text, local) in [
            ("postgres://localhost/p", true),
            ("postgres://me:x@127.0.0.7:1/p", true),
            ("postgres://[::1]:1/p", true),
            ("postgres://%2Frun%2Fpg/p", true),
            ("postgres:///p?host=/run/pg", true),
            ("postgres://db/p", false),
            ("postgres://localhost.example.com/p", false),
            ("postgres://localhost/p?host=db", false),
        ] {
            let StoreLocation::Postgres(url) = StoreLocation::parse(text).unwrap() else {
                panic!("{text}");
            };
            assert_eq!(url.is_local(), local, "{text}");
        }
    }
}
