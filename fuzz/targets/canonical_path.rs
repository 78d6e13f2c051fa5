//! What is matched is what is forwarded, and nobody reads another path in it.
#![no_main]

use http::Uri;
use libfuzzer_sys::fuzz_target;
use portcullis::route::{CanonicalPath, EncodedSlash};
use url::Url;

fuzz_target!(|text: &str| {
    let Ok(path) = CanonicalPath::parse(text) else {
        return;
    };
    let sent = path.to_path_and_query();
    assert_eq!(sent.path(), path.path(), "matched is sent");
    assert_eq!(sent.query(), path.query(), "matched is sent");

    let again = CanonicalPath::parse(sent.as_str()).expect("what is canonical is taken");
    assert_eq!(again, path, "canonical is canonical");
    let uri: Uri = sent.as_str().parse().expect("a target is a URI");
    let received = CanonicalPath::parse_uri(&uri, EncodedSlash::Reject).expect("another gateway takes it");
    assert_eq!(received, path, "two gateways in a row agree");

    assert!(path.path().starts_with('/') && !path.path().contains("//"));
    assert_eq!(format!("/{}", path.segments().collect::<Vec<_>>().join("/")), path.path());
    reads_as_a_browser_does(&path);
    stays_below_its_prefix(&path);
});

/// The WHATWG parser resolves dot segments, encoded ones too, turns backslashes and drops tabs: on a canonical path it finds
/// nothing to do, but for a few characters that it encodes and we do not.
fn reads_as_a_browser_does(path: &CanonicalPath) {
    let read = Url::parse(&format!("http://host{}", path.as_str())).expect("a browser can read it");
    assert_eq!(read.host_str(), Some("host"));
    assert_eq!(read.fragment(), None);
    let decoded = |text: &str| text.replace("%22", "\"").replace("%60", "`").replace("%7B", "{").replace("%7D", "}")
        .replace("%3C", "<").replace("%3E", ">").replace("%5E", "^");
    assert_eq!(decoded(read.path()), decoded(path.path()));
}

fn stays_below_its_prefix(path: &CanonicalPath) {
    let Some(first) = path.segments().next().filter(|first| !first.is_empty()) else {
        return;
    };
    let stripped = path.strip_prefix(&format!("/{first}")).expect("it is below its first segment");
    let again = CanonicalPath::parse(stripped.as_str()).expect("what is left is canonical");
    assert_eq!(again, stripped);
}
