//! Asks at a fixed rate, however slow the answers are, and prints how long they took, as a line of JSON:
//! `pace PORT PATH TOKENS CLIENTS RATE SECONDS`. TOKENS is a file with one token per line, or `-` for none.
//!
//! Each client has a connection and a timetable. An answer that comes after the next request was due delays that request; the
//! delay counts, from when the request was due. Otherwise a slow proxy would be asked less, and look fast (coordinated
//! omission). What this program itself is late, because the system woke it late, does not count.

#![expect(clippy::print_stdout, reason = "its result")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use portcullis::clock::{BootTime, Clock};

/// Without arguments, as `cargo bench` starts it, there is nothing to do.
fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, path, tokens, clients, rate, seconds] = arguments.as_slice() else {
        return Ok(());
    };
    let (clients, rate) = (clients.parse::<u32>()?, rate.parse::<u32>()?);
    let lasts = Duration::from_secs_f64(seconds.parse()?);
    let requests = requests(path, tokens)?;
    let begin = Clock::system().boot() + HEAD_START;
    let between = Duration::from_secs(clients.into()) / rate;
    let threads: Vec<_> = (0..clients)
        .map(|number| {
            let plan = Plan {
                port: port.parse()?,
                requests: requests.clone(),
                number: number as usize,
                clients: clients as usize,
                begin: begin + Duration::from_secs(number.into()) / rate,
                between,
                lasts,
            };
            Ok(thread::spawn(move || plan.follow()))
        })
        .collect::<anyhow::Result<_>>()?;
    let mut times = Vec::new();
    for thread in threads {
        let Ok(found) = thread.join() else {
            bail!("a client has panicked");
        };
        times.extend(found?);
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 1000).map(Duration::as_nanos);
    let (Some(p50), Some(p99), Some(p999)) = (at(500), at(990), at(999)) else {
        bail!("nothing was measured");
    };
    println!(
        r#"{{"p50":{:.1},"p99":{:.1},"p999":{:.1},"requests":{}}}"#,
        p50 as f64 / 1000.0,
        p99 as f64 / 1000.0,
        p999 as f64 / 1000.0,
        times.len(),
    );
    Ok(())
}

/// One for each token.
fn requests(path: &str, tokens: &str) -> anyhow::Result<Vec<String>> {
    let request = |cookie: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/html\r\naccept-language: en-US\r\n{cookie}\r\n"
        )
    };
    if tokens == "-" {
        return Ok(vec![request("")]);
    }
    let tokens = std::fs::read_to_string(tokens).context("cannot read the tokens")?;
    Ok(tokens
        .lines()
        .take(IN_TURN)
        .map(|token| request(&format!("cookie: sAccessToken={token}\r\n")))
        .collect())
}

/// A client's timetable.
struct Plan {
    port: u16,
    requests: Vec<String>,
    /// The client's own, among so many.
    number: usize,
    clients: usize,
    begin: BootTime,
    between: Duration,
    /// What is measured; the time before is for caches.
    lasts: Duration,
}

impl Plan {
    fn follow(&self) -> anyhow::Result<Vec<Duration>> {
        let clock = Clock::system();
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_nodelay(true)?;
        let (mut times, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
        let mut due = self.begin;
        let (measured, end) = (self.begin + WARM_UP, self.begin + WARM_UP + self.lasts);
        for number in (self.number..).step_by(self.clients) {
            if due >= end {
                break;
            }
            let wait = due.since(clock.boot());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            let began = if wait.is_zero() { due } else { clock.boot() };
            let request = &self.requests[number % self.requests.len()];
            connection.write_all(request.as_bytes())?;
            answer(&mut connection, &mut buffer)?;
            if due >= measured {
                times.push(clock.boot().since(began));
            }
            due = due + self.between;
        }
        Ok(times)
    }
}

/// Reads one answer to its end; it has to be a good one.
fn answer(connection: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut have = 0;
    loop {
        let read = connection.read(&mut buffer[have..])?;
        have += read;
        let text = String::from_utf8_lossy(&buffer[..have]);
        if read == 0 {
            bail!("the connection ended: {text}");
        }
        let Some(head) = text.find("\r\n\r\n") else {
            continue;
        };
        if !text.starts_with("HTTP/1.1 200 ") {
            bail!("not a good answer: {}", &text[..head]);
        }
        let length = text[..head]
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .context("the answer does not say how long it is")?;
        if have >= head + 4 + length {
            return Ok(());
        }
    }
}

/// Until all clients have connected.
const HEAD_START: Duration = Duration::from_millis(200);
const WARM_UP: Duration = Duration::from_millis(700);

/// The tokens of a timetable.
const IN_TURN: usize = 1000;
