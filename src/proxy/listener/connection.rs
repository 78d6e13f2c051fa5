//! One connection of a client, until it ends.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::patience::TimedHeads;
use super::super::{ClientAddr, Proxy};
use super::ListenerSettings;
use crate::causes::Causes;

/// What is known of a connection before its first request.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    /// Where it comes from.
    pub client: ClientAddr,
    /// The gateway itself speaks TLS on it.
    pub secure: bool,
}

pub(super) async fn serve_connection(
    proxy: Rc<Proxy>,
    stream: TcpStream,
    info: ConnectionInfo,
    settings: ListenerSettings,
    stop: CancellationToken,
) {
    let stream = TimedHeads::new(stream, settings.head_timeout);
    let phase = stream.phase();
    let service = service_fn(|request| {
        phase.head_is_complete();
        let (proxy, answering) = (Rc::clone(&proxy), phase.until_answered());
        async move {
            let reply = proxy.handle(request, info).await;
            if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
                answering.for_good();
                return Ok::<_, Infallible>(reply);
            }
            Ok(reply.map(|body| body.answering(answering)))
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
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = last_call(&stop) => {
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

/// The end, and a moment for requests that are on their way already.
async fn last_call(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_CALL).await;
}

/// Longer than the first bytes of an accepted connection take within a data centre.
const LAST_CALL: Duration = Duration::from_millis(100);

/// hyper takes no smaller buffer.
const MIN_BUFFER: usize = 8192;
