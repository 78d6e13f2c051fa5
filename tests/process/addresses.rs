//! Who the client is, and how often it may log in, refresh and log out.

use crate::support::{Answer, Conn, Gateway, Home, Upstream, header, only_app};

/// Sends a GET with these header lines.
fn get(gateway: &Gateway, path: &str, more: &str) -> Answer {
    let mut conn = gateway.connect();
    conn.send(format!("GET {path} HTTP/1.1\r\nhost: g.test\r\n{more}\r\n"));
    conn.answer()
}

fn trusting(application: &Upstream, server: &str) -> Home {
    let home = Home::new("");
    let text = std::fs::read_to_string(home.config())
        .unwrap()
        .replace("[admin]", &format!("{server}\n[admin]"));
    std::fs::write(home.config(), text + &only_app(application.address)).unwrap();
    home
}

#[test]
fn what_a_trusted_proxy_says_reaches_the_application_and_the_log() {
    let application = Upstream::application();
    let home = trusting(
        &application,
        "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]",
    );
    let gateway = home.start();
    let said = "x-forwarded-for: 6.6.6.6, 192.0.2.7, 10.1.1.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: app.test\r\n\
                forwarded: for=7.7.7.7\r\nx-real-ip: 8.8.8.8\r\nx_forwarded_for: 9.9.9.9\r\nx-forwarded-prefix: /admin\r\n";
    assert_eq!(get(&gateway, "/public/a", said).status, 200);
    let head = application.only_head();
    assert_eq!(
        header(&head, "x-forwarded-for"),
        Some("192.0.2.7"),
        "{head}"
    );
    assert_eq!(header(&head, "x-forwarded-proto"), Some("https"), "{head}");
    assert_eq!(
        header(&head, "x-forwarded-host"),
        Some("app.test"),
        "{head}"
    );
    assert_eq!(header(&head, "host"), Some("g.test"), "{head}");
    for gone in ["6.6.6.6", "7.7.7.7", "8.8.8.8", "9.9.9.9", "/admin"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    crate::support::eventually("the log names the client", || {
        gateway.log().contains("client=192.0.2.7")
    });
}

#[test]
fn from_everybody_else_it_is_dropped() {
    let application = Upstream::application();
    let home = trusting(&application, "trusted_proxies = [\"10.0.0.0/8\"]");
    let gateway = home.start();
    let said =
        "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\nx-forwarded-host: app.test\r\n";
    assert_eq!(get(&gateway, "/public/a", said).status, 200);
    let head = application.only_head();
    assert_eq!(
        header(&head, "x-forwarded-for"),
        Some("127.0.0.1"),
        "{head}"
    );
    assert_eq!(header(&head, "x-forwarded-proto"), Some("http"), "{head}");
    assert_eq!(header(&head, "x-forwarded-host"), Some("g.test"), "{head}");
}

#[test]
fn rfc_7239_is_read_where_it_is_chosen() {
    let application = Upstream::application();
    let server = "trusted_proxies = [\"127.0.0.1\"]\ntrusted_headers = \"forwarded\"";
    let home = trusting(&application, server);
    let gateway = home.start();
    let said = "forwarded: for=192.0.2.7;proto=https;host=app.test\r\nx-forwarded-for: 6.6.6.6\r\n";
    assert_eq!(get(&gateway, "/public/a", said).status, 200);
    let head = application.only_head();
    assert_eq!(
        header(&head, "x-forwarded-for"),
        Some("192.0.2.7"),
        "{head}"
    );
    assert_eq!(header(&head, "x-forwarded-proto"), Some("https"), "{head}");
    assert_eq!(
        header(&head, "x-forwarded-host"),
        Some("app.test"),
        "{head}"
    );
    assert!(!head.contains("6.6.6.6"), "{head}");
}

/// Without a session, so that nothing but the address counts.
fn until_refused(gateway: &Gateway, path: &str, more: &str) -> (usize, Answer) {
    let mut conn = gateway.connect();
    for allowed in 0..1000 {
        conn.send(format!(
            "POST {path} HTTP/1.1\r\nhost: g.test\r\nsec-fetch-site: same-origin\r\ncontent-length: 0\r\n{more}\r\n"
        ));
        let answer = conn.answer();
        if answer.status == 429 {
            return (allowed, answer);
        }
    }
    panic!("it was never refused");
}

#[test]
fn each_address_may_log_in_refresh_and_log_out_so_often() {
    let application = Upstream::application();
    let server = "trusted_proxies = [\"127.0.0.1\"]\n[server.limits]\nlogins_per_second = 1\nrefreshes_per_second = 2\nlogouts_per_second = 3";
    let home = trusting(&application, server);
    let gateway = home.start();
    for (path, burst) in [
        ("/login", 10),
        ("/auth/session/refresh", 20),
        ("/logout", 30),
    ] {
        let (allowed, refused) = until_refused(&gateway, path, "x-forwarded-for: 192.0.2.1\r\n");
        // What the passing of time adds on a busy machine.
        assert!((burst..burst * 3).contains(&allowed), "{path}: {allowed}");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(wait >= 1, "{refused:?}");
        assert_eq!(refused.set_cookies().count(), 0, "{refused:?}");
        // Another client of the same proxy goes on.
        let mut conn = gateway.connect();
        conn.send(format!(
            "POST {path} HTTP/1.1\r\nhost: g.test\r\nsec-fetch-site: same-origin\r\ncontent-length: 0\r\nx-forwarded-for: 192.0.2.2\r\n\r\n"
        ));
        assert_ne!(conn.answer().status, 429, "{path}");
    }
    assert_eq!(
        get(&gateway, "/public/a", "x-forwarded-for: 192.0.2.1\r\n").status,
        200
    );
}

#[test]
fn one_session_is_logged_out_a_few_times() {
    let application = Upstream::application();
    let server = "[server.limits]\nlogouts_per_second = 0";
    let home = trusting(&application, server);
    let gateway = home.start();
    let cookies = home.open_session("alice").cookie;
    let (allowed, _) = until_refused(&gateway, "/logout", &format!("cookie: {cookies}\r\n"));
    assert!((30..60).contains(&allowed), "{allowed}");
    let other = home.open_session("alice").cookie;
    assert_eq!(gateway.connect().post("/logout", &other).status, 200);
}

/// Whoever makes tokens up gets no further than their tag, and not often.
#[test]
fn a_flood_of_made_up_tokens_is_refused_soon() {
    let application = Upstream::application();
    let home = trusting(&application, "[server.limits]\nrefreshes_per_second = 5");
    let gateway = home.start();
    let (allowed, _) = until_refused(
        &gateway,
        "/auth/session/refresh",
        "cookie: sRefreshToken=AAAA\r\n",
    );
    assert!((50..200).contains(&allowed), "{allowed}");
    let mut conn = Conn::to(gateway.address);
    assert_eq!(conn.get("/x", "").status, 401, "everything else goes on");
}
