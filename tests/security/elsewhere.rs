//! Numbers that are tried by other programs of the tests, which have what they need at hand: floods, TLS, ends, fuzzers. Each is
//! named here, so that no number is missing in the table; its result is that of its own program, with which `./scripts/test`
//! and `cargo nextest run` run it.

use crate::runner::{Case, Tried};

pub const CASES: &[Case] = &[
    Case {
        name: "t032_misdirected_host",
        title: "a host over another's TLS, and one that needs a client certificate",
        own: "other letters' case, ports, addresses, a host below a wildcard, no name in the handshake, no TLS",
        run: |tried| {
            for test in [
                "tests/process/tls.rs::other_hosts_are_misdirected",
                "tests/process/client_certificates.rs::other_hosts_are_no_way_around_a_certificate",
            ] {
                tried.elsewhere(test);
            }
        },
    },
    Case {
        name: "t067_the_applications_cookie_of_that_name",
        title: "the application sets a cookie with the gateway's name (a part of T015)",
        own: "prefixed names",
        run: |tried| {
            tried.elsewhere("tests/security/identity.rs::t015_application_speaks_for_the_gateway");
        },
    },
    Case {
        name: "t078_reused_refresh_token",
        title: "a refresh token that comes back after its successor was used (the answer that T079 is compared with)",
        own: "after two rotations, much older ones, the thief first",
        run: |tried| {
            for test in [
                "tests/gateway/theft.rs::a_token_that_comes_back_after_its_successor_was_used_ends_the_session",
                "tests/gateway/theft.rs::the_thief_who_comes_first_is_found_by_the_victim",
            ] {
                tried.elsewhere(test);
            }
        },
    },
    Case {
        name: "t113_reset_floods",
        title: "streams that are opened and reset, or that the gateway has to reset",
        own: "resets before anybody has looked at the stream; nginx is held to the same",
        run: |tried| {
            for test in [
                "tests/process/floods.rs::streams_that_are_reset_end_the_connection",
                "tests/process/floods.rs::a_reset_of_streams_that_nobody_looked_at_is_answered_with_calm",
            ] {
                tried.elsewhere(test);
            }
        },
    },
    Case {
        name: "t114_frames_without_use",
        title: "CONTINUATION without end, crumbs, indexed fields, PING, SETTINGS, empty DATA, no window",
        own: "PRIORITY, WINDOW_UPDATE, unknown frames, a block that is long in coming",
        run: |tried| {
            for test in [
                "tests/process/floods.rs::frames_without_use_end_the_connection",
                "tests/process/floods.rs::a_small_block_does_not_become_large",
                "tests/process/floods.rs::answers_that_are_not_read_are_not_held",
            ] {
                tried.elsewhere(test);
            }
        },
    },
    Case {
        name: "t115_malformed_http2",
        title: "requests of HTTP/2 that HTTP/1.1 would read otherwise",
        own: "pseudo headers in any order and number, extended CONNECT",
        run: |tried| {
            for test in [
                "tests/process/http2.rs::malformed_requests_are_refused",
                "src/proxy/http2.rs::what_is_refused",
            ] {
                tried.elsewhere(test);
            }
        },
    },
    Case {
        name: "t116_slow_and_many",
        title: "slow heads, bodies and readers, many handshakes and connections at rest",
        own: "over TLS and HTTP/2 as well; a slow body is no slow head",
        run: |tried| {
            for test in [
                "tests/peers/limits.rs::a_head_that_does_not_come_ends_the_connection",
                "tests/process/limits.rs::a_slow_body_is_no_slow_head",
                "tests/process/limits.rs::a_connection_at_rest_is_kept_for_as_long_as_configured",
                "tests/process/limits.rs::many_connections_at_rest_take_little_memory",
                "tests/process/bodies.rs::a_large_download_waits_for_its_reader",
                "tests/process/tls.rs::a_handshake_that_does_not_come_is_ended_and_keeps_nobody_out",
                "tests/process/tls.rs::handshakes_above_their_bound_are_closed_at_once_and_then_there_is_room_again",
                "tests/process/tls.rs::connections_at_rest_are_closed_and_heads_are_timed_over_tls_too",
                "tests/process/tls.rs::tls_connections_at_rest_take_little_memory",
                "tests/process/floods.rs::heads_that_do_not_come_and_connections_at_rest_are_ended",
                "tests/process/floods.rs::a_slow_body_and_a_long_answer_are_not_rest",
            ] {
                tried.elsewhere(test);
            }
        },
    },
    Case {
        name: "t119i_end_under_load",
        title: "SIGTERM under load: no answer loses its cookies, no rotation is half done",
        own: "connections that wait to be accepted, SIGKILL",
        run: |tried| {
            for test in [
                "tests/process/ending.rs::no_answer_loses_its_cookies",
                "tests/process/ending.rs::no_answer_is_lost_under_load",
                "tests/process/ending.rs::who_was_waiting_to_be_accepted_is_answered",
                "tests/process/killed.rs::what_was_answered_holds_after_a_kill",
            ] {
                tried.elsewhere(test);
            }
        },
    },
    Case {
        name: "t119j_fuzzing",
        title: "paths, cookies, tokens, configuration, heads, PROXY headers, frames (scripts/fuzz runs them for as long as is asked)",
        own: "each with a reader of others beside it, where there is one",
        run: t119j_fuzzing,
    },
];

/// What fuzzers found is in the tests; that the targets are there and are run is seen to here.
fn t119j_fuzzing(tried: &mut Tried) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    for target in [
        "canonical_path",
        "cookies",
        "access_token",
        "refresh_token",
        "config",
        "websocket_frames",
        "request_heads",
        "proxy_header",
    ] {
        tried.variant(format!("scripts/fuzz {target}"), || {
            assert!(manifest.contains(&format!("name = \"{target}\"")));
            assert!(root.join(format!("fuzz/targets/{target}.rs")).exists());
            let corpus = std::fs::read_dir(root.join("fuzz/corpus").join(target)).unwrap();
            assert!(corpus.count() > 0, "no corpus");
        });
    }
    tried.variant("the tests run them", || {
        let script = std::fs::read_to_string(root.join("scripts/test")).unwrap();
        assert!(script.contains("scripts/fuzz --seconds"));
    });
    tried.elsewhere("src/route/path/tests.rs::what_is_taken_reads_in_one_way_only");
    tried.elsewhere("src/proxy/framing/tests.rs::hyper_reads_what_the_scanner_read");
}
