//! HTTP/2 as frames, without a library: what a library would not send can be sent, and floods cost nothing to make.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

/// A frame (RFC 9113 section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Header fields as literals that nobody has to remember and that are not compressed (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value.as_bytes()] {
            length(text.len(), &mut block);
            block.extend(text);
        }
    }
    block
}

/// An integer with a prefix of 7 bits (RFC 7541 section 5.1).
fn length(mut length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(length as u8 | 0x80);
        length >>= 7;
    }
    block.push(length as u8);
}

/// The fields of a request without body, with others behind them.
pub fn get<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let usual = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "g.test"),
    ];
    block(&[&usual, more].concat())
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Of RST_STREAM, or of GOAWAY.
    pub fn error(&self) -> u32 {
        let from = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[from..from + 4].try_into().unwrap())
    }

    /// The status, if it is one of those that have a place in the static table (RFC 7541 appendix A).
    pub fn status(&self) -> Option<u16> {
        let known = [200, 204, 206, 304, 400, 404, 500];
        let place = self.payload.first()?.checked_sub(0x88)?;
        known.get(usize::from(place)).copied()
    }
}

/// A connection on which HTTP/2 has begun, with prior knowledge.
pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    pub fn open(address: SocketAddr) -> Self {
        let mut frames = Self::silent(address);
        frames.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(&frame(SETTINGS, 0, 0, &[]));
        frames
    }

    /// Nothing has been sent yet.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// The gateway may have closed already.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame; `None` at the end of the connection. Silence fails the test.
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if let Err(error) = self.stream.read_exact(&mut head) {
            assert_ne!(
                error.kind(),
                io::ErrorKind::WouldBlock,
                "neither a frame nor an end"
            );
            return None;
        }
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind,
            flags,
            payload,
        })
    }

    /// The next frame of one of these kinds.
    pub fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// The error of a GOAWAY, if one comes before the end of the connection.
    pub fn goaway(&mut self) -> Option<u32> {
        let mut said = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                said = Some(frame.error());
            }
        }
        said
    }

    /// The same connection, for another thread that writes to it.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }
}
