//! The master key: made once, and never overwritten, whatever is found in its place.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Ended, Gateway, Home, Upstream, only_app, program};

fn home_with_a_session() -> (Upstream, Home, String) {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let mut gateway = home.start();
    let cookie = gateway.connect().login("alice").cookies();
    gateway.signal("TERM");
    gateway.ended();
    (upstream, home, cookie)
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn the_first_start_makes_a_key_for_its_owner_alone() {
    let (_upstream, home, cookie) = home_with_a_session();
    let key = home.path("portcullis.key");
    let metadata = std::fs::metadata(&key).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    let text = std::fs::read_to_string(&key).unwrap();
    assert_eq!(text.trim_end().len(), 43);
    let store = std::fs::metadata(home.path("portcullis.db")).unwrap();
    assert_eq!(store.permissions().mode() & 0o077, 0);

    let gateway = home.start();
    assert_eq!(gateway.status("/", &cookie), 200);
    assert_eq!(std::fs::read_to_string(&key).unwrap(), text);
    assert!(!gateway.log().contains(text.trim_end()));
}

#[test]
fn what_is_wrong_with_a_key_is_said_and_nothing_is_overwritten() {
    let (_upstream, home, cookie) = home_with_a_session();
    let key = home.path("portcullis.key");
    let good = std::fs::read(&key).unwrap();
    let database = std::fs::read(home.path("portcullis.db")).unwrap();
    let other = [b'A'; 43].to_vec();
    for (what, content, mode, words) in [
        ("empty", Vec::new(), 0o600, "43 characters of base64url"),
        (
            "half",
            good[..20].to_vec(),
            0o600,
            "43 characters of base64url",
        ),
        ("binary", vec![0xff; 32], 0o600, "master key file"),
        ("another one's", other, 0o600, "another master key"),
        ("exposed", good.clone(), 0o644, "chmod 600"),
    ] {
        std::fs::write(&key, &content).unwrap();
        chmod(&key, mode);
        for ended in [
            home.fail_to_start(),
            home.run(&["sessions", "open", "--user", "mallory"]),
        ] {
            assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
            assert!(ended.stderr.contains(words), "{what}: {ended:?}");
            assert!(ended.stderr.contains("portcullis.key"), "{what}: {ended:?}");
        }
        assert_eq!(std::fs::read(&key).unwrap(), content, "{what}");
        // Of a log that is left behind, SQLite would make another database than the one that is put in its place.
        let left = home.files();
        let logs = left.iter().filter(|name| name.contains("-wal"));
        assert_eq!(logs.count(), 0, "{what}: {left:?}");
        chmod(&key, 0o600);
    }
    std::fs::remove_file(&key).unwrap();
    let ended = home.fail_to_start();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("restore the file"), "{ended:?}");
    assert!(!key.exists());
    assert_eq!(std::fs::read(home.path("portcullis.db")).unwrap(), database);

    std::fs::write(&key, good).unwrap();
    chmod(&key, 0o600);
    assert_eq!(home.start().status("/", &cookie), 200);
}

#[test]
fn a_key_in_the_environment_leaves_no_file() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let serve = |key: &str| {
        let mut command = program(home.config().parent().unwrap());
        command
            .args(["serve", "--config", "portcullis.toml"])
            .env("PORTCULLIS_STORE__MASTER_KEY", key);
        command
    };
    let key = "B".repeat(42) + "A";
    let mut gateway = Gateway::start(serve(&key));
    let cookie = gateway.connect().login("alice").cookies();
    gateway.signal("TERM");
    gateway.ended();
    assert!(!home.files().contains(&"portcullis.key".to_owned()));

    let ended = Ended::of(serve(&("C".repeat(42) + "A")));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("another master key"), "{ended:?}");
    assert!(!ended.stderr.contains(&key[..20]), "{ended:?}");
    let ended = Ended::of(serve("too short"));
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(!ended.stderr.contains("too short"), "{ended:?}");
    assert_eq!(Gateway::start(serve(&key)).status("/", &cookie), 200);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let upstream = Upstream::application();
    let home = Home::new(&format!(
        "[store]\nmaster_key_file = \"nowhere/portcullis.key\"\n{}",
        only_app(upstream.address)
    ));
    let ended = home.fail_to_start();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("nowhere/portcullis.key"), "{ended:?}");
}
