//! Asks a running gateway how it is: what `portcullis health` does, so that a container without a shell can be checked.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::uri::{InvalidUri, Scheme};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why a gateway is not called healthy.
#[derive(Debug, Error)]
pub enum HealthError {
    #[error("{url:?} is no URL; write one such as \"http://127.0.0.1:9901/readyz\"")]
    InvalidUrl {
        url: String,
        #[source]
        source: InvalidUri,
    },
    #[error("{url:?} cannot be asked; write an http:// URL with a host")]
    UnsupportedUrl { url: String },
    #[error(
        "cannot connect to {authority}; is the gateway running, and is this its admin address?"
    )]
    Connect {
        authority: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{authority} did not answer as an HTTP server does")]
    Protocol {
        authority: String,
        #[source]
        source: hyper::Error,
    },
    #[error("no answer within {}", humantime::format_duration(*limit))]
    Timeout { limit: Duration },
    #[error("the answer was {status}: {detail}")]
    NotOk { status: StatusCode, detail: String },
}

/// Succeeds if a GET of `url` is answered with 200 within `limit`.
pub async fn check(url: &str, limit: Duration) -> Result<(), HealthError> {
    timeout(limit, get(url))
        .await
        .unwrap_or(Err(HealthError::Timeout { limit }))
}

async fn get(url: &str) -> Result<(), HealthError> {
    let target = Target::parse(url)?;
    let authority = || target.authority.clone();
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|source| HealthError::Connect {
            authority: authority(),
            source,
        })?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| HealthError::Protocol {
                authority: authority(),
                source,
            })?;
    let exchange = async {
        let answer = sender.send_request(target.request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_DETAIL_BYTES).collect();
        let detail = body.await.map(http_body_util::Collected::to_bytes);
        drop(sender);
        Ok((status, detail.unwrap_or_default()))
    };
    // The connection's own error reaches the exchange, too.
    let (answer, _) = tokio::join!(exchange, connection);
    let (status, detail) = answer.map_err(|source| HealthError::Protocol {
        authority: target.authority,
        source,
    })?;
    if status == StatusCode::OK {
        return Ok(());
    }
    let detail = String::from_utf8_lossy(&detail)
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    Err(HealthError::NotOk { status, detail })
}

struct Target {
    authority: String,
    host: String,
    port: u16,
    request: Request<Empty<Bytes>>,
}

impl Target {
    fn parse(url: &str) -> Result<Self, HealthError> {
        let uri: Uri = url.parse().map_err(|source| HealthError::InvalidUrl {
            url: url.to_owned(),
            source,
        })?;
        let unsupported = || HealthError::UnsupportedUrl {
            url: url.to_owned(),
        };
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(unsupported());
        }
        let authority = uri.authority().ok_or_else(unsupported)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(HOST, authority.as_str())
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|_| unsupported())?;
        Ok(Self {
            authority: authority.to_string(),
            host: authority
                .host()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: authority.port_u16().unwrap_or(80),
            request,
        })
    }
}

const MAX_DETAIL_BYTES: usize = 4096;
