//! Servers that are there and take nobody: whoever knocks hears nothing, as when a firewall drops it.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::{Gateway, Home, Upstream, timed};

const RULES: &str = "[[route]]\npath = \"/public/**\"\nauth = \"none\"\n";

/// Its queue is full, so that the system drops every knock.
struct BlackHole {
    address: SocketAddr,
    _socket: Socket,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    fn open() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let knock = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let queue: Vec<TcpStream> = std::iter::from_fn(knock).take(16).collect();
        assert!(queue.len() < 16, "it takes everybody");
        Self {
            address,
            _socket: socket,
            _queue: queue,
        }
    }
}

/// The answers to so many clients that ask at once, `each` times one after the other, and how long each took.
fn asked_at_once(gateway: &Gateway, clients: usize, each: usize) -> Vec<(u16, Duration)> {
    thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(move || {
                    let ask = || timed(|| gateway.status("/public/", ""));
                    (0..each).map(|_| ask()).collect::<Vec<_>>()
                })
            })
            .collect();
        let answers = asking.into_iter().map(|client| client.join().unwrap());
        answers.flatten().collect()
    })
}

#[test]
fn one_of_two_costs_a_few_requests_some_time_and_then_nothing() {
    let hole = BlackHole::open();
    let well = Upstream::application();
    let home = Home::new(&format!(
        "[[upstream]]\nname = \"app\"\nservers = [\"http://{}\", \"http://{}\"]\nconnect_timeout = \"400ms\"\n\
         ejection_failures = 3\nejection_time = \"1m\"\n{RULES}",
        hole.address, well.address
    ));
    let gateway = home.start();
    let answers = asked_at_once(&gateway, 8, 20);
    assert!(answers.iter().all(|(status, _)| *status == 200));
    gateway.has_logged("ejected a server of an upstream");
    // Those that were on their way when it was ejected, and no others.
    let slow = |answers: &[(u16, Duration)]| {
        let limit = Duration::from_millis(400);
        answers.iter().filter(|(_, took)| *took >= limit).count()
    };
    assert!(slow(&answers) <= 3 + 8, "{answers:?}");
    assert_eq!(slow(&asked_at_once(&gateway, 8, 20)), 0);
}

#[test]
fn one_alone_lets_nothing_pile_up() {
    let hole = BlackHole::open();
    let well = Upstream::application();
    let home = Home::new(&format!(
        "[[upstream]]\nname = \"hole\"\nservers = [\"http://{}\"]\nconnect_timeout = \"500ms\"\nconnections = 2\nwaiting_requests = 2\n\
         [[upstream]]\nname = \"app\"\nservers = [\"http://{}\"]\n{RULES}\
         [[route]]\npath = \"/well/**\"\nauth = \"none\"\nupstream = \"app\"\n",
        hole.address, well.address
    ));
    let gateway = home.start();
    let answers = thread::scope(|scope| {
        let asking = scope.spawn(|| asked_at_once(&gateway, 60, 2));
        for _ in 0..20 {
            let (status, took) = timed(|| gateway.status("/well/", ""));
            assert_eq!(status, 200);
            assert!(took < Duration::from_millis(500), "{took:?}");
        }
        asking.join().unwrap()
    });
    for (status, took) in &answers {
        assert!([503, 504].contains(status), "{answers:?}");
        assert!(*took < Duration::from_secs(3), "{answers:?}");
    }
    let full = answers.iter().filter(|(status, _)| *status == 503).count();
    assert!(full >= 60, "most are told at once: {full}");
    drop(hole);
    let (status, took) = timed(|| gateway.status("/public/", ""));
    assert_eq!(status, 502, "refused is known at once");
    assert!(took < Duration::from_millis(400), "{took:?}");
}
