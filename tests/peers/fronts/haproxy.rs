//! The work as HAProxy is told it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::{Listener, Work, ms, signal};
use crate::support::peers::Proxy;
use crate::support::{Home, eventually, within};

/// With a master, which is what can be told to take another configuration.
pub fn command(home: &Home) -> Command {
    let mut command = Command::new("/usr/sbin/haproxy");
    command
        .args(["-W", "-db", "-f"])
        .arg(home.path("haproxy.cfg"))
        .current_dir(home.path(""));
    command
}

/// Its master hears no signal until it has begun to wait for some, which it does not tell; so it is told until it says `heard`.
pub fn tell(proxy: &Proxy, heard: &str, name: &str) {
    let heard = || proxy.log().matches(heard).count();
    let before = heard();
    eventually("the master hears of it", || {
        signal(proxy.id(), name);
        within(Duration::from_millis(500), || heard() > before)
    });
}

pub fn written(work: &Work, addresses: &[SocketAddr]) -> String {
    [defaults(work), frontends(work, addresses), backend(work)].concat()
}

fn defaults(work: &Work) -> String {
    format!(
        "global\n  maxconn 500\n  nbthread 1\n  tune.bufsize {}\n  tune.maxrewrite 1024\n\
         defaults\n  mode http\n  timeout connect {}\n  timeout server {}\n  timeout client {}\n  timeout http-request {}\n\
         \x20 timeout http-keep-alive {}\n  timeout tunnel {}\n  retries 2\n  option redispatch 1\n  option abortonclose\n",
        work.head_bytes + 1024,
        ms(work.connect_timeout),
        ms(work.response_timeout),
        ms(work.body_timeout.min(work.write_timeout)),
        ms(work.head_timeout),
        ms(work.keep_alive_timeout),
        ms(work.tunnel_idle),
    )
}

/// One for each listener: what is told of the client differs.
fn frontends(work: &Work, addresses: &[SocketAddr]) -> String {
    let mut text = String::new();
    for (position, (listener, address)) in work.listeners.iter().zip(addresses).enumerate() {
        let bind = match listener {
            Listener::Plain | Listener::Http2 | Listener::Redirect => address.to_string(),
            Listener::Balanced => format!("{address} accept-proxy"),
            Listener::File => "unix@front.sock".to_owned(),
            Listener::Tls => format!("{address} {}", tls(work)),
        };
        writeln!(text, "frontend f{position}\n  bind {bind}").unwrap();
        if *listener == Listener::Redirect {
            text.push_str("  http-request redirect prefix https://g.test code 308\n");
            continue;
        }
        text.push_str(&rules(work));
    }
    text
}

fn tls(work: &Work) -> String {
    let mut text = String::from("ssl alpn h2,http/1.1");
    for certificate in &work.certificates {
        write!(text, " crt {}.both", certificate.name).unwrap();
    }
    if work.asks_clients {
        text.push_str(" ca-file clients.pem verify required");
    }
    if work.minimum_tls_13 {
        text.push_str(" ssl-min-ver TLSv1.3");
    }
    text
}

fn rules(work: &Work) -> String {
    let mut text = String::new();
    if let Some(limit) = work.connections_per_address {
        writeln!(
            text,
            "  stick-table type ip size 1k store conn_cur\n  tcp-request connection track-sc0 src\n\
             \x20 tcp-request connection reject if {{ sc0_conn_cur gt {limit} }}"
        )
        .unwrap();
    }
    if let Some(rate) = work.logins_per_second {
        writeln!(
            text,
            "  stick-table type ip size 1k store http_req_rate(10s)\n  http-request track-sc0 src if {{ path /login }}\n\
             \x20 http-request deny deny_status 429 hdr retry-after 1 if {{ path /login }} {{ sc0_http_req_rate gt {} }}",
            rate * 10
        )
        .unwrap();
    }
    if let Some(most) = work.body_bytes {
        writeln!(
            text,
            "  http-request deny deny_status 413 if {{ req.body_size gt {most} }}"
        )
        .unwrap();
    }
    if !work.trusted_proxies.is_empty() {
        // It has no word for the last one that is not trusted: as many steps as a case needs.
        let trusted = work.trusted_proxies.join(" ");
        for step in 1..=4 {
            writeln!(
                text,
                "  http-request set-src req.hdr_ip(x-forwarded-for,-{step}) if {{ src {trusted} }}"
            )
            .unwrap();
        }
    }
    text.push_str(
        "  http-request set-header x-forwarded-for %[src]\n  http-request set-header x-forwarded-proto http if !{ ssl_fc }\n\
         \x20 http-request set-header x-forwarded-proto https if { ssl_fc }\n",
    );
    for rule in &work.rules {
        let path = rule.path;
        let here = format!("if {{ path -m dir {path} }}");
        if let Some(host) = rule.host {
            writeln!(text, "  http-request set-header host {host} {here}").unwrap();
        }
        if rule.is_stripped {
            writeln!(
                text,
                "  http-request set-path %[path,regsub(^{path}/?,/)] {here}"
            )
            .unwrap();
        }
    }
    text.push_str("  default_backend app\n");
    text
}

/// Its own default repeats nothing but what could not be sent; the others repeat what is idempotent too.
fn backend(work: &Work) -> String {
    let mut text = String::from(
        "backend app\n  balance random(2)\n  retry-on conn-failure empty-response\n  http-request disable-l7-retry unless METH_GET\n",
    );
    if work.asks_health {
        text.push_str("  option httpchk GET /healthz\n  default-server inter 50ms rise 2 fall 3\n");
    }
    for (position, server) in work.servers.iter().enumerate() {
        let address = server.replacen("unix:", "unix@", 1);
        write!(text, "  server s{position} {address}").unwrap();
        if work.servers_http2 {
            text.push_str(" proto h2");
        }
        if let Some(most) = work.connections_per_server {
            write!(text, " maxconn {most}").unwrap();
        }
        if work.asks_health {
            text.push_str(" check");
        }
        if let Some(tls) = &work.servers_tls {
            write!(
                text,
                " ssl verify required ca-file {} sni str({}) verifyhost {1}",
                tls.ca, tls.name
            )
            .unwrap();
            if let Some(name) = tls.shows {
                write!(text, " crt {name}.both").unwrap();
            }
        }
        text.push('\n');
    }
    text
}
