//! The work as Portcullis is told it.

use std::fmt::Write;
use std::net::SocketAddr;

use super::{Listener, Work, ms};

pub fn written(work: &Work, addresses: &[SocketAddr]) -> String {
    [
        server(work),
        listeners(work, addresses),
        tls(work),
        limits(work),
        "[admin]\nlisten = \"127.0.0.1:0\"\n[telemetry]\naccess_log = false\n".to_owned(),
        upstream(work),
        rules(work),
    ]
    .concat()
}

fn server(work: &Work) -> String {
    let mut text = String::from("[server]\nworkers = 2\n");
    let is_secure = |listener| matches!(listener, &Listener::Tls | &Listener::Redirect);
    if work.listeners.iter().any(is_secure) {
        text.push_str("public_url = \"https://g.test\"\n");
    }
    if !work.trusted_proxies.is_empty() {
        writeln!(text, "trusted_proxies = {:?}", work.trusted_proxies).unwrap();
    }
    text
}

fn listeners(work: &Work, addresses: &[SocketAddr]) -> String {
    let mut text = String::new();
    for (listener, address) in work.listeners.iter().zip(addresses) {
        let (address, more) = match listener {
            Listener::Plain => (address.to_string(), "mode = \"plain\""),
            Listener::Http2 => (address.to_string(), "mode = \"plain\"\nhttp2 = true"),
            Listener::Tls => (address.to_string(), "mode = \"tls\""),
            Listener::Redirect => (address.to_string(), "mode = \"redirect\""),
            Listener::Balanced => (
                address.to_string(),
                "mode = \"plain\"\nproxy_protocol = [\"127.0.0.0/8\"]",
            ),
            Listener::File => ("unix:front.sock".to_owned(), "mode = \"plain\""),
        };
        writeln!(text, "[[server.listener]]\naddress = \"{address}\"\n{more}").unwrap();
    }
    text
}

fn tls(work: &Work) -> String {
    if work.certificates.is_empty() {
        return String::new();
    }
    let files = |ending: &str| -> Vec<String> {
        let names = work.certificates.iter().map(|certificate| certificate.name);
        names.map(|name| format!("{name}.{ending}")).collect()
    };
    let mut text = format!(
        "[server.tls]\ncertificate = {:?}\nkey = {:?}\n",
        files("pem"),
        files("key")
    );
    if work
        .certificates
        .iter()
        .any(|certificate| certificate.has_ocsp)
    {
        let ocsp: Vec<String> = work
            .certificates
            .iter()
            .map(|certificate| match certificate.has_ocsp {
                true => format!("{}.ocsp", certificate.name),
                false => String::new(),
            })
            .collect();
        writeln!(text, "ocsp = {ocsp:?}").unwrap();
    }
    if work.asks_clients {
        text.push_str("client_ca = \"clients.pem\"\n");
    }
    if work.minimum_tls_13 {
        text.push_str("minimum_version = \"1.3\"\n");
    }
    text
}

fn limits(work: &Work) -> String {
    let mut text = format!(
        "[server.limits]\nheader_bytes = {0}\nhead_timeout = \"{1}\"\nhandshake_timeout = \"{1}\"\nwebsocket_idle = \"{5}\"\nbody_timeout = \"{2}\"\nkeep_alive_timeout = \"{3}\"\n\
         write_timeout = \"{4}\"\n",
        work.head_bytes,
        ms(work.head_timeout),
        ms(work.body_timeout),
        ms(work.keep_alive_timeout),
        ms(work.write_timeout),
        ms(work.tunnel_idle)
    );
    for (key, value) in [
        ("body_bytes", work.body_bytes),
        ("connections_per_address", work.connections_per_address),
        ("logins_per_second", work.logins_per_second),
    ] {
        if let Some(value) = value {
            writeln!(text, "{key} = {value}").unwrap();
        }
    }
    text
}

fn upstream(work: &Work) -> String {
    let scheme = match work.servers_tls {
        Some(_) => "https://",
        None => "http://",
    };
    let url = |server: &String| match server.starts_with("unix:") {
        true => server.clone(),
        false => format!("{scheme}{server}"),
    };
    let servers: Vec<String> = work.servers.iter().map(url).collect();
    let mut text = format!(
        "[[upstream]]\nname = \"app\"\nservers = {servers:?}\nconnect_timeout = \"{}\"\nresponse_timeout = \"{}\"\n\
         stall_timeout = \"{}\"\n",
        ms(work.connect_timeout),
        ms(work.response_timeout),
        ms(work.stall_timeout)
    );
    if work.servers_http2 {
        text.push_str("http = \"2\"\n");
    }
    if let Some(tls) = &work.servers_tls {
        writeln!(
            text,
            "tls_ca_file = \"{}\"\ntls_server_name = \"{}\"",
            tls.ca, tls.name
        )
        .unwrap();
        if let Some(name) = tls.shows {
            writeln!(
                text,
                "tls_certificate = \"{name}.pem\"\ntls_key = \"{name}.key\""
            )
            .unwrap();
        }
    }
    if let Some(most) = work.connections_per_server {
        // Of each of two workers.
        writeln!(text, "connections = {}", most / 2).unwrap();
    }
    if work.asks_health {
        text.push_str("health_path = \"/healthz\"\nhealth_interval = \"50ms\"\n");
    }
    text
}

fn rules(work: &Work) -> String {
    let mut text =
        String::from("[[route]]\npath = \"/**\"\nauth = \"none\"\nexpose_everything = true\n");
    if work.logins_per_second.is_some() {
        text.push_str("[[login]]\npath = \"/login\"\n");
    }
    for rule in &work.rules {
        let path = rule.path;
        writeln!(text, "[[route]]\npath = \"{path}/**\"\nauth = \"none\"").unwrap();
        if rule.is_stripped {
            writeln!(text, "strip_prefix = \"{path}\"\nexpose_subpaths = true").unwrap();
        }
        if let Some(host) = rule.host {
            writeln!(text, "host = \"{host}\"").unwrap();
        }
    }
    text
}
