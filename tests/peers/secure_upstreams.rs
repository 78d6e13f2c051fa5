//! TLS towards servers: whose certificate is believed, for which name, and what is shown to those who ask.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::fronts::Make::{self, HaProxy};
use crate::fronts::{Expected, ServersTls, Work, usually, write_both};

cases! {
    one_that_proves_its_name_is_asked: portcullis, nginx, haproxy;
    one_that_cannot_prove_its_name_gets_nothing: portcullis, nginx, haproxy;
    one_that_asks_who_connects_is_told: portcullis, nginx, haproxy;
}

/// A server with a certificate, which remembers the name that each request came for.
struct Secure {
    address: SocketAddr,
    asked_for: Arc<Mutex<Vec<Option<String>>>>,
}

impl Secure {
    /// With `NAME.pem`; `clients` is the only client's certificate, if that is asked for.
    fn start(folder: &Path, name: &str, clients: Option<CertificateDer<'static>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(config(folder, name, clients));
        let asked_for: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let seen = Arc::clone(&asked_for);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, seen) = (Arc::clone(&config), Arc::clone(&seen));
                thread::spawn(move || serve(stream, config, &seen));
            }
        });
        Self { address, asked_for }
    }
}

fn config(folder: &Path, name: &str, clients: Option<CertificateDer<'static>>) -> ServerConfig {
    let file =
        |ending: &str| BufReader::new(File::open(folder.join(format!("{name}.{ending}"))).unwrap());
    let chain = CertificateDer::pem_reader_iter(file("pem"));
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_reader(file("key")).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let mut roots = RootCertStore::empty();
            roots.add(client).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    builder.with_single_cert(chain, key).unwrap()
}

/// One request, unless there is no connection.
fn serve(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    seen: &Mutex<Vec<Option<String>>>,
) -> Option<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while !read.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        read.extend(&buffer[..count]);
    }
    let name = stream.conn.server_name().map(str::to_owned);
    seen.lock().unwrap().push(name);
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")
        .ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

const NAME: &str = "app.internal";

fn trusting(work: Work, server: &Secure, ca: &'static str) -> Work {
    Work {
        servers: vec![server.address.to_string()],
        servers_tls: Some(ServersTls {
            name: NAME,
            ca,
            shows: None,
        }),
        ..work
    }
}

fn refused() -> Expected<u16> {
    usually(502).but(HaProxy, 503, "a server that it cannot connect to is none")
}

fn one_that_proves_its_name_is_asked(make: Make) {
    let work = Work::to_servers(&[]);
    let folder = work.home.path("");
    write_both(&folder, "app", &[NAME]);
    let server = Secure::start(&folder, "app", None);
    let front = trusting(work, &server, "app.pem").start(make);
    assert_eq!(front.get("/").text(), "hi");
    let asked_for = server.asked_for.lock().unwrap().clone();
    assert_eq!(asked_for, [Some(NAME.to_owned())]);
}

fn one_that_cannot_prove_its_name_gets_nothing(make: Make) {
    for (hosts, ca) in [(&[NAME][..], "other.pem"), (&["other.internal"], "app.pem")] {
        let work = Work::to_servers(&[]);
        let folder = work.home.path("");
        write_both(&folder, "app", hosts);
        write_both(&folder, "other", &[NAME]);
        let server = Secure::start(&folder, "app", None);
        let front = trusting(work, &server, ca).start(make);
        refused().assert(make, &front.get("/").status, ca);
        assert!(server.asked_for.lock().unwrap().is_empty());
    }
}

fn one_that_asks_who_connects_is_told(make: Make) {
    for (shows, is_asked) in [(Some("client"), true), (None, false), (Some("app"), false)] {
        let work = Work::to_servers(&[]);
        let folder = work.home.path("");
        write_both(&folder, "app", &[NAME]);
        let client = write_both(&folder, "client", &["front.internal"]);
        let server = Secure::start(&folder, "app", Some(client));
        let mut work = trusting(work, &server, "app.pem");
        work.servers_tls.as_mut().unwrap().shows = shows;
        let front = work.start(make);
        let status = front.get("/").status;
        match is_asked {
            true => assert_eq!(status, 200),
            false => assert!([502, 503, 504].contains(&status), "{status}"),
        }
        assert_eq!(!server.asked_for.lock().unwrap().is_empty(), is_asked);
    }
}
