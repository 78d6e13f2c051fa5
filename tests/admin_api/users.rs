//! Users: all sessions at once, disabled and enabled.

use serde_json::json;

use crate::support::World;

#[test]
fn many_users_are_revoked_each_as_a_whole() {
    let world = World::new();
    let gateway = world.gateway();
    let of_alice = [gateway.open("alice"), gateway.open("alice")];
    let (of_bob, of_carol) = (gateway.open("bob"), gateway.open("carol"));
    let users = json!({ "users": ["nobody", "alice", "bob", "alice"] });
    let revoked = gateway.done("POST", "/v1/users/revoke", Some(users));
    let ended: Vec<_> = revoked["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| {
            (
                user["user"].as_str().unwrap(),
                user["ended"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(ended, [("alice", 2), ("bob", 1), ("nobody", 0)]);
    for session in of_alice.iter().chain([&of_bob]) {
        assert!(gateway.user_of(&session.cookies()).is_none());
    }
    assert!(gateway.user_of(&of_carol.cookies()).is_some());
}

/// T089.
#[test]
fn a_disabled_user_stays_out_until_enabled() {
    let world = World::new();
    let gateways = [world.gateway(), world.gateway()];
    let session = gateways[1].open("alice");
    let path = "/v1/users/alice/disabled";
    let state = json!({ "disabled": false, "since": null });
    assert_eq!(gateways[0].done("GET", path, None), state);
    assert_eq!(gateways[0].done("PUT", path, None)["ended"], 1);
    assert_eq!(gateways[0].done("PUT", path, None)["ended"], 0);
    assert_eq!(gateways[0].done("GET", path, None)["disabled"], true);
    for gateway in &gateways {
        assert!(gateway.user_of(&session.cookies()).is_none());
        let login = gateway.log_in("alice");
        assert_eq!(login.status, 403, "{login:?}");
        assert!(
            login
                .headers
                .iter()
                .all(|(name, value)| name != "set-cookie" || value.contains("Max-Age=0"))
        );
        let opened = gateway.call("POST", "/v1/sessions", Some(json!({ "user": "alice" })));
        assert_eq!(opened.problem(), (409, "user-disabled".into()));
        assert_eq!(gateway.log_in("Alice").status, 200, "someone else");
    }
    for _ in 0..2 {
        assert_eq!(gateways[1].call("DELETE", path, None).status, 204);
    }
    for gateway in &gateways {
        assert_eq!(gateway.log_in("alice").status, 200);
    }
    assert!(
        gateways[0].user_of(&session.cookies()).is_none(),
        "what has ended stays ended"
    );
}
