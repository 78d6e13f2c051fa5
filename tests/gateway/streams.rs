//! What lasts longer than a request: WebSockets, event streams, downloads, long polls. They end with their session.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::support::{App, Browser, Connection, Replica, World};

/// A WebSocket server that sends everything back.
fn echoes(app: &App, path: &str) {
    app.plays(path, |seen, stream| {
        let accept = derive_accept_key(seen.all("sec-websocket-key")[0].as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    });
}

fn open_websocket(
    replica: &Replica,
    path: &str,
    browser: Option<&Browser>,
) -> WebSocket<TcpStream> {
    let mut request = format!("ws://g.test{path}").into_client_request().unwrap();
    if let Some(browser) = browser {
        let cookie = format!("sAccessToken={}", browser.access());
        request
            .headers_mut()
            .insert("cookie", cookie.parse().unwrap());
    }
    let stream = replica.connect().stream;
    let (mut socket, _) = tungstenite::client::client(request, stream).unwrap();
    assert_echoes(&mut socket);
    socket
}

#[track_caller]
fn assert_echoes(socket: &mut WebSocket<TcpStream>) {
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
}

/// Code and reason of the close frame, which has to come next, and then the end.
#[track_caller]
fn closed_with(socket: &mut WebSocket<TcpStream>) -> (u16, String) {
    match socket.read() {
        Ok(Message::Close(Some(frame))) => (frame.code.into(), frame.reason.to_string()),
        other => panic!("no close frame: {other:?}"),
    }
}

/// An event stream that goes on until nobody listens.
fn ticks(app: &App, path: &str) {
    app.plays(path, |_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut going = stream.write_all(head.as_bytes()).is_ok();
        while going {
            going = stream.write_all(b"9\r\ndata: x\n\n\r\n").is_ok();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

fn listen(replica: &Replica, path: &str, browser: &Browser) -> Connection {
    let mut connection = replica.connect();
    connection.send(&browser.request("GET", path, &[], ""));
    assert_eq!(connection.head().status, 200);
    assert_eq!(connection.chunk().unwrap(), b"data: x\n\n");
    connection
}

/// The stream breaks off, soon and not as if it had come to its end.
#[track_caller]
fn assert_breaks_off(stream: &mut Connection) {
    for _ in 0..100 {
        match stream.try_chunk() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended as if it were complete"),
            Err(_) => return,
        }
    }
    panic!("the stream goes on");
}

/// T085, on the replica of the logout and on the other one.
#[test]
fn a_websocket_is_closed_with_4401_when_its_session_ends() {
    let world = World::new();
    let replicas = world.replicas();
    echoes(&world.app, "/app/ws");
    echoes(&world.app, "/public/ws");
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let bob = Browser::logged_in(&replicas[0], "bob");
    let mut sockets: Vec<_> = replicas
        .iter()
        .map(|replica| open_websocket(replica, "/app/ws", Some(&alice)))
        .collect();
    let mut others = [
        open_websocket(&replicas[0], "/app/ws", Some(&bob)),
        open_websocket(&replicas[1], "/app/ws", Some(&bob)),
        open_websocket(&replicas[1], "/public/ws", None),
        open_websocket(&replicas[0], "/public/ws", Some(&alice)),
    ];
    assert_eq!(
        world
            .app
            .seen()
            .iter()
            .filter(|seen| seen.user() == Some("alice"))
            .count(),
        2
    );

    alice.post(&replicas[0], "/logout").assert_clears();
    for socket in &mut sockets {
        assert_eq!(closed_with(socket), (4401, "session ended".into()));
        assert!(socket.read().is_err());
    }
    for socket in &mut others {
        assert_echoes(socket);
    }
}

#[test]
fn the_command_line_closes_websockets_too() {
    let world = World::new();
    let gateway = world.replica();
    echoes(&world.app, "/app/ws");
    let alice = Browser::logged_in(&gateway, "alice");
    let mut socket = open_websocket(&gateway, "/app/ws", Some(&alice));
    assert!(
        world
            .command(&["sessions", "revoke-user", "alice"])
            .status
            .success()
    );
    assert_eq!(closed_with(&mut socket).0, 4401);
}

/// T085.
#[test]
fn event_streams_and_downloads_break_off_when_their_session_ends() {
    let world = World::new();
    let replicas = world.replicas();
    ticks(&world.app, "/app/events");
    ticks(&world.app, "/public/events");
    world.app.plays("/app/download", |_, stream| {
        let mut going = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            .is_ok();
        while going {
            going = stream.write_all(&[0; 4096]).is_ok();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let bob = Browser::logged_in(&replicas[0], "bob");
    let mut streams: Vec<_> = replicas
        .iter()
        .map(|replica| listen(replica, "/app/events", &alice))
        .collect();
    let mut others = [
        listen(&replicas[0], "/app/events", &bob),
        listen(&replicas[1], "/public/events", &alice),
    ];
    let mut downloads: Vec<_> = replicas
        .iter()
        .map(|replica| {
            let mut connection = replica.connect();
            connection.send(&alice.request("GET", "/app/download", &[], ""));
            assert_eq!(connection.head().status, 200);
            connection
        })
        .collect();

    alice.post(&replicas[0], "/logout").assert_clears();
    for stream in &mut streams {
        assert_breaks_off(stream);
    }
    for download in &mut downloads {
        let mut rest = Vec::new();
        // The connection is closed or reset; either way before the end.
        let _ = download.stream.read_to_end(&mut rest);
        assert!(rest.len() < 10_000_000, "{}", rest.len());
    }
    for other in &mut others {
        for _ in 0..20 {
            other.chunk().unwrap();
        }
    }
}

/// T085: rotation alone closes nothing.
#[test]
fn a_refresh_cuts_nothing() {
    let world = World::new();
    let replicas = world.replicas();
    echoes(&world.app, "/app/ws");
    ticks(&world.app, "/app/events");
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut socket = open_websocket(&replicas[1], "/app/ws", Some(&alice));
    let mut stream = listen(&replicas[0], "/app/events", &alice);
    for _ in 0..2 {
        world.pass(Duration::from_hours(1));
        alice
            .post(&replicas[0], "/auth/session/refresh")
            .assert_opened();
        alice.get(&replicas[1], "/app").assert_served();
    }
    assert_echoes(&mut socket);
    for _ in 0..20 {
        stream.chunk().unwrap();
    }
    // And yet they end with the session, whose first access token is long expired.
    alice.post(&replicas[0], "/logout").assert_clears();
    assert_eq!(closed_with(&mut socket).0, 4401);
    assert_breaks_off(&mut stream);
}

/// T085: a long poll that the application answers after the logout is not that user's any more.
#[test]
fn a_long_poll_that_is_answered_after_the_logout_gets_401() {
    let world = World::new();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let (arrived, has_arrived) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (arrived, may_go_on) = (Mutex::new(arrived), Mutex::new(may_go_on));
    world.app.plays("/app/poll", move |_, stream| {
        arrived.lock().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    });
    let mut polls: Vec<_> = replicas
        .iter()
        .map(|replica| {
            let mut connection = replica.connect();
            connection.send(&alice.request("GET", "/app/poll", &[], ""));
            // One after the other: the application lets them wait one at a time.
            connection
        })
        .collect();
    has_arrived.recv().unwrap();
    has_arrived.recv().unwrap();
    alice.post(&replicas[0], "/logout").assert_clears();
    for _ in 0..2 {
        go_on.send(()).unwrap();
    }
    for poll in &mut polls {
        let answer = poll.answer();
        answer.assert_session_over();
        assert!(!answer.text().contains("secret"));
    }
}

#[test]
fn an_expired_token_opens_a_websocket_only_by_a_refresh() {
    let world = World::with(&[("session.refresh", "client")]);
    let gateway = world.replica();
    echoes(&world.app, "/app/ws");
    let alice = Browser::logged_in(&gateway, "alice");
    world.pass(Duration::from_hours(1));
    let handshake = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = gateway.raw(&alice.request("GET", "/app/ws", &handshake, ""));
    answer.assert_refused(401, "try refresh token");
    assert_eq!(world.app.count("/app/ws"), 0);
}

/// A replica that has lost touch for a lease more cuts what it cannot answer for: not as if the session had ended.
#[test]
fn a_replica_that_has_lost_touch_cuts_its_streams_unless_told_to_keep_them() {
    for (on_lapse, cut) in [("cut", true), ("keep", false)] {
        let world = World::with(&[
            ("revocation.on_lapse", on_lapse),
            ("revocation.lease", "500ms"),
        ]);
        let gateway = world.replica();
        echoes(&world.app, "/app/ws");
        ticks(&world.app, "/app/events");
        let alice = Browser::logged_in(&gateway, "alice");
        let mut socket = open_websocket(&gateway, "/app/ws", Some(&alice));
        let mut stream = listen(&gateway, "/app/events", &alice);
        let outage = world.store().take_away();
        world.lapse();
        if cut {
            assert_eq!(closed_with(&mut socket), (1013, "try again later".into()));
            assert_breaks_off(&mut stream);
        } else {
            for _ in 0..50 {
                stream.chunk().unwrap();
            }
            assert_echoes(&mut socket);
        }
        drop(outage);
    }
}

/// An entry of a newer version is not confirmed; what else the log says is done all the same.
#[test]
fn an_entry_that_is_not_understood_keeps_no_stream_of_another_session_open() {
    let world = World::with(&[
        ("revocation.on_lapse", "keep"),
        ("revocation.lease", "500ms"),
    ]);
    let [here, there] = world.replicas();
    echoes(&world.app, "/app/ws");
    let alice = Browser::logged_in(&here, "alice");
    let mut socket = open_websocket(&there, "/app/ws", Some(&alice));
    let next = "UPDATE revocation_head SET sequence = sequence + 1 RETURNING sequence";
    let sequence = world.store().number(next);
    world.store().number(&format!(
        "INSERT INTO revocation (sequence, handle, reason, expires, mark)
         VALUES ({sequence}, x'', 'of-tomorrow', {FAR}, randomblob(8)) RETURNING 1"
    ));
    assert_eq!(alice.clone().post(&here, "/logout").status, 200);
    assert_eq!(closed_with(&mut socket).0, 4401);
    alice.clone().get(&there, "/app").assert_session_over();
}

/// In the year 2200.
const FAR: i64 = 7_258_118_400_000;
