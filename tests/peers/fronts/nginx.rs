//! The work as nginx is told it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;

use super::{Certificate, Listener, Work, ms};
use crate::support::Home;

pub fn command(home: &Home) -> Command {
    let mut command = Command::new("/usr/sbin/nginx");
    command
        .arg("-p")
        .arg(home.path(""))
        .arg("-c")
        .arg(home.path("nginx.conf"))
        .args(["-g", "daemon off;"])
        .current_dir(home.path(""));
    command
}

pub fn written(work: &Work, addresses: &[SocketAddr]) -> String {
    let mut text = format!(
        "user root;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr warn;\nevents {{ worker_connections 1024; }}\n\
         http {{\naccess_log off;\n\
         client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         map $http_upgrade $asks {{ default upgrade; '' ''; }}\n{}{}",
        limits(work),
        upstream(work)
    );
    for (listener, address) in work.listeners.iter().zip(addresses) {
        text.push_str(&servers(work, *listener, *address));
    }
    text.push_str("}\n");
    text
}

fn limits(work: &Work) -> String {
    let mut text = format!(
        "large_client_header_buffers 4 {};\nclient_max_body_size {};\nclient_header_timeout {};\nclient_body_timeout {};\n\
         keepalive_timeout {};\nsend_timeout {};\nlingering_timeout 1s;\n",
        work.head_bytes,
        work.body_bytes.unwrap_or(0),
        ms(work.head_timeout),
        ms(work.body_timeout),
        ms(work.keep_alive_timeout),
        ms(work.write_timeout)
    );
    if work.connections_per_address.is_some() {
        text.push_str("limit_conn_zone $binary_remote_addr zone=clients:1m;\n");
    }
    if let Some(rate) = work.logins_per_second {
        writeln!(
            text,
            "limit_req_zone $binary_remote_addr zone=logins:1m rate={rate}r/s;\nlimit_req_status 429;"
        )
        .unwrap();
    }
    for network in &work.trusted_proxies {
        writeln!(text, "set_real_ip_from {network};").unwrap();
    }
    if !work.trusted_proxies.is_empty() {
        text.push_str("real_ip_header X-Forwarded-For;\nreal_ip_recursive on;\n");
    }
    text
}

fn upstream(work: &Work) -> String {
    let mut text = String::from("upstream app {\nleast_conn;\n");
    for server in &work.servers {
        writeln!(text, "server {server};").unwrap();
    }
    text.push_str("keepalive 16;\n}\n");
    text
}

/// TLS needs one for each certificate.
fn servers(work: &Work, listener: Listener, address: SocketAddr) -> String {
    let listen = match listener {
        Listener::Plain | Listener::Redirect => format!("{address} reuseport"),
        Listener::Http2 => format!("{address} reuseport http2"),
        Listener::Balanced => format!("{address} reuseport proxy_protocol"),
        Listener::File => "unix:front.sock".to_owned(),
        Listener::Tls => {
            let mut certificates = work.certificates.iter();
            let first = certificates.next().unwrap();
            let listen = format!("{address} ssl http2");
            let of = |certificate, listen: &str| {
                server(listen, &tls(work, certificate), &locations(work))
            };
            let first = of(first, &format!("{listen} reuseport default_server"));
            let others: String = certificates
                .map(|certificate| of(certificate, &listen))
                .collect();
            return first + &others;
        }
    };
    let (more, locations) = match listener {
        Listener::Redirect => ("return 308 https://g.test$request_uri;\n", String::new()),
        Listener::Balanced => (
            "set_real_ip_from 127.0.0.0/8;\nreal_ip_header proxy_protocol;\n",
            locations(work),
        ),
        _ => ("", locations(work)),
    };
    server(&listen, more, &locations)
}

fn server(listen: &str, more: &str, locations: &str) -> String {
    format!("server {{\nlisten {listen};\n{more}{locations}}}\n")
}

fn tls(work: &Work, certificate: &Certificate) -> String {
    let name = certificate.name;
    let versions = match work.minimum_tls_13 {
        true => "TLSv1.3",
        false => "TLSv1.2 TLSv1.3",
    };
    let mut text = format!(
        "server_name {};\nssl_certificate {name}.pem;\nssl_certificate_key {name}.key;\nssl_protocols {versions};\n\
         ssl_session_cache shared:tls:1m;\n",
        certificate.hosts.join(" ")
    );
    if certificate.has_ocsp {
        writeln!(text, "ssl_stapling on;\nssl_stapling_file {name}.ocsp;").unwrap();
    }
    if work.asks_clients {
        text.push_str("ssl_client_certificate clients.pem;\nssl_verify_client on;\n");
    }
    text
}

fn locations(work: &Work) -> String {
    let mut text = location("/", "", "$http_host", work);
    for rule in &work.rules {
        let uri = match rule.is_stripped {
            true => "/",
            false => "",
        };
        let path = format!("{}/", rule.path);
        let path = match rule.is_stripped {
            true => path,
            false => rule.path.to_owned(),
        };
        text.push_str(&location(
            &path,
            uri,
            rule.host.unwrap_or("$http_host"),
            work,
        ));
    }
    if let Some(rate) = work.logins_per_second {
        let burst = rate * 10 - 1;
        let limited = format!("limit_req zone=logins burst={burst} nodelay;\n");
        let login = location("= /login", "", "$http_host", work);
        text.push_str(&login.replacen("{\n", &format!("{{\n{limited}"), 1));
    }
    text
}

fn location(path: &str, uri: &str, host: &str, work: &Work) -> String {
    let scheme = match work.servers_tls {
        Some(_) => "https",
        None => "http",
    };
    let mut text = format!(
        "location {path} {{\nproxy_pass {scheme}://app{uri};\nproxy_http_version 1.1;\nproxy_buffering off;\nproxy_request_buffering off;\n\
         proxy_set_header Host {host};\nproxy_set_header Connection $asks;\nproxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header X-Forwarded-For $remote_addr;\nproxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_connect_timeout {};\nproxy_read_timeout {};\n",
        ms(work.connect_timeout),
        ms(work.response_timeout.min(work.tunnel_idle))
    );
    if let Some(limit) = work.connections_per_address {
        writeln!(text, "limit_conn clients {limit};").unwrap();
    }
    if let Some(tls) = &work.servers_tls {
        writeln!(
            text,
            "proxy_ssl_verify on;\nproxy_ssl_trusted_certificate {};\nproxy_ssl_name {};\nproxy_ssl_server_name on;",
            tls.ca, tls.name
        )
        .unwrap();
        if let Some(name) = tls.shows {
            writeln!(
                text,
                "proxy_ssl_certificate {name}.pem;\nproxy_ssl_certificate_key {name}.key;"
            )
            .unwrap();
        }
    }
    text.push_str("}\n");
    text
}
