//! Where the gateway listens, and what it speaks there.

use std::net::SocketAddr;

use portcullis::config::{ListenAddress, ListenMode, ProxyPeer};

use crate::{parse, with_upstream};

const TLS: &str =
    "[server.tls]\ncertificate = [\"a.pem\", \"b.pem\"]\nkey = [\"a.key\", \"/b.key\"]\n";

#[test]
fn addresses_of_all_kinds_are_plain_without_a_certificate() {
    let config = parse(&with_upstream(
        "[server]\nlisten = [\"127.0.0.1:80\", \"unix:run/p.sock\", \"systemd:2\"]",
    ))
    .unwrap();
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let addresses: Vec<_> = config
        .server
        .listeners
        .iter()
        .map(|listener| &listener.address)
        .collect();
    assert_eq!(
        addresses,
        [
            &ListenAddress::Tcp(address),
            &ListenAddress::Unix("/etc/portcullis/run/p.sock".into()),
            &ListenAddress::Inherited(2),
        ]
    );
    for listener in &config.server.listeners {
        assert_eq!((listener.mode, listener.http2), (ListenMode::Plain, false));
        assert_eq!(listener.socket_mode, 0o660);
    }
    assert!(config.server.tls.is_none());
}

#[test]
fn a_certificate_makes_listeners_speak_tls() {
    let listeners = "[server]\nlisten = \"[::]:443\"\npublic_url = \"https://g.test\"\n\
        [[server.listener]]\naddress = \"[::]:80\"\nmode = \"redirect\"\n\
        [[server.listener]]\naddress = \"unix:p.sock\"\nmode = \"plain\"\nhttp2 = true\nsocket_mode = \"0600\"\n\
        proxy_protocol = [\"10.0.0.0/8\", \"::1\", \"unix\"]\n";
    let config = parse(&with_upstream(&format!("{listeners}{TLS}"))).unwrap();
    let [tls, redirect, plain] = &config.server.listeners[..] else {
        panic!("{:?}", config.server.listeners);
    };
    assert_eq!((tls.mode, tls.http2), (ListenMode::Tls, true));
    assert_eq!(
        (redirect.mode, redirect.http2),
        (ListenMode::Redirect, false)
    );
    assert_eq!((plain.mode, plain.http2), (ListenMode::Plain, true));
    assert_eq!(plain.socket_mode, 0o600);
    let peers = ["10.0.0.0/8", "::1/128"].map(|net| ProxyPeer::Network(net.parse().unwrap()));
    assert_eq!(
        plain.proxy_protocol,
        [&peers[..], &[ProxyPeer::Unix]].concat()
    );
    let certificates = config.server.tls.unwrap().certificates;
    assert!(certificates.allow_tls12);
    assert_eq!(
        certificates.default.key,
        std::path::Path::new("/etc/portcullis/a.key")
    );
    assert_eq!(certificates.by_name.len(), 1);
    assert_eq!(certificates.by_name[0].key, std::path::Path::new("/b.key"));
}

#[test]
fn a_listener_takes_the_place_of_the_usual_address() {
    let listener =
        "[server]\npublic_url = \"https://g.test\"\n[[server.listener]]\naddress = \"[::1]:443\"\n";
    let config = parse(&with_upstream(&format!("{listener}{TLS}"))).unwrap();
    assert_eq!(config.server.listeners.len(), 1);
    assert_eq!(config.server.listeners[0].mode, ListenMode::Tls);
}
