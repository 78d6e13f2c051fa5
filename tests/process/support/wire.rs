//! A client without an HTTP library: it sends the bytes that it is given, and reads answers as strictly as it can.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// A connection to the gateway.
pub struct Conn {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and header lines as they came, with the empty line.
    pub head: String,
    /// Without its framing.
    pub body: Vec<u8>,
    /// The trailer lines as they came.
    pub trailers: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The value of a `Cookie` header after this answer; empty if it set none.
    pub fn cookies(&self) -> String {
        let pairs: Vec<&str> = self
            .set_cookies()
            .map(|set| set.split(';').next().unwrap())
            .collect();
        pairs.join("; ")
    }

    pub fn set_cookies(&self) -> impl Iterator<Item = &str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
            .map(|(_, value)| value)
    }

    /// Whether the session's cookies are cleared by it.
    pub fn clears(&self) -> bool {
        let cleared = |name: &str| {
            self.set_cookies()
                .any(|set| set.starts_with(&format!("{name}=;")))
        };
        cleared("sAccessToken") && cleared("sRefreshToken")
    }
}

impl Conn {
    pub fn to(address: SocketAddr) -> Self {
        Self::try_to(address).unwrap()
    }

    pub fn try_to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// The gateway may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// A GET with these cookies; none if there are none.
    pub fn get(&mut self, path: &str, cookie: &str) -> Answer {
        self.try_request("GET", path, cookie).unwrap()
    }

    /// A POST without a body, from the site itself.
    pub fn post(&mut self, path: &str, cookie: &str) -> Answer {
        self.try_request("POST", path, cookie).unwrap()
    }

    /// Logs in; gives the answer with the cookies.
    pub fn login(&mut self, user: &str) -> Answer {
        let answer = self.post(&format!("/login?{user}"), "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    /// `None` if the connection ended before the answer was whole.
    pub fn try_request(&mut self, method: &str, path: &str, cookie: &str) -> Option<Answer> {
        let cookie = match cookie {
            "" => String::new(),
            cookie => format!("cookie: {cookie}\r\n"),
        };
        let length = if method == "POST" {
            "content-length: 0\r\n"
        } else {
            ""
        };
        self.try_send(format!(
            "{method} {path} HTTP/1.1\r\nhost: g.test\r\nsec-fetch-site: same-origin\r\n{length}{cookie}\r\n"
        ))
        .ok()?;
        self.try_answer()
    }

    /// The next answer, whole.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("a whole answer")
    }

    /// The next answer to a HEAD request, or one that has no body by its status.
    pub fn bodiless_answer(&mut self) -> Answer {
        let head = self.head().expect("a head");
        Answer {
            status: status_of(&head),
            head,
            body: Vec::new(),
            trailers: String::new(),
        }
    }

    /// `None` if the connection ended before the answer was whole.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let head = self.head()?;
        let status = status_of(&head);
        let (mut body, mut trailers) = (Vec::new(), String::new());
        if matches!(status, 100..200 | 204 | 304) {
            // No body by its status (RFC 9112 section 6.3).
        } else if header(&head, "transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
            loop {
                let line = self.up_to(b"\r\n")?;
                if line == b"\r\n" {
                    break;
                }
                trailers.push_str(std::str::from_utf8(&line).unwrap());
            }
        } else if let Some(length) = header(&head, "content-length") {
            body = self.exactly(length.parse().unwrap())?;
        } else {
            body = self.rest();
        }
        Some(Answer {
            status,
            head,
            body,
            trailers,
        })
    }

    /// The next head with its empty line; `None` if the connection ended before.
    pub fn head(&mut self) -> Option<String> {
        let head = self.up_to(b"\r\n\r\n")?;
        Some(String::from_utf8(head).unwrap())
    }

    /// `Some(None)` for the last chunk.
    fn chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let line = self.up_to(b"\r\n")?;
        let text = std::str::from_utf8(&line).unwrap().trim_end();
        let size = usize::from_str_radix(text, 16).unwrap();
        if size == 0 {
            return Some(None);
        }
        let data = self.exactly(size)?;
        assert_eq!(self.exactly(2)?, b"\r\n");
        Some(Some(data))
    }

    pub fn up_to_text(&mut self, marker: &str) -> Option<String> {
        let bytes = self.up_to(marker.as_bytes())?;
        Some(String::from_utf8(bytes).unwrap())
    }

    fn up_to(&mut self, marker: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(position) = find(&self.read, marker) {
                return Some(self.take(position + marker.len()));
            }
            if self.more() == 0 {
                return None;
            }
        }
    }

    pub fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if self.more() == 0 {
                return None;
            }
        }
        Some(self.take(count))
    }

    /// Whatever comes until the gateway closes, orderly or by a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.read)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    /// How many bytes came; 0 at the end of the connection. Silence fails the test.
    fn more(&mut self) -> usize {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                count
            }
            Err(error) if is_silence(&error) => panic!(
                "neither an answer nor an end; so far: {:?}",
                String::from_utf8_lossy(&self.read)
            ),
            Err(_) => 0,
        }
    }

    /// Reads what there is; how much there was, 0 at the end.
    pub fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        if self.read.is_empty() {
            return self.stream.read(buffer).unwrap_or(0);
        }
        let count = self.read.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.take(count));
        count
    }

    /// Nothing comes, and the connection stays open, for that long.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        assert!(self.read.is_empty(), "{:?}", self.read);
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut byte = [0];
        let silent = self
            .stream
            .peek(&mut byte)
            .is_err_and(|error| is_silence(&error));
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    /// Says that there is no more to come.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The same connection, for another thread that writes to it.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The value of the only header line of that name; `None` if there is none.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut found = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim());
    let only = found.next();
    assert_eq!(found.next(), None, "{name} comes more than once: {head}");
    only
}

pub fn find(bytes: &[u8], marker: &[u8]) -> Option<usize> {
    bytes
        .windows(marker.len())
        .position(|window| window == marker)
}
