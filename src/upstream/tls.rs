//! TLS to upstreams: whom we trust, and who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio_rustls::TlsConnector;

use super::settings::{HttpVersion, TlsIdentity, TlsSettings};

/// Connects to the servers of one upstream.
#[derive(Clone)]
pub(super) struct Tls {
    /// Offers what the operator lets us speak.
    pub as_set: TlsConnector,
    /// Offers HTTP/1.1 alone.
    pub http1: TlsConnector,
}

/// Why an upstream's TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsSetupError {
    #[error("cannot read certificates from {}: check that it is a readable PEM file", path.display())]
    Certificates {
        path: PathBuf,
        #[source]
        cause: pem::Error,
    },
    #[error("{} has no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("cannot use a certificate of {} as a root", path.display())]
    Root {
        path: PathBuf,
        #[source]
        cause: rustls::Error,
    },
    #[error(
        "this machine has no root certificates: install them (on Debian ca-certificates), or name those of the upstream in tls_ca_file"
    )]
    NoRoots,
    #[error("cannot read a private key from {}: check that it is a readable PEM file", path.display())]
    Key {
        path: PathBuf,
        #[source]
        cause: pem::Error,
    },
    #[error("certificate and key of {} do not go together, or cannot be used", path.display())]
    Identity {
        path: PathBuf,
        #[source]
        cause: rustls::Error,
    },
    #[error("no certificate can be for {name:?}: give a host name in tls_server_name")]
    ServerName { name: String },
    #[error("the TLS library refuses its own protocol versions")]
    Versions(#[source] rustls::Error),
}

impl Tls {
    /// Reads the files that are named.
    pub(super) fn load(settings: &TlsSettings, http: HttpVersion) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsSetupError::Versions)?
            .with_root_certificates(roots(settings.ca_file.as_deref())?);
        let config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some(TlsIdentity { certificate, key }) => {
                let chain = certificates(certificate)?;
                let key =
                    PrivateKeyDer::from_pem_file(key).map_err(|cause| TlsSetupError::Key {
                        path: key.clone(),
                        cause,
                    })?;
                builder.with_client_auth_cert(chain, key).map_err(|cause| {
                    let path = certificate.clone();
                    TlsSetupError::Identity { path, cause }
                })?
            }
        };
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            as_set: match http {
                HttpVersion::Http1 => offering(&[HTTP_1]),
                HttpVersion::Http2 => offering(&[HTTP_2]),
                HttpVersion::Auto => offering(&[HTTP_2, HTTP_1]),
            },
            http1: offering(&[HTTP_1]),
        })
    }
}

/// ALPN protocol names (RFC 7301 section 6, RFC 9113 section 3.1).
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

fn roots(file: Option<&Path>) -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = file else {
        // One that cannot be read or used is not trusted, and no more.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() {
            Err(TlsSetupError::NoRoots)
        } else {
            Ok(roots)
        };
    };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|cause| {
            let path = path.to_owned();
            TlsSetupError::Root { path, cause }
        })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let unreadable = |cause| TlsSetupError::Certificates {
        path: path.to_owned(),
        cause,
    };
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        certificates.push(certificate.map_err(unreadable)?);
    }
    if certificates.is_empty() {
        let path = path.to_owned();
        return Err(TlsSetupError::NoCertificate { path });
    }
    Ok(certificates)
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}
