//! How an exchange of one request for one answer ends, in either version, and how long it may take.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use http::Response;
use tokio::time::{Instant, Sleep};

use super::error::ExchangeError;
use super::request_body::Upload;
use super::settings::Timeouts;
use super::stream::Activity;

/// How an exchange ended. `R` is what is left of a request that was never sent.
pub(super) enum Exchange<B, R> {
    Answered(Response<B>),
    /// Nothing of it was written.
    NeverSent(R, ExchangeError),
    /// Some of the request may have been written.
    Lost(ExchangeError),
    TimedOut,
}

/// Waits for an answer as long as the upstream is not late.
pub(super) async fn answer_within<B, R>(
    answer: impl Future<Output = Exchange<B, R>>,
    mut timer: Pin<&mut Sleep>,
    upload: Option<&Upload>,
    activity: &Activity,
    timeouts: &Timeouts,
) -> Exchange<B, R> {
    let timeout = timeouts.response;
    let mut answer = pin!(answer);
    timer.as_mut().reset(Instant::now() + timeout);
    poll_fn(|cx| {
        if let Poll::Ready(exchange) = answer.as_mut().poll(cx) {
            return Poll::Ready(exchange);
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
