//! What the program tells of what it does, and what it never tells.

use std::collections::BTreeSet;

use crate::support::{Conn, Home, Upstream, only_app};

/// T119 b and c: no token in any log, however talkative, and nobody's name in metrics.
#[test]
fn no_secret_is_written_anywhere() {
    let upstream = Upstream::application();
    for level in ["info", "trace"] {
        let home = Home::new(&format!(
            "[telemetry]\nlog = \"{level}\"\n{}",
            only_app(upstream.address)
        ));
        let gateway = home.start();
        let mut conn = gateway.connect();
        let login = conn.login("alice-in-wonderland").cookies();
        assert_eq!(
            conn.get("/where/she/went?secret=in-the-query", &login)
                .status,
            200
        );
        let refresh = conn.post("/auth/session/refresh", &login);
        assert_eq!(refresh.status, 200);
        let renewed = refresh.cookies();
        conn.send(format!(
            "GET /a HTTP/1.1\r\nhost: g.test\r\nauthorization: Bearer my-own-bearer-token\r\ncookie: {renewed}; x=my-own-cookie\r\n\r\n"
        ));
        assert_eq!(conn.answer().status, 200);
        // One that is ours no more, one that never was, and one that is cut in the middle.
        let half = &renewed[..renewed.len() / 2];
        assert_eq!(conn.post("/logout", &renewed).status, 200);
        for cookie in [renewed.as_str(), "sAccessToken=not-a-token-of-ours", half] {
            assert_eq!(conn.get("/a", cookie).status, 401);
        }
        let metrics = metrics(gateway.admin());
        let log = gateway.log();
        assert!(log.contains("portcullis::request"), "{log}");
        let mut secrets = BTreeSet::from([
            "my-own-bearer-token",
            "my-own-cookie",
            "not-a-token-of-ours",
            "in-the-query",
        ]);
        for pair in [&login, &renewed].iter().flat_map(|all| all.split("; ")) {
            let (_, value) = pair.split_once('=').unwrap();
            // The signature, or the secret part.
            secrets.insert(&value[value.len() - 40..]);
        }
        let key = std::fs::read_to_string(home.path("portcullis.key")).unwrap();
        secrets.insert(key.trim_end());
        for secret in secrets {
            assert!(!log.contains(secret), "{level}: {secret} is in the log");
            assert!(!metrics.contains(secret));
        }
        for word in ["alice", "/where", "/a\""] {
            assert!(!metrics.contains(word), "{word} is in the metrics");
        }
    }
}

fn metrics(admin: std::net::SocketAddr) -> String {
    let mut conn = Conn::to(admin);
    conn.send(format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\n\r\n"));
    let answer = conn.answer();
    assert_eq!(answer.status, 200);
    answer.text().to_owned()
}

/// T119 d.
#[test]
fn an_answer_of_the_gateway_tells_nothing_about_it() {
    let upstream = Upstream::answering("garbage\r\n\r\n");
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    for request in [
        "GET /private HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET /public/.. HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET /logout HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET / HTTP/1.1\r\nx y: z\r\n\r\n",
    ] {
        let mut conn = gateway.connect();
        conn.send(request);
        let answer = conn.answer();
        assert!(answer.status >= 400);
        let told = format!("{}{}", answer.head, answer.text()).to_lowercase();
        for word in [
            "server:",
            "hyper",
            "portcullis",
            "rust",
            "src/",
            "127.0.0.1",
            "panic",
        ] {
            assert!(!told.contains(word), "{request}: {told}");
        }
    }
}

/// A log that nobody reads does not stop requests.
#[test]
fn nobody_has_to_read_the_log() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start_unheard();
    let mut conn = Conn::to(gateway.address);
    let long = format!("/public/{}", "x".repeat(6000));
    // Many times what a pipe holds.
    for _ in 0..200 {
        assert_eq!(conn.get(&long, "").status, 200);
    }
}
