//! Servers: several, dead, late, sick, or on a socket file; and what is tried a second time.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::fronts::Make::{self, HaProxy, Nginx};
use crate::fronts::{Rule, Work, usually};
use crate::support::load::Load;
use crate::support::peers::Reserved;
use crate::support::{Upstream, eventually, header, timed};

cases! {
    one_that_is_down_is_told_of_until_it_is_up: portcullis, nginx, haproxy;
    one_that_takes_no_connection_is_given_up: portcullis, nginx, haproxy;
    one_that_takes_too_long_is_given_up: portcullis, nginx, haproxy;
    one_that_talks_garbage_is_not_believed: portcullis, nginx, haproxy;
    bytes_beyond_an_answer_are_nobodys: portcullis, nginx, haproxy;
    two_share_the_requests: portcullis, nginx, haproxy;
    a_dead_one_is_passed_over: portcullis, nginx, haproxy;
    one_of_two_dies_and_comes_back_under_load: portcullis, nginx, haproxy;
    a_connection_is_used_again: portcullis, nginx, haproxy;
    one_that_will_close_is_not: portcullis, nginx, haproxy;
    what_a_server_says_beside_its_answer_is_dropped: portcullis, nginx, haproxy;
    what_a_reused_connection_swallows_goes_out_again_if_it_may: portcullis, nginx, haproxy;
    what_may_have_had_an_effect_is_not_repeated: portcullis, nginx, haproxy;
    a_sick_one_gets_nothing_until_it_is_well: portcullis, haproxy;
    a_socket_file_is_a_server_too: portcullis, nginx, haproxy;
    a_prefix_is_taken_away_and_a_host_is_named: portcullis, nginx, haproxy;
}

fn one_that_is_down_is_told_of_until_it_is_up(make: Make) {
    let reserved = Reserved::new();
    let address = reserved.address;
    let front = Work::to_servers(&[address]).start(make);
    let status = usually(502).but(
        HaProxy,
        503,
        "it knows no server that it could ask; it also waits a second for each retry",
    );
    let answer = front.get("/");
    status.assert(make, &answer.status, "down");
    assert!(!answer.text().contains(&address.to_string()));
    drop(reserved);
    let _up = Upstream::scripted_at(address, |peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    eventually("it is found to be up", || front.get("/").status == 200);
}

/// Its queue is full, so that the system drops every knock.
fn one_that_takes_no_connection_is_given_up(make: Make) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let knock = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let _queue: Vec<TcpStream> = std::iter::from_fn(knock).take(16).collect();
    let mut work = Work::to_servers(&[address]);
    work.connect_timeout = Duration::from_millis(300);
    let front = work.start(make);
    let (answer, took) = timed(|| front.get("/"));
    let status = usually(504).but(HaProxy, 503, "it has found no server, for whatever reason");
    status.assert(make, &answer.status, "no connection");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn one_that_takes_too_long_is_given_up(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        if head.contains("/slow") {
            peer.rest();
            return false;
        }
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    });
    let mut work = Work::to(&upstream);
    work.response_timeout = Duration::from_millis(400);
    let front = work.start(make);
    for method in ["GET", "POST"] {
        let mut conn = front.connect();
        let (answer, took) = timed(|| conn.try_request(method, "/slow", "").unwrap());
        assert_eq!(answer.status, 504, "{method}");
        assert!(took >= Duration::from_millis(380), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    eventually("it goes on", || front.get("/").text() == "hello");
    let slow = upstream.heads();
    let slow = slow.iter().filter(|head| head.contains("/slow"));
    assert_eq!(slow.count(), 2, "who was late is not asked again");
}

fn one_that_talks_garbage_is_not_believed(make: Make) {
    const OLD: &str = "it takes it for an answer of HTTP/0.9, and passes it on";
    const UNTIL_CLOSED: &str =
        "it takes the length for unknown, and the end of the connection for the end";
    const A_WORD: &str = "it looks for the word chunked, and at nothing else";
    const ANY_VERSION: &str = "it takes any version for 1.1";
    let mut differences = String::new();
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let refused = || usually(Some(502));
    for (bytes, status) in [
        ("garbage\r\n\r\n", refused().but(Nginx, None, OLD)),
        ("HTTP/1.1\r\n\r\n", refused().but(Nginx, None, OLD)),
        ("HTTP/1.1 abc OK\r\n\r\n", refused().but(Nginx, None, OLD)),
        ("HTTP/1.1 200 OK\r\nx y: z\r\n\r\n", refused()),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            refused().but(Nginx, Some(200), "it takes the last length"),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nhello",
            refused().but(Nginx, Some(200), UNTIL_CLOSED),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello",
            refused().but(Nginx, Some(200), UNTIL_CLOSED),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            refused().but(Nginx, Some(200), A_WORD),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            refused().but(Nginx, Some(200), A_WORD),
        ),
        (
            "HTTP/2.0 200 OK\r\n\r\n",
            refused()
                .but(Nginx, Some(200), ANY_VERSION)
                .but(HaProxy, Some(200), ANY_VERSION),
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            refused().but(Nginx, Some(101), "it passes on what nobody asked for"),
        ),
        ("", refused()),
        ("HTTP/1.1 200 OK\r\ncontent-le", refused()),
        (
            "\u{15}\u{3}\u{3}\0\u{2}\u{2}F",
            refused().but(Nginx, None, OLD),
        ),
        (&large, refused()),
    ] {
        let sent = bytes.to_owned();
        let upstream = Upstream::scripted(move |peer, _| {
            peer.send(&sent);
            peer.finish();
            false
        });
        let front = Work::to(&upstream).start(make);
        let what = &bytes[..bytes.len().min(60)];
        let mut conn = front.connect();
        conn.send(
            "POST / HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        );
        let told = String::from_utf8_lossy(&conn.rest()).into_owned();
        let told = told
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        if let Some(difference) = status.difference(make, &told) {
            writeln!(differences, "{what:?}: {difference}").unwrap();
        }
        assert_eq!(upstream.requests(), 1, "{what:?}: a POST is not repeated");
    }
    assert!(differences.is_empty(), "{differences}");
}

/// What a server sends without being asked must not become the answer to somebody else's request.
fn bytes_beyond_an_answer_are_nobodys(make: Make) {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send(
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nevil!",
        )
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for _ in 0..5 {
        assert_eq!(conn.get("/", "").text(), "hello");
    }
}

fn named(name: &'static str) -> Upstream {
    Upstream::scripted(move |peer, head| {
        peer.body(head);
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{name}"
        ))
    })
}

fn two_share_the_requests(make: Make) {
    let (one, two) = (named("one"), named("two"));
    let front = Work::to_servers(&[one.address, two.address]).start(make);
    for _ in 0..60 {
        assert_eq!(front.get("/").status, 200);
    }
    let shares = [one.requests(), two.requests()];
    assert!(shares.iter().all(|share| *share >= 12), "{shares:?}");
    assert_eq!(shares[0] + shares[1], 60);
}

fn a_dead_one_is_passed_over(make: Make) {
    let dead = Reserved::new();
    let well = named("one");
    let front = Work::to_servers(&[dead.address, well.address]).start(make);
    for method in ["GET", "POST"].repeat(4) {
        let answer = front.ask(&format!(
            "{method} / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\n\r\nhello"
        ));
        assert_eq!(answer.text(), "one", "nothing was sent to the dead one");
    }
    assert_eq!(well.requests(), 8);
}

/// A server that ends as a process does that is killed.
struct Mortal {
    address: SocketAddr,
    lives: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Mortal {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let mortal = Self {
            address: listener.local_addr().unwrap(),
            lives: Arc::new(AtomicBool::new(true)),
            streams: Arc::default(),
        };
        let (lives, streams) = (Arc::clone(&mortal.lives), Arc::clone(&mortal.streams));
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if !lives.load(Ordering::Relaxed) {
                    break;
                }
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    // Load sends one request at a time, and all of it at once.
                    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nalice";
                        if stream.write_all(answer).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        mortal
    }

    fn kill(self) {
        self.lives.store(false, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        for stream in self.streams.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        eventually("nobody listens any more", || {
            TcpStream::connect(self.address).is_err()
        });
    }
}

fn one_of_two_dies_and_comes_back_under_load(make: Make) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (one, two) = (Mortal::start(any), Mortal::start(any));
    let front = Work::to_servers(&[one.address, two.address]).start(make);
    let load = Load::start(front.address, "");
    load.has_done(100);
    let address = one.address;
    one.kill();
    load.has_done(load.done() + 100);
    let one = Mortal::start(address);
    load.has_done(load.done() + 100);
    let ended = load.end();
    // What had arrived over a new connection just then may have been done, and is not repeated.
    assert!(ended.failures.len() <= 2, "{:?}", ended.failures);
    assert!(ended.repeated <= 6, "{}", ended.repeated);
    drop((one, two));
}

fn a_connection_is_used_again(make: Make) {
    let connections = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::scripted({
        let connections = Arc::clone(&connections);
        move |peer, _| {
            connections.fetch_add(1, Ordering::Relaxed);
            while peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi") {
                if peer.up_to(b"\r\n\r\n").is_none() {
                    break;
                }
            }
            false
        }
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for _ in 0..20 {
        assert_eq!(conn.get("/", "").text(), "hi");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// Those that say that they will close, and wait for the front to do so.
fn one_that_will_close_is_not(make: Make) {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    ] {
        let upstream = Upstream::scripted(move |peer, _| {
            peer.send(answer);
            let more = peer.rest();
            assert!(more.is_empty(), "{more:?}");
            false
        });
        let front = Work::to(&upstream).start(make);
        let mut conn = front.connect();
        for _ in 0..3 {
            assert_eq!(conn.get("/", "").text(), "hi", "{answer:?}");
        }
        assert_eq!(upstream.requests(), 3, "{answer:?}");
    }
}

/// Bytes where no body can be, which are not the beginning of the next answer.
fn what_a_server_says_beside_its_answer_is_dropped(make: Make) {
    const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nevil!";
    for (method, head) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 43"),
        ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 43"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 43"),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked",
        ),
    ] {
        let upstream = Upstream::scripted(move |peer, asked| {
            peer.send(match asked.contains(" /beside ") {
                true => format!("{head}\r\n\r\n{EVIL}"),
                false => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
            })
        });
        let front = Work::to(&upstream).start(make);
        for _ in 0..3 {
            let mut conn = front.connect();
            conn.send(format!("{method} /beside HTTP/1.1\r\nhost: g.test\r\n\r\n"));
            let answer = conn.bodiless_answer();
            assert_ne!(answer.header("content-length"), Some("5"), "{head}");
            // The connection goes on with the right answer, or not at all.
            let next = conn.try_request("GET", "/", "");
            assert!(
                next.is_none_or(|next| next.text() == "hello"),
                "{method} {head}"
            );
            assert_eq!(front.get("/").text(), "hello", "{method} {head}");
        }
    }
}

/// Answers the first request of each connection, and closes on the second without a byte.
fn stale() -> Upstream {
    Upstream::scripted(|peer, head| {
        peer.body(head);
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        if let Some(second) = peer.up_to(b"\r\n\r\n") {
            peer.body(&String::from_utf8(second).unwrap());
        }
        false
    })
}

fn what_a_reused_connection_swallows_goes_out_again_if_it_may(make: Make) {
    let upstream = stale();
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for round in 0..4 {
        assert_eq!(conn.get("/", "").text(), "hi", "round {round}");
    }
}

/// It was sent, whole or in part, and may have been done.
fn what_may_have_had_an_effect_is_not_repeated(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        peer.body(head);
        false
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(conn.answer().status, 502);
    assert_eq!(upstream.requests(), 1);

    let upstream = stale();
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    assert_eq!(conn.get("/", "").text(), "hi");
    conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\n\r\nhello");
    let answer = conn.try_answer();
    let status = usually(Some(502)).but(
        HaProxy,
        None,
        "it closes, as its own server did, and leaves the rest to the client",
    );
    status.assert(make, &answer.map(|answer| answer.status), "swallowed");
    assert_eq!(upstream.requests(), 1, "the GET");
}

fn a_sick_one_gets_nothing_until_it_is_well(make: Make) {
    let sick = Arc::new(AtomicBool::new(false));
    let answering = |name: &'static str, sick: Arc<AtomicBool>| {
        Upstream::scripted(move |peer, head| {
            if head.starts_with("GET /healthz ") {
                let status = match sick.load(Ordering::Relaxed) {
                    true => "500 Sick",
                    false => "204 Well",
                };
                peer.send(format!("HTTP/1.1 {status}\r\n\r\n"));
                return false;
            }
            peer.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{name}"
            ))
        })
    };
    let one = answering("one", Arc::clone(&sick));
    let two = answering("two", Arc::default());
    let mut work = Work::to_servers(&[one.address, two.address]);
    work.asks_health = true;
    let front = work.start(make);
    let of_one = || {
        let answers = (0..16).map(|_| front.get("/"));
        answers.filter(|answer| answer.text() == "one").count()
    };
    eventually("both serve", || (1..16).contains(&of_one()));
    sick.store(true, Ordering::Relaxed);
    eventually("it is found to be sick", || of_one() == 0);
    sick.store(false, Ordering::Relaxed);
    eventually("it is found to be well", || of_one() > 0);
}

fn a_socket_file_is_a_server_too(make: Make) {
    use std::io::{Read, Write};
    let mut work = Work::to_servers(&[]);
    let path = work.home.path("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut read = Vec::new();
            let mut buffer = [0; 1024];
            while !read.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut buffer).unwrap();
                read.extend(&buffer[..count]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfile")
                .unwrap();
        }
    });
    work.servers = vec![format!("unix:{}", path.display())];
    let front = work.start(make);
    for _ in 0..3 {
        assert_eq!(front.get("/").text(), "file");
    }
}

/// An upstream that answers with the request line and the `Host` that it got.
fn telling() -> Upstream {
    Upstream::scripted(|peer, head| {
        peer.body(head);
        let line = head.lines().next().unwrap_or_default();
        let text = format!("{line} {}", header(head, "host").unwrap_or_default());
        let length = text.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"
        ))
    })
}

fn a_prefix_is_taken_away_and_a_host_is_named(make: Make) {
    let upstream = telling();
    let mut work = Work::to(&upstream);
    work.rules = vec![
        Rule {
            path: "/static",
            is_stripped: true,
            host: None,
        },
        Rule {
            path: "/named",
            is_stripped: false,
            host: Some("app.internal"),
        },
    ];
    let front = work.start(make);
    for (target, told) in [
        ("/static/css/x", usually("/css/x g.test")),
        (
            "/static/css/x?q=/static",
            usually("/css/x?q=/static g.test"),
        ),
        ("/static/", usually("/ g.test")),
        ("/static/static/a", usually("/static/a g.test")),
        ("/static/a%20b", usually("/a%20b g.test")),
        ("/staticx", usually("/staticx g.test")),
        ("/named/x", usually("/named/x app.internal")),
        ("/other/x", usually("/other/x g.test")),
    ] {
        let answer = front.get(target);
        let text = answer.text().replacen("GET ", "", 1);
        let text = text.replacen(" HTTP/1.1", "", 1);
        told.assert(make, &&*text, target);
    }
}
