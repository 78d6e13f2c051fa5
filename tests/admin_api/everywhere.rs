//! What is done at one replica holds at all of them when it is answered.

use serde_json::json;

use crate::support::{Running, World, cookies_of};

#[test]
fn what_is_ended_here_is_ended_there() {
    let world = World::new();
    let [here, there] = [world.gateway(), world.gateway()];
    for _ in 0..5 {
        let sessions = [here.open("alice"), there.open("alice"), here.open("bob")];
        for session in &sessions {
            assert!(there.user_of(&session.access_cookie()).is_some());
        }
        here.done(
            "DELETE",
            &format!("/v1/sessions/{}", sessions[0].handle()),
            None,
        );
        assert!(there.user_of(&sessions[0].access_cookie()).is_none());
        let revoked = json!({ "status": "refused", "reason": "revoked" });
        assert_eq!(there.verify(sessions[0].access_token()), revoked);
        here.done("DELETE", "/v1/users/alice/sessions", None);
        assert!(there.user_of(&sessions[1].access_cookie()).is_none());
        assert!(there.user_of(&sessions[2].access_cookie()).is_some());
    }
}

#[test]
fn the_fleet_shows_who_has_followed_how_far() {
    let world = World::new();
    let [here, _there] = [world.gateway(), world.gateway()];
    let session = here.open("alice");
    let ended = here.done(
        "DELETE",
        &format!("/v1/sessions/{}", session.handle()),
        None,
    );
    let fleet = here.done("GET", "/v1/fleet", None);
    assert_eq!(fleet["head"], ended["sequence"]);
    assert_eq!(fleet["revocation_set_size"], 1);
    let replicas = fleet["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 2);
    assert!(
        replicas
            .iter()
            .any(|replica| replica["id"] == fleet["replica"])
    );
    for replica in replicas {
        assert_eq!(
            (&replica["lag"], &replica["applied"]),
            (&json!(0), &ended["sequence"])
        );
        assert_eq!(replica["lease_ms"], 3000);
    }
}

/// T088.
#[test]
fn claims_that_are_replaced_hold_at_the_next_request_everywhere() {
    let world = World::new();
    let [here, there] = [world.gateway(), world.gateway()];
    let session = here.open_with(json!({ "user": "alice", "claims": { "role": "admin" } }));
    let path = format!("/v1/sessions/{}/claims", session.handle());
    let mut cookies = session.cookies();
    for version in 1..=3 {
        let claims = json!({ "role": "reader", "change": version });
        let replaced = here.done("PUT", &path, Some(claims.clone()));
        assert_eq!(replaced["version"], version);
        for gateway in [&here, &there] {
            let outdated = json!({ "status": "refused", "reason": "outdated" });
            assert_eq!(gateway.verify(session.access_token()), outdated);
            // Old rights are not served; with nothing to refresh with, the client is told to.
            let refused = gateway.browse("/me", &session.access_cookie());
            assert_eq!(refused.status, 401);
            assert!(refused.body.contains("try refresh token"), "{refused:?}");
            assert!(refused.header("set-cookie").is_none(), "{refused:?}");
        }
        // A browser notices nothing: renewed in line.
        let served = there.browse("/me", &cookies);
        assert_eq!((served.status, served.body.as_str()), (200, "alice"));
        let lines = served
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie");
        cookies = cookies_of(lines.map(|(_, line)| line.as_str()));
        let access = cookies
            .split("; ")
            .find_map(|pair| pair.strip_prefix("sAccessToken="))
            .unwrap();
        for gateway in [&here, &there] {
            let verified = gateway.verify(access);
            assert_eq!(
                (&verified["status"], &verified["claims"]),
                (&json!("valid"), &claims)
            );
            assert!(
                gateway
                    .browse("/me", &cookies)
                    .header("set-cookie")
                    .is_none()
            );
        }
    }
    let log = here.done("GET", "/v1/revocations", None);
    let last = log["entries"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["reason"], &last["claims_version"]),
        (&json!("claims"), &json!(3))
    );

    // A revocation is stronger, and a session that has ended has no claims.
    here.done(
        "DELETE",
        &format!("/v1/sessions/{}", session.handle()),
        None,
    );
    let revoked = json!({ "status": "refused", "reason": "revoked" });
    assert_eq!(there.verify(session.access_token()), revoked);
    let late = here.call("PUT", &path, Some(json!({})));
    assert_eq!(late.problem(), (404, "session-not-found".into()));
}

/// Past its lease a replica asks the store, which knows the version as well.
#[test]
fn older_claims_are_refused_by_the_store_too() {
    let world = World::new();
    let gateway = world.gateway_with(&[("revocation.check", "database")]);
    let session = gateway.open("alice");
    assert_eq!(gateway.verify(session.access_token())["status"], "valid");
    let path = format!("/v1/sessions/{}/claims", session.handle());
    gateway.done("PUT", &path, Some(json!({ "role": "reader" })));
    assert_eq!(gateway.verify(session.access_token())["reason"], "outdated");
    assert_eq!(gateway.browse("/me", &session.cookies()).status, 200);
}

/// An exchange that the requests of one page share is not handed out with claims that were replaced since.
#[test]
fn a_shared_refresh_gives_the_claims_of_now() {
    let world = World::new();
    let gateway = world.gateway();
    let session = gateway.open("alice");
    world
        .hands
        .advance_wall(std::time::Duration::from_secs(2 * 3600));
    let renewed = |role: &str| {
        let served = gateway.browse("/me", &session.cookies());
        assert_eq!(served.status, 200, "{role}: {served:?}");
        let lines = served
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie");
        let cookies = cookies_of(lines.map(|(_, line)| line.as_str()));
        let access = cookies
            .split("; ")
            .find_map(|pair| pair.strip_prefix("sAccessToken="))
            .unwrap()
            .to_owned();
        assert_eq!(gateway.verify(&access)["status"], "valid", "{role}");
    };
    renewed("before");
    let path = format!("/v1/sessions/{}/claims", session.handle());
    gateway.done("PUT", &path, Some(json!({ "role": "reader" })));
    renewed("after");
}

#[test]
fn a_key_that_is_revoked_signs_and_verifies_nothing_anywhere() {
    let world = World::new();
    let [here, there] = [world.gateway(), world.gateway()];
    let session = here.open("alice");
    let keys = |gateway: &Running| gateway.done("GET", "/v1/keys", None)["keys"].clone();
    let first = keys(&here)[0]["kid"].as_str().unwrap().to_owned();
    let next = here.done("POST", "/v1/keys/rotate", None);
    assert_eq!(next["published_now"], true);
    let again = there.done("POST", "/v1/keys/rotate", None);
    assert_eq!(
        (&again["kid"], &again["published_now"]),
        (&next["kid"], &json!(false))
    );

    let path = format!("/v1/keys/{first}");
    let revoked = here.done("DELETE", &path, None);
    assert_eq!(
        (&revoked["revoked_now"], &revoked["signs"]),
        (&json!(true), &next["kid"])
    );
    for gateway in [&here, &there] {
        let refused = json!({ "status": "refused", "reason": "invalid" });
        assert_eq!(gateway.verify(session.access_token()), refused);
        assert_eq!(
            gateway.browse("/me", &session.cookies()).status,
            200,
            "renewed"
        );
        let again = gateway.done("DELETE", &path, None);
        assert_eq!(again["revoked_now"], false);
        let unknown = gateway.call("DELETE", "/v1/keys/unknown", None);
        assert_eq!(unknown.problem(), (404, "key-not-found".into()));
        let listed = keys(gateway);
        let listed = listed
            .as_array()
            .unwrap()
            .iter()
            .find(|key| key["kid"] == first.as_str());
        assert_eq!(listed.unwrap()["state"], "revoked");
    }
}
