//! Heads and framings in doubt: refused, or made unambiguous on the way; in no case two requests where the client's one was.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fronts::Make::{self, HaProxy, Nginx};
use crate::fronts::{Expected, Work, usually};
use crate::support::{Upstream, header};

cases! {
    lengths_in_doubt: portcullis, nginx, haproxy;
    chunks_in_doubt: portcullis, nginx, haproxy;
    lines_in_doubt: portcullis, nginx, haproxy;
}

/// What becomes of a request in which another is hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// The upstream got no request whole.
    Refused,
    /// It got one, and what is hidden is in its body or nowhere.
    One,
    /// It got one, and then the other, which the client has sent for all to see.
    Two,
}

use Fate::{One, Refused, Two};

/// Sends each request on a connection of its own, and looks at what the upstream gets whole.
fn check(make: Make, rows: &[(String, Expected<Fate>)]) {
    let whole = Arc::new(Mutex::new(Vec::new()));
    let upstream = Upstream::scripted({
        let whole = Arc::clone(&whole);
        move |peer, head| {
            let coded = header(head, "transfer-encoding").is_some();
            let length = header(head, "content-length").map(|length| length.parse::<u64>());
            if let Some(Err(_)) = length {
                whole.lock().unwrap().push(format!("in doubt: {head}"));
                return false;
            }
            let length = length.map(Result::unwrap);
            let body = peer.body(head);
            let is_whole = match coded {
                true => body.ends_with(b"0\r\n\r\n"),
                false => body.len() as u64 == length.unwrap_or(0),
            };
            let path = head.split(' ').nth(1).unwrap().to_owned();
            if coded && length.is_some() {
                whole.lock().unwrap().push(format!("in doubt: {head}"));
            } else if is_whole {
                whole.lock().unwrap().push(path);
            }
            is_whole && peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        }
    });
    let mut work = Work::to(&upstream);
    work.body_timeout = Duration::from_millis(300);
    work.head_timeout = Duration::from_millis(300);
    work.keep_alive_timeout = Duration::from_millis(200);
    let front = work.start(make);
    let mut differences = String::new();
    for (request, expected) in rows {
        let mut conn = front.connect();
        let _ = conn.try_send(request);
        let answers = String::from_utf8(conn.rest()).unwrap();
        let found = match &std::mem::take(&mut *whole.lock().unwrap())[..] {
            [] => Refused,
            [first] if first == "/first" => One,
            [first, second] if first == "/first" && second == "/hidden" => Two,
            others => {
                writeln!(differences, "{request:?}: {others:?}").unwrap();
                continue;
            }
        };
        let fine = answers.matches("HTTP/1.1 200").count();
        assert!(fine <= found as usize, "{request:?}: {answers}");
        if let Some(difference) = expected.difference(make, &found) {
            writeln!(
                differences,
                "{request:?}: {difference}; {:?}",
                answers.get(..40)
            )
            .unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\n\r\n";

fn post(lines: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n{body}")
}

fn lengths_in_doubt(make: Make) {
    let length = HIDDEN.len();
    let behind = |lines: &str| post(lines, &format!("0\r\n\r\n{HIDDEN}"));
    const REPAIRED: &str = "it takes the coding, forwards no length, and closes";
    check(
        make,
        &[
            (
                post(&format!("content-length: {length}\r\n"), HIDDEN),
                usually(One),
            ),
            (post("content-length: 0\r\n", HIDDEN), usually(Two)),
            (
                behind("content-length: 5\r\ntransfer-encoding: chunked\r\n"),
                usually(Refused).but(HaProxy, One, REPAIRED),
            ),
            (
                behind("transfer-encoding: chunked\r\ncontent-length: 62\r\n"),
                usually(Refused).but(HaProxy, One, REPAIRED),
            ),
            (
                post(
                    &format!("content-length: 0\r\ncontent-length: {length}\r\n"),
                    HIDDEN,
                ),
                usually(Refused),
            ),
            (
                post(&format!("content-length: {length}, 0\r\n"), HIDDEN),
                usually(Refused),
            ),
            (post("content-length: +0\r\n", HIDDEN), usually(Refused)),
            (post("content-length: 0x0\r\n", HIDDEN), usually(Refused)),
            (post("content-length: -1\r\n", HIDDEN), usually(Refused)),
            (
                post("content-length: 99999999999999999999999\r\n", HIDDEN),
                usually(Refused),
            ),
            (post("content-length: \r\n", HIDDEN), usually(Refused)),
            (behind("transfer-encoding: xchunked\r\n"), usually(Refused)),
            (behind("transfer-encoding: gzip\r\n"), usually(Refused)),
            (
                behind("transfer-encoding: chunked, identity\r\n"),
                usually(Refused),
            ),
            (
                behind("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n"),
                usually(Refused),
            ),
            (
                behind("transfer-encoding:\u{b}chunked\r\n"),
                usually(Refused),
            ),
            (
                behind("transfer-encoding: chunked\r\nconnection: keep-alive\r\n")
                    .replacen("HTTP/1.1", "HTTP/1.0", 1),
                usually(Refused).but(HaProxy, One, REPAIRED),
            ),
        ],
    );
}

const LF: &str = "a line may end with LF alone (RFC 9112 section 2.2)";

fn chunks_in_doubt(make: Make) {
    let rows = [
        ("5\r\nhello\r\n0\r\n\r\n", usually(Two)),
        ("5;a=b\r\nhello\r\n0\r\n\r\n", usually(Two)),
        (
            "5\nhello\r\n0\r\n\r\n",
            usually(Refused).but(Nginx, Two, LF).but(HaProxy, Two, LF),
        ),
        (
            "5\r\nhello\n0\r\n\r\n",
            usually(Refused).but(Nginx, Two, LF).but(HaProxy, Two, LF),
        ),
        ("5\r\nhelloX0\r\n\r\n", usually(Refused)),
        ("0x5\r\nhello\r\n0\r\n\r\n", usually(Refused)),
        ("-5\r\nhello\r\n0\r\n\r\n", usually(Refused)),
        ("\r\nhello\r\n0\r\n\r\n", usually(Refused)),
        (
            "5 5\r\nhello\r\n0\r\n\r\n",
            usually(Refused).but(Nginx, Two, "what follows the size is an extension to it"),
        ),
        ("10000000000000005\r\nhello\r\n0\r\n\r\n", usually(Refused)),
        ("5;a=\"\n\r\nhello\r\n0\r\n\r\n", usually(Refused)),
    ];
    let rows = rows.map(|(body, expected)| {
        let request = post("transfer-encoding: chunked\r\n", &format!("{body}{HIDDEN}"));
        (request, expected)
    });
    check(make, &rows);
}

fn lines_in_doubt(make: Make) {
    let measured = |lines: &str| post(&format!("{lines}{}\r\n", HIDDEN.len()), HIDDEN);
    let first = |line: &str| format!("{line}\r\nhost: g.test\r\n\r\n{HIDDEN}");
    check(
        make,
        &[
            (measured("content-length : "), usually(Refused)),
            (
                measured("x: y\r\n content-length: "),
                usually(Refused).but(HaProxy, Two, "it joins the lines before it forwards them"),
            ),
            (measured("x: y\rcontent-length: "), usually(Refused)),
            (
                measured("x: y\ncontent-length: "),
                usually(Refused).but(Nginx, One, LF).but(HaProxy, One, LF),
            ),
            (
                measured("x: y\0\r\ncontent-length: "),
                usually(Refused).but(HaProxy, One, "it forwards NUL as it came"),
            ),
            (measured("\u{b}content-length: "), usually(Refused)),
            (post("no colon\r\n", HIDDEN), usually(Refused)),
            (post(": nameless\r\n", HIDDEN), usually(Refused)),
            (post("host: other.test\r\n", HIDDEN), usually(Refused)),
            (
                format!("POST /first HTTP/1.1\r\n\r\n{HIDDEN}"),
                usually(Refused).but(HaProxy, Two, "it does without Host"),
            ),
            (
                first("GET /first  HTTP/1.1"),
                usually(Refused)
                    .but(Nginx, Two, "it takes several spaces for one")
                    .but(HaProxy, Two, "it takes several spaces for one"),
            ),
            (first("GET /first HTTP/1.1 x"), usually(Refused)),
            (
                first("GET /first HTTP/2.0"),
                usually(Refused).but(HaProxy, Two, "it takes any version for 1.1"),
            ),
            (
                format!("GET /first\r\n\r\n{HIDDEN}"),
                usually(Refused).but(Nginx, One, "it knows HTTP/0.9"),
            ),
            (
                first("GET\t/first HTTP/1.1"),
                usually(Refused).but(HaProxy, Two, "it takes a tab for a space"),
            ),
            (first("GET /first\u{1} HTTP/1.1"), usually(Refused)),
            (first("\r\nGET /first HTTP/1.1"), usually(Two)),
            (
                format!("GET /first HTTP/1.1\nhost: g.test\n\n{HIDDEN}"),
                usually(Refused).but(Nginx, Two, LF).but(HaProxy, Two, LF),
            ),
        ],
    );
}
