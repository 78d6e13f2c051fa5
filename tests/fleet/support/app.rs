//! The application behind the gateways: it logs in whoever asks, and else says who is asking.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Serves until the process ends.
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Until the gateway closes.
fn serve(stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut from = BufReader::new(stream.try_clone().ok()?);
    let mut to = stream;
    loop {
        let (mut login, mut user, mut length) = (String::new(), "nobody".to_owned(), 0);
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let target = line.split(' ').nth(1)?;
        if let Some(user) = target.strip_prefix("/login?") {
            login = format!("portcullis-login: {user}\r\n");
        }
        loop {
            let mut line = String::new();
            from.read_line(&mut line).ok().filter(|count| *count > 0)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "x-user-id" => user = value.trim().to_owned(),
                "content-length" => length = value.trim().parse().ok()?,
                _ => {}
            }
        }
        from.by_ref()
            .take(length)
            .read_to_end(&mut Vec::new())
            .ok()?;
        let size = user.len();
        let answer = format!("HTTP/1.1 200 OK\r\n{login}content-length: {size}\r\n\r\n{user}");
        to.write_all(answer.as_bytes()).ok()?;
    }
}
