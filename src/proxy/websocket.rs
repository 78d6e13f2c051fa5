//! Just enough of the WebSocket protocol (RFC 6455 section 5) to end someone else's conversation politely.
//!
//! A tunnel passes frames through without understanding them. To say goodbye in the upstream's place the gateway must
//! not speak in the middle of a frame, so [`FrameTracker`] counts along from the bytes alone and holds nothing of them.

use bytes::{BufMut, Bytes, BytesMut};

/// Follows one direction of a WebSocket and knows whether it stands between two frames.
///
/// Which opcodes and reserved bits mean something is the business of extensions, so they are not judged. Lengths that
/// RFC 6455 forbids are: whoever sends them speaks something else, and then nothing is known any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameTracker {
    state: State,
    /// A close frame has begun; nothing may follow it.
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A header of which `have` bytes are known; a boundary if that is none.
    Header {
        bytes: [u8; MAX_HEADER],
        have: usize,
    },
    /// Bytes of masking key and payload still to come.
    Payload {
        left: u64,
    },
    Untrackable,
}

/// Flags and opcode, 7-bit length, 64-bit length. The masking key is counted with the payload.
const MAX_HEADER: usize = 10;
const MASKING_KEY: u64 = 4;
const OPCODE_CLOSE: u8 = 0x8;
/// Control frames carry no more than this (section 5.5).
const MAX_CONTROL_PAYLOAD: usize = 125;

impl Default for State {
    fn default() -> Self {
        Self::Header {
            bytes: [0; MAX_HEADER],
            have: 0,
        }
    }
}

impl FrameTracker {
    /// At the start of a connection, which is a boundary.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the stream, cut anywhere.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.state != State::Untrackable {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    /// How many of the next bytes belong to the frame in progress; all of them if it goes on or cannot be followed.
    pub fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        let mut ahead = *self;
        let mut taken = 0;
        while taken < bytes.len() && !ahead.is_at_boundary() && ahead.is_trackable() {
            taken += ahead.step(&bytes[taken..]);
        }
        if ahead.is_trackable() {
            taken
        } else {
            bytes.len()
        }
    }

    /// Whether the stream stands between two frames, as far as is known.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Header { have: 0, .. })
    }

    /// Whether a close frame has been seen, whole or in part: then another one must not follow.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether the stream could be followed so far.
    pub fn is_trackable(&self) -> bool {
        self.state != State::Untrackable
    }

    /// Takes some of the bytes, of which there is at least one, and says how many; never past the end of a frame.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            State::Untrackable => bytes.len(),
            State::Header {
                bytes: header,
                have,
            } => {
                header[*have] = bytes[0];
                *have += 1;
                match Header::parse(&header[..*have]) {
                    Ok(None) => {}
                    Ok(Some(header)) => {
                        self.closing |= header.opcode == OPCODE_CLOSE;
                        self.state = State::after(header.rest);
                    }
                    Err(InvalidFrame) => self.state = State::Untrackable,
                }
                1
            }
            State::Payload { left } => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.state = State::after(*left - taken as u64);
                taken
            }
        }
    }
}

impl State {
    fn after(left: u64) -> Self {
        if left == 0 {
            Self::default()
        } else {
            Self::Payload { left }
        }
    }
}

struct Header {
    opcode: u8,
    /// Masking key and payload.
    rest: u64,
}

/// Not a frame of RFC 6455.
struct InvalidFrame;

impl Header {
    /// None if more bytes are needed.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, InvalidFrame> {
        let &[flags, masked_length, ref extended @ ..] = bytes else {
            return Ok(None);
        };
        let opcode = flags & 0x0f;
        let length = match (masked_length & 0x7f, extended) {
            (126, &[a, b]) => u64::from(u16::from_be_bytes([a, b])),
            (127, &[a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            (126 | 127, _) => return Ok(None),
            (length, _) => u64::from(length),
        };
        // The shortest form must be used, and the highest bit of the longest must not (section 5.2).
        let shortest = match extended.len() {
            0 => 0,
            2 => 126,
            _ => 1 << 16,
        };
        if length < shortest || length > i64::MAX as u64 {
            return Err(InvalidFrame);
        }
        let is_control = opcode & 0x8 != 0;
        let is_final = flags & 0x80 != 0;
        if is_control && (!is_final || length > MAX_CONTROL_PAYLOAD as u64) {
            return Err(InvalidFrame);
        }
        let is_masked = masked_length & 0x80 != 0;
        Ok(Some(Self {
            opcode,
            rest: length + if is_masked { MASKING_KEY } else { 0 },
        }))
    }
}

/// A close frame as a server sends it, unmasked. The reason is cut at 123 bytes, where a control frame ends.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)];
    let mut frame = BytesMut::with_capacity(4 + reason.len());
    frame.put_u8(0x80 | OPCODE_CLOSE);
    frame.put_u8(2 + reason.len() as u8);
    frame.put_u16(code);
    frame.put_slice(reason.as_bytes());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    use proptest::{prop_assert_eq, proptest};

    use super::{FrameTracker, close_frame};

    /// A frame with an unmasked or masked payload of zeros, written independently of the tracker.
    fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(mask_bit | length as u8),
            126..=0xffff => {
                frame.push(mask_bit | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask_bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([0x37, 0xfa, 0x21, 0x3d]);
        }
        frame.resize(frame.len() + length, 0);
        frame
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let data = (
            prop_oneof![
                Just(0x81_u8),
                Just(0x02),
                Just(0x00),
                Just(0x80),
                Just(0xc1)
            ],
            prop_oneof![
                0..4_usize,
                120..130_usize,
                65_530..65_545_usize,
                0..3000_usize
            ],
        );
        let control = (prop_oneof![Just(0x89_u8), Just(0x8a)], 0..126_usize);
        (prop_oneof![data, control], any::<bool>())
            .prop_map(|((first, length), masked)| frame(first, length, masked))
    }

    proptest! {
        #[test]
        fn knows_the_boundaries_however_the_bytes_are_cut(
            frames in vec(any_frame(), 1..6),
            cuts in vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let stream: Vec<u8> = frames.concat();
            let mut boundaries = vec![0];
            for frame in &frames {
                boundaries.push(boundaries[boundaries.len() - 1] + frame.len());
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.extend(&boundaries);
            cuts.sort_unstable();

            let mut tracker = FrameTracker::new();
            let mut position = 0;
            for cut in cuts {
                tracker.advance(&stream[position..cut]);
                position = cut;
                prop_assert_eq!(tracker.is_at_boundary(), boundaries.contains(&cut), "at {}", cut);
                let next = boundaries.iter().find(|&&boundary| boundary >= cut).copied();
                prop_assert_eq!(tracker.rest_of_frame(&stream[cut..]), next.map_or(0, |next| next - cut));
            }
            prop_assert_eq!(tracker.is_closing(), false);
        }

        #[test]
        fn takes_any_bytes(chunks in vec(vec(any::<u8>(), 0..40), 0..20)) {
            let mut tracker = FrameTracker::new();
            for chunk in chunks {
                assert!(tracker.rest_of_frame(&chunk) <= chunk.len());
                tracker.advance(&chunk);
            }
        }
    }

    #[test]
    fn gives_up_on_what_is_not_a_frame() {
        let cases: [(&str, &[u8]); 6] = [
            (
                "highest bit of a 64-bit length",
                &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
            ),
            ("16-bit form of a short length", &[0x82, 126, 0, 125]),
            (
                "64-bit form of a 16-bit length",
                &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            ),
            ("long control frame", &[0x89, 126, 0, 126]),
            ("fragmented control frame", &[0x09, 0]),
            (
                "masked, highest bit",
                &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0],
            ),
        ];
        for (what, bytes) in cases {
            let mut tracker = FrameTracker::new();
            tracker.advance(bytes);
            assert!(!tracker.is_trackable(), "{what}");
            assert!(!tracker.is_at_boundary(), "{what}");
            tracker.advance(&[0x81, 0]);
            assert!(!tracker.is_trackable(), "{what}: must not recover");
        }
    }

    #[test]
    fn follows_the_largest_frame_there_can_be() {
        let mut tracker = FrameTracker::new();
        tracker.advance(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        tracker.advance(&[0; 4096]);
        assert!(tracker.is_trackable() && !tracker.is_at_boundary());
    }

    #[test]
    fn notices_a_close_frame_from_its_second_byte() {
        let mut tracker = FrameTracker::new();
        tracker.advance(&[0x88]);
        assert!(!tracker.is_closing());
        tracker.advance(&[0x02]);
        assert!(tracker.is_closing() && !tracker.is_at_boundary());
        tracker.advance(&[0x03, 0xe8]);
        assert!(tracker.is_closing() && tracker.is_at_boundary());
    }

    #[test]
    fn writes_close_frames() {
        assert_eq!(close_frame(4401, "bye"), &b"\x88\x05\x11\x31bye"[..]);
        assert_eq!(close_frame(1000, ""), &b"\x88\x02\x03\xe8"[..]);
        let long = close_frame(4401, &"ä".repeat(100));
        assert_eq!(long.len(), 4 + 122, "cut between characters");
        let mut tracker = FrameTracker::new();
        tracker.advance(&long);
        assert!(tracker.is_at_boundary() && tracker.is_closing());
    }
}
