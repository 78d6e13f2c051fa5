//! One connection to an upstream server, and one exchange of messages on it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::request_body::{RequestBody, Upload};
use super::stream::{Activity, UpstreamStream};
use super::{UpstreamError, UpstreamSettings};

/// Twice what common servers emit at most; the same bound holds for trailers. hyper's own bound of 100 fields stays.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Bounds what one connection may read ahead of a slow client, or hold of a body for a slow upstream.
const MAX_BUFFER_BYTES: usize = 256 * 1024;

/// A connection with its task; both end when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    task: Option<JoinHandle<()>>,
    activity: Activity,
    /// Lives as long as the connection: moving a timer forward is much cheaper than registering one per request.
    timer: Pin<Box<Sleep>>,
}

/// How an exchange ended.
pub(super) enum Exchange {
    Answered(Response<Incoming>),
    /// The connection was dead before anything was written; here is the request again.
    NeverSent(Request<RequestBody>, hyper::Error),
    /// Some of the request may have been written.
    Lost(hyper::Error),
    TimedOut,
}

/// Connects and starts the task that drives the connection.
pub(super) async fn connect(settings: &UpstreamSettings) -> Result<Connection, UpstreamError> {
    let socket = match timeout(settings.connect_timeout, connect_tcp(settings)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(cause)) => {
            let upstream = Arc::clone(&settings.name);
            return Err(UpstreamError::Connect { upstream, cause });
        }
        Err(_) => {
            return Err(UpstreamError::ConnectTimeout {
                upstream: Arc::clone(&settings.name),
                after: settings.connect_timeout,
            });
        }
    };
    let activity = Activity::new();
    let io = TokioIo::new(UpstreamStream::new(socket, activity.clone()));
    let handshake = Builder::new()
        .max_buf_size(MAX_BUFFER_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .handshake(io);
    let (sender, driver) = match handshake.await {
        Ok(parts) => parts,
        Err(cause) => {
            let upstream = Arc::clone(&settings.name);
            return Err(UpstreamError::Closed { upstream, cause });
        }
    };
    let name = Arc::clone(&settings.name);
    let task = tokio::task::spawn_local(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(upstream = &*name, %error, "upstream connection ended with an error");
        }
    });
    Ok(Connection {
        sender,
        task: Some(task),
        activity,
        timer: Box::pin(sleep(settings.response_timeout)),
    })
}

async fn connect_tcp(settings: &UpstreamSettings) -> std::io::Result<TcpStream> {
    let host = settings.authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let socket = TcpStream::connect((host, settings.authority.port_u16().unwrap_or(80))).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl Connection {
    /// Sends the request and waits for the head of the answer.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        upload: Option<&Upload>,
        timeout: Duration,
    ) -> Exchange {
        self.activity.forget_bytes();
        let mut answer = pin!(self.sender.try_send_request(request));
        let (timer, activity) = (&mut self.timer, &self.activity);
        timer.as_mut().reset(Instant::now() + timeout);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(match answer {
                    Ok(answer) => Exchange::Answered(answer),
                    Err(mut failure) => match failure.take_message() {
                        Some(request) => Exchange::NeverSent(request, failure.into_error()),
                        None => Exchange::Lost(failure.into_error()),
                    },
                });
            }
            loop {
                ready!(timer.as_mut().poll(cx));
                let deadline = match upload {
                    Some(upload) => upload.last_progress(activity.last_write()) + timeout,
                    None => return Poll::Ready(Exchange::TimedOut),
                };
                if deadline <= Instant::now() {
                    return Poll::Ready(Exchange::TimedOut);
                }
                timer.as_mut().reset(deadline);
            }
        })
        .await
    }

    /// Whether a byte came since the exchange began.
    pub(super) fn has_seen_a_byte(&self) -> bool {
        self.activity.has_seen_a_byte()
    }

    /// Whether it can take a request now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Lets the task live on until it has given the socket to whoever holds the answer's `OnUpgrade`, which ends it.
    pub(super) fn leave_to_upgrade(mut self) {
        self.task = None;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
