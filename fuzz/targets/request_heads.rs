//! Whatever the strict scanner approves begins and ends where the parser that hyper uses finds it, however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::proxy::scan_pieces;

fuzz_target!(|data: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = data;
    let whole = scan_pieces([&bytes[..]]);
    assert_eq!(scan_pieces(bytes.chunks(1)), whole, "byte by byte");
    assert_eq!(scan_pieces(pieces(&bytes, &cuts)), whole, "in pieces");

    let approved = &bytes[..whole.refused_at.unwrap_or(bytes.len())];
    assert_eq!(scan_pieces([approved]).heads, whole.heads, "what is refused approves nothing");
    match read(approved) {
        Read::All(heads) => assert_eq!(heads, whole.heads),
        // hyper refuses what stands there and closes, so nothing behind it is read.
        Read::Refused(heads) => assert!(heads <= whole.heads),
    }
});

fn pieces<'a>(bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, behind) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}

/// How many heads there are, as far as this reader takes them.
enum Read {
    All(usize),
    Refused(usize),
}

/// Heads by httparse, bodies by a plain reading of RFC 9112 sections 6 and 7.
fn read(mut rest: &[u8]) -> Read {
    let mut heads = 0;
    loop {
        let mut lines = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut lines);
        let length = match request.parse(rest) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Read::All(heads),
            Err(_) => return Read::Refused(heads),
        };
        heads += 1;
        let all = |name: &str| -> Vec<&[u8]> {
            let lines = request.headers.iter();
            lines.filter(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value.trim_ascii()).collect()
        };
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1, "one account of the body");
        rest = &rest[length..];
        let behind = match (lengths.first(), codings.first()) {
            (Some(length), _) => {
                assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "digits");
                let length: u64 = std::str::from_utf8(length).expect("digits").parse().expect("64 bits");
                if length == 0 && !all("upgrade").is_empty() {
                    return Read::All(heads);
                }
                usize::try_from(length).ok().and_then(|length| rest.get(length..))
            }
            (_, Some(coding)) => {
                assert!(coding.eq_ignore_ascii_case(b"chunked"), "the only coding");
                behind_chunks(rest)
            }
            // What follows belongs to another protocol, or waits for an answer.
            _ if !all("upgrade").is_empty() => return Read::All(heads),
            _ => Some(rest),
        };
        match behind {
            Some(behind) => rest = behind,
            None => return Read::All(heads),
        }
    }
}

/// What follows the last chunk and the trailers; `None`: they are not over.
fn behind_chunks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (line, behind) = line(rest)?;
        let size = line.split(|byte| *byte == b';').next().expect("a split has a first part");
        assert!(!size.is_empty() && size.iter().all(u8::is_ascii_hexdigit), "a size");
        let size = u64::from_str_radix(std::str::from_utf8(size).expect("digits"), 16).expect("64 bits");
        if size == 0 {
            rest = behind;
            break;
        }
        let data = usize::try_from(size).ok()?;
        let end = behind.get(data..)?.get(..2)?;
        assert_eq!(end, b"\r\n", "a chunk ends with its line");
        rest = &behind[data + 2..];
    }
    loop {
        let (trailer, behind) = line(rest)?;
        rest = behind;
        if trailer.is_empty() {
            return Some(rest);
        }
    }
}

/// Up to a CR LF, and no LF ends a line but after a CR.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r").expect("a bare LF ends no line");
    Some((line, &bytes[end + 1..]))
}
