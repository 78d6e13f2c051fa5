//! A server that does exactly what a test says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::{find, header};
use super::{PATIENCE, eventually};

/// Remembers the bytes of each request's head, and plays a script for each.
pub struct Upstream {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// Calls the script with each head that comes, on whichever connection; what it leaves unread is the next head. The script
    /// returns whether the connection goes on.
    pub fn scripted(script: impl Fn(&mut Peer, &str) -> bool + Send + Sync + 'static) -> Self {
        Self::scripted_at(([127, 0, 0, 1], 0).into(), script)
    }

    pub fn scripted_at(
        address: SocketAddr,
        script: impl Fn(&mut Peer, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script);
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                thread::spawn(move || {
                    let mut peer = Peer::new(stream);
                    while let Some(head) = peer.head() {
                        seen.lock().unwrap().push(head.clone());
                        if !script(&mut peer, &head) {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, heads }
    }

    /// An application: logs in at `/login?<user>`, reads every body, and answers 200 with the user that it was told of.
    pub fn application() -> Self {
        Self::scripted(|peer, head| {
            peer.body(head);
            let target = head.split(' ').nth(1).unwrap_or_default();
            let login = target
                .strip_prefix("/login?")
                .map(|user| format!("portcullis-login: {user}\r\n"))
                .unwrap_or_default();
            let user = header(head, "x-user-id").unwrap_or("nobody");
            let length = user.len();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\n{login}content-length: {length}\r\n\r\n{user}"
            ));
            true
        })
    }

    /// An upstream that gives every request the same bytes as its answer, and reads no body.
    pub fn answering(answer: &'static str) -> Self {
        Self::scripted(move |peer, _| {
            peer.send(answer);
            true
        })
    }

    /// The heads as they came, in the order of arrival.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// How many requests came, whatever they were.
    pub fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    /// The only head that came.
    pub fn only_head(&self) -> String {
        let heads = self.heads();
        assert_eq!(heads.len(), 1, "{heads:?}");
        heads.into_iter().next().unwrap()
    }

    /// Waits until that many requests have come.
    pub fn has_seen(&self, requests: usize) {
        eventually("the upstream gets its requests", || {
            self.requests() >= requests
        });
    }
}

/// The server's end of a connection.
pub struct Peer {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// The next head with its empty line; none when the gateway has closed.
    fn head(&mut self) -> Option<String> {
        let bytes = self.up_to(b"\r\n\r\n")?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// All up to and with the marker; none if the gateway closes before.
    pub fn up_to(&mut self, marker: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(position) = find(&self.read, marker) {
                let rest = self.read.split_off(position + marker.len());
                return Some(std::mem::replace(&mut self.read, rest));
            }
            if self.more() == 0 {
                return None;
            }
        }
    }

    /// The body that follows a head, in the bytes that it came in.
    pub fn body(&mut self, head: &str) -> Vec<u8> {
        if header(head, "transfer-encoding").is_some() {
            let mut body = self.up_to(b"0\r\n").unwrap_or_default();
            body.extend(self.up_to(b"\r\n").unwrap_or_default());
            while !body.ends_with(b"\r\n\r\n") {
                let Some(line) = self.up_to(b"\r\n") else {
                    break;
                };
                body.extend(line);
            }
            return body;
        }
        let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
        self.exactly(length).unwrap_or_default()
    }

    /// That many bytes; none if the gateway closes before.
    pub fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if self.more() == 0 {
                return None;
            }
        }
        let rest = self.read.split_off(count);
        Some(std::mem::replace(&mut self.read, rest))
    }

    /// What came until the gateway closed its side.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.read)
    }

    fn more(&mut self) -> usize {
        let mut buffer = [0; 64 * 1024];
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        self.read.extend_from_slice(&buffer[..count]);
        count
    }

    /// Reads and drops up to `most` bytes; how many there were, 0 at the end.
    pub fn skim(&mut self, most: usize) -> usize {
        if self.read.is_empty() {
            self.more();
        }
        let count = self.read.len().min(most);
        self.read.drain(..count);
        count
    }

    /// Whether it could be sent.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says that there is no more to come.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
