//! Where a request ends: whatever can be read in two ways is refused, and nothing after it is taken for a request.

use crate::support::{Attack, Home, SMUGGLED, Upstream, header, only_app};

/// T105.
#[test]
fn a_body_whose_length_is_in_doubt() {
    let mut attack = Attack::new();
    for lines in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "content-length: 5,5",
        "content-length: 5, 6",
        "content-length: 5 5",
        "content-length: ",
        "content-length: five",
        "content-length: 5.0",
        "content-length: 18446744073709551616",
        "content-length: 18446744073709551621",
        "content-length : 5",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunkedx",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: chunked,chunked",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: ",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        "transfer-encoding : chunked",
        "transfer-encoding:\r\n chunked",
        "transfer-encoding: chunked\r\n , identity",
        " transfer-encoding: chunked",
        "x: y\r\n content-length: 5",
    ] {
        let head = format!("POST /hook HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n\r\n");
        let body = if lines.contains("ransfer") {
            "5\r\nhello\r\n0\r\n\r\n"
        } else {
            "hello"
        };
        attack.is_refused(lines, format!("{head}{body}").as_bytes(), &[400, 431]);
    }
    attack.is_refused(
        "chunked in HTTP/1.0",
        b"POST /hook HTTP/1.0\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        &[400],
    );
}

/// A space before the number is what RFC 9112 section 5.1 allows around every value.
#[test]
fn white_space_around_a_length_means_nothing() {
    let attack = Attack::new();
    let mut conn = attack.gateway.connect();
    conn.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length:  \t 5 \r\n\r\nhello");
    assert_eq!(conn.answer().status, 200);
    let head = attack.upstream.only_head();
    assert!(head.contains("content-length: 5\r\n"), "{head}");
}

/// T106.
#[test]
fn chunks_that_can_be_read_in_two_ways() {
    let upstream = Upstream::scripted(|peer, head| {
        peer.body(head);
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1 << 20));
    let long_trailers = format!(
        "5\r\nhello\r\n0\r\n{}\r\n",
        format!("x: {}\r\n", "y".repeat(1000)).repeat(100)
    );
    for chunks in [
        "FFFFFFFFFFFFFFFF1\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5g\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
        "5\r\nhello\r\n0\r\nx: y\n\r\n",
        &long_extension,
        &long_trailers,
    ] {
        let what = &chunks[..chunks.len().min(40)];
        let mut conn = gateway.connect();
        let _ = conn.try_send(format!(
            "POST /hook HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{SMUGGLED}"
        ));
        conn.finish();
        let answers = String::from_utf8_lossy(&conn.rest()).into_owned();
        assert!(
            answers.is_empty() || answers.starts_with("HTTP/1.1 400 "),
            "{what:?}: {answers}"
        );
        assert!(
            answers.matches("HTTP/1.1 ").count() <= 1,
            "{what:?}: {answers}"
        );
    }
    // Their own heads went up before their bodies were read; nothing else did.
    assert_eq!(gateway.status("/public/", ""), 200);
    let mut heads = upstream.heads();
    heads.retain(|head| !head.starts_with("POST /hook "));
    assert_eq!(heads.len(), 1, "{heads:?}");
}

/// RFC 9112 section 6.3 lets a recipient go by the coding if there is a length too, and has it close the connection then. hyper
/// does that; the application gets the coding alone.
#[test]
fn after_a_coding_and_a_length_nothing_is_read() {
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: Chunked",
    ] {
        let attack = Attack::new();
        let mut conn = attack.gateway.connect();
        let body = "5\r\nhello\r\n0\r\n\r\n";
        conn.send(format!(
            "POST /hook HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n\r\n{body}{SMUGGLED}"
        ));
        assert_eq!(conn.answer().status, 200);
        assert_eq!(conn.rest(), b"", "{lines}");
        let head = attack.upstream.only_head();
        assert_eq!(header(&head, "content-length"), None);
        assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
    }
}

/// RFC 9112 section 2.2 lets a recipient take a bare LF for the end of a line, and section 6.3 equal lengths for one. hyper does
/// both; what the application gets is written anew and has neither.
#[test]
fn what_is_taken_leniently_is_sent_strictly() {
    for head in [
        "POST /hook HTTP/1.1\nhost: g.test\ncontent-length: 5\n\n",
        "POST /hook HTTP/1.1\r\nhost: g.test\ncontent-length: 5\r\n\r\n",
        "POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
    ] {
        let attack = Attack::new();
        let mut conn = attack.gateway.connect();
        conn.send(format!("{head}hello"));
        assert_eq!(conn.answer().status, 200);
        assert_eq!(
            attack.upstream.only_head(),
            "POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\nx-forwarded-for: 127.0.0.1\r\n\
             x-forwarded-proto: http\r\nx-forwarded-host: g.test\r\n\r\n"
        );
    }
}

/// After a body that is whole the next request is the next request, and nothing else is.
#[test]
fn what_follows_the_last_chunk_is_another_request() {
    let attack = Attack::new();
    let mut conn = attack.gateway.connect();
    conn.send(
        "POST /hook HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nXYZ /nothing\r\n\r\n",
    );
    assert_eq!(conn.answer().status, 200);
    let rest = String::from_utf8(conn.rest()).unwrap();
    assert!(rest.starts_with("HTTP/1.1 400 "), "{rest}");
    assert_eq!(attack.upstream.requests(), 1);
}

/// T110: what was refused before its body came does not leave the body to be read as a request.
#[test]
fn the_body_of_a_refused_request_is_no_request() {
    let attack = Attack::new();
    let body = SMUGGLED.repeat(100_000 / SMUGGLED.len() + 1);
    for (framing, body) in [
        (format!("content-length: {}", body.len()), body.clone()),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        ),
    ] {
        let mut conn = attack.gateway.connect();
        conn.send(format!(
            "POST /a HTTP/1.1\r\nhost: g.test\r\n{framing}\r\n\r\n"
        ));
        assert_eq!(conn.answer().status, 401);
        let _ = conn.try_send(format!(
            "{body}GET /public/next HTTP/1.1\r\nhost: g.test\r\n\r\n"
        ));
        conn.finish();
        let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
        // Drained, and then the next request is answered; or closed.
        assert!(rest.matches("HTTP/1.1 ").count() <= 1, "{rest}");
        for head in attack.upstream.heads() {
            assert!(head.starts_with("GET /public/next "), "{head}");
        }
    }
}
