//! What is known of a connection, and its last call.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use super::super::ClientAddr;
use super::super::forward_auth::Asker;
use super::activity::Activity;
use crate::certificates::{Certificate, ClientHosts};

/// What is known of a connection before its first request, and what runs on it.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Where it comes from: the other end, or whom a balancer that is believed speaks for.
    pub client: ClientAddr,
    /// The gateway itself speaks TLS on it.
    pub secure: bool,
    /// Which hosts it is for, if the client asked for one in its handshake.
    pub asked_for: Option<AskedFor>,
    /// The certificate that the client has shown and that holds, as the application is told of it.
    pub certificate: Option<Box<HeaderValue>>,
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

    /// Whether a request for this host may come on the connection only if a certificate was shown on it, and none was. The
    /// handshake may have named another host, or none, and there may be listeners without TLS.
    pub fn lacks_certificate(&self, host: &HeaderValue, required: &ClientHosts) -> bool {
        self.purpose == Purpose::Proxy
            && self.certificate.is_none()
            && required.include(Some(without_port(host)))
    }
}

fn without_port(host: &HeaderValue) -> &str {
    let host = host.to_str().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

/// The end, and a moment for requests that are on their way already.
pub(super) async fn last_call(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_CALL).await;
}

/// Longer than the first bytes of an accepted connection take within a data centre.
pub(super) const LAST_CALL: Duration = Duration::from_millis(100);
