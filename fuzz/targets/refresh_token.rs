//! A refresh token has one spelling, and nobody else can make one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis::secret::Secret;
use portcullis::session::{MasterKey, RefreshKeys, SessionHandle};

static KEYS: LazyLock<RefreshKeys> = LazyLock::new(|| RefreshKeys::from_master(&MasterKey::generate()));
static GENUINE: LazyLock<String> = LazyLock::new(|| {
    let token = KEYS.first(SessionHandle::from_bytes([7; 16]), &Secret::new([9; 32]));
    KEYS.text(&token).expose().to_owned()
});

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(KEYS.parse(text).is_err(), "nobody else can make one");
    }
    let [at, rest @ ..] = data else { return };
    let mut token = GENUINE.clone().into_bytes();
    let at = usize::from(*at) % token.len();
    token.splice(at..token.len().min(at + rest.len() / 2), rest.iter().copied());
    let Ok(text) = String::from_utf8(token) else { return };
    match KEYS.parse(&text) {
        Ok(parsed) => {
            assert_eq!(text, *GENUINE, "one spelling");
            assert_eq!(KEYS.text(&parsed).expose(), text);
        }
        Err(_) => assert_ne!(text, *GENUINE),
    }
});
