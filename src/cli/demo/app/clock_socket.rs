//! The live clock: a WebSocket that tells the time every second and does not care who listens, or for how long.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer};
use crate::cli::demo::websocket::{self, CloseCode, Received};
use crate::clock::Clock;

const TICK: Duration = Duration::from_secs(1);
/// How long the other side may leave a frame unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the handshake's answer may take to leave.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts a WebSocket handshake and hands on what comes of it; other requests are told what is missing.
pub fn answer(request: &mut Request<Incoming>, serve: impl FnOnce(OnUpgrade)) -> Answer {
    let Some(accept) = websocket::accept_handshake(request.headers()) else {
        let mut refusal =
            answer::script_refused(StatusCode::UPGRADE_REQUIRED, "this path is a WebSocket");
        let headers = refusal.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return refusal;
    };
    serve(hyper::upgrade::on(request));
    let mut accepted = Response::new(answer::empty());
    *accepted.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = accepted.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    accepted
}

/// Tells the time until the other side leaves or the app stops.
pub async fn tell_time(upgrade: OnUpgrade, clock: &Clock, stop: &CancellationToken) {
    let Ok(Ok(upgraded)) = timeout(UPGRADE_TIMEOUT, upgrade).await else {
        return;
    };
    let mut socket = TokioIo::new(upgraded);
    let code = tokio::select! {
        ended = talk(&mut socket, clock) => ended,
        () = stop.cancelled() => Ok(CloseCode::GoingAway),
    };
    // Whoever has left already needs no farewell.
    if let Ok(code) = code {
        let _ = write(&mut socket, &websocket::close(code)).await;
        let _ = timeout(WRITE_TIMEOUT, socket.shutdown()).await;
    }
}

/// Returns with what to say at the end, or an error if there is nobody left to say it to.
async fn talk(socket: &mut TokioIo<Upgraded>, clock: &Clock) -> io::Result<CloseCode> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut received = BytesMut::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => write(socket, &websocket::text(&clock.now().to_string())).await?,
            read = socket.read_buf(&mut received) => if read? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            },
        }
        loop {
            match websocket::take_frame(&mut received) {
                Ok(None) => break,
                Ok(Some(Received::Ignored)) => {}
                Ok(Some(Received::Ping(payload))) => {
                    write(socket, &websocket::pong(&payload)).await?;
                }
                Ok(Some(Received::Close)) => return Ok(CloseCode::Normal),
                Err(code) => return Ok(code),
            }
        }
    }
}

async fn write(socket: &mut TokioIo<Upgraded>, frame: &[u8]) -> io::Result<()> {
    timeout(WRITE_TIMEOUT, async {
        socket.write_all(frame).await?;
        socket.flush().await
    })
    .await?
}
