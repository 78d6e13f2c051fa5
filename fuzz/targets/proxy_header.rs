//! A PROXY header is read byte for byte to its end and not further, and names the address that is written in it.
#![no_main]

use std::net::{IpAddr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use portcullis::proxy::listener::proxy_protocol::{Header, MAX_HEADER, Source, parse};

fuzz_target!(|bytes: &[u8]| {
    let mut have = 0;
    let (header, source) = loop {
        match parse(&bytes[..have]) {
            Ok(Header::Complete(source)) => break (&bytes[..have], source),
            Ok(Header::Incomplete(more)) => {
                assert!(more > 0 && have + more <= MAX_HEADER, "{have} and {more}");
                if have + more > bytes.len() {
                    return;
                }
                have += more;
            }
            Err(_) => return,
        }
    };
    for length in 0..header.len() {
        let Ok(Header::Incomplete(more)) = parse(&header[..length]) else {
            panic!("{length} of {} bytes are not the beginning of a header", header.len());
        };
        assert!(length + more <= header.len(), "a byte of what follows is asked for");
    }
    assert!(parse(&[header, b"x"].concat()).is_err(), "nobody asked for it");
    if let Source::Client(client) = source {
        let (address, port) = written(header);
        assert_eq!(client.ip(), address);
        assert_eq!(client.port(), port);
    }
});

/// The source, where the protocol has it.
fn written(header: &[u8]) -> (IpAddr, u16) {
    if header.starts_with(b"PROXY ") {
        let text = std::str::from_utf8(header).expect("text");
        let parts: Vec<&str> = text.trim_end_matches("\r\n").split(' ').collect();
        assert_eq!(parts.len(), 6, "{text:?}");
        return (parts[2].parse().expect("an address"), parts[4].parse().expect("a port"));
    }
    let (address, port): (IpAddr, usize) = match header[13] >> 4 {
        1 => (<[u8; 4]>::try_from(&header[16..20]).expect("four bytes").into(), 24),
        2 => (Ipv6Addr::from(<[u8; 16]>::try_from(&header[16..32]).expect("sixteen bytes")).into(), 48),
        family => panic!("family {family} has no address"),
    };
    (address, u16::from_be_bytes([header[port], header[port + 1]]))
}
