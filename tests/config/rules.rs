//! Which rule a path and a method fall under, by what is written and what that implies.

use http::Method;
use portcullis::config::{Auth, Config, LogoutScope, Route, RuleTarget};
use portcullis::route::CanonicalPath;
use portcullis::telemetry::RouteId;

use crate::{parse, with_upstream};

/// One word per target, to compare with.
fn target(text: &str, request: &str) -> String {
    let config = parse(&with_upstream(text)).unwrap();
    let (method, path) = request.split_once(' ').unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let path = CanonicalPath::parse(path).unwrap();
    let Some(route) = config.rules.table.lookup(&path, &method) else {
        return "fallback".to_owned();
    };
    match &route.target {
        RuleTarget::NotAllowed { allow } => format!("only {allow:?}"),
        RuleTarget::Login(_) => "login".to_owned(),
        RuleTarget::Refresh => "refresh".to_owned(),
        RuleTarget::PublicKeys => "public keys".to_owned(),
        RuleTarget::Signout => "signout".to_owned(),
        RuleTarget::OwnSessions => "own sessions".to_owned(),
        RuleTarget::OwnSession => "own session".to_owned(),
        RuleTarget::Logout(rule) => match rule.scope {
            LogoutScope::Session => "logout".to_owned(),
            LogoutScope::User => "logout everywhere".to_owned(),
        },
        RuleTarget::Forward(rule) => match rule.auth {
            Auth::None => "open".to_owned(),
            Auth::Optional => "optional".to_owned(),
            Auth::Required => "required".to_owned(),
        },
    }
}

fn route<'a>(config: &'a Config, method: Method, path: &CanonicalPath) -> &'a Route {
    config.rules.table.lookup(path, &method).unwrap()
}

fn check(text: &str, expected: &[(&str, &str)]) {
    for (request, is) in expected {
        assert_eq!(target(text, request), *is, "{request}\n{text}");
    }
}

#[test]
fn nothing_written_means_protected() {
    check(
        "",
        &[
            ("GET /", "fallback"),
            ("POST /login", "fallback"),
            ("POST /auth/session/refresh", "refresh"),
            ("GET /auth/session/refresh", "only [POST]"),
            ("POST /auth/signout", "signout"),
            ("GET /auth/signout", "only [POST]"),
            ("GET /.well-known/jwks.json", "public keys"),
            ("HEAD /.well-known/jwks.json", "public keys"),
            ("POST /.well-known/jwks.json", "only [GET, HEAD]"),
            ("GET /.well-known/other", "fallback"),
        ],
    );
}

#[test]
fn public_keys_are_shown_if_there_are_any_and_nobody_else_shows_some() {
    let path = ".well-known/jwks.json";
    let own = format!("[[route]]\npath = \"/{path}\"\nmethods = [\"GET\"]\nauth = \"none\"\n");
    let wider = "[[route]]\npath = \"/.well-known/**\"\nauth = \"none\"\n";
    let secret = "[session]\nsigning_algorithm = \"HS256\"\n";
    let get = format!("GET /{path}");
    check(
        &own,
        &[(&get, "open"), (&format!("POST /{path}"), "fallback")],
    );
    check(
        wider,
        &[(&get, "public keys"), ("GET /.well-known/x", "open")],
    );
    check(secret, &[(&get, "fallback")]);
}

#[test]
fn a_login_is_its_page_too_with_and_without_a_slash() {
    check(
        "[[login]]\npath = \"/login\"\n[[login]]\npath = \"/oauth/*/callback\"\nmethods = [\"GET\"]\n",
        &[
            ("POST /login", "login"),
            ("POST /login/", "login"),
            ("GET /login", "optional"),
            ("HEAD /login/", "optional"),
            ("DELETE /login", "fallback"),
            ("POST /login/x", "fallback"),
            ("GET /oauth/x/callback", "login"),
            ("GET /oauth/x/callback/", "login"),
            ("HEAD /oauth/x/callback", "optional"),
        ],
    );
}

#[test]
fn what_is_implied_gives_way_to_what_is_written() {
    check(
        r#"
        [[login]]
        path = "/login"
        [[logout]]
        path = "/logout"
        [[logout]]
        path = "/logout/"
        scope = "user"
        [[route]]
        path = "/login"
        methods = ["GET"]
        auth = "none"
        "#,
        &[
            ("GET /login", "open"),
            ("HEAD /login", "optional"),
            ("GET /login/", "optional"),
            ("POST /logout", "logout"),
            ("POST /logout/", "logout everywhere"),
            ("GET /logout", "only [POST]"),
        ],
    );
}

#[test]
fn a_logout_takes_the_place_of_the_sign_out() {
    for path in ["/auth/signout", "/auth/signout/"] {
        check(
            &format!("[[logout]]\npath = \"{path}\"\nscope = \"user\"\n"),
            &[
                ("POST /auth/signout", "logout everywhere"),
                ("POST /auth/signout/", "logout everywhere"),
                ("GET /auth/signout", "only [POST]"),
            ],
        );
    }
}

#[test]
fn own_endpoints_stay_within_wider_rules() {
    check(
        "[[route]]\npath = \"/auth/**\"\nauth = \"none\"\n[[logout]]\npath = \"/**\"\nmethods = [\"DELETE\"]\n",
        &[
            ("POST /auth/session/refresh", "refresh"),
            ("POST /auth/signout", "signout"),
            ("GET /auth/x", "open"),
            ("DELETE /x", "logout"),
        ],
    );
}

#[test]
fn users_see_their_sessions_where_they_are_let() {
    check(
        "",
        &[
            ("GET /auth/sessions", "fallback"),
            ("DELETE /auth/sessions/x", "fallback"),
        ],
    );
    for (more, path) in [
        ("", "/auth/sessions"),
        ("self_service_path = \"/me/devices\"\n", "/me/devices"),
    ] {
        let text = format!("[session]\nself_service = true\n{more}");
        for (request, is) in [
            (format!("GET {path}"), "own sessions"),
            (format!("DELETE {path}/x"), "own session"),
            (format!("DELETE {path}"), "only [GET]"),
            (format!("GET {path}/x"), "only [DELETE]"),
            (format!("DELETE {path}/x/y"), "fallback"),
        ] {
            assert_eq!(target(&text, &request), is, "{request}\n{text}");
        }
    }
}

#[test]
fn own_endpoints_are_not_replaced_silently() {
    for path in ["/auth/session/refresh", "/auth/signout"] {
        for methods in ["", "methods = [\"POST\"]\n"] {
            let text = format!("[[route]]\npath = \"{path}\"\n{methods}");
            assert!(parse(&with_upstream(&text)).is_err(), "{text}");
        }
    }
}

#[test]
fn rules_name_their_upstream() {
    let config = parse(&with_upstream(
        r#"
        [[upstream]]
        name = "api"
        servers = ["http://[::1]"]
        [[route]]
        path = "/api/**"
        upstream = "api"
        "#,
    ))
    .unwrap();
    let path = CanonicalPath::parse("/api/x").unwrap();
    let RuleTarget::Forward(rule) = &route(&config, Method::GET, &path).target else {
        panic!("a route was expected");
    };
    let upstream = &config.upstreams[rule.upstream.0];
    assert_eq!(&*upstream.name, "api");
    assert_eq!(upstream.servers[0].to_string(), "http://[::1]");
}

#[test]
fn the_redirect_of_a_logout_is_always_allowed() {
    let config = parse(&with_upstream(
        "[[logout]]\npath = \"/out\"\nredirect = \"/bye\"\nredirect_allow = [\"https://example.com/bye\"]\n",
    ))
    .unwrap();
    let path = CanonicalPath::parse("/out").unwrap();
    let RuleTarget::Logout(rule) = &route(&config, Method::POST, &path).target else {
        panic!("a logout was expected");
    };
    let allowed: Vec<_> = rule.redirect_allow.iter().map(|it| it.as_str()).collect();
    assert_eq!(allowed, ["https://example.com/bye", "/bye"]);
}

#[test]
fn what_is_no_logout_does_not_reach_the_application_as_one() {
    check(
        "[[logout]]\npath = \"/out\"\nmethods = [\"POST\", \"DELETE\"]\n[[logout]]\npath = \"/bye\"\n[[route]]\npath = \"/bye\"\nauth = \"none\"\n",
        &[
            ("DELETE /out/", "logout"),
            ("GET /out", "only [DELETE, POST]"),
            ("PROPFIND /out/", "only [DELETE, POST]"),
            ("GET /out/x", "fallback"),
            ("POST /bye", "logout"),
            ("GET /bye", "open"),
            ("GET /bye/", "only [POST]"),
        ],
    );
}

#[test]
fn every_route_has_its_label() {
    let config = parse(&with_upstream("[[login]]\npath = \"/login\"\n")).unwrap();
    let path = CanonicalPath::parse("/login/").unwrap();
    let route = route(&config, Method::GET, &path);
    let label = (0_u32..)
        .zip(&config.rules.labels)
        .find(|(id, _)| RouteId::new(*id) == route.id)
        .map(|(_, label)| label.as_str());
    assert_eq!(label, Some("/login/"));
}
