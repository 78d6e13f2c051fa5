//! Whatever stands in the configuration file: a configuration, or errors that say where.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::config::Config;

fuzz_target!(|text: &str| {
    let nothing: [(&str, &str); 0] = [];
    if let Err(errors) = Config::parse(text, "fuzz.toml", Path::new("/nowhere"), nothing) {
        assert!(!errors.to_string().is_empty());
    }
});
