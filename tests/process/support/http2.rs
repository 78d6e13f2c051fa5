//! A client of HTTP/2 that speaks it as it should, by hyper.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::PATIENCE;
use super::tls::client;

/// Runs a test that may not take longer than things do.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async { tokio::time::timeout(PATIENCE, test).await };
    runtime.block_on(limited).expect("it takes too long")
}

pub type Client = SendRequest<Full<Bytes>>;

pub async fn connect(address: SocketAddr) -> Client {
    speak(TcpStream::connect(address).await.unwrap()).await
}

pub async fn connect_by_tls(address: SocketAddr) -> Client {
    let connector = TlsConnector::from(client(&["h2"], rustls::ALL_VERSIONS));
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("g.test").unwrap();
    speak(connector.connect(name, socket).await.unwrap()).await
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let (client, connection) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// From the site itself.
pub fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://g.test{path}"))
        .header("sec-fetch-site", "same-origin");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap()
}

/// The answer and its body.
pub async fn ask(client: &mut Client, request: Request<Full<Bytes>>) -> (Response<()>, String) {
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let (head, body) = answer.into_parts();
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
        assert!(!head.headers.contains_key(name), "{name}: {head:?}");
    }
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(head, ()), body)
}

/// A handshake of a WebSocket on a stream (RFC 8441 section 4).
pub fn extended_connect(path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = request(Method::CONNECT, path, headers, "");
    request
        .headers_mut()
        .insert("sec-websocket-version", "13".parse().unwrap());
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    request
}
