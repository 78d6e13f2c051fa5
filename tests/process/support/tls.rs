//! Certificates, and clients that speak TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, ProtocolVersion,
    SignatureScheme, StreamOwned,
};

use super::PATIENCE;

/// Writes `NAME.pem` and `NAME.key` for these host names; gives the certificate.
pub fn write_certificate(folder: &Path, name: &str, hosts: &[&str]) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(hosts)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    write_private(&folder.join(format!("{name}.key")), &key.serialize_pem());
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    certificate.der().clone()
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A client that takes any certificate, and tells which one it was shown.
pub fn client(
    protocols: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    offering(unsure(versions).with_no_client_auth(), protocols)
}

fn unsure(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAny::default()))
}

fn offering(mut config: ClientConfig, protocols: &[&str]) -> Arc<ClientConfig> {
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Arc::new(config)
}

/// HTTP/1.1 over whichever version both sides like best.
pub fn http1() -> Arc<ClientConfig> {
    client(&["http/1.1"], rustls::ALL_VERSIONS)
}

/// Who issues certificates to clients.
pub struct ClientIssuer {
    issuer: CertifiedIssuer<'static, KeyPair>,
    last: Mutex<Option<CertificateDer<'static>>>,
}

impl ClientIssuer {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            last: Mutex::new(None),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The certificate that was issued last.
    pub fn last(&self) -> Option<CertificateDer<'static>> {
        self.last.lock().unwrap().clone()
    }

    /// A client that shows a certificate for that name.
    pub fn client(
        &self,
        name: &str,
        protocols: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        self.showing(&params, protocols, versions)
    }

    /// One whose certificate does not hold any more.
    pub fn expired_client(&self, name: &str) -> Arc<ClientConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.showing(&params, &["http/1.1"], rustls::ALL_VERSIONS)
    }

    fn showing(
        &self,
        params: &CertificateParams,
        protocols: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        *self.last.lock().unwrap() = Some(certificate.clone());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = unsure(versions).with_client_auth_cert(vec![certificate], key);
        offering(config.unwrap(), protocols)
    }
}

/// A TLS connection.
pub struct TlsConn {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl TlsConn {
    /// Connects and shakes hands; `host` is what it asks for, an address for nothing.
    pub fn open(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        Self::on(socket, host, config)
    }

    pub fn on(socket: TcpStream, host: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream })
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().unwrap()[0].clone()
    }

    pub fn version(&self) -> ProtocolVersion {
        self.stream.conn.protocol_version().unwrap()
    }

    pub fn protocol(&self) -> Option<&str> {
        let protocol = self.stream.conn.alpn_protocol()?;
        std::str::from_utf8(protocol).ok()
    }

    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The status of a GET, whose body is read too.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<u16> {
        let (head, _) = self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))?;
        Ok(head.split(' ').nth(1).unwrap().parse().unwrap())
    }

    /// Head and body of the answer, whose length has to be told.
    pub fn exchange(&mut self, request: &str) -> io::Result<(String, String)> {
        self.stream.write_all(request.as_bytes())?;
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            self.more(&mut read)?;
        };
        let head = String::from_utf8(read.drain(..end).collect()).unwrap();
        let length = super::header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        while read.len() < length {
            self.more(&mut read)?;
        }
        Ok((head, String::from_utf8(read).unwrap()))
    }

    fn more(&mut self, read: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                read.extend(&buffer[..count]);
                Ok(())
            }
        }
    }
}

/// A client of that kind, and what it is shown beside the certificate: an OCSP response, empty if there is none.
pub fn client_that_sees_ocsp() -> (Arc<ClientConfig>, Arc<Mutex<Vec<u8>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut config = ClientConfig::clone(&http1());
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(TakesAny(Arc::clone(&seen))));
    config.resumption = rustls::client::Resumption::disabled();
    (Arc::new(config), seen)
}

/// Tests compare certificates themselves. Holds the OCSP response that came last.
#[derive(Debug, Default)]
struct TakesAny(Arc<Mutex<Vec<u8>>>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = ocsp_response.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
