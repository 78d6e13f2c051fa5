//! How the requests of a case get to the gateway. A case writes HTTP/1.1; a bridge before the gateway carries that over TLS byte
//! for byte, or says the same in HTTP/2, so that a case is tried on all three without being written three times.

use std::cell::Cell;
use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::http2::status;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, block, frame,
};
use crate::support::tls;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http1,
    /// HTTP/1.1 over TLS.
    Tls,
    /// With prior knowledge.
    Http2,
}

thread_local! {
    static CURRENT: Cell<Transport> = const { Cell::new(Transport::Http1) };
}

impl Transport {
    pub const ALL: &[Self] = &[Self::Http1, Self::Tls, Self::Http2];

    /// What the worlds of this thread use from now on.
    pub fn choose(self) {
        CURRENT.set(self);
    }

    pub fn current() -> Self {
        CURRENT.get()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2",
        }
    }

    /// Where connections are carried to this gateway; `None`: its own address will do.
    pub fn bridge_to(self, gateway: SocketAddr) -> Option<Bridge> {
        (self != Self::Http1).then(|| Bridge::open(self, gateway))
    }
}

/// Carries until it is dropped.
pub struct Bridge {
    pub address: SocketAddr,
    end: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Bridge {
    fn open(transport: Transport, gateway: SocketAddr) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let end = CancellationToken::new();
        let carry_until_the_end = {
            let end = end.clone();
            move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                runtime.block_on(end.run_until_cancelled(carry(transport, socket, gateway)));
                runtime.shutdown_background();
            }
        };
        Self {
            address,
            end,
            thread: Some(thread::spawn(carry_until_the_end)),
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn carry(transport: Transport, socket: std::net::TcpListener, gateway: SocketAddr) {
    let listener = TcpListener::from_std(socket).unwrap();
    let connector = TlsConnector::from(tls::http1());
    loop {
        let (client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let connector = connector.clone();
        tokio::spawn(async move {
            // Whatever goes wrong ends the client's connection, as the gateway's own would.
            let _ = match transport {
                Transport::Http2 => in_http2(client, gateway).await,
                _ => over_tls(client, gateway, connector).await,
            };
        });
    }
}

async fn over_tls(
    mut client: TcpStream,
    gateway: SocketAddr,
    connector: TlsConnector,
) -> std::io::Result<()> {
    let stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("g.test").unwrap();
    let mut stream = connector.connect(name, stream).await?;
    copy_bidirectional(&mut client, &mut stream).await?;
    Ok(())
}

/// One request of a connection, since streams do not follow each other; its answer closes the connection.
async fn in_http2(mut client: TcpStream, gateway: SocketAddr) -> std::io::Result<()> {
    let Some(asked) = Asked::read(&mut client).await? else {
        return Ok(());
    };
    let answer = match asked.request() {
        Some(request) => match ask(gateway, request).await {
            Some(answer) => written(answer, asked.method == "HEAD").await,
            None => Some(refusal(400)),
        },
        // A library would not send it.
        None => {
            let asked = tokio::task::spawn_blocking(move || asked.in_frames(gateway));
            Some(refusal(asked.await.unwrap().unwrap_or(400)))
        }
    };
    client.write_all(&answer.unwrap_or_default()).await?;
    client.shutdown().await
}

/// A request as a case wrote it.
struct Asked {
    method: String,
    target: Vec<u8>,
    authority: String,
    /// Names in small letters, without those that HTTP/2 has no place for.
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
}

impl Asked {
    async fn read(client: &mut TcpStream) -> std::io::Result<Option<Self>> {
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") {
                break end;
            }
            if client.read_buf(&mut read).await? == 0 {
                return Ok(None);
            }
        };
        let mut lines = read[..end].split(|byte| *byte == b'\n').map(without_cr);
        let mut words = lines.next().unwrap().splitn(2, |byte| *byte == b' ');
        let method = String::from_utf8_lossy(words.next().unwrap()).into_owned();
        let target = words.next().unwrap_or_default();
        let target = target.strip_suffix(b" HTTP/1.1").unwrap_or(target).to_vec();
        let mut asked = Self {
            method,
            target,
            authority: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        let mut length = 0;
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            let value = line[colon + 1..].trim_ascii().to_vec();
            match &*name {
                "host" => asked.authority = String::from_utf8_lossy(&value).into_owned(),
                "content-length" => length = String::from_utf8_lossy(&value).parse().unwrap_or(0),
                "connection" | "keep-alive" | "upgrade" | "transfer-encoding" => {}
                _ => asked.headers.push((name, value)),
            }
        }
        // A target with an authority is the same as one without and `:authority` (RFC 9113 section 8.3.1).
        let absolute = format!("http://{}/", asked.authority);
        if asked.target.starts_with(absolute.as_bytes()) {
            asked.target.drain(..absolute.len() - 1);
        }
        let mut body = read[end + 4..].to_vec();
        while body.len() < length && client.read_buf(&mut body).await? > 0 {}
        body.truncate(length);
        asked.body = body.into();
        Ok(Some(asked))
    }

    /// As a library sends it, if it does so as it is.
    fn request(&self) -> Option<Request<Full<Bytes>>> {
        let uri = Uri::builder().scheme("http").authority(&*self.authority);
        let uri = uri.path_and_query(&self.target[..]).build().ok()?;
        if uri.path_and_query()?.as_str().as_bytes() != self.target {
            return None;
        }
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).ok()?;
        *request.uri_mut() = uri;
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value = HeaderValue::from_bytes(value).ok()?;
            request.headers_mut().append(name, value);
        }
        Some(request)
    }

    /// The status; `None`: its stream or the connection was ended.
    fn in_frames(self, gateway: SocketAddr) -> Option<u16> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fields = vec![
            (":method".to_owned(), self.method.clone()),
            (":scheme".to_owned(), "http".to_owned()),
            (":path".to_owned(), text(&self.target)),
            (":authority".to_owned(), self.authority.clone()),
        ];
        let headers = self.headers.iter();
        fields.extend(headers.map(|(name, value)| (name.clone(), text(value))));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(a, b)| (&**a, &**b)).collect();
        let mut conn = Frames::open(gateway);
        let ends = if self.body.is_empty() { END_STREAM } else { 0 };
        conn.send(&frame(HEADERS, ends | END_HEADERS, 1, &block(&fields)));
        if !self.body.is_empty() {
            let _ = conn.try_send(&frame(DATA, END_STREAM, 1, &self.body));
        }
        let answer = conn.next_of(&[HEADERS, RST_STREAM, GOAWAY])?;
        (answer.kind == HEADERS).then(|| status(&answer))
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// `None`: its stream or the connection was ended.
async fn ask(gateway: SocketAddr, request: Request<Full<Bytes>>) -> Option<Response<Incoming>> {
    let stream = TcpStream::connect(gateway).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(async move { drop(connection.await) });
    sender.send_request(request).await.ok()
}

/// The same answer in HTTP/1.1; `None`: it broke off.
async fn written(answer: Response<Incoming>, is_head: bool) -> Option<Vec<u8>> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let mut text = status_line(head.status.as_u16());
    for (name, value) in &head.headers {
        if name != "content-length" || is_head {
            text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
    }
    if !is_head {
        text.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
    }
    text.extend(b"\r\n");
    text.extend(&body);
    Some(text)
}

fn status_line(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Status\r\nconnection: close\r\n").into_bytes()
}

fn refusal(status: u16) -> Vec<u8> {
    [&status_line(status)[..], b"content-length: 0\r\n\r\n"].concat()
}
