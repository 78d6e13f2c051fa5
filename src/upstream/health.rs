//! Asking servers whether they are well. One task per server asks, for all workers; what it finds is read through an atomic.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::balance::Dice;
use super::servers::{Known, Server};
use super::settings::{HealthSettings, HttpVersion};
use super::transport::{OpenError, open};
use crate::causes::Causes;
use crate::secret::random_bytes;

/// Asks one server for ever.
pub(super) async fn watch(known: Arc<Known>, at: usize, settings: HealthSettings) {
    let (server, upstream) = (&known.servers[at], &*known.settings.name);
    let mut verdict = Verdict::default();
    // Not all servers at once.
    let dice = Dice::new(random_bytes());
    let part = f64::from(u32::try_from(dice.roll() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    let mut pause = settings.interval.min(FIRST).mul_f64(part);
    loop {
        sleep(pause).await;
        pause = settings.interval;
        let asked = ask(server, known.settings.http, &settings);
        let answer = timeout(settings.timeout, asked).await;
        let answer = answer.unwrap_or(Err(CheckError::TooLate(settings.timeout)));
        let passes = server.standing.passes_checks();
        let next = verdict.after(answer.is_ok(), passes, &settings);
        if next == passes {
            continue;
        }
        server.standing.set_passes_checks(next);
        match answer {
            Ok(()) => info!(
                upstream,
                server = &*server.label,
                "a server of an upstream passes its health checks"
            ),
            Err(error) => warn!(
                upstream, server = &*server.label, error = %Causes(&error),
                "a server of an upstream fails its health checks and gets no requests"
            ),
        }
    }
}

/// For how long at most a server is not asked after the start.
const FIRST: Duration = Duration::from_secs(1);

/// How many answers in a row said the opposite of what holds.
#[derive(Debug, Default)]
struct Verdict(u32);

impl Verdict {
    /// Whether the server passes after this answer, if it `passes` before.
    fn after(&mut self, is_good: bool, passes: bool, settings: &HealthSettings) -> bool {
        if is_good == passes {
            self.0 = 0;
            return passes;
        }
        self.0 += 1;
        let needed = if is_good {
            settings.rise
        } else {
            settings.fall
        };
        if self.0 < needed {
            return passes;
        }
        self.0 = 0;
        is_good
    }
}

/// Why a check failed.
#[derive(Debug, Error)]
enum CheckError {
    #[error("no answer within {0:?}")]
    TooLate(Duration),
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("no TLS")]
    Tls(#[source] std::io::Error),
    #[error("it does not speak HTTP/2")]
    NoHttp2,
    #[error("no answer")]
    Http(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl From<OpenError> for CheckError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Connect(cause) => Self::Connect(cause),
            OpenError::Tls(cause) => Self::Tls(cause),
            OpenError::NoHttp2 => Self::NoHttp2,
            OpenError::TimedOut => Self::Connect(std::io::ErrorKind::TimedOut.into()),
        }
    }
}

/// One check, on a connection of its own: whether a server takes connections is part of the question.
async fn ask(
    server: &Server,
    http: HttpVersion,
    settings: &HealthSettings,
) -> Result<(), CheckError> {
    let opened = open(server, http, settings.timeout).await?;
    let io = TokioIo::new(opened.transport);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from(settings.path.clone());
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static("portcullis-health"));
    let status = if opened.http2 {
        let authority = server.host.to_str().unwrap_or("localhost");
        let uri = Uri::builder()
            .scheme(server.scheme())
            .authority(authority)
            .path_and_query(settings.path.clone());
        *request.uri_mut() = uri.build().unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        with_connection(connection, async { sender.send_request(request).await }).await?
    } else {
        let headers = request.headers_mut();
        headers.insert(HOST, server.host.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let (mut sender, connection) = http1::handshake(io).await?;
        with_connection(connection, async { sender.send_request(request).await }).await?
    }
    .status();
    let is_good = match settings.status {
        Some(expected) => status.as_u16() == expected,
        None => status.is_success(),
    };
    if is_good {
        Ok(())
    } else {
        Err(CheckError::Status(status))
    }
}

/// Drives the connection until there is an answer, and no further.
async fn with_connection<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<T>>,
) -> hyper::Result<T> {
    let driven = async {
        match connection.await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        error = driven => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Verdict;
    use crate::upstream::HealthSettings;

    #[test]
    fn it_takes_several_in_a_row_to_change_a_verdict() {
        let settings = HealthSettings {
            path: "/".parse().unwrap(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            status: None,
        };
        let mut verdict = Verdict::default();
        let mut passes = true;
        let answers = "--+--- -+-++ ---";
        let expected = "+++++- ----+ ++-";
        for (answer, expected) in answers.chars().zip(expected.chars()) {
            if answer == ' ' {
                continue;
            }
            passes = verdict.after(answer == '+', passes, &settings);
            assert_eq!(passes, expected == '+', "{answers} at {answer}");
        }
    }
}
