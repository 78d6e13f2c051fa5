//! The application: it records each request as the bytes that it was, and answers as it was told.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::wire::find;

/// A server that plays scripts by path. Without one it answers `hello`, and to `POST /login` with `user=NAME` that NAME has
/// logged in.
#[derive(Clone)]
pub struct App {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    scripts: Mutex<HashMap<String, Script>>,
}

type Script = Arc<dyn Fn(&Seen, &mut TcpStream) + Send + Sync>;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and headers, with the empty line.
    pub head: String,
    /// The body as sent: if chunked, with sizes and trailers.
    pub body: Vec<u8>,
}

impl Seen {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The request target as it was sent.
    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let headers = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        headers
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The names of all headers, in lower case.
    pub fn names(&self) -> Vec<String> {
        let headers = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        headers.map(|(name, _)| name.to_lowercase()).collect()
    }

    /// As whom the gateway says that the request comes.
    pub fn user(&self) -> Option<&str> {
        let users = self.all("x-user-id");
        assert!(users.len() < 2, "more than one identity: {users:?}");
        users.first().copied()
    }
}

impl App {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let app = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
        };
        let shared = Arc::clone(&app.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        app
    }

    /// Gives every request for this path this answer: status line and headers, and a body whose length is added.
    pub fn answers(&self, path: &str, head: &str, body: &str) {
        let answer = format!(
            "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.plays(path, move |_, stream| {
            let _ = stream.write_all(answer.as_bytes());
        });
    }

    /// Lets `script` deal with each request for this path, head and body of which have been read.
    pub fn plays(
        &self,
        path: &str,
        script: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static,
    ) {
        let mut scripts = self.shared.scripts.lock().unwrap();
        scripts.insert(path.to_owned(), Arc::new(script));
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The newest request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the application saw nothing")
    }

    /// How many requests came for a path.
    pub fn count(&self, path: &str) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.path() == path)
            .count()
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let mut unread = Vec::new();
        while let Some(seen) = read_request(&mut stream, &mut unread) {
            self.seen.lock().unwrap().push(seen.clone());
            let script = self.scripts.lock().unwrap().get(seen.path()).cloned();
            match script {
                Some(script) => script(&seen, &mut stream),
                None => answer_as_usual(&seen, &mut stream),
            }
        }
    }
}

fn answer_as_usual(seen: &Seen, stream: &mut TcpStream) {
    let body = String::from_utf8_lossy(&seen.body);
    let login = match body.strip_prefix("user=") {
        Some(user) if seen.line().starts_with("POST /login") => {
            format!("portcullis-login: {user}\r\n")
        }
        _ => String::new(),
    };
    // The gateway may have gone away; the test notices what matters.
    let _ = stream
        .write_all(format!("HTTP/1.1 200 OK\r\n{login}Content-Length: 5\r\n\r\nhello").as_bytes());
}

fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Seen> {
    let head_end = read_until(stream, unread, |bytes| {
        find(bytes, b"\r\n\r\n").map(|at| at + 4)
    })?;
    let head = unread.drain(..head_end).collect();
    let mut seen = Seen {
        head: String::from_utf8(head).ok()?,
        body: Vec::new(),
    };
    let length = if seen.all("transfer-encoding").is_empty() {
        let length = seen
            .all("content-length")
            .first()
            .map_or(0, |length| length.parse().unwrap());
        read_until(stream, unread, |bytes| {
            (bytes.len() >= length).then_some(length)
        })?
    } else {
        read_until(stream, unread, end_of_chunks)?
    };
    seen.body = unread.drain(..length).collect();
    Some(seen)
}

/// After the last chunk and the trailers, if they are there.
fn end_of_chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line_end = at + find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..line_end]).unwrap();
        let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
        if size == 0 {
            return find(&bytes[line_end..], b"\r\n\r\n").map(|end| line_end + end + 4);
        }
        at = line_end + 2 + size + 2;
        if at > bytes.len() {
            return None;
        }
    }
}

fn read_until(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    end: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(end) = end(unread) {
            return Some(end);
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => unread.extend(&buffer[..count]),
            _ => return None,
        }
    }
}
