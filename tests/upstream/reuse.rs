//! When a connection is used again, and when it is closed.

use std::rc::Rc;
use std::time::Duration;

use http_body_util::BodyExt;
use portcullis::clock::Clock;
use portcullis::upstream::Replay;
use tokio::sync::Notify;

use crate::support::{answering, fetch, get, outgoing, post, serve, text, worker};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_thousand_requests_in_a_row_take_one_connection() {
    worker(async {
        let server = answering(OK).await;
        let upstream = server.upstream();
        for _ in 0..1000 {
            assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "ok");
        }
        assert_eq!(server.connections(), 1);
        assert_eq!(upstream.idle_connections(), 1);
    });
}

#[test]
fn there_are_as_many_connections_as_requests_at_once() {
    worker(async {
        let server = answering(OK).await;
        let upstream =
            server.upstream_with(Clock::system(), |settings| settings.idle_connections = 64);
        let clients: Vec<_> = (0..64)
            .map(|_| {
                let upstream = upstream.clone();
                tokio::task::spawn_local(async move {
                    for _ in 0..50 {
                        assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "ok");
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(server.requests().len(), 64 * 50);
        assert!(server.connections() <= 64, "{}", server.connections());
    });
}

#[test]
fn every_kind_of_answer_gives_its_connection_back() {
    let answers = [
        ("sized", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        ("empty", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("no content", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "not modified",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
        ),
        (
            "chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n",
        ),
        (
            "informational before",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        ),
    ];
    for (what, answer) in answers {
        worker(async {
            let server = answering(answer).await;
            let upstream = server.upstream();
            for _ in 0..20 {
                fetch(&upstream, get("/")).await.unwrap();
            }
            assert_eq!(server.connections(), 1, "{what}");
        });
    }
}

#[test]
fn requests_with_bodies_take_one_connection_too() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            while peer.request().await.is_some() {
                peer.read_to("ping").await.unwrap();
                peer.send(OK).await;
            }
        })
        .await;
        let upstream = server.upstream();
        for _ in 0..50 {
            assert_eq!(fetch(&upstream, post("/", "ping")).await.unwrap(), "ok");
        }
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn a_connection_is_back_only_when_the_body_has_ended() {
    worker(async {
        let server = answering(OK).await;
        let upstream = server.upstream();
        let first = upstream
            .send(outgoing(get("/1")), Replay::Allowed)
            .await
            .unwrap();
        assert_eq!(upstream.idle_connections(), 0);
        let second = upstream
            .send(outgoing(get("/2")), Replay::Allowed)
            .await
            .unwrap();
        assert_eq!(server.connections(), 2);
        assert_eq!(text(first).await, "ok");
        assert_eq!(upstream.idle_connections(), 1);
        assert_eq!(text(second).await, "ok");
        assert_eq!(upstream.idle_connections(), 2);
    });
}

#[test]
fn who_stops_at_the_last_byte_or_at_the_trailers_has_read_the_whole() {
    let answers = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 1),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
            2,
        ),
    ];
    for (answer, frames) in answers {
        worker(async {
            let server = answering(answer).await;
            let upstream = server.upstream();
            let mut answer = upstream
                .send(outgoing(get("/")), Replay::Allowed)
                .await
                .unwrap();
            for _ in 0..frames {
                answer.frame().await.unwrap().unwrap();
            }
            assert_eq!(upstream.idle_connections(), 1);
            drop(answer);
            fetch(&upstream, get("/")).await.unwrap();
            assert_eq!(server.connections(), 1);
        });
    }
}

#[test]
fn a_body_dropped_half_way_closes_its_connection() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
                .await;
            peer.closed().await;
        })
        .await;
        let upstream = server.upstream();
        let mut answer = upstream
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap();
        let piece = answer.frame().await.unwrap().unwrap();
        assert_eq!(piece.into_data().unwrap(), "half");
        drop(answer);
        server.scripts_over(1).await;
        assert_eq!(upstream.idle_connections(), 0);
    });
}

#[test]
fn a_request_that_is_given_up_closes_its_connection() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.closed().await;
        })
        .await;
        let upstream = server.upstream();
        let sent = upstream.send(outgoing(get("/")), Replay::Allowed);
        let given_up = tokio::time::timeout(Duration::from_millis(30), sent).await;
        assert!(given_up.is_err());
        server.scripts_over(1).await;
    });
}

#[test]
fn connections_that_will_close_do_not_come_back() {
    let answers = [
        (
            "told",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        ),
        ("old", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        (
            "old with keep-alive",
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        ),
    ];
    for (what, answer) in answers {
        worker(async {
            let server = answering(answer).await;
            let upstream = server.upstream();
            for round in 1..4 {
                assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "ok", "{what}");
                server.scripts_over(round).await;
            }
            assert_eq!(server.connections(), 3, "{what}");
        });
    }
}

#[test]
fn an_answer_that_is_too_long_does_not_become_the_next_one() {
    worker(async {
        let server = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
        let upstream = server.upstream();
        for _ in 0..5 {
            assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "ok");
        }
        assert_eq!(server.connections(), 5);
    });
}

#[test]
fn no_more_idle_connections_than_allowed() {
    worker(async {
        let server = answering(OK).await;
        let upstream =
            server.upstream_with(Clock::system(), |settings| settings.idle_connections = 3);
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(
                upstream
                    .send(outgoing(get("/")), Replay::Allowed)
                    .await
                    .unwrap(),
            );
        }
        for answer in answers {
            text(answer).await;
        }
        assert_eq!(upstream.idle_connections(), 3);
        server.scripts_over(2).await;
    });
}

#[test]
fn none_are_kept_if_none_are_allowed() {
    worker(async {
        let server = answering(OK).await;
        let upstream =
            server.upstream_with(Clock::system(), |settings| settings.idle_connections = 0);
        for _ in 0..3 {
            fetch(&upstream, get("/")).await.unwrap();
        }
        assert_eq!((server.connections(), upstream.idle_connections()), (3, 0));
    });
}

#[test]
fn an_old_connection_is_not_used_again() {
    worker(async {
        let server = answering(OK).await;
        let (clock, hands) = Clock::adjustable();
        let upstream = server.upstream_with(clock, |_| {});
        fetch(&upstream, get("/")).await.unwrap();
        hands.advance_boot(Duration::from_secs(59));
        fetch(&upstream, get("/")).await.unwrap();
        assert_eq!(server.connections(), 1);
        hands.advance_boot(Duration::from_secs(60));
        fetch(&upstream, get("/")).await.unwrap();
        assert_eq!(server.connections(), 2);
        server.scripts_over(1).await;
    });
}

#[test]
fn the_connection_that_rested_shortest_goes_first() {
    worker(async {
        let server = serve(|number, mut peer| async move {
            while peer.request().await.is_some() {
                peer.send(&format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}"
                ))
                .await;
            }
        })
        .await;
        let upstream = server.upstream();
        let first = upstream
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap();
        let second = upstream
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap();
        assert_eq!(text(second).await, "1");
        assert_eq!(text(first).await, "0");
        for _ in 0..5 {
            assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "0");
        }
    });
}

#[test]
fn idle_connections_that_the_upstream_closed_are_passed_over() {
    worker(async {
        let server = serve(|number, mut peer| async move {
            peer.request().await.unwrap();
            peer.send(OK).await;
            if number == 3 {
                peer.closed().await;
            }
        })
        .await;
        let upstream = server.upstream();
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(
                upstream
                    .send(outgoing(get("/")), Replay::Allowed)
                    .await
                    .unwrap(),
            );
        }
        for answer in answers {
            text(answer).await;
        }
        server.scripts_over(3).await;
        assert_eq!(fetch(&upstream, post("/", "x")).await.unwrap(), "ok");
        assert_eq!(server.connections(), 4);
    });
}

/// Nobody asks for it meanwhile: its socket is given back all the same.
#[test]
fn a_connection_that_dies_while_it_rests_is_let_go() {
    for last_words in [
        "",
        "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n",
    ] {
        worker(async {
            let close = Rc::new(Notify::new());
            let server = serve({
                let close = Rc::clone(&close);
                move |_, mut peer| {
                    let close = Rc::clone(&close);
                    async move {
                        peer.request().await.unwrap();
                        peer.send(OK).await;
                        close.notified().await;
                        peer.send(last_words).await;
                    }
                }
            })
            .await;
            let upstream = server.upstream();
            assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "ok");
            assert_eq!(upstream.idle_connections(), 1);
            close.notify_one();
            while upstream.idle_connections() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}

#[test]
fn a_living_connection_behind_a_dead_one_is_found() {
    worker(async {
        let close = Rc::new(Notify::new());
        let closing = Rc::clone(&close);
        let server = serve(move |number, mut peer| {
            let closing = Rc::clone(&closing);
            async move {
                peer.request().await.unwrap();
                peer.send(OK).await;
                if number == 1 {
                    return closing.notified().await;
                }
                while peer.request().await.is_some() {
                    peer.send(OK).await;
                }
            }
        })
        .await;
        let upstream = server.upstream();
        let first = upstream
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap();
        let second = upstream
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap();
        text(first).await;
        text(second).await;
        assert_eq!(upstream.idle_connections(), 2);
        close.notify_one();
        server.scripts_over(1).await;
        assert_eq!(fetch(&upstream, post("/", "x")).await.unwrap(), "ok");
        assert_eq!(server.connections(), 2);
    });
}
