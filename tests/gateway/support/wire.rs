//! HTTP/1.1 as bytes: requests that are sent as written, answers that are read as they come.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request of a client that names the host as it should, and nothing else by itself.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    let has = |wanted: &str| {
        headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    if !has("host") {
        request += "Host: g.test\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !has("transfer-encoding") && (!body.is_empty() || method == "POST") {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    format!("{request}\r\n{body}").into_bytes()
}

/// A connection to a gateway.
pub struct Connection {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends what may be refused before it is read to its end.
    pub fn send_what_may_be_refused(&mut self, bytes: &[u8]) {
        // The answer tells; that it came early is no failure.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads one answer to a request that was not HEAD.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if answer.status < 200 || matches!(answer.status, 204 | 304) {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            self.read_until(|unread| unread.len() >= length);
            answer.body = self.unread.drain(..length).collect();
        } else {
            while self.read_more().unwrap() > 0 {}
            answer.body = std::mem::take(&mut self.unread);
        }
        answer
    }

    /// Reads the head of an answer; what follows is for the caller.
    pub fn head(&mut self) -> Answer {
        self.read_until(|unread| find(unread, b"\r\n\r\n").is_some());
        let end = find(&self.unread, b"\r\n\r\n").unwrap() + 4;
        let head: Vec<u8> = self.unread.drain(..end).collect();
        Answer::parse(&String::from_utf8(head).unwrap())
    }

    /// The next chunk of a chunked body; `None` at its regular end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        self.try_chunk().expect("the body broke off")
    }

    /// The same, for a body that may break off.
    pub fn try_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.try_line()?;
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        if length == 0 {
            while !self.try_line()?.is_empty() {}
            return Ok(None);
        }
        while self.unread.len() < length + 2 {
            self.must_read_more()?;
        }
        let chunk = self.unread.drain(..length + 2).take(length).collect();
        Ok(Some(chunk))
    }

    /// Whether the other side closes without another byte.
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && matches!(self.read_more(), Ok(0))
    }

    fn try_line(&mut self) -> io::Result<String> {
        while find(&self.unread, b"\r\n").is_none() {
            self.must_read_more()?;
        }
        let end = find(&self.unread, b"\r\n").unwrap();
        let line = self.unread.drain(..end + 2).take(end).collect();
        Ok(String::from_utf8(line).unwrap())
    }

    fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) {
        while !enough(&self.unread) {
            self.must_read_more().unwrap();
        }
    }

    fn must_read_more(&mut self) -> io::Result<()> {
        match self.read_more()? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        self.unread.extend(&buffer[..count]);
        Ok(count)
    }
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(head: &str) -> Self {
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        Self {
            status: status.unwrap().parse().unwrap(),
            headers: lines.filter(|line| !line.is_empty()).map(header).collect(),
            body: Vec::new(),
        }
    }

    /// The value of a header that comes at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came more than once: {all:?}");
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// `message` of the gateway's own JSON.
    pub fn message(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The application's answer, and nothing said about a session.
    #[track_caller]
    pub fn assert_served(&self) {
        assert_eq!(self.status, 200, "{self:?}");
        self.assert_says_nothing_of_a_session();
    }

    /// No cookie is set or cleared, and the browser SDKs are told nothing.
    #[track_caller]
    pub fn assert_says_nothing_of_a_session(&self) {
        for name in ["set-cookie", "front-token", "id-refresh-token"] {
            assert!(self.all(name).is_empty(), "{name} in {self:?}");
        }
    }

    /// A refusal in JSON that clears nothing and is kept nowhere.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, message: &str) {
        assert_eq!((self.status, &*self.message()), (status, message));
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        self.assert_says_nothing_of_a_session();
    }

    /// 401, and all that a client can have of the session is taken from it.
    #[track_caller]
    pub fn assert_session_over(&self) {
        assert_eq!(self.status, 401, "{self:?}");
        self.assert_clears();
    }

    /// The clearing set: each cookie in each scope by name, in both ways to say it, and the headers for the browser SDKs.
    #[track_caller]
    pub fn assert_clears(&self) {
        let cookies = self.all("set-cookie");
        for name in ["sAccessToken", "sRefreshToken", "sIdRefreshToken"] {
            let cleared = cookies.iter().any(|cookie| {
                cookie.starts_with(&format!("{name}=;"))
                    && cookie.contains("Max-Age=0")
                    && cookie.contains("Expires=Thu, 01 Jan 1970 00:00:00 GMT")
                    && cookie.contains("HttpOnly")
                    && cookie.contains("Path=/")
            });
            assert!(cleared, "{name} is not cleared: {self:?}");
        }
        assert_eq!(self.header("front-token"), Some("remove"));
        assert_eq!(self.header("id-refresh-token"), Some("remove"));
        self.assert_exposed_and_not_stored();
    }

    #[track_caller]
    pub fn assert_exposed_and_not_stored(&self) {
        let exposed = self.all("access-control-expose-headers").join(", ");
        for name in ["front-token", "id-refresh-token"] {
            assert!(exposed.contains(name), "{name} is not exposed: {exposed}");
        }
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);
