use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::{BodyExt, Empty};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{Refusal, Refused, Scanned, Scanner, State, StrictRequests, scan_pieces};
use crate::proxy::patience::Phase;

/// The heads that were approved, and where it was refused, if it was.
fn scanned<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (usize, Option<(usize, Refusal)>) {
    let (mut scanner, mut heads, mut before) = (Scanner::new(), 0, 0);
    for piece in pieces {
        if let Err(Refused { at, refusal }) = scanner.scan(piece, || heads += 1) {
            return (heads, Some((before + at, refusal)));
        }
        before += piece.len();
    }
    (heads, None)
}

fn heads_in(text: &str) -> Option<usize> {
    let Scanned { heads, refused_at } = scan_pieces([text.as_bytes()]);
    refused_at.is_none().then_some(heads)
}

#[test]
fn requests_that_are_as_they_should_be() {
    for (text, heads) in [
        ("GET / HTTP/1.1\r\n\r\n", 1),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /", 1),
        (
            "POST / HTTP/1.1\r\ncontent-length:\t 5 \t\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
            2,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            2,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked \r\n\r\n5\r\nGET /\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            2,
        ),
        (
            "POST / HTTP/1.1\r\nTE: trailers\r\nTransfer-Encoding:chunked\r\n\r\n0a;a=\"b c\"\r\n0123456789\r\n000;x\r\nx: y\r\nGET: / HTTP/1.1\r\n\r\n",
            1,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length-X: 5\r\nContent-Lengt: 5\r\nTransfer-Encodin: x\r\nT: \r\nc:\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            2,
        ),
        ("GET /a?b#c", 0),
    ] {
        let expected = (!text.contains('#')).then_some(heads);
        assert_eq!(heads_in(text), expected, "{text:?}");
    }
}

#[test]
fn requests_that_are_refused() {
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length: +5",
        "Content-Length: 5,5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: \t",
        "Content-Length: 5\n",
        "Content-Length: 18446744073709551616",
        "Content-Length: 0x5",
        "Transfer-Encoding:",
        "Transfer-Encoding: ",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunk ed",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: gzip",
        "Host: a\nX: y",
        "X\n",
        "\nX: y",
    ] {
        let text = format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n");
        let (heads, refused) = scanned([text.as_bytes()]);
        assert_eq!(heads, 0, "{lines:?}");
        assert!(matches!(refused, Some((_, Refusal::InHead))), "{lines:?}");
    }
    for text in [
        "\nGET / HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "\rGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\n\n",
        "GET /#a HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(heads_in(text), None, "{text:?}");
    }
}

#[test]
fn chunks_that_are_refused() {
    for chunks in [
        "\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 ;a\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5g\r\nhello\r\n0\r\n\r\n",
        "1000000000000000\r\n",
        "0\r\nx: y\n\r\n",
        "0\r\n\n",
        "0\n\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let (heads, refused) = scanned([text.as_bytes()]);
        assert_eq!(heads, 1, "{chunks:?}");
        assert!(matches!(refused, Some((_, Refusal::InBody))), "{chunks:?}");
    }
}

#[test]
fn after_a_request_for_another_protocol_nothing_is_a_request_until_it_was_answered() {
    const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n";
    let phase = Phase::new();
    let mut scanner = Scanner::new();
    let approve = || phase.approve_head();
    scanner.scan(HANDSHAKE, approve).unwrap();
    scanner.answered(&phase);
    assert_eq!(
        scanner.state,
        State::Upgrading { came: false },
        "nobody has seen it yet"
    );
    assert!(phase.head_is_complete());
    scanner.answered(&phase);
    assert_eq!(
        scanner.state,
        State::Upgrading { came: false },
        "it is being answered"
    );
    drop(phase.until_answered());
    scanner.answered(&phase);
    scanner.scan(b"GET / HTTP/1.1\r\n\r\n", approve).unwrap();
    assert!(
        phase.head_is_complete(),
        "an upgrade that was not made is a request like any other"
    );

    scanner.scan(HANDSHAKE, approve).unwrap();
    assert!(phase.head_is_complete());
    scanner.scan(b"GET / HTTP/1.1\r\n\r\n", approve).unwrap();
    drop(phase.until_answered());
    scanner.answered(&phase);
    scanner.scan(b"GET / HTTP/1.1\r\n\r\n", approve).unwrap();
    assert!(
        !phase.head_is_complete(),
        "who does not wait for the answer is served no more"
    );
}

/// Pieces of requests, good and bad, of which any sequence is tried.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\n",
        "POST /a HTTP/1.0\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 5\n",
        "content-length: 05 \r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding:\tCHUNKED \r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        " folded\r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "X: y\r\n",
        "X: y\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "hello",
        "5\r\nhello\r\n",
        "5;a=b\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\nx: y\r\n\r\n",
        "0",
        ":",
        "\0",
        "#",
    ];
    let piece = prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec());
    vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// What hyper makes of a connection: for each request that it serves, whether the scanner had approved its head; behind the
/// scanner or not.
fn served(bytes: &[u8], strictly: bool) -> Vec<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut client, gateway) = duplex(64 * 1024);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let phase = Phase::new();
        let seen: Rc<Cell<Vec<bool>>> = Rc::default();
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            let mut so_far = seen.take();
            so_far.push(phase.head_is_complete());
            seen.set(so_far);
            let answering = phase.until_answered();
            async move {
                // Of a body that breaks off, the request was served all the same.
                let _ = request.into_body().collect().await;
                drop(answering);
                Ok::<_, Infallible>(hyper::Response::new(Empty::<bytes::Bytes>::new()))
            }
        });
        let builder = http1::Builder::new();
        if strictly {
            let stream = TokioIo::new(StrictRequests::new(gateway, phase.clone()));
            let _ = builder.serve_connection(stream, service).await;
        } else {
            let _ = builder
                .serve_connection(TokioIo::new(gateway), service)
                .await;
        }
        let mut answers = Vec::new();
        let _ = client.read_to_end(&mut answers).await;
        seen.take()
    })
}

proptest! {
    /// However a connection is cut into pieces, it reads in the same way.
    #[test]
    fn pieces_make_no_difference(bytes in stream(), cuts in vec(0_usize..200, 0..6)) {
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().rev() {
            let (before, piece) = rest.split_at(*cut);
            pieces.push(piece);
            rest = before;
        }
        pieces.push(rest);
        pieces.reverse();
        let whole = scanned([&bytes[..]]);
        prop_assert_eq!(&scanned(pieces), &whole);
        prop_assert_eq!(scanned(bytes.chunks(1)), whole);
    }

    /// Behind the scanner hyper serves nothing that the scanner did not take for a head, but for what comes early after an
    /// upgrade; and nothing that it would not serve without the scanner.
    #[test]
    fn hyper_reads_what_the_scanner_read(bytes in stream()) {
        let (strictly, leniently) = (served(&bytes, true), served(&bytes, false));
        let upgrades = bytes.windows(7).any(|part| part == b"Upgrade");
        prop_assert!(upgrades || strictly.iter().all(|approved| *approved), "{strictly:?}");
        prop_assert!(strictly.len() <= leniently.len());
        let (approved, refused) = scanned([&bytes[..]]);
        if refused.is_none() && !upgrades {
            prop_assert!(strictly.len() <= approved);
        }
    }
}
