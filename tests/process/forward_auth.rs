//! Forward-auth: the configurations in `config/forward-auth` with the proxies that they are for, and the questions themselves.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::peers::Proxy;
use crate::support::{Answer, Conn, Gateway, Home, Upstream, eventually, header};

/// A gateway that answers questions beside its own listener, and the application.
struct World {
    home: Home,
    gateway: Gateway,
    questions: SocketAddr,
    application: Upstream,
}

impl World {
    fn new(asked_by: &str) -> Self {
        let application = Upstream::application();
        let text = fs::read_to_string(shipped("portcullis.toml")).unwrap();
        let (_, rules) = text.split_once("[[server.listener]]").unwrap();
        let rules = format!("[[server.listener]]{rules}")
            .replace(
                "asked_by = \"nginx\"",
                &format!("asked_by = \"{asked_by}\""),
            )
            .replace("127.0.0.1:8081", "127.0.0.1:0")
            .replace("127.0.0.1:3000", &application.address.to_string());
        let home = Home::new(&rules);
        let gateway = home.start();
        let mut places = Vec::new();
        eventually("both listeners are there", || {
            let log = gateway.log();
            places = log
                .lines()
                .filter_map(|line| line.split_once(": listening address="))
                .map(|(_, address)| address.parse().unwrap())
                .collect();
            places.len() == 2
        });
        Self {
            home,
            gateway,
            questions: places[1],
            application,
        }
    }

    /// A file of `config/forward-auth` with the addresses of this world.
    fn configure(&self, name: &str, listen: SocketAddr) -> PathBuf {
        let text = fs::read_to_string(shipped(name))
            .unwrap()
            .replace("127.0.0.1:8000", &listen.to_string())
            .replace("127.0.0.1:8080", &self.gateway.address.to_string())
            .replace("127.0.0.1:8081", &self.questions.to_string())
            .replace("127.0.0.1:3000", &self.application.address.to_string());
        let path = self.home.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Asks as Traefik is documented to: the request's method and target in headers.
    fn ask(&self, method: &str, target: &str, more: &str) -> Answer {
        let mut conn = Conn::to(self.questions);
        conn.send(format!(
            "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-forwarded-method: {method}\r\nx-forwarded-proto: http\r\n\
             x-forwarded-host: g.test\r\nx-forwarded-uri: {target}\r\nx-forwarded-for: 192.0.2.7\r\n{more}\r\n"
        ));
        conn.answer()
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config/forward-auth")
        .join(name)
}

/// An address that nobody listens on: not all of them share one that is reserved.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn nginx() {
    let world = World::new("nginx");
    let address = free();
    let config = world.configure("nginx.conf", address);
    let text = fs::read_to_string(&config).unwrap();
    let folder = world.home.path("");
    let text = format!(
        "daemon off; master_process off; pid {0}nginx.pid; error_log stderr;\n{1}",
        folder.display(),
        text.replacen(
            "http {",
            &format!(
                "http {{ access_log off; client_body_temp_path {0}b; proxy_temp_path {0}p; fastcgi_temp_path {0}f; uwsgi_temp_path {0}u; scgi_temp_path {0}s;",
                folder.display()
            ),
            1
        )
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&config).arg("-p").arg(&folder);
    let proxy = Proxy::start(command, address, &world.home.path("nginx.log"));
    play(&world, &proxy, Renewal::OnTheWay);
}

#[test]
fn haproxy() {
    let world = World::new("haproxy");
    let address = free();
    let config = world.configure("haproxy.cfg", address);
    world.configure("haproxy.lua", address);
    let mut command = Command::new("/usr/sbin/haproxy");
    command
        .arg("-db")
        .arg("-f")
        .arg(&config)
        .current_dir(world.home.path(""));
    let proxy = Proxy::start(command, address, &world.home.path("haproxy.log"));
    play(&world, &proxy, Renewal::OnTheWay);
}

#[test]
fn apache() {
    let world = World::new("apache");
    let address = free();
    let config = world.configure("apache.conf", address);
    world.configure("apache.lua", address);
    let folder = world.home.path("");
    let modules = ["mpm_event", "authz_core", "proxy", "proxy_http", "lua"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let text = format!(
        "ServerRoot {0}\nServerName g.test\nPidFile {0}apache.pid\nErrorLog /dev/stderr\nMutex pthread\n{modules}{1}",
        folder.display(),
        fs::read_to_string(&config).unwrap()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("/usr/sbin/apache2");
    command
        .arg("-D")
        .arg("FOREGROUND")
        .arg("-f")
        .arg(&config)
        .current_dir(&folder);
    let proxy = Proxy::start(command, address, &world.home.path("apache.log"));
    play(&world, &proxy, Renewal::OnTheWay);
}

#[test]
fn caddy() {
    let world = World::new("caddy");
    let address = free();
    let config = world.configure("Caddyfile", address);
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace(":8000", &format!(":{}", address.port()));
    fs::write(
        &config,
        format!("{{\n\tadmin off\n\tauto_https off\n}}\n{text}"),
    )
    .unwrap();
    let mut command = Command::new("/usr/bin/caddy");
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&config)
        .env("HOME", world.home.path(""))
        .current_dir(world.home.path(""));
    let proxy = Proxy::start(command, address, &world.home.path("caddy.log"));
    play(&world, &proxy, Renewal::OnceMore);
}

#[test]
fn envoy() {
    let world = World::new("envoy");
    let address = free();
    let config = world.configure("envoy.yaml", address);
    let port = |address: SocketAddr| format!("port_value: {}", address.port());
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("port_value: 8000", &port(address))
        .replace("port_value: 8080", &port(world.gateway.address))
        .replace("port_value: 8081", &port(world.questions))
        .replace("port_value: 3000", &port(world.application.address));
    fs::write(&config, text).unwrap();
    let mut command =
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(".test/python/bin/envoy"));
    command
        .args([
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "-l",
            "warn",
            "-c",
        ])
        .arg(&config);
    let proxy = Proxy::start(command, address, &world.home.path("envoy.log"));
    play(&world, &proxy, Renewal::OnTheWay);
}

/// How a request gets through whose session has to be renewed first.
#[derive(PartialEq)]
enum Renewal {
    OnTheWay,
    /// The client is sent to the same address with its new cookies.
    OnceMore,
}

/// What has to hold with whichever proxy.
fn play(world: &World, proxy: &Proxy, renewal: Renewal) {
    let app = &world.application;
    let send = |method: &str, target: &str, more: &str| {
        let mut conn = Conn::to(proxy.address);
        conn.send(format!(
            "{method} {target} HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\nsec-fetch-site: same-origin\r\n{more}\r\n"
        ));
        conn.answer()
    };
    let last = || app.heads().last().cloned().unwrap();

    // Nobody gets in, whatever is said about the target; a page is sent to the login.
    for more in [
        "",
        "x-forwarded-uri: /public/a\r\n",
        "x-forwarded-method: OPTIONS\r\nx-original-url: /public/a\r\n",
    ] {
        assert_eq!(send("GET", "/app/a", more).status, 401, "{more}");
    }
    let page = send(
        "GET",
        "/app/a?b=c",
        "accept: text/html\r\nsec-fetch-mode: navigate\r\n",
    );
    assert_eq!(page.status, 303, "{page:?}");
    assert_eq!(
        page.header("location"),
        Some("/login?return_to=%2Fapp%2Fa%3Fb%3Dc")
    );
    assert_eq!(app.requests(), 0, "{:?}", app.heads());

    // What everybody may see; who the caller is, is not the client's word under any name.
    for alias in ["x-user-id", "X_User_Id", "x.user.id", "x-user_id"] {
        let answer = send("GET", "/public/a", &format!("{alias}: admin\r\n"));
        if answer.status == 200 {
            assert!(
                !last().to_lowercase().contains("admin"),
                "{alias}: {}",
                last()
            );
        } else {
            assert_eq!(answer.status, 400, "{alias}: {answer:?}");
        }
    }
    assert_eq!(send("GET", "/public/a", "").text(), "nobody");

    let login = send("POST", "/login?alice", "content-length: 0\r\n");
    assert_eq!(login.status, 200, "{login:?}");
    let cookies = login.cookies();
    assert!(cookies.contains("sAccessToken="), "{login:?}");

    // Through: with the identity, without the tokens.
    let asked = format!("cookie: theme=dark; {cookies}\r\n");
    assert_eq!(send("GET", "/app/a?b=c", &asked).text(), "alice");
    let head = last();
    assert!(head.starts_with("GET /app/a?b=c HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "cookie"), Some("theme=dark"), "{head}");
    assert_eq!(
        head.to_lowercase().matches("x-user-id").count(),
        1,
        "{head}"
    );
    let posted = send(
        "POST",
        "/app/a",
        &format!("{asked}content-length: 4\r\n\r\nbody"),
    );
    assert_eq!(posted.text(), "alice");

    // One path is asked about and forwarded, or none.
    for target in [
        "/public/../app/a",
        "/public/%2e%2e/app/a",
        "/public/..%2fapp/a",
    ] {
        let before = app.requests();
        let answer = send("GET", target, "");
        assert!(
            [400, 401, 404].contains(&answer.status),
            "{target}: {answer:?}"
        );
        assert_eq!(app.requests(), before, "{target}: {:?}", app.heads());
    }

    // Another site's page.
    let before = app.requests();
    let mut conn = Conn::to(proxy.address);
    conn.send(format!(
        "POST /app/a HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\nsec-fetch-site: cross-site\r\ncontent-length: 0\r\n{asked}\r\n"
    ));
    assert_eq!(conn.answer().status, 403);
    assert_eq!(app.requests(), before);

    // The access token is gone, the refresh token is there.
    let refresh = cookies
        .split("; ")
        .find(|pair| pair.starts_with("sRefreshToken="))
        .unwrap();
    let mut renewed = send("GET", "/app/b", &format!("cookie: {refresh}\r\n"));
    let new = renewed.cookies();
    assert!(
        new.contains("sAccessToken=") && new.contains("sRefreshToken="),
        "{renewed:?}"
    );
    if renewal == Renewal::OnceMore {
        assert_eq!(renewed.status, 307, "{renewed:?}");
        assert_eq!(renewed.header("location"), Some("/app/b"));
        renewed = send("GET", "/app/b", &format!("cookie: {new}\r\n"));
    }
    assert_eq!(renewed.text(), "alice", "{renewed:?}");

    // The end: at once, and without a word to the application.
    let before = app.requests();
    let logout = send(
        "POST",
        "/logout",
        &format!("cookie: {new}\r\ncontent-length: 0\r\n"),
    );
    assert_eq!(logout.status, 200, "{logout:?}");
    assert!(logout.clears(), "{logout:?}");
    for ended in [&new, &cookies] {
        let answer = send("GET", "/app/a", &format!("cookie: {ended}\r\n"));
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.clears(), "{answer:?}");
    }
    assert_eq!(app.requests(), before);
}

#[test]
fn the_form_that_traefik_is_documented_to_ask_in() {
    let world = World::new("traefik");
    let session = world.home.open_session("alice").cookie;
    let session = format!("cookie: theme=dark; {session}\r\n");

    let yes = world.ask("GET", "/app/a?b=c", &session);
    assert_eq!(yes.status, 200);
    assert_eq!(yes.header("x-user-id"), Some("alice"));
    assert_eq!(yes.header("cookie"), Some("theme=dark"));
    assert_eq!(yes.header("cache-control"), Some("no-store"));
    assert!(yes.body.is_empty());

    let public = world.ask("GET", "/public/a", &session);
    assert_eq!((public.status, public.header("x-user-id")), (200, None));

    for (method, target, more, status) in [
        ("GET", "/app/a", "", 401),
        (
            "GET",
            "/app/a",
            "accept: text/html\r\nsec-fetch-mode: navigate\r\n",
            303,
        ),
        // What is not forwarded as it was matched.
        ("GET", "//public/a", "", 400),
        ("GET", "/public/%7ea", "", 400),
        ("GET", "/public/../app/a", "", 400),
        ("get", "/public/a", "", 400),
        ("CONNECT", "/public/a", "", 405),
        // Who the caller is, from the client.
        ("GET", "/public/a", "x-user-id: admin\r\n", 400),
        ("GET", "/public/a", "x_user_id: admin\r\n", 400),
        // Said twice.
        ("GET", "/public/a", "x-forwarded-uri: /app/a\r\n", 400),
        ("GET", "/public/a", "x-forwarded-method: POST\r\n", 400),
        // For the gateway itself.
        ("POST", "/logout", "", 403),
        ("POST", "/logout/", "", 403),
        ("GET", "/logout", "", 403),
        ("POST", "//logout", "", 400),
        ("POST", "/%6cogout", "", 400),
        ("POST", "/login", "", 403),
        ("POST", "/auth/session/refresh", "", 403),
    ] {
        let answer = world.ask(method, target, more);
        assert_eq!(
            answer.status, status,
            "{method} {target} {more}: {answer:?}"
        );
    }
    // A WebSocket is asked about without its hop-by-hop headers, and another site's is refused.
    let foreign = format!(
        "{session}sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\norigin: https://evil.test\r\n"
    );
    assert_eq!(world.ask("GET", "/app/a", &foreign).status, 403);
    assert_eq!(world.application.requests(), 0);
}

#[test]
fn a_question_has_to_say_what_it_is_about() {
    let world = World::new("nginx");
    for question in [
        "GET /public/a HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET /public/a HTTP/1.1\r\nhost: g.test\r\nx-forwarded-method: GET\r\n\r\n",
        "GET /public/a HTTP/1.1\r\nhost: g.test\r\nx-forwarded-uri: /public/a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: g.test\r\nx-forwarded-method: GET\r\nx-forwarded-uri: http://g.test/public/a\r\n\r\n",
    ] {
        let mut conn = Conn::to(world.questions);
        conn.send(question);
        let answer = conn.answer();
        assert_eq!(answer.status, 401, "{question}");
        assert_eq!(answer.set_cookies().count(), 0);
    }
    // A yes or a no is all that is understood: nothing is renewed that could not be handed on.
    let cookies = world.home.open_session("alice").cookie;
    let refresh = cookies
        .split("; ")
        .find(|pair| pair.contains("RefreshToken="))
        .unwrap();
    let no = world.ask("GET", "/app/a", &format!("cookie: {refresh}\r\n"));
    assert_eq!((no.status, no.set_cookies().count()), (401, 0), "{no:?}");
    assert_eq!(
        world
            .ask("GET", "/app/a", &format!("cookie: {cookies}\r\n"))
            .status,
        200
    );
}
