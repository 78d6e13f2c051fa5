//! What is known of a connection, and HTTP/1.1 on it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::ClientAddr;
use super::super::forward_auth::Asker;
use super::super::framing::StrictRequests;
use super::super::patience::{Phase, TimedHeads};
use super::super::reply::Underway;
use super::activity::Activity;
use super::slow_reader::TimedWrites;
use super::stream::ClientStream;
use super::{Current, ListenerSettings};
use crate::causes::Causes;
use crate::certificates::Certificate;

/// What is known of a connection before its first request, and what runs on it.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Where it comes from: the other end, or whom a balancer that is believed speaks for.
    pub client: ClientAddr,
    /// The gateway itself speaks TLS on it.
    pub secure: bool,
    /// Which hosts it is for, if the client asked for one in its handshake.
    pub asked_for: Option<AskedFor>,
    pub purpose: Purpose,
    pub activity: Activity,
}

/// What a listener is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Proxy,
    /// Every answer sends the client to the public URL.
    Redirect,
    /// Another proxy asks whether requests may pass.
    ForwardAuth(Asker),
}

/// The host of a TLS handshake, and what it was answered with.
#[derive(Debug)]
pub struct AskedFor {
    pub host: Box<str>,
    pub certificate: Arc<Certificate>,
}

impl ConnectionInfo {
    /// Who asks on it, if it is for questions.
    pub fn asker(&self) -> Option<Asker> {
        match self.purpose {
            Purpose::ForwardAuth(asker) => Some(asker),
            Purpose::Proxy | Purpose::Redirect => None,
        }
    }

    /// Whether a request for this host belongs on the connection (RFC 9110 section 7.4).
    pub fn is_for(&self, host: &HeaderValue) -> bool {
        self.asked_for.as_ref().is_none_or(|asked| {
            let host = without_port(host);
            host.strip_suffix('.')
                .unwrap_or(host)
                .eq_ignore_ascii_case(&asked.host)
                || asked.certificate.covers(host)
        })
    }
}

fn without_port(host: &HeaderValue) -> &str {
    let host = host.to_str().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

/// Serves until the client or `stop` ends it.
pub(super) async fn serve_http1(
    current: Rc<Current>,
    stream: ClientStream,
    info: Rc<ConnectionInfo>,
    settings: &ListenerSettings,
    stop: &CancellationToken,
) {
    let phase = Phase::new();
    let stream = TimedWrites::new(stream, settings.write_timeout);
    let stream = StrictRequests::new(stream, phase.clone());
    let stream = TimedHeads::new(stream, settings.head_timeout, phase.clone());
    let service = service_fn(|request| {
        let approved = phase.head_is_complete();
        let (current, answering) = (Rc::clone(&current), phase.until_answered());
        let info = Rc::clone(&info);
        async move {
            if !approved {
                return Ok(current.get().proxy.refuse_unapproved());
            }
            let mut reply = current.get().proxy.handle(request, info).await;
            if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
                answering.for_good();
                return Ok::<_, Infallible>(reply);
            }
            if current.ends.get() {
                // So that the client does not send another one into a connection that is being closed.
                let headers = reply.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(reply.map(|body| body.underway(Underway::Http1(answering))))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.keep_alive_timeout)
        .max_headers(settings.header_count)
        .max_header_size(settings.header_bytes)
        .max_buf_size(settings.header_bytes.max(MIN_BUFFER))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = match unless_it_ends(connection.as_mut(), &current, pin!(last_call(stop))).await {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(
            error = %Causes(&error),
            "a client connection ended early"
        );
    }
}

/// What serving comes to; `None` when it is to end. A connection wakes with every read and write, so the end, which comes once, is
/// not asked about each time: until the worker ends it has nothing to say, and wakes whoever asked last.
async fn unless_it_ends<S: Future>(
    mut serving: Pin<&mut S>,
    current: &Current,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Option<S::Output> {
    let mut asked_by: Option<Waker> = None;
    poll_fn(|cx| {
        if let Poll::Ready(served) = serving.as_mut().poll(cx) {
            return Poll::Ready(Some(served));
        }
        let is_known = asked_by
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_known && !current.ends.get() {
            return Poll::Pending;
        }
        asked_by = Some(cx.waker().clone());
        end.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// The end, and a moment for requests that are on their way already.
pub(super) async fn last_call(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_CALL).await;
}

/// Longer than the first bytes of an accepted connection take within a data centre.
const LAST_CALL: Duration = Duration::from_millis(100);

/// hyper takes no smaller buffer.
const MIN_BUFFER: usize = 8192;
