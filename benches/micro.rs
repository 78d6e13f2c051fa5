//! What the pieces of the hot path cost, one by one: `cargo bench --bench micro`.
//!
//! What has a size is measured at several, since none may cost more for what is around a request.

use std::hint::black_box;
use std::time::Duration;

use divan::{Bencher, bench};
use http::header::{COOKIE, HeaderMap};
use http::{HeaderName, HeaderValue, Method};
use portcullis::clock::{Clock, Timestamp};
use portcullis::cookie::{CookieSettings, OwnCookies, Prefix, SessionCookies, without_own};
use portcullis::identity::UserId;
use portcullis::issuer::{Issuer, IssuerSettings};
use portcullis::keys::{SigningKeys, SigningKeysSettings};
use portcullis::proxy::{HeaderRules, VerifiedTokens};
use portcullis::revocation::RevocationSet;
use portcullis::route::{CanonicalPath, MethodSet, PathPattern, RouteTable, Rule};
use portcullis::session::{
    AccessClaims, KeyRing, Lifetimes, Lineage, MasterKey, SessionHandle, SigningAlgorithm,
    SigningKey, VerifiedAccessToken, decide,
};
use portcullis::store::SessionStore;

fn main() {
    divan::main();
}

/// An access token that was not seen before: what a miss of the cache costs.
#[bench(args = ["HS256", "ES256", "EdDSA", "RS256"])]
fn verify_access_token(bencher: Bencher<'_, '_>, algorithm: &str) {
    let (token, ring) = token_of(algorithm);
    bencher.bench_local(|| VerifiedAccessToken::verify(black_box(&token), &ring, ISSUER).is_ok());
}

/// One that was, of so many in turn, among those that all workers share: what a request pays at most, since a worker keeps
/// those of late in front.
#[bench(args = [1, 1000, 100_000])]
fn authenticate(bencher: Bencher<'_, '_>, callers: usize) {
    let (issuer, tokens) = signed_in(callers);
    let verified = VerifiedTokens::new(2 * callers);
    for token in &tokens {
        assert!(verified.caller(token, &issuer).is_some());
    }
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % tokens.len();
        verified.caller(black_box(&tokens[next]), &issuer).is_some()
    });
}

#[bench(args = ["/notes/2026/a-b_c~d", "/notes/%41bc/%c3%a9?x=1"])]
fn canonical_path(bencher: Bencher<'_, '_>, target: &str) {
    bencher.bench_local(|| CanonicalPath::parse(black_box(target)).is_ok());
}

#[bench(args = [1, 10, 100, 1000])]
fn route_match(bencher: Bencher<'_, '_>, rules: usize) {
    let table = RouteTable::build((0..rules).map(rule).collect()).expect("no two are alike");
    let path = CanonicalPath::parse(&format!("/app/section-{}/page/7", rules / 2))
        .expect("the path is canonical");
    bencher.bench_local(|| table.lookup(black_box(&path), &Method::GET).copied());
}

#[bench(args = [1, 3, 20])]
fn cookie_scan(bencher: Bencher<'_, '_>, cookies: usize) {
    let (headers, names) = (headers_with(cookies), session_cookies());
    bencher.bench_local(|| {
        let headers = black_box(&headers);
        let own = OwnCookies::find(headers.get_all(COOKIE));
        names.read(headers, &own).access.is_empty()
    });
}

#[bench(args = [1, 3, 20])]
fn cookie_strip(bencher: Bencher<'_, '_>, cookies: usize) {
    let headers = headers_with(cookies);
    bencher.bench_local(|| without_own(black_box(&headers[COOKIE])));
}

#[bench(args = [10, 1000, 100_000, 1_000_000])]
fn revocation_lookup(bencher: Bencher<'_, '_>, revoked: usize) {
    let set = RevocationSet::default();
    let expires = Clock::system().now() + HOUR;
    for _ in 0..revoked {
        set.insert(SessionHandle::random(), expires);
    }
    // As many callers as a busy gateway has, so that the lookups do not stay in the processor's nearest cache.
    let callers: Vec<SessionHandle> = (0..4096).map(|_| SessionHandle::random()).collect();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % callers.len();
        set.contains(black_box(&callers[next]))
    });
}

#[bench]
fn rotation_decision(bencher: Bencher<'_, '_>) {
    let now = Timestamp::from_secs(1_700_000_000);
    let lineage = Lineage::begin(now, HOUR, HOUR * 24).rotated(now + HOUR / 2, HOUR);
    bencher.bench_local(|| {
        decide(
            black_box(&lineage),
            black_box(0),
            black_box(now + HOUR / 2),
            black_box(Duration::from_secs(30)),
        )
    });
}

#[bench]
fn answer_headers(bencher: Bencher<'_, '_>) {
    let rules = HeaderRules::new(HeaderName::from_static("x-user-id"));
    bencher
        .with_inputs(|| {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("server", "nginx"),
                ("date", "Sun, 22 Nov 2026 13:40:14 GMT"),
                ("content-type", "text/html; charset=utf-8"),
                ("content-length", "1024"),
                ("connection", "keep-alive"),
            ] {
                headers.insert(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            headers
        })
        .bench_local_refs(|headers| rules.client(headers));
}

/// An issuer, and tokens of it.
fn signed_in(callers: usize) -> (Issuer, Vec<String>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let folder = tempfile::tempdir().expect("there is room for a store");
    let load = async {
        let url = format!("sqlite:{}/store.db", folder.path().display());
        let store = SessionStore::open(&url).await.expect("a store opens");
        let settings = IssuerSettings {
            issuer: ISSUER.to_owned(),
            lifetimes: Lifetimes {
                access: HOUR,
                idle: HOUR,
                absolute: HOUR * 24,
                reuse_grace: Duration::from_secs(30),
            },
            algorithm: SigningAlgorithm::Es256,
        };
        let of_keys = SigningKeysSettings {
            algorithm: settings.algorithm,
            verify_for: HOUR,
        };
        let master = MasterKey::generate();
        let issuer = Issuer::load(settings, &master, store.clone(), Clock::system()).await;
        let keys = SigningKeys::load(of_keys, &master, store, Clock::system()).await;
        (issuer.expect("keys are made"), keys.expect("and read"))
    };
    let (issuer, keys) = runtime.block_on(load);
    let ring = &keys.loaded().ring;
    let tokens = (0..callers).map(|_| signed_by(ring)).collect();
    (issuer, tokens)
}

fn token_of(algorithm: &str) -> (String, KeyRing) {
    let algorithm = algorithm
        .parse::<SigningAlgorithm>()
        .expect("it is one of ours");
    let key = SigningKey::generate(algorithm).expect("the machine has randomness");
    let ring = KeyRing::new(key, []);
    (signed_by(&ring), ring)
}

fn signed_by(ring: &KeyRing) -> String {
    let now = Clock::system().now();
    let claims = AccessClaims {
        issuer: ISSUER,
        user: &UserId::parse("user-1").expect("a user id"),
        handle: SessionHandle::random(),
        generation: 0,
        issued_at: now,
        expires_at: now + HOUR,
        claims_version: 0,
        session_claims: r#"{"role":"member","tenant":"north"}"#,
    };
    let token = claims.sign(ring).expect("the key signs");
    token.expose().to_owned()
}

fn rule(number: usize) -> Rule<usize> {
    Rule {
        pattern: PathPattern::parse(&format!("/app/section-{number}/**")).expect("a pattern"),
        methods: MethodSet::ANY,
        origin: String::new(),
        target: number,
    }
}

/// `cookies` of them, one the gateway's.
fn headers_with(cookies: usize) -> HeaderMap {
    let mut line = format!("sAccessToken={}", "a".repeat(500));
    for number in 1..cookies {
        line = format!("name-{number}=value-{number}; {line}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(
        COOKIE,
        HeaderValue::try_from(line).expect("the cookies are visible ASCII"),
    );
    headers
}

fn session_cookies() -> SessionCookies {
    SessionCookies::new(CookieSettings {
        domain: None,
        path: "/".to_owned(),
        refresh_path: "/".to_owned(),
        older_refresh_paths: Vec::new(),
        secure: false,
        same_site: cookie::SameSite::Lax,
        prefix: Some(Prefix::Plain),
        older_domains: Vec::new(),
    })
}

const ISSUER: &str = "portcullis";
const HOUR: Duration = Duration::from_secs(3600);
