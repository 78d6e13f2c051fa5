//! HTTP/2 to a server: streams on few connections, trailers, resets, GOAWAY; and TLS, by which the version is chosen.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis::upstream::{
    HttpVersion, Replay, ServerUrl, TlsIdentity, Upstream, UpstreamError, UpstreamSettings,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    bodiless, fetch, get, outgoing, plain, post, settings, text, upstream_of, worker,
};

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What the server saw.
#[derive(Clone, Default)]
struct Seen {
    connections: Rc<Cell<usize>>,
    open_streams: Rc<Cell<usize>>,
    most_streams: Rc<Cell<usize>>,
    heads: Rc<RefCell<Vec<http::request::Parts>>>,
    /// Ends a connection in order, with GOAWAY.
    goodbye: Rc<Notify>,
}

/// A server of HTTP/2, or of what ALPN chose.
#[derive(Clone)]
struct Config {
    tls: Option<TlsAcceptor>,
    max_streams: u32,
}

const PLAIN: Config = Config {
    tls: None,
    max_streams: 100,
};

async fn serve<F, Fut>(config: Config, answer: F) -> (SocketAddr, Seen)
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Reply> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let answer = Rc::new(answer);
    tokio::task::spawn_local({
        let seen = seen.clone();
        async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                seen.connections.set(seen.connections.get() + 1);
                let (config, seen, answer) = (config.clone(), seen.clone(), Rc::clone(&answer));
                tokio::task::spawn_local(async move {
                    match &config.tls {
                        None => connection(socket, true, config.max_streams, seen, answer).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(socket).await else {
                                return;
                            };
                            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            connection(stream, http2, config.max_streams, seen, answer).await;
                        }
                    }
                });
            }
        }
    });
    (address, seen)
}

async fn connection<S, F, Fut>(stream: S, http2: bool, max_streams: u32, seen: Seen, answer: Rc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Reply> + 'static,
{
    let goodbye = Rc::clone(&seen.goodbye);
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, answer) = (seen.clone(), Rc::clone(&answer));
        async move {
            let (head, body) = request.into_parts();
            seen.heads.borrow_mut().push(head.clone());
            let open = OpenStream::enter(&seen);
            let answered = answer(Request::from_parts(head, body)).await;
            drop(open);
            Ok::<_, Infallible>(answered)
        }
    });
    let io = TokioIo::new(stream);
    if !http2 {
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await;
        return;
    }
    let mut serving = std::pin::pin!(
        hyper::server::conn::http2::Builder::new(Local)
            .max_concurrent_streams(max_streams)
            .serve_connection(io, service)
    );
    let mut told = false;
    loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            () = goodbye.notified(), if !told => {
                told = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

struct OpenStream(Rc<Cell<usize>>);

impl OpenStream {
    fn enter(seen: &Seen) -> Self {
        let open = seen.open_streams.get() + 1;
        seen.open_streams.set(open);
        seen.most_streams.set(seen.most_streams.get().max(open));
        Self(Rc::clone(&seen.open_streams))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

fn said(text: &'static str) -> Reply {
    Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync())
}

fn http2(servers: Vec<ServerUrl>) -> UpstreamSettings {
    UpstreamSettings {
        servers,
        http: HttpVersion::Http2,
        ..settings("127.0.0.1:1")
    }
}

fn upstream_at(address: SocketAddr) -> Upstream {
    upstream_of(http2(vec![plain(address)]))
}

#[test]
fn what_is_asked_and_answered() {
    worker(async {
        let (address, seen) = serve(PLAIN, |request| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut reply = Response::new(Full::new(body).boxed_unsync());
            reply
                .headers_mut()
                .insert("x-from", HeaderValue::from_static("server"));
            reply
        })
        .await;
        let upstream = upstream_at(address);
        let mut request = get("/a?b");
        for (name, value) in [
            ("connection", "te"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
        ] {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        let answer = upstream
            .send(outgoing(request), Replay::Allowed)
            .await
            .unwrap();
        assert_eq!(
            (answer.version(), answer.status().as_u16()),
            (Version::HTTP_11, 200)
        );
        assert_eq!(answer.headers()["x-from"], "server");
        assert_eq!(text(answer).await, "");
        assert_eq!(fetch(&upstream, post("/p", "body")).await.unwrap(), "body");
        let heads = seen.heads.borrow();
        assert_eq!(heads[0].version, Version::HTTP_2);
        assert_eq!(heads[0].uri, "http://app.test/a?b");
        assert_eq!(heads[0].headers["te"], "trailers");
        let names: Vec<_> = heads[0].headers.keys().collect();
        assert_eq!(names, ["te"], "nothing of the connection");
        assert_eq!(heads[1].headers["content-length"], "4");
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn many_requests_share_a_connection_from_the_first_on() {
    worker(async {
        let (address, seen) = serve(PLAIN, |_| async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            said("ok")
        })
        .await;
        let upstream = upstream_at(address);
        let all = stream::iter(0..500)
            .map(|_| fetch(&upstream, get("/")))
            .buffer_unordered(60);
        assert!(all.all(async |answer| answer.unwrap() == "ok").await);
        assert_eq!(seen.connections.get(), 1);
        assert!(seen.most_streams.get() > 20, "{}", seen.most_streams.get());
    });
}

#[test]
fn a_server_that_allows_few_streams_gets_more_connections() {
    worker(async {
        let config = Config {
            max_streams: 4,
            ..PLAIN
        };
        let (address, seen) = serve(config, |_| async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            said("ok")
        })
        .await;
        let mut settings = http2(vec![plain(address)]);
        settings.connections = 3;
        settings.waiting = 1000;
        let upstream = upstream_of(settings);
        fetch(&upstream, get("/")).await.unwrap();
        fetch(&upstream, get("/")).await.unwrap();
        let all = stream::iter(0..500)
            .map(|_| fetch(&upstream, get("/")))
            .buffer_unordered(100);
        assert!(all.all(async |answer| answer.unwrap() == "ok").await);
        assert!(
            (2..=3).contains(&seen.connections.get()),
            "{}",
            seen.connections.get()
        );
        assert!(seen.most_streams.get() <= 12, "{}", seen.most_streams.get());
    });
}

/// As gRPC does: pieces go up while pieces come down, and the verdict comes last.
#[test]
fn both_sides_talk_at_once_and_trailers_pass_both_ways() {
    worker(async {
        let (address, _) = serve(PLAIN, |request| async move {
            let body = request.into_body();
            let frames = stream::unfold(Some(body), |body| async move {
                let mut body = body?;
                let mut trailers = HeaderMap::new();
                match body.frame().await {
                    Some(Ok(frame)) if frame.is_data() => return Some((frame, Some(body))),
                    Some(Ok(frame)) => {
                        let theirs = frame.into_trailers().unwrap();
                        trailers.insert("x-theirs", theirs["x-sum"].clone());
                    }
                    _ => {}
                }
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Some((Frame::trailers(trailers), None))
            });
            Response::new(StreamBody::new(frames.map(Ok)).boxed_unsync())
        })
        .await;
        let upstream = upstream_at(address);
        let (say, said) = mpsc::channel::<Frame<Bytes>>(1);
        let frames = stream::unfold(said, async |mut said| {
            let frame = said.recv().await?;
            Some((Ok::<_, Infallible>(frame), said))
        });
        let request = Request::post("/grpc")
            .header("host", "app.test")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(Box::pin(frames)))
            .unwrap();
        let mut answer = upstream
            .send(outgoing(request), Replay::Never)
            .await
            .unwrap();
        for word in ["one", "two", "three"] {
            say.send(Frame::data(Bytes::from_static(word.as_bytes())))
                .await
                .unwrap();
            let heard = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(heard, word, "before anything further is said");
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("3"));
        say.send(Frame::trailers(trailers)).await.unwrap();
        let trailers = answer
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-theirs"]),
            (&"0".parse().unwrap(), &"3".parse().unwrap())
        );
        assert!(answer.frame().await.is_none());
    });
}

#[test]
fn an_answer_of_nothing_but_a_head_ends_with_it() {
    worker(async {
        let (address, _) = serve(PLAIN, |_| async {
            let mut reply = Response::new(Empty::new().boxed_unsync());
            reply
                .headers_mut()
                .insert("grpc-status", HeaderValue::from_static("5"));
            reply
        })
        .await;
        let upstream = upstream_at(address);
        let answer = upstream
            .send(outgoing(post("/", "x")), Replay::Never)
            .await
            .unwrap();
        assert_eq!(answer.headers()["grpc-status"], "5");
        assert!(http_body::Body::is_end_stream(answer.body()));
    });
}

/// The server learns of it while it has not answered, and while it answers.
#[test]
fn giving_up_resets_the_stream_and_leaves_the_connection() {
    worker(async {
        let (address, seen) = serve(PLAIN, |request| async move {
            if request.uri().path() == "/never" {
                std::future::pending::<()>().await;
            }
            let endless =
                stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 8192]))));
            match request.uri().path() {
                "/endless" => Response::new(StreamBody::new(endless).boxed_unsync()),
                _ => said("ok"),
            }
        })
        .await;
        let upstream = upstream_at(address);
        fetch(&upstream, get("/")).await.unwrap();
        let sent = upstream.send(outgoing(get("/never")), Replay::Allowed);
        let given_up = tokio::time::timeout(Duration::from_millis(50), sent).await;
        assert!(given_up.is_err());
        while seen.open_streams.get() > 0 {
            tokio::task::yield_now().await;
        }
        let mut answer = upstream
            .send(outgoing(get("/endless")), Replay::Allowed)
            .await
            .unwrap();
        answer.frame().await.unwrap().unwrap();
        drop(answer);
        fetch(&upstream, get("/")).await.unwrap();
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn a_server_that_says_goodbye_loses_no_request() {
    worker(async {
        let (address, seen) = serve(PLAIN, |_| async {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            said("ok")
        })
        .await;
        let upstream = upstream_at(address);
        for round in 1..=20 {
            let all = stream::iter(0..40)
                .map(|nth| {
                    if nth == 20 {
                        seen.goodbye.notify_waiters();
                    }
                    fetch(&upstream, bodiless(Method::POST, "/"))
                })
                .buffer_unordered(10);
            assert!(
                all.all(async |answer| answer.unwrap() == "ok").await,
                "{round}"
            );
        }
        assert!(seen.connections.get() > 10, "{}", seen.connections.get());
        assert_eq!(seen.heads.borrow().len(), 800, "none came twice");
    });
}

/// The server says what became of a request that it does not answer, and only "nothing" is believed.
#[test]
fn what_the_server_refused_goes_out_again_whatever_it_is() {
    for (method, reason, is_repeated) in [
        (Method::POST, h2::Reason::REFUSED_STREAM, true),
        (Method::GET, h2::Reason::REFUSED_STREAM, true),
        (Method::POST, h2::Reason::CANCEL, false),
        (Method::POST, h2::Reason::INTERNAL_ERROR, false),
        (Method::POST, h2::Reason::NO_ERROR, false),
    ] {
        worker(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let seen = Rc::new(Cell::new(0));
            let count = Rc::clone(&seen);
            tokio::task::spawn_local(async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    let count = Rc::clone(&count);
                    tokio::task::spawn_local(async move {
                        while let Some(Ok((_, mut respond))) = connection.accept().await {
                            count.set(count.get() + 1);
                            if count.get() == 2 {
                                respond.send_reset(reason);
                                continue;
                            }
                            respond.send_response(Response::new(()), true).unwrap();
                        }
                    });
                }
            });
            let upstream = upstream_at(address);
            fetch(&upstream, get("/")).await.unwrap();
            let sent = upstream
                .send(outgoing(bodiless(method.clone(), "/")), Replay::Allowed)
                .await;
            assert_eq!(sent.is_ok(), is_repeated, "{method} {reason:?}: {sent:?}");
            assert_eq!(
                seen.get(),
                2 + usize::from(is_repeated),
                "{method} {reason:?}"
            );
        });
    }
}

#[test]
fn one_that_speaks_no_http2_is_refused() {
    worker(async {
        let server =
            crate::support::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let error = fetch(&upstream_at(server.address), get("/"))
            .await
            .unwrap_err();
        assert_eq!(error.name(), "upstream_garbage", "{error:?}");
    });
}

#[test]
fn one_that_says_nothing_is_late_and_not_asked_again() {
    worker(async {
        let silent = crate::support::serve(|_, mut peer| async move { peer.closed().await }).await;
        let mut settings = http2(vec![plain(silent.address)]);
        settings.timeouts.response = Duration::from_millis(60);
        let upstream = upstream_of(settings);
        for round in 1..=3 {
            let error = fetch(&upstream, get("/")).await.unwrap_err();
            assert_eq!(error.name(), "upstream_response_timeout");
            assert_eq!(
                silent.connections(),
                round,
                "a connection that is dead is left"
            );
        }
    });
}

/// Certificates that are made anew for each test.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn certify(&self, name: &str) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        (certificate.der().clone(), key)
    }

    fn server(&self, name: &str, protocols: &[&str], asks: bool) -> Config {
        let (certificate, key) = self.certify(name);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match asks {
            true => builder.with_client_cert_verifier(verifier.build().unwrap()),
            false => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Config {
            tls: Some(TlsAcceptor::from(Arc::new(config))),
            max_streams: 100,
        }
    }
}

fn https(address: SocketAddr, ca_file: &Path, http: HttpVersion) -> UpstreamSettings {
    let mut settings = http2(vec![ServerUrl::Tcp {
        tls: true,
        authority: address.to_string().parse().unwrap(),
    }]);
    settings.http = http;
    settings.tls.ca_file = Some(ca_file.to_owned());
    settings.tls.server_name = Some("app.test".into());
    settings
}

#[test]
fn alpn_chooses_the_version() {
    let both: &[&str] = &["h2", "http/1.1"];
    for (offered, http, expected) in [
        (both, HttpVersion::Auto, Ok(Version::HTTP_2)),
        (both, HttpVersion::Http1, Ok(Version::HTTP_11)),
        (both, HttpVersion::Http2, Ok(Version::HTTP_2)),
        (&["http/1.1"], HttpVersion::Auto, Ok(Version::HTTP_11)),
        (&[], HttpVersion::Auto, Ok(Version::HTTP_11)),
        (&[], HttpVersion::Http2, Err("upstream_no_http2")),
        (&["http/1.1"], HttpVersion::Http2, Err("upstream_tls")),
    ] {
        worker(async {
            let authority = Authority::new();
            let config = authority.server("app.test", offered, false);
            let (address, seen) = serve(config, |_| async { said("ok") }).await;
            let upstream = upstream_of(https(address, &authority.file("ca.pem"), http));
            for _ in 0..3 {
                let answer = fetch(&upstream, get("/")).await;
                match expected {
                    Ok(version) => {
                        assert_eq!(answer.unwrap(), "ok", "{offered:?} {http:?}");
                        assert_eq!(seen.heads.borrow()[0].version, version);
                    }
                    Err(name) => assert_eq!(answer.unwrap_err().name(), name, "{offered:?}"),
                }
            }
            if expected.is_ok() {
                assert_eq!(seen.connections.get(), 1, "{offered:?} {http:?}");
                assert_eq!(
                    seen.heads.borrow()[0].uri.scheme_str(),
                    (expected == Ok(Version::HTTP_2)).then_some("https")
                );
            }
        });
    }
}

#[test]
fn an_upgrade_is_asked_for_in_http1() {
    worker(async {
        let authority = Authority::new();
        let config = authority.server("app.test", &["h2", "http/1.1"], false);
        let (address, seen) = serve(config, |_| async { said("ok") }).await;
        let upstream = upstream_of(https(address, &authority.file("ca.pem"), HttpVersion::Auto));
        fetch(&upstream, get("/")).await.unwrap();
        let mut request = get("/socket");
        for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        fetch(&upstream, request).await.unwrap();
        fetch(&upstream, get("/")).await.unwrap();
        let versions: Vec<_> = seen
            .heads
            .borrow()
            .iter()
            .map(|head| head.version)
            .collect();
        assert_eq!(
            versions,
            [Version::HTTP_2, Version::HTTP_11, Version::HTTP_2]
        );
        assert_eq!(seen.heads.borrow()[1].headers["upgrade"], "websocket");
    });
}

#[test]
fn a_server_that_cannot_prove_its_name_gets_nothing() {
    let refusal = |change: fn(&mut UpstreamSettings, &Authority)| {
        worker(async {
            let authority = Authority::new();
            let config = authority.server("app.test", &["h2"], false);
            let (address, seen) = serve(config, |_| async { said("ok") }).await;
            let mut settings = https(address, &authority.file("ca.pem"), HttpVersion::Auto);
            change(&mut settings, &authority);
            let error = fetch(&upstream_of(settings), get("/")).await.unwrap_err();
            assert!(matches!(error, UpstreamError::Tls { .. }), "{error:?}");
            assert!(seen.heads.borrow().is_empty());
            format!("{error}: {}", std::error::Error::source(&error).unwrap())
        })
    };
    let wrong_name = refusal(|settings, _| settings.tls.server_name = Some("other.test".into()));
    assert!(
        wrong_name.contains("tls_server_name") && wrong_name.contains("other.test"),
        "{wrong_name}"
    );
    let its_address = refusal(|settings, _| settings.tls.server_name = None);
    assert!(its_address.contains("127.0.0.1"), "{its_address}");
    let wrong_ca = refusal(|settings, _| {
        let other = Authority::new();
        settings.tls.ca_file = Some(other.file("ca.pem"));
        std::mem::forget(other.folder);
    });
    assert!(
        wrong_ca.contains("tls_ca_file") && wrong_ca.contains("BadSignature"),
        "{wrong_ca}"
    );
    let of_the_system = refusal(|settings, _| settings.tls.ca_file = None);
    assert!(of_the_system.contains("UnknownIssuer"), "{of_the_system}");
}

#[test]
fn a_server_that_asks_who_connects_is_told() {
    for shows in [true, false] {
        worker(async {
            let authority = Authority::new();
            let config = authority.server("app.test", &["h2"], true);
            authority.certify("gateway");
            let (address, _) = serve(config, |_| async { said("ok") }).await;
            let mut settings = https(address, &authority.file("ca.pem"), HttpVersion::Auto);
            settings.tls.identity = shows.then(|| TlsIdentity {
                certificate: authority.file("gateway.pem"),
                key: authority.file("gateway.key"),
            });
            let answer = fetch(&upstream_of(settings), get("/")).await;
            assert_eq!(answer.is_ok(), shows, "{answer:?}");
        });
    }
}
