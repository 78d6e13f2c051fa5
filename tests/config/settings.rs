//! What the sections mean.

use std::path::Path;
use std::time::Duration;

use portcullis::config::{AdminAddress, AntiCsrf, Config, MasterKeySource, Refresh};
use portcullis::cookie::Prefix;
use portcullis::revocation::protocol::LONGEST_LEASE;
use portcullis::store::{StoreLocation, StoreSettings};

use crate::{parse, with_upstream};

fn parsed(more: &str) -> Config {
    parse(&with_upstream(more)).unwrap()
}

#[test]
fn paths_start_from_the_folder_of_the_file() {
    let config = parsed("");
    assert_eq!(
        config.store.location,
        StoreLocation::Sqlite("/etc/portcullis/portcullis.db".into())
    );
    let MasterKeySource::File(file) = config.store.master_key else {
        panic!("a file was expected");
    };
    assert_eq!(file, Path::new("/etc/portcullis/portcullis.key"));
    let config = parsed("[store]\nurl = \"sqlite:///var/p.db\"\n");
    assert_eq!(
        config.store.location,
        StoreLocation::Sqlite("/var/p.db".into())
    );
}

#[test]
fn a_store_is_migrated_at_the_start_unless_it_says_otherwise() {
    let settings = |text: &str| parsed(&format!("[store]\n{text}\n")).store.settings;
    let default = StoreSettings::default();
    assert_eq!(settings(""), default);
    assert_eq!((default.connections, default.migrate), (12, true));
    assert!(!settings("migrate = false").migrate);
    assert_eq!(settings("connections = 8").connections, 8);
    assert_eq!(settings("connections = 500").connections, 500);
}

#[test]
fn cookies_are_secure_behind_https() {
    for (server, cookies, secure) in [
        ("", "", false),
        ("public_url = \"http://a.example\"", "", false),
        ("public_url = \"https://a.example\"", "", true),
        (
            "public_url = \"https://a.example\"",
            "secure = false",
            false,
        ),
        ("", "secure = true", true),
    ] {
        let config = parsed(&format!(
            "[server]\n{server}\n[session.cookies]\n{cookies}\n"
        ));
        assert_eq!(config.cookies.secure, secure, "{server} {cookies}");
    }
}

#[test]
fn public_urls_are_written_as_browsers_write_them() {
    for (text, origin) in [
        ("https://App.Example.com", "https://app.example.com"),
        ("https://app.example.com:443/", "https://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ] {
        let config = parsed(&format!("[server]\npublic_url = \"{text}\"\n"));
        assert_eq!(config.server.public_url.unwrap().to_string(), origin);
    }
    for text in [
        "",
        "app.example.com",
        "ftp://a",
        "https://",
        "https://a/b",
        "https://a?b",
        "https://a#b",
        "https://a:0",
        "https://a:",
        "https://a:99999",
        "https://u@a",
        "https://a b",
        "https://a//",
    ] {
        let text = with_upstream(&format!("[server]\npublic_url = \"{text}\"\n"));
        assert!(parse(&text).is_err(), "{text}");
    }
}

#[test]
fn a_cookie_domain_is_the_host_or_above_it() {
    for (domain, fits) in [
        ("app.example.com", true),
        ("example.com", true),
        (".example.com", true),
        ("Example.COM", true),
        ("com", false),
        ("le.com", false),
        ("x.app.example.com", false),
        ("example.org", false),
        ("", false),
        ("a..b", false),
        ("1.2.3.4", false),
        ("example.com; Secure", false),
    ] {
        let text = with_upstream(&format!(
            "[server]\npublic_url = \"https://app.example.com\"\n[session.cookies]\ndomain = \"{domain}\"\n"
        ));
        assert_eq!(parse(&text).is_ok(), fits, "{domain}");
    }
}

#[test]
fn redirects_go_where_they_seem_to_go() {
    for (target, is_one) in [
        ("/", true),
        ("/bye?a=b#c", true),
        ("https://www.example.com/bye", true),
        ("http://localhost:3000", true),
        ("//evil.test", false),
        ("/\\\\evil.test", false),
        ("\\\\/evil.test", false),
        ("https:evil.test", false),
        ("https:/evil.test", false),
        ("https:///evil.test", false),
        ("https://g.test@evil.test", false),
        ("https://a:b:c/", false),
        ("javascript:alert(1)", false),
        ("data:text/html,x", false),
        ("/\\tevil.test", false),
        (" //evil.test", false),
        ("bye", false),
        ("", false),
        ("/é", false),
        ("/a\\r\\nSet-Cookie: x=1", false),
    ] {
        let text = with_upstream(&format!(
            "[[logout]]\npath = \"/logout\"\nredirect = \"{target}\"\n"
        ));
        assert_eq!(parse(&text).is_ok(), is_one, "{target}");
    }
}

#[test]
fn identity_headers_are_nobody_elses() {
    for (name, is_free) in [
        ("x-user-id", true),
        ("X-Auth-Request-User", true),
        ("remote-user", true),
        ("host", false),
        ("Cookie", false),
        ("set-cookie", false),
        ("Authorization", false),
        ("content-length", false),
        ("transfer-encoding", false),
        ("te", false),
        ("x-forwarded-for", false),
        ("forwarded", false),
        ("portcullis-login", false),
        ("sec-fetch-site", false),
        ("rid", false),
        ("x_user_id", false),
        ("x.user", false),
        ("x user", false),
        ("", false),
    ] {
        let text = with_upstream(&format!("[identity]\nuser_header = \"{name}\"\n"));
        assert_eq!(parse(&text).is_ok(), is_free, "{name}");
    }
}

#[test]
fn sizes_have_units() {
    for (text, bytes) in [
        ("\"16KiB\"", 16_384),
        ("\"1MiB\"", 1 << 20),
        ("\"10KB\"", 10_000),
        ("\"1 MB\"", 1_000_000),
        ("\"9000\"", 9000),
        ("9000", 9000),
    ] {
        let config = parsed(&format!("[server.limits]\nheader_bytes = {text}\n"));
        assert_eq!(config.server.limits.header_bytes, bytes);
    }
    for text in [
        "\"16 potatoes\"",
        "-1",
        "\"-1KiB\"",
        "\"99999999999999999999GiB\"",
        "\"18014398509481985KiB\"",
        "1.5",
        "true",
        "8191",
        "\"2MiB\"",
    ] {
        let text = with_upstream(&format!("[server.limits]\nheader_bytes = {text}\n"));
        assert!(parse(&text).is_err(), "{text}");
    }
}

#[test]
fn the_refresh_path_has_two_spellings() {
    for text in [
        "[session]\nrefresh_path = \"/renew\"\n",
        "[refresh]\npath = \"/renew\"\n",
    ] {
        assert_eq!(parsed(text).session.refresh_path, "/renew");
    }
}

#[test]
fn the_refresh_cookie_goes_where_it_is_needed() {
    let config = parsed("");
    assert_eq!(config.session.refresh, Refresh::Transparent);
    assert_eq!(config.cookies.refresh_path, "/");
    assert_eq!(
        config.cookies.older_refresh_paths,
        ["/auth/session/refresh"]
    );
    let config = parsed("[session]\nrefresh = \"client\"\n[refresh]\npath = \"/renew\"\n");
    assert_eq!(config.cookies.refresh_path, "/renew");
    assert_eq!(config.cookies.older_refresh_paths, ["/"]);
}

#[test]
fn a_prefix_is_chosen_or_left_to_the_scope() {
    for (cookies, prefix) in [
        ("", None),
        ("prefix = \"\"", Some(Prefix::Plain)),
        ("prefix = \"__Host-\"", Some(Prefix::Host)),
        ("prefix = \"__Secure-\"", Some(Prefix::Secure)),
    ] {
        let config = parsed(&format!(
            "[server]\npublic_url = \"https://a.example\"\n[session]\nrefresh = \"client\"\n[session.cookies]\n{cookies}\n"
        ));
        assert_eq!(config.cookies.prefix, prefix, "{cookies}");
    }
    for cookies in ["__host-", "__Http-", "x"] {
        let text = with_upstream(&format!(
            "[session.cookies]\nsecure = true\nprefix = \"{cookies}\"\n"
        ));
        assert!(parse(&text).is_err(), "{cookies}");
    }
}

#[test]
fn allowed_origins_are_origins() {
    let config = parsed(
        "[session]\nallowed_origins = [\"https://WWW.example.com:443\", \"http://localhost:3000\"]\n",
    );
    let origins: Vec<String> = config
        .session
        .allowed_origins
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        origins,
        ["https://www.example.com", "http://localhost:3000"]
    );
    for origin in [
        "*",
        "null",
        "https://*.example.com",
        "https://example.com/app",
        "example.com",
        "",
    ] {
        let text = with_upstream(&format!("[session]\nallowed_origins = [\"{origin}\"]\n"));
        assert!(parse(&text).is_err(), "{origin}");
    }
}

#[test]
fn tokens_against_forgery_are_made_where_a_rule_asks_for_them() {
    for (text, asked) in [
        ("", false),
        ("[session]\nanti_csrf = \"custom-header\"\n", false),
        ("[session]\nanti_csrf = \"token\"\n", true),
        (
            "[[route]]\npath = \"/pay/**\"\nanti_csrf = \"token\"\n",
            true,
        ),
        (
            "[[login]]\npath = \"/login\"\nanti_csrf = \"token\"\n",
            true,
        ),
        (
            "[[logout]]\npath = \"/logout\"\nanti_csrf = \"token\"\n",
            true,
        ),
        (
            "[[logout]]\npath = \"/logout\"\nanti_csrf = \"off\"\n",
            false,
        ),
    ] {
        assert_eq!(parsed(text).rules.anti_csrf_tokens, asked, "{text}");
    }
    let config = parsed("[session]\nanti_csrf = \"token\"\nanti_csrf_refresh = \"off\"\n");
    assert_eq!(config.session.anti_csrf, AntiCsrf::Token);
    assert!(!config.session.anti_csrf_on_refresh);
}

#[test]
fn log_filters_are_levels() {
    for (filter, is_one) in [
        ("info", true),
        ("warn,portcullis=debug", true),
        ("info,portcullis::request=off", true),
        ("verbose", false),
        ("info,portcullis=loud", false),
        ("", false),
    ] {
        let text = with_upstream(&format!("[telemetry]\nlog = \"{filter}\"\n"));
        assert_eq!(parse(&text).is_ok(), is_one, "{filter}");
    }
}

#[test]
fn the_admin_listener_can_be_off() {
    assert_eq!(parsed("[admin]\nlisten = \"off\"\n").admin, None);
    let address = AdminAddress::Tcp("127.0.0.1:9901".parse().unwrap());
    assert_eq!(parsed("").admin.unwrap().listen, address);
}

#[test]
fn the_admin_listener_can_be_a_socket_file() {
    let admin = parsed(
        "[admin]\nlisten = \"unix:run/admin.sock\"\ntoken_file = \"admin.token\"\nhost_names = [\"Gateway.internal\"]\n",
    )
    .admin
    .unwrap();
    let AdminAddress::Unix(path) = admin.listen else {
        panic!("{:?}", admin.listen);
    };
    assert!(path.ends_with("run/admin.sock"));
    assert!(admin.token_file.unwrap().ends_with("admin.token"));
    assert_eq!(admin.host_names, ["gateway.internal"]);
}

#[test]
fn limits_are_allowed_themselves() {
    let config = parsed("[revocation]\nlease = \"60s\"\npoll = \"20s\"\n");
    assert_eq!(config.revocation.poll, Duration::from_secs(20));
    // Who waits for a lease that it does not know relies on this.
    assert_eq!(config.revocation.lease, LONGEST_LEASE);
    let config = parsed("[session]\nrefresh_token_lifetime = \"365d\"\n");
    assert_eq!(
        config.session.lifetimes.idle,
        config.session.lifetimes.absolute
    );
}
