//! Bodies and trailers in both directions: every byte, with the framing that was meant.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use portcullis::upstream::{Replay, Upstream, UpstreamBody};

use crate::support::{answering, fetch, get, outgoing, post, serve, text, worker};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A body whose length nobody knows beforehand.
fn pieces(pieces: &[&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + use<> {
    let frames: Vec<_> = pieces
        .iter()
        .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
        .collect();
    StreamBody::new(stream::iter(frames))
}

#[test]
fn answers_keep_their_length() {
    let answers = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", Some(3)),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
            Some(3),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n",
            None,
        ),
    ];
    for (answer, length) in answers {
        worker(async {
            let server = answering(answer).await;
            let answer = server
                .upstream()
                .send(outgoing(get("/")), Replay::Allowed)
                .await
                .unwrap();
            assert_eq!(answer.body().size_hint().exact(), length);
            assert!(!answer.body().is_end_stream());
            assert_eq!(text(answer).await, "abc");
        });
    }
}

#[test]
fn an_answer_without_framing_ends_with_its_connection() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.send("HTTP/1.1 200 OK\r\n\r\nto the ").await;
            peer.send("end").await;
        })
        .await;
        let upstream = server.upstream();
        assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "to the end");
        assert_eq!(upstream.idle_connections(), 0);
    });
}

#[test]
fn answers_that_have_no_body_are_over_at_once() {
    let cases = [
        (
            Method::HEAD,
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n",
        ),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n",
        ),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ];
    for (method, answer) in cases {
        worker(async {
            let server = answering(answer).await;
            let upstream = server.upstream();
            let mut request = get("/");
            *request.method_mut() = method.clone();
            let answer = upstream
                .send(outgoing(request), Replay::Allowed)
                .await
                .unwrap();
            assert!(answer.body().is_end_stream(), "{method}");
            assert_eq!(
                upstream.idle_connections(),
                1,
                "back before the body is even looked at"
            );
        });
    }
}

#[test]
fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
    let answers = [
        ("sized", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
        (
            "chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        ),
        (
            "last chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ),
        (
            "garbage chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        ),
        (
            "chunk overflow",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF1\r\nabc\r\n",
        ),
    ];
    for (what, answer) in answers {
        for resets in [false, true] {
            worker(async {
                let server = serve(move |_, mut peer| async move {
                    peer.request().await.unwrap();
                    peer.send(answer).await;
                    if resets {
                        peer.reset();
                    }
                })
                .await;
                let upstream = server.upstream();
                let answer = upstream
                    .send(outgoing(get("/")), Replay::Allowed)
                    .await
                    .unwrap();
                assert!(answer.into_body().collect().await.is_err(), "{what}");
                assert_eq!(upstream.idle_connections(), 0, "{what}");
            });
        }
    }
}

#[test]
fn a_reset_does_not_pass_for_the_end_of_an_unframed_body() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.send("HTTP/1.1 200 OK\r\n\r\nhalf").await;
            peer.reset();
        })
        .await;
        let answer = server
            .upstream()
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap();
        assert!(answer.into_body().collect().await.is_err());
    });
}

/// What the server reads, head and body, when the request is sent.
async fn on_the_wire<B>(request: Request<B>, end: &'static str) -> String
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (report, read) = tokio::sync::oneshot::channel();
    let report = std::cell::Cell::new(Some(report));
    let server = serve(move |_, mut peer| {
        let report = report.take();
        async move {
            let bytes = peer.read_to(end).await.unwrap();
            peer.send(OK).await;
            report.unwrap().send(bytes).unwrap();
        }
    })
    .await;
    fetch(&server.upstream(), request).await.unwrap();
    read.await.unwrap()
}

#[test]
fn requests_are_written_byte_for_byte() {
    worker(async {
        let mut unsized_get = Request::new(pieces(&["abc"]));
        unsized_get
            .headers_mut()
            .insert("host", HeaderValue::from_static("app.test"));
        assert_eq!(
            on_the_wire(unsized_get, "0\r\n\r\n").await,
            "GET / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "a GET keeps its body, too"
        );
        let sized = post("/a?b=%20c", "abc");
        assert_eq!(
            on_the_wire(sized, "abc").await,
            "POST /a?b=%20c HTTP/1.1\r\nhost: app.test\r\ncontent-length: 3\r\n\r\nabc"
        );
        assert_eq!(
            on_the_wire(get("/"), "\r\n\r\n").await,
            "GET / HTTP/1.1\r\nhost: app.test\r\n\r\n"
        );
    });
}

#[test]
fn the_body_decides_the_framing_whatever_the_head_says() {
    let lies: [&[(http::HeaderName, &'static str)]; 4] = [
        &[(CONTENT_LENGTH, "9")],
        &[(TRANSFER_ENCODING, "chunked")],
        &[(TRANSFER_ENCODING, "gzip"), (CONTENT_LENGTH, "1")],
        &[(CONTENT_LENGTH, "2"), (CONTENT_LENGTH, "7")],
    ];
    for lie in lies {
        worker(async {
            let lying = |headers: &mut HeaderMap| {
                for (name, value) in lie {
                    headers.append(name, HeaderValue::from_static(value));
                }
            };
            let mut sized = post("/", "abc");
            lying(sized.headers_mut());
            let wire = on_the_wire(sized, "abc").await;
            assert_eq!(
                wire,
                "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 3\r\n\r\nabc"
            );

            let mut unsized_put = Request::put("/").body(pieces(&["a", "", "bc"])).unwrap();
            lying(unsized_put.headers_mut());
            let wire = on_the_wire(unsized_put, "0\r\n\r\n").await;
            let (head, body) = wire.split_once("\r\n\r\n").unwrap();
            assert_eq!(head, "PUT / HTTP/1.1\r\ntransfer-encoding: chunked");
            assert!(body == "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "{body}");

            let mut empty = get("/");
            lying(empty.headers_mut());
            let wire = on_the_wire(empty, "\r\n\r\n").await;
            let lengths: Vec<&str> = wire
                .lines()
                .filter(|line| line.starts_with("content"))
                .collect();
            assert!(
                lengths.iter().all(|line| *line == "content-length: 0"),
                "{wire}"
            );
            assert!(
                lengths.len() <= 1 && !wire.contains("transfer-encoding"),
                "{wire}"
            );
        });
    }
}

#[test]
fn every_request_goes_up_as_http_1_1() {
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        worker(async {
            let mut request = get("/");
            *request.version_mut() = version;
            let wire = on_the_wire(request, "\r\n\r\n").await;
            assert_eq!(wire, "GET / HTTP/1.1\r\nhost: app.test\r\n\r\n");
        });
    }
}

#[test]
fn trailers_pass_upwards_but_for_what_belongs_before_the_body() {
    for announced in [Some("x-sum"), None] {
        worker(async {
            let body = pieces(&["abc"]).with_trailers(async {
                let mut trailers = HeaderMap::new();
                for name in [
                    "content-length",
                    "authorization",
                    "x-sum",
                    "transfer-encoding",
                ] {
                    trailers.insert(name, HeaderValue::from_static("6"));
                }
                Some(Ok(trailers))
            });
            let mut request = Request::post("/").body(body).unwrap();
            if let Some(names) = announced {
                request
                    .headers_mut()
                    .insert(TRAILER, HeaderValue::from_static(names));
            }
            let wire = on_the_wire(request, "6\r\n\r\n").await;
            assert_eq!(
                wire.split_once("\r\n\r\n").unwrap().1,
                "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"
            );
        });
    }
}

#[test]
fn trailers_pass_downwards() {
    worker(async {
        let server = answering(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n",
        )
        .await;
        let upstream = server.upstream();
        let answer = upstream
            .send(outgoing(get("/")), Replay::Allowed)
            .await
            .unwrap();
        let whole = answer.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["x-sum"], "6");
        assert_eq!(whole.to_bytes(), "abc");
        assert_eq!(upstream.idle_connections(), 1);
    });
}

/// Much more than fits into the buffers on the way.
const MUCH: usize = 16 * 1024 * 1024;

fn much() -> Full<Bytes> {
    Full::new(Bytes::from(vec![b'x'; MUCH]))
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            let body = peer.read_exactly(MUCH).await;
            assert!(body == vec![b'x'; MUCH]);
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n"
            ))
            .await;
            for _ in 0..MUCH >> 16 {
                peer.send(&"y".repeat(1 << 16)).await;
            }
        })
        .await;
        let request = Request::post("/").body(much()).unwrap();
        let answer = fetch(&server.upstream(), request).await.unwrap();
        assert!(answer == "y".repeat(MUCH));
    });
}

async fn rejected_early(upstream: &Upstream) -> String {
    let request = Request::post("/").body(much()).unwrap();
    let answer = upstream
        .send(outgoing(request), Replay::Never)
        .await
        .unwrap();
    assert_eq!(answer.status(), 413);
    text(answer).await
}

#[test]
fn an_early_answer_arrives_though_the_server_closes_on_unread_bytes() {
    worker(async {
        let server = serve(|number, mut peer| async move {
            peer.request().await.unwrap();
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
            peer.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo ")
                .await;
            peer.send("much").await;
        })
        .await;
        let upstream = server.upstream();
        for _ in 0..50 {
            assert_eq!(rejected_early(&upstream).await, "too much");
        }
        assert_eq!((server.connections(), upstream.idle_connections()), (50, 0));
    });
}

/// Answers early and closes; gives the answer when the client's next write has failed, its body still unread.
async fn answered_and_reset(answer: &'static [&'static str]) -> http::Response<UpstreamBody> {
    let server = serve(move |_, mut peer| async move {
        peer.request().await.unwrap();
        for piece in answer {
            peer.send(piece).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let request = Request::post("/").body(much()).unwrap();
    let answer = server
        .upstream()
        .send(outgoing(request), Replay::Never)
        .await
        .unwrap();
    server.scripts_over(1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    answer
}

#[test]
fn a_failed_write_does_not_take_the_answer_with_it() {
    worker(async {
        const HEAD: &str = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\n";
        let answer = answered_and_reset(&[HEAD, "too", " ", "much"]).await;
        assert_eq!(text(answer).await, "too much");
    });
}

#[test]
fn a_failed_write_does_not_make_half_an_answer_whole() {
    worker(async {
        let answer = answered_and_reset(&["HTTP/1.1 413 Content Too Large\r\n\r\nhalf"]).await;
        assert!(answer.into_body().collect().await.is_err());
    });
}

#[test]
fn an_early_answer_ends_the_upload() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo much")
                .await;
            peer.closed().await;
        })
        .await;
        let upstream = server.upstream();
        assert_eq!(rejected_early(&upstream).await, "too much");
        assert_eq!(upstream.idle_connections(), 0);
        server.scripts_over(1).await;
    });
}
