//! What is sent a second time, and what never is.

use http::Method;
use portcullis::upstream::{Replay, Upstream, UpstreamError};

use crate::support::{Server, bodiless, fetch, get, outgoing, post, serve, worker};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// How the first connection ends once it has read its second request.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Closes,
    Resets,
    ClosesAfter(&'static str),
}

/// Answers one request on the first connection and reads the next, then ends; later connections answer always.
async fn stale_server(ending: Ending) -> Server {
    serve(move |number, mut peer| async move {
        if number > 0 {
            while peer.request().await.is_some() {
                peer.send(OK).await;
            }
            return;
        }
        peer.request().await.unwrap();
        peer.send(OK).await;
        peer.request().await.unwrap();
        match ending {
            Ending::Closes => {}
            Ending::Resets => peer.reset(),
            Ending::ClosesAfter(bytes) => peer.send(bytes).await,
        }
    })
    .await
}

/// An upstream with one idle connection, which will end so.
async fn with_stale_connection(ending: Ending) -> (Server, Upstream) {
    let server = stale_server(ending).await;
    let upstream = server.upstream();
    fetch(&upstream, get("/first")).await.unwrap();
    assert_eq!(upstream.idle_connections(), 1);
    (server, upstream)
}

#[test]
fn an_idempotent_request_goes_out_again_when_a_reused_connection_closes() {
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ];
    for ending in [Ending::Closes, Ending::Resets] {
        for method in &methods {
            worker(async {
                let (server, upstream) = with_stale_connection(ending).await;
                let request = bodiless(method.clone(), "/second");
                let answer = upstream
                    .send(outgoing(request), Replay::Allowed)
                    .await
                    .unwrap();
                assert_eq!(answer.status(), 200, "{method} {ending:?}");
                let line = format!("{method} /second HTTP/1.1");
                assert_eq!(server.requests(), ["GET /first HTTP/1.1", &line, &line]);
                let heads = server.heads();
                assert_eq!(heads[1], heads[2], "the very same head");
            });
        }
    }
}

#[test]
fn what_may_have_had_an_effect_is_not_repeated() {
    for ending in [Ending::Closes, Ending::Resets] {
        worker(async {
            let (server, upstream) = with_stale_connection(ending).await;
            let request = bodiless(Method::POST, "/second");
            let error = upstream
                .send(outgoing(request), Replay::Allowed)
                .await
                .unwrap_err();
            assert!(matches!(error, UpstreamError::Closed { .. }), "{error:?}");
            assert_eq!(server.requests().len(), 2, "not idempotent");
        });
        worker(async {
            let (server, upstream) = with_stale_connection(ending).await;
            let mut request = post("/second", "body");
            *request.method_mut() = Method::PUT;
            let error = upstream
                .send(outgoing(request), Replay::Allowed)
                .await
                .unwrap_err();
            assert!(matches!(error, UpstreamError::Closed { .. }), "{error:?}");
            assert_eq!(server.requests().len(), 2, "idempotent, but with a body");
        });
        worker(async {
            let (server, upstream) = with_stale_connection(ending).await;
            let error = upstream
                .send(outgoing(get("/second")), Replay::Never)
                .await
                .unwrap_err();
            assert!(matches!(error, UpstreamError::Closed { .. }), "{error:?}");
            assert_eq!(server.requests().len(), 2, "not allowed by the caller");
        });
    }
}

#[test]
fn nothing_is_repeated_once_a_byte_of_an_answer_came() {
    for bytes in [
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "no http\r\n\r\n",
    ] {
        worker(async {
            let (server, upstream) = with_stale_connection(Ending::ClosesAfter(bytes)).await;
            upstream
                .send(outgoing(get("/second")), Replay::Allowed)
                .await
                .unwrap_err();
            assert_eq!(server.requests().len(), 2, "after {bytes:?}");
        });
    }
}

#[test]
fn a_fresh_connection_that_closes_is_an_error_for_any_method() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
        })
        .await;
        let upstream = server.upstream();
        let error = upstream
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap_err();
        assert!(matches!(error, UpstreamError::Closed { .. }), "{error:?}");
        assert_eq!(server.connections(), 1);
    });
}

/// As those meet it who wait in the queue of a server that ends, while the next one listens already.
#[test]
fn a_fresh_connection_that_is_reset_is_tried_again_for_what_is_idempotent() {
    for (method, resets, answered, connections) in [
        (Method::GET, 1, true, 2),
        (Method::GET, 2, true, 3),
        (Method::GET, 3, false, 3),
        (Method::PUT, 1, true, 2),
        (Method::POST, 1, false, 1),
    ] {
        worker(async {
            let server = serve(move |number, mut peer| async move {
                peer.request().await.unwrap();
                if number < resets {
                    peer.reset();
                } else {
                    peer.send(OK).await;
                }
            })
            .await;
            let upstream = server.upstream();
            let request = bodiless(method.clone(), "/");
            let sent = upstream.send(outgoing(request), Replay::Allowed).await;
            assert_eq!(sent.is_ok(), answered, "{method} {resets}");
            assert_eq!(server.connections(), connections, "{method} {resets}");
        });
    }
}

#[test]
fn a_request_is_repeated_once_and_not_twice() {
    worker(async {
        let server = serve(|number, mut peer| async move {
            peer.request().await.unwrap();
            if number == 0 {
                peer.send(OK).await;
                peer.request().await.unwrap();
            }
        })
        .await;
        let upstream = server.upstream();
        fetch(&upstream, get("/")).await.unwrap();
        upstream
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap_err();
        assert_eq!((server.connections(), server.requests().len()), (2, 3));
    });
}

#[test]
fn a_post_goes_out_once_if_the_connection_is_known_to_be_dead() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.send(OK).await;
        })
        .await;
        let upstream = server.upstream();
        for round in 1..=100 {
            assert_eq!(fetch(&upstream, post("/", "once")).await.unwrap(), "ok");
            server.scripts_over(round).await;
        }
        assert_eq!(server.requests().len(), 100, "none was sent twice");
    });
}
