//! The frame tracker stands where a plain reading of RFC 6455 section 5.2 stands, however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::proxy::websocket::FrameTracker;

fuzz_target!(|data: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = data;
    let mut whole = FrameTracker::new();
    whole.advance(&bytes);

    let mut pieces = FrameTracker::new();
    let mut rest = &bytes[..];
    for cut in cuts {
        let (piece, behind) = rest.split_at(usize::from(cut).min(rest.len()));
        let within = pieces.rest_of_frame(piece);
        assert!(within <= piece.len());
        let mut ahead = pieces;
        ahead.advance(&piece[..within]);
        assert!(within == piece.len() || ahead.is_at_boundary(), "a frame ends there");
        pieces.advance(piece);
        rest = behind;
    }
    pieces.advance(rest);

    assert_eq!(pieces.is_trackable(), whole.is_trackable());
    assert_eq!(pieces.is_closing(), whole.is_closing());
    assert_eq!(pieces.is_at_boundary(), whole.is_at_boundary());
    if whole.is_trackable() {
        assert_eq!(whole.is_at_boundary(), ends_with_a_frame(&bytes));
    }
});

/// Reads frame by frame, with all bytes at hand.
fn ends_with_a_frame(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let [_, second, ..] = *bytes else { return false };
        let (length_bytes, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        let Some(extended) = bytes.get(2..2 + length_bytes) else { return false };
        let length = extended.iter().fold(short, |length, byte| length << 8 | u64::from(*byte));
        let masking_key = if second & 0x80 == 0 { 0 } else { 4 };
        let header = 2 + length_bytes as u64 + masking_key;
        let Some(rest) = usize::try_from(header.saturating_add(length)).ok().and_then(|frame| bytes.get(frame..)) else {
            return false;
        };
        bytes = rest;
    }
    true
}
