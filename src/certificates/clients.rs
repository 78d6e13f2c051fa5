//! Certificates of clients: whom they are asked for, and who may have issued them.
//!
//! Which hosts ask is decided by the name in the handshake, so a request for such a host has to come on a connection that showed
//! a certificate, whatever host its handshake named; who looks after requests sees to that. Such connections are not resumed: what
//! was shown once would hold for as long as the keys of the tickets, whatever becomes of the file of issuers.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::files::{CertificateError, read};
use super::names::Names;

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// PEM: the certificates of those who issue them.
    pub issuers: PathBuf,
    /// Who shows none gets no connection.
    pub required: bool,
    pub hosts: ClientHosts,
}

/// Which hosts ask for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientHosts {
    All,
    These(Names),
}

impl ClientHosts {
    /// `host` stands without port; who names none is held to what holds for all.
    pub fn include(&self, host: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => host.is_some_and(|host| names.cover(host)),
        }
    }
}

impl ClientSettings {
    pub(super) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
        let unusable = |cause| CertificateError::Issuers {
            path: self.issuers.clone(),
            cause,
        };
        let (text, _) = read(&self.issuers)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate =
                certificate.map_err(|_| CertificateError::NoCertificate(self.issuers.clone()))?;
            roots
                .add(certificate)
                .map_err(|cause| unusable(Box::new(cause)))?;
        }
        if roots.is_empty() {
            return Err(CertificateError::NoCertificate(self.issuers.clone()));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let builder = match self.required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|cause| unusable(Box::new(cause)))
    }
}

/// How the application is told of a certificate (RFC 9440 section 2.1).
pub fn client_cert_header(certificate: &CertificateDer<'_>) -> Option<HeaderValue> {
    HeaderValue::try_from(format!(":{}:", STANDARD.encode(certificate))).ok()
}
