//! Where values come from, and how errors say so.

use portcullis::config::{Config, MasterKeySource, Origin, QuickFlags};
use portcullis::store::StoreLocation;

use crate::{NOWHERE, parse, parse_with, with_upstream};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn the_environment_takes_the_place_of_the_file() {
    let text = with_upstream("[session]\naccess_token_lifetime = \"5m\"\n");
    let environment = [
        ("PORTCULLIS_SESSION__ACCESS_TOKEN_LIFETIME", "7m"),
        ("PORTCULLIS_SESSION__REFRESH_TOKEN_LIFETIME", "\"8d\""),
        ("portcullis_session__session_over_status", "440"),
        ("PORTCULLIS_SESSION__COOKIES__SECURE", "true"),
        (
            "PORTCULLIS_SERVER__LISTEN",
            "[\"127.0.0.1:1\", \"127.0.0.1:2\"]",
        ),
        ("PORTCULLIS_SERVER__LIMITS__HEADER_BYTES", "10000"),
        ("PORTCULLIS_STORE__URL", "sqlite:/var/lib/p.db"),
        ("PORTCULLIS_CONFIG", "not ours: no double underscore"),
        ("PATH", "/bin"),
    ];
    let config = parse_with(&text, &environment).unwrap();
    assert_eq!(config.session.lifetimes.access.as_secs(), 7 * 60);
    assert_eq!(config.session.lifetimes.idle.as_secs(), 8 * 86_400);
    assert_eq!(config.session.session_over_status, 440);
    assert!(config.cookies.secure);
    assert_eq!(config.server.listeners.len(), 2);
    assert_eq!(config.server.limits.header_bytes, 10_000);
    assert_eq!(
        config.store.location,
        StoreLocation::Sqlite("/var/lib/p.db".into())
    );
}

#[test]
fn errors_name_the_variable() {
    for (variable, value, expected) in [
        (
            "PORTCULLIS_SESSION__ACCESS_TOKEN_LIFETIME",
            "soon",
            r#"environment variable PORTCULLIS_SESSION__ACCESS_TOKEN_LIFETIME: session.access_token_lifetime: found "soon", expected a duration such as "250ms", "30m" or "100d""#,
        ),
        (
            "PORTCULLIS_STORE__ULR",
            "secret",
            "environment variable PORTCULLIS_STORE__ULR: store.ulr: unknown key; did you mean url?",
        ),
        (
            "PORTCULLIS_NOWHERE__AT_ALL",
            "secret",
            "environment variable PORTCULLIS_NOWHERE__AT_ALL: nowhere: unknown key",
        ),
        (
            "PORTCULLIS_UPSTREAM__NAME",
            "app",
            "environment variable PORTCULLIS_UPSTREAM__NAME: upstream.name: the environment can set neither a whole section nor a key of one of several tables: write it in the file",
        ),
        (
            "PORTCULLIS_LOGIN__PATH",
            "/login",
            "environment variable PORTCULLIS_LOGIN__PATH: login: found a table, expected tables [[login]] in a file",
        ),
        (
            "PORTCULLIS_STORE__MASTER_KEY",
            "hunter2",
            "environment variable PORTCULLIS_STORE__MASTER_KEY: store.master_key: found a value that is not shown, expected 43 characters of base64url, which are 32 bytes",
        ),
    ] {
        let told = parse_with(&with_upstream(""), &[(variable, value)]).unwrap_err();
        assert_eq!(told, expected);
    }
}

#[test]
fn two_spellings_of_a_variable_are_an_error() {
    let environment = [
        ("PORTCULLIS_STORE__URL", "sqlite:a"),
        ("portcullis_store__url", "sqlite:b"),
    ];
    let told = parse_with(&with_upstream(""), &environment).unwrap_err();
    assert_eq!(
        told,
        "environment variable portcullis_store__url: store.url: PORTCULLIS_STORE__URL sets the same key: unset one of them"
    );
}

#[test]
fn the_master_key_comes_from_the_environment_and_is_not_shown() {
    let environment = [("PORTCULLIS_STORE__MASTER_KEY", KEY)];
    let config = parse_with(&with_upstream(""), &environment).unwrap();
    assert!(matches!(config.store.master_key, MasterKeySource::Given(_)));
    assert!(!format!("{config:?}").contains(KEY));

    let in_file = with_upstream(&format!("[store]\nmaster_key = \"{KEY}\"\n"));
    let told = parse(&in_file).unwrap_err();
    assert!(told.contains("PORTCULLIS_STORE__MASTER_KEY"), "{told}");
    assert!(!told.contains(KEY), "{told}");
}

#[test]
fn flags_are_a_configuration() {
    let flags = QuickFlags {
        listen: Some("127.0.0.1:0".into()),
        upstream: Some("http://localhost:3000".into()),
        login: vec!["/login".into()],
        logout: vec!["/logout".into(), "/bye".into()],
        store: Some("sqlite:x.db".into()),
        public_url: Some("https://app.example.com".into()),
    };
    let config = Config::from_flags(&flags, NOWHERE).unwrap();
    assert_eq!(config.server.addresses().next().unwrap().port(), 0);
    assert_eq!(
        config.upstreams[0].servers[0].to_string(),
        "http://localhost:3000"
    );
    assert_eq!(config.rules.login_path.as_deref(), Some("/login"));
    assert_eq!(config.store.location, StoreLocation::Sqlite("x.db".into()));
    assert!(config.cookies.secure);
}

#[test]
fn errors_name_the_flag() {
    let flags = QuickFlags {
        listen: Some("8080".into()),
        login: vec!["login".into()],
        ..QuickFlags::default()
    };
    let errors = Config::from_flags(&flags, NOWHERE).unwrap_err();
    let told: Vec<_> = errors.as_slice().iter().map(ToString::to_string).collect();
    assert!(
        told[0].starts_with("--listen: server.listen: found \"8080\", expected"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("command line: upstream: missing"),
        "{told:?}"
    );
    assert!(
        told[2].starts_with("--login: login[0].path: found \"login\", expected"),
        "{told:?}"
    );
    assert_eq!(told.len(), 3);
}

#[test]
fn errors_know_their_line() {
    let text = "# one\n\n[server]\nlisten = [\n  \"127.0.0.1:1\",\n  \"nowhere\",\n]\nupstream = \"http://a\"\n";
    let errors = Config::parse(text, "p.toml", "".as_ref(), NOWHERE).unwrap_err();
    assert_eq!(
        errors.as_slice()[0].origin,
        Origin::File {
            name: "p.toml".into(),
            line: Some(6)
        }
    );
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let told = Config::load("/nowhere/p.toml".as_ref(), NOWHERE).unwrap_err();
    assert!(
        told.to_string()
            .starts_with("/nowhere/p.toml: cannot read the file: "),
        "{told}"
    );
}
