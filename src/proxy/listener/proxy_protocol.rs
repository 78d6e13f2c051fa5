//! The header by which a load balancer says where a connection comes from: the PROXY protocol, versions 1 and 2.
//!
//! Only the form is judged here; whose word counts is the listener's business. A reader asks how many more bytes surely belong
//! to the header, so that it never takes one of what follows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What is known after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// At least so many more bytes belong to it.
    Incomplete(usize),
    Complete(Source),
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Client(SocketAddr),
    /// The load balancer itself, or it does not say.
    Balancer,
}

/// Not a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// The longest header that is taken: addresses, and more of what version 2 can carry along than any balancer sends.
pub const MAX_HEADER: usize = 4096;

/// Reads a header from its beginning. Bytes behind it are an error, since nobody asked for them.
pub fn parse(bytes: &[u8]) -> Result<Header, Invalid> {
    let as_far = |signature: &[u8]| {
        let length = bytes.len().min(signature.len());
        bytes[..length] == signature[..length]
    };
    if as_far(SIGNATURE_1) {
        return parse_text(bytes);
    }
    if as_far(SIGNATURE_2) {
        return parse_binary(bytes);
    }
    Err(Invalid)
}

/// Version 1: a line of text.
fn parse_text(bytes: &[u8]) -> Result<Header, Invalid> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        return match bytes {
            _ if bytes.contains(&b'\n') => Err(Invalid),
            _ if bytes.len() < SHORTEST_TEXT => Ok(Header::Incomplete(SHORTEST_TEXT - bytes.len())),
            _ if bytes.len() >= LONGEST_TEXT => Err(Invalid),
            [.., b'\r'] => Ok(Header::Incomplete(1)),
            _ => Ok(Header::Incomplete(2.min(LONGEST_TEXT - bytes.len()))),
        };
    };
    if line.contains(&b'\r') || line.contains(&b'\n') || bytes.len() > LONGEST_TEXT {
        return Err(Invalid);
    }
    let line = std::str::from_utf8(line).map_err(|_| Invalid)?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        // What else stands there does not count.
        ["PROXY", "UNKNOWN", ..] => Source::Balancer,
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            text_source::<Ipv4Addr>([from, to], [from_port, to_port])?
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            text_source::<Ipv6Addr>([from, to], [from_port, to_port])?
        }
        _ => return Err(Invalid),
    };
    Ok(Header::Complete(source))
}

fn text_source<A: FromStr + Into<IpAddr>>(
    addresses: [&str; 2],
    ports: [&str; 2],
) -> Result<Source, Invalid> {
    let [from, to] = addresses.map(|address| address.parse::<A>().map_err(|_| Invalid));
    let [from_port, to_port] = ports.map(text_port);
    to.and(to_port)?;
    Ok(Source::Client(SocketAddr::new(from?.into(), from_port?)))
}

/// Decimal, without sign and without zeros in front.
fn text_port(text: &str) -> Result<u16, Invalid> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain || (text.len() > 1 && text.starts_with('0')) {
        return Err(Invalid);
    }
    text.parse().map_err(|_| Invalid)
}

/// Version 2: fixed fields, then addresses, then what is not looked at.
fn parse_binary(bytes: &[u8]) -> Result<Header, Invalid> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else {
        return Ok(Header::Incomplete(FIXED - bytes.len()));
    };
    let (command, family) = (fixed[12], fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_HEADER - FIXED || rest.len() > length {
        return Err(Invalid);
    }
    let addresses = match family {
        // Nothing, or a protocol that the balancer does not name.
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(Invalid),
    };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Invalid),
    };
    if !is_local && length < addresses {
        return Err(Invalid);
    }
    if rest.len() < length {
        return Ok(Header::Incomplete(length - rest.len()));
    }
    Ok(Header::Complete(match (family, rest) {
        _ if is_local => Source::Balancer,
        (0x11, &[a, b, c, d, _, _, _, _, high, low, ..]) => {
            client(Ipv4Addr::new(a, b, c, d), [high, low])
        }
        (0x21, rest) => {
            let octets: [u8; 16] = rest[..16].try_into().map_err(|_| Invalid)?;
            client(Ipv6Addr::from(octets), [rest[32], rest[33]])
        }
        _ => Source::Balancer,
    }))
}

fn client(address: impl Into<IpAddr>, port: [u8; 2]) -> Source {
    Source::Client(SocketAddr::new(address.into(), u16::from_be_bytes(port)))
}

const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// `PROXY UNKNOWN` and the end of the line.
const SHORTEST_TEXT: usize = 15;

/// With both addresses of IPv6 in full.
const LONGEST_TEXT: usize = 107;

/// Signature, version and command, family, length.
const FIXED: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::{Header, Invalid, LONGEST_TEXT, MAX_HEADER, SIGNATURE_2, Source, parse};

    fn text(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
        let ports = format!("{} {}", from.port(), to.port());
        format!("PROXY {family} {} {} {ports}\r\n", from.ip(), to.ip()).into_bytes()
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE_2, &[command, family], &length, rest].concat()
    }

    fn addresses(from: SocketAddr, to: SocketAddr) -> (u8, Vec<u8>) {
        let octets = |ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let family = if from.is_ipv4() { 0x11 } else { 0x21 };
        let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        (family, [octets(from.ip()), octets(to.ip()), ports].concat())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_byte_by_byte_and_no_byte_too_many(
            pair in prop_oneof![
                any::<([u8; 4], u16, [u8; 4], u16)>()
                    .prop_map(|(a, b, c, d)| (SocketAddr::from((a, b)), SocketAddr::from((c, d)))),
                any::<([u8; 16], u16, [u8; 16], u16)>()
                    .prop_map(|(a, b, c, d)| (SocketAddr::from((a, b)), SocketAddr::from((c, d)))),
            ],
            more in vec(any::<u8>(), 0..600),
            version_2 in any::<bool>(),
        ) {
            let (from, to) = pair;
            let (family, content) = addresses(from, to);
            let header = if version_2 {
                binary(0x21, family, &[content, more].concat())
            } else {
                text(from, to)
            };
            let mut have = 0;
            let source = loop {
                match parse(&header[..have]) {
                    Ok(Header::Incomplete(more)) => {
                        prop_assert!(more > 0 && have + more <= header.len(), "{} and {} of {}", have, more, header.len());
                        have += more;
                    }
                    Ok(Header::Complete(source)) => break source,
                    Err(Invalid) => panic!("invalid at {have}: {header:?}"),
                }
            };
            prop_assert_eq!(source, Source::Client(from));
            prop_assert_eq!(have, header.len());
            for end in 0..header.len() {
                prop_assert!(matches!(parse(&header[..end]), Ok(Header::Incomplete(_))), "{}", end);
            }
            prop_assert_eq!(parse(&[header, vec![b'x']].concat()), Err(Invalid));
        }

        #[test]
        fn whatever_comes_is_bounded(
            signature in prop_oneof![
                Just(&b""[..]),
                Just(&b"PROXY "[..]),
                Just(SIGNATURE_2),
            ],
            rest in vec(any::<u8>(), 0..300),
        ) {
            let bytes = [signature, &rest].concat();
            if let Ok(Header::Incomplete(more)) = parse(&bytes) {
                prop_assert!(more > 0 && bytes.len() + more <= MAX_HEADER);
            }
        }
    }

    #[test]
    fn the_text_form_is_strict() {
        for line in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65535",
            "PROXY TCP6 ::1 fe80::1 0 443",
            "PROXY UNKNOWN",
            "PROXY UNKNOWN ffff:: ::1 1 2",
        ] {
            let header = parse(format!("{line}\r\n").as_bytes());
            assert!(matches!(header, Ok(Header::Complete(_))), "{line}");
        }
        for line in [
            "PROXY",
            "PROXY ",
            "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 -2",
            "PROXY TCP4 1.2.3.4 5.6.7.8  2",
            "PROXY TCP4 1.2.3.04 5.6.7.8 1 2",
            "PROXY TCP4 ::1 ::1 1 2",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP6 ::1%lo ::1 1 2",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2",
            "PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2",
            "proxy TCP4 1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r",
            "GET / HTTP/1.1",
        ] {
            let header = parse(format!("{line}\r\n").as_bytes());
            assert_eq!(header, Err(Invalid), "{line}");
        }
        let bare = parse(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n");
        assert_eq!(bare, Err(Invalid), "a line ends in two characters");
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(LONGEST_TEXT));
        assert_eq!(parse(endless.as_bytes()), Err(Invalid));
    }

    #[test]
    fn the_binary_form_is_strict() {
        let four = [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 10];
        for (what, header) in [
            ("a health check", binary(0x20, 0, &[])),
            ("a health check with addresses", binary(0x20, 0x11, &four)),
            ("no addresses", binary(0x21, 0, &[])),
            ("a socket file", binary(0x21, 0x31, &[b'x'; 216])),
        ] {
            assert_eq!(
                parse(&header),
                Ok(Header::Complete(Source::Balancer)),
                "{what}"
            );
        }
        let mut too_long = binary(0x21, 0x11, &four);
        too_long[14] = 0xff;
        for (what, header) in [
            ("version 1", binary(0x11, 0x11, &four)),
            ("an unknown command", binary(0x22, 0x11, &four)),
            ("datagrams", binary(0x21, 0x12, &four)),
            ("an unknown family", binary(0x21, 0x41, &four)),
            (
                "too short for its addresses",
                binary(0x21, 0x11, &four[1..]),
            ),
            ("IPv4 where IPv6 was said", binary(0x21, 0x21, &four)),
            ("longer than any", too_long),
        ] {
            assert_eq!(parse(&header), Err(Invalid), "{what}");
        }
    }
}
