//! A certificate and its key, from two PEM files.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use super::names::Names;
use crate::file_stamp::FileStamp;

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate first, then those that lead to its issuer.
    pub certificate: PathBuf,
    /// PEM: PKCS #8, SEC 1 or PKCS #1, not encrypted, closed to others.
    pub key: PathBuf,
    /// DER: what its issuer says of it, to be shown beside it (RFC 6066 section 8).
    pub ocsp: Option<PathBuf>,
}

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} is larger than any certificate or key", .0.display())]
    TooLarge(PathBuf),
    #[error("private key file {} can be read by others (mode {mode:04o}): chmod 600 it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds no private key in PEM form that is not encrypted", .0.display())]
    NoKey(PathBuf),
    #[error("the certificate in {} cannot be read", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        cause: webpki::Error,
    },
    #[error("the private key in {} is of no kind that is supported", path.display())]
    UnusableKey {
        path: PathBuf,
        #[source]
        cause: rustls::Error,
    },
    #[error("{} is not the private key of the certificate in {}", files.key.display(), files.certificate.display())]
    OtherKey { files: CertificateFiles },
    #[error("{} is no OCSP response in DER form", .0.display())]
    NoOcspResponse(PathBuf),
    #[error("the certificates in {} cannot be those of issuers", path.display())]
    Issuers {
        path: PathBuf,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// A certificate that can be shown, and the names that it is for.
#[derive(Debug)]
pub struct Certificate {
    pub(super) key: std::sync::Arc<CertifiedKey>,
    pub(super) names: Names,
}

impl CertificateFiles {
    pub(super) fn load(&self) -> Result<Certificate, CertificateError> {
        let chain = self.chain()?;
        let key = self.key()?;
        let first = webpki::EndEntityCert::try_from(&chain[0]).map_err(|cause| {
            let path = self.certificate.clone();
            CertificateError::Malformed { path, cause }
        })?;
        let names = Names::new(first.valid_dns_names());
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        let mut certified = certified.map_err(|cause| match cause {
            rustls::Error::InconsistentKeys(_) => CertificateError::OtherKey {
                files: self.clone(),
            },
            cause => CertificateError::UnusableKey {
                path: self.key.clone(),
                cause,
            },
        })?;
        certified.ocsp = self.ocsp_response()?;
        Ok(Certificate {
            key: certified.into(),
            names,
        })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let (text, _) = read(&self.certificate)?;
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            _ => Err(CertificateError::NoCertificate(self.certificate.clone())),
        }
    }

    /// The bytes of the file and of the key are wiped; what signs lives in aws-lc, which wipes its own.
    fn key(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let (text, metadata) = read(&self.key)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(CertificateError::Exposed {
                path: self.key.clone(),
                mode,
            });
        }
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| CertificateError::NoKey(self.key.clone()))
    }

    /// Sent as it is: whoever looks at the certificate judges it.
    fn ocsp_response(&self) -> Result<Option<Vec<u8>>, CertificateError> {
        let Some(path) = &self.ocsp else {
            return Ok(None);
        };
        let (bytes, _) = read(path)?;
        match bytes.first() {
            Some(&SEQUENCE) => Ok(Some(bytes.to_vec())),
            _ => Err(CertificateError::NoOcspResponse(path.clone())),
        }
    }

    pub(super) fn stamps(&self) -> Stamps {
        let ocsp = self.ocsp.as_deref().and_then(FileStamp::of);
        [
            FileStamp::of(&self.certificate),
            FileStamp::of(&self.key),
            ocsp,
        ]
    }
}

/// Of the files of one certificate.
pub(super) type Stamps = [Option<FileStamp>; 3];

/// How every structure of several parts begins in DER (ITU-T X.690).
const SEQUENCE: u8 = 0x30;

/// Content and metadata of the same file, whatever takes its place meanwhile.
pub(super) fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), CertificateError> {
    let unreadable = |cause| CertificateError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    // In one piece from the beginning: what a buffer grows out of is not wiped.
    let mut content = Zeroizing::new(vec![0; MAX_BYTES + 1]);
    let mut length = 0;
    while length < content.len() {
        match (&file).read(&mut content[length..]).map_err(unreadable)? {
            0 => break,
            count => length += count,
        }
    }
    if length > MAX_BYTES {
        return Err(CertificateError::TooLarge(path.to_owned()));
    }
    content[length..].zeroize();
    content.truncate(length);
    Ok((content, metadata))
}

/// Chains with a dozen certificates are below a tenth of it.
const MAX_BYTES: usize = 256 * 1024;
