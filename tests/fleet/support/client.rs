//! A client that gives up on nothing but broken connections and long silence, and tells which of these it was.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection to one address, made anew when it has broken.
#[derive(Default)]
pub struct Client {
    connection: Option<(SocketAddr, BufReader<TcpStream>)>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// The value of a `Cookie` header after this answer; empty if it set none.
    pub cookies: String,
}

impl Client {
    /// A request of the site itself; `None` if no whole answer came.
    pub fn send(
        &mut self,
        to: SocketAddr,
        method: &str,
        target: &str,
        headers: &str,
    ) -> Option<Answer> {
        let answer = self.try_send(to, method, target, headers);
        if answer.is_none() {
            self.connection = None;
        }
        answer
    }

    pub fn get(&mut self, to: SocketAddr, target: &str, cookie: &str) -> Option<Answer> {
        self.send(to, "GET", target, &format!("cookie: {cookie}\r\n"))
    }

    pub fn post(&mut self, to: SocketAddr, target: &str, cookie: &str) -> Option<Answer> {
        self.send(to, "POST", target, &format!("cookie: {cookie}\r\n"))
    }

    fn try_send(
        &mut self,
        to: SocketAddr,
        method: &str,
        target: &str,
        headers: &str,
    ) -> Option<Answer> {
        if self.connection.as_ref().is_none_or(|(at, _)| *at != to) {
            let stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
            stream.set_nodelay(true).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            stream.set_write_timeout(Some(PATIENCE)).ok()?;
            self.connection = Some((to, BufReader::new(stream)));
        }
        let (_, connection) = self.connection.as_mut()?;
        let length = match method {
            "GET" | "DELETE" => "",
            _ => "content-length: 0\r\n",
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {to}\r\nsec-fetch-site: same-origin\r\n{length}{headers}\r\n"
        );
        connection.get_mut().write_all(request.as_bytes()).ok()?;
        read(connection)
    }
}

fn read(connection: &mut BufReader<TcpStream>) -> Option<Answer> {
    let mut line = String::new();
    connection.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let (mut length, mut closes, mut cookies) = (0, false, Vec::new());
    loop {
        let mut line = String::new();
        connection
            .read_line(&mut line)
            .ok()
            .filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "connection" => closes = value.eq_ignore_ascii_case("close"),
            "set-cookie" => cookies.push(value.split(';').next()?.to_owned()),
            _ => {}
        }
    }
    let mut body = Vec::new();
    connection.take(length).read_to_end(&mut body).ok()?;
    if body.len() as u64 != length {
        return None;
    }
    if closes {
        // The next request finds out, and makes a connection.
        let _ = connection.get_ref().shutdown(std::net::Shutdown::Both);
    }
    Some(Answer {
        status,
        body: String::from_utf8(body).ok()?,
        cookies: cookies.join("; "),
    })
}

/// Longer than any answer takes whose gateway and database run.
const PATIENCE: Duration = Duration::from_secs(20);
