//! Redirects lead where the operator said, and nowhere else.

use crate::support::{Browser, World};

const PAGE: (&str, &str) = ("Sec-Fetch-Mode", "navigate");
const ALLOWED: [&str; 3] = ["/bye", "/", "https://www.g.test/bye"];

/// T095, T097.
#[test]
fn a_logout_redirects_to_an_entry_of_the_list_byte_for_byte() {
    let world = World::new();
    let gateway = world.replica();
    let huge = format!("/{}", "a".repeat(4096));
    for asked in [
        "//evil.test",
        "///evil.test",
        "/\\evil.test",
        "\\/evil.test",
        "https:evil.test",
        "https:/evil.test",
        "https://g.test@evil.test",
        "https://g.test.evil.test",
        "https://evilg.test",
        "https://www.g.test.evil.test/bye",
        "https://www.g.test:444/bye",
        "https://www.g.test/bye/../x",
        "https://www.g.test/bye/",
        "HTTPS://www.g.test/bye",
        "javascript:alert(1)",
        "data:text/html,x",
        "%2f%2fevil.test",
        "/%09/evil.test",
        "%0d%0aSet-Cookie:x=1",
        "%0d%0aLocation:%20//evil.test",
        "%20//evil.test",
        "/bye%23@evil",
        "/bye?x",
        "bye",
        "",
        "/bye&redirect=//evil.test",
        "//evil.test&redirect=/",
        &huge,
    ] {
        let alice = Browser::logged_in(&gateway, "alice");
        let headers = [
            PAGE,
            ("Referer", "https://g.test/evil"),
            ("Origin", "https://g.test"),
        ];
        let target = format!("/logout?redirect={asked}");
        let answer = alice.clone().send(&gateway, "POST", &target, &headers, "");
        if answer.status == 400 {
            answer.assert_says_nothing_of_a_session();
            continue;
        }
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some("/bye")),
            "{asked}"
        );
        answer.assert_clears();
        alice.clone().get(&gateway, "/app").assert_session_over();
    }
}

#[test]
fn what_the_list_has_can_be_asked_for() {
    let world = World::new();
    let gateway = world.replica();
    for allowed in ALLOWED {
        for asked in [
            allowed.to_owned(),
            allowed.replace('/', "%2F").replace(':', "%3a"),
        ] {
            let mut alice = Browser::logged_in(&gateway, "alice");
            let target = format!("/logout?x=y&redirect={asked}");
            let answer = alice.send(&gateway, "POST", &target, &[PAGE], "");
            assert_eq!(answer.header("location"), Some(allowed));
        }
    }
    // A script is not sent anywhere.
    let answer = gateway.send("POST", "/logout?redirect=/", &[], "");
    assert_eq!((answer.status, answer.header("location")), (200, None));
}

#[test]
fn the_way_back_after_a_login_stays_on_this_host() {
    let world = World::new();
    let gateway = world.replica();
    for (target, back) in [
        ("/app", "%2Fapp"),
        ("//evil.test/app", "%2Fevil%2Etest%2Fapp"),
        ("///evil.test", "%2Fevil%2Etest"),
        ("/app?next=//evil.test", "%2Fapp%3Fnext%3D%2F%2Fevil%2Etest"),
        (
            "/app?a=%0d%0aLocation:x",
            "%2Fapp%3Fa%3D%250d%250aLocation%3Ax",
        ),
        ("http://g.test/app", "%2Fapp"),
    ] {
        let answer = gateway.send("GET", target, &[PAGE], "");
        let expected = format!("/login?return_to={back}");
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some(&*expected)),
            "{target}"
        );
        assert!(answer.all("set-cookie").is_empty());
    }
}
