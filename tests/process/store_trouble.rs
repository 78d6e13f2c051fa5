//! A store in trouble, under the real program: what is refused, what goes on, and that it recovers by itself.

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use sqlx::{Connection, Executor, SqliteConnection};

use crate::support::{Answer, Gateway, Home, Upstream, eventually, only_app};

fn configuration(upstream: &Upstream, more: &str) -> String {
    format!("{more}\n{}", only_app(upstream.address))
}

/// Holds the database's only lock until it is told to let go.
struct Lock {
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
}

impl Lock {
    fn take(database: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let url = format!("sqlite:{}", database.display());
        let connection = runtime.block_on(async {
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            connection
                .execute("PRAGMA busy_timeout = 10000")
                .await
                .unwrap();
            connection.execute("BEGIN EXCLUSIVE").await.unwrap();
            connection
        });
        Self {
            runtime,
            connection,
        }
    }

    fn release(mut self) {
        self.runtime.block_on(async {
            self.connection.execute("ROLLBACK").await.unwrap();
            self.connection.close().await.unwrap();
        });
    }
}

fn login(gateway: &Gateway) -> Answer {
    gateway.connect().post("/login?mallory", "")
}

/// What holds whenever the store cannot be written.
fn is_refused_but_for_the_logout(gateway: &Gateway, alice: &str) {
    let answer = login(gateway);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.set_cookies().count(), 0, "{answer:?}");
    assert!(answer.header("portcullis-login").is_none());

    let answer = gateway.connect().post("/logout", alice);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.clears(), "{answer:?}");
    // It holds here from now on, and is owed to the store.
    let answer = gateway.get("/", alice);
    assert!([401, 503].contains(&answer.status), "{answer:?}");
}

fn recovers(home: &Home, gateway: &Gateway, logged_out: &str, untouched: &str) {
    eventually("logins are possible again", || login(gateway).status == 200);
    eventually("it says that it is ready", || {
        gateway.admin_status("/readyz") == 200
    });
    assert_eq!(gateway.status("/", untouched), 200);
    assert_eq!(gateway.status("/", logged_out), 401);
    eventually("the logout is written", || {
        home.listed().len()
            == 1 + home
                .run(&["sessions", "list", "--json", "--user", "mallory"])
                .stdout
                .lines()
                .count()
    });
    assert_eq!(gateway.connect().post("/logout", untouched).status, 200);
    assert_eq!(gateway.status("/", untouched), 401);
}

#[test]
fn a_locked_database() {
    let upstream = Upstream::application();
    let home = Home::new(&configuration(&upstream, "[revocation]\nlease = \"1s\"\n"));
    let gateway = home.start();
    let alice = gateway.connect().login("alice").cookies();
    let bob = gateway.connect().login("bob").cookies();
    let lock = Lock::take(&home.path("portcullis.db"));
    assert_eq!(
        gateway.status("/", &bob),
        200,
        "within its lease it needs no store"
    );
    assert_eq!(gateway.status("/public/", ""), 200);
    is_refused_but_for_the_logout(&gateway, &alice);
    eventually("it says that it is not ready", || {
        gateway.admin_status("/readyz") == 503
    });
    assert_eq!(gateway.admin_status("/livez"), 200);
    // Past its lease it reads the store, which a writer does not keep from being read in WAL mode, or refuses.
    let answer = gateway.get("/", &bob);
    assert!([200, 503].contains(&answer.status), "{answer:?}");
    assert_eq!(
        answer.set_cookies().count(),
        0,
        "nobody is logged out by a failure"
    );
    assert_eq!(gateway.status("/public/", ""), 200);
    lock.release();
    recovers(&home, &gateway, &alice, &bob);
}

#[test]
fn a_database_that_is_locked_for_a_moment_is_not_noticed() {
    let upstream = Upstream::application();
    let home = Home::new(&configuration(&upstream, ""));
    let gateway = home.start();
    let lock = Lock::take(&home.path("portcullis.db"));
    let waiting = {
        let mut conn = gateway.connect();
        thread::spawn(move || conn.post("/login?alice", "").status)
    };
    thread::sleep(Duration::from_millis(300));
    lock.release();
    assert_eq!(waiting.join().unwrap(), 200);
}

/// Whoever starts a gateway or runs a command meanwhile is told, in time, what is wrong.
#[test]
fn a_start_on_a_locked_database() {
    let upstream = Upstream::application();
    let home = Home::new(&configuration(&upstream, ""));
    let gateway = home.start();
    let opened = home.open_session("alice");
    drop(gateway);
    let lock = Lock::take(&home.path("portcullis.db"));
    for ended in [
        home.fail_to_start(),
        home.run(&["sessions", "revoke", &opened.handle]),
        home.run(&["sessions", "open", "--user", "bob"]),
    ] {
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("database is locked"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    lock.release();
    assert_eq!(home.listed(), [opened.handle]);
}

#[test]
fn a_database_that_is_moved_away_and_comes_back() {
    let upstream = Upstream::application();
    let home = Home::new(&configuration(&upstream, "[revocation]\nlease = \"1s\"\n"));
    let mut gateway = home.start();
    let alice = gateway.connect().login("alice").cookies();
    let names: Vec<String> = home
        .files()
        .into_iter()
        .filter(|name| name.starts_with("portcullis.db"))
        .collect();
    for name in &names {
        std::fs::rename(home.path(name), home.path(&format!("away-{name}"))).unwrap();
    }
    // Open files go on; nothing may be lost or made up without the name.
    thread::sleep(Duration::from_millis(1500));
    let answer = gateway.get("/", &alice);
    assert!([200, 503].contains(&answer.status), "{answer:?}");
    assert_eq!(answer.set_cookies().count(), 0, "{answer:?}");
    let answer = login(&gateway);
    assert!([200, 503].contains(&answer.status), "{answer:?}");
    assert!(
        !home.path("portcullis.db").exists(),
        "an empty store was put in its place: {:?}",
        home.files()
    );
    for name in &names {
        std::fs::rename(home.path(&format!("away-{name}")), home.path(name)).unwrap();
    }
    eventually("logins are possible again", || {
        login(&gateway).status == 200
    });
    let bob = gateway.connect().login("bob").cookies();
    assert_eq!(gateway.connect().post("/logout", &alice).status, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code(), Some(0));
    let gateway = home.start();
    assert_eq!(gateway.status("/", &alice), 401);
    assert_eq!(gateway.status("/", &bob), 200);
}

const SMALL_DISK: &str = "PORTCULLIS_TEST_SMALL_DISK";

/// Runs itself again where a small disk is mounted: in a mount namespace of its own.
fn on_a_small_disk(test: &str, then: fn(&Path)) {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return then(Path::new(&disk));
    }
    let directory = tempfile::tempdir().unwrap();
    // Root needs no user namespace, and may not be allowed one; everybody else needs it.
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let user: &[&str] = if is_root {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    let status = Command::new("unshare")
        .args(user)
        .args(["--mount", "sh", "-ec"])
        .arg(r#"mount -t tmpfs -o size=4m none "$1"; exec "$2" --exact --nocapture "$3""#)
        .arg("sh")
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(SMALL_DISK, directory.path())
        .status()
        .unwrap();
    assert!(status.success());
}

fn store_on(disk: &Path) -> String {
    format!(
        "[store]\nurl = \"sqlite:{}\"\n[revocation]\nlease = \"1s\"\n",
        disk.join("portcullis.db").display()
    )
}

#[test]
fn a_full_disk() {
    on_a_small_disk("store_trouble::a_full_disk", |disk| {
        let upstream = Upstream::application();
        let home = Home::new(&configuration(&upstream, &store_on(disk)));
        let gateway = home.start();
        let alice = gateway.connect().login("alice").cookies();
        let bob = gateway.connect().login("bob").cookies();
        let ballast = disk.join("ballast");
        fill(&ballast);
        // What the log has room for may still be written.
        eventually("the disk is full", || login(&gateway).status == 503);
        is_refused_but_for_the_logout(&gateway, &alice);
        assert_eq!(gateway.status("/public/", ""), 200);
        let answer = gateway.get("/", &bob);
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        assert_eq!(answer.set_cookies().count(), 0);
        std::fs::remove_file(ballast).unwrap();
        recovers(&home, &gateway, &alice, &bob);
    });
}

fn fill(ballast: &PathBuf) {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    while file.write_all(&[0]).is_ok() {}
}

#[test]
fn a_disk_that_becomes_read_only() {
    on_a_small_disk("store_trouble::a_disk_that_becomes_read_only", |disk| {
        let remount = |how: &str| {
            let options = format!("remount,{how}");
            let status = Command::new("mount")
                .args(["-o", &options])
                .arg(disk)
                .status();
            status.unwrap().success()
        };
        let upstream = Upstream::application();
        let home = Home::new(&configuration(&upstream, &store_on(disk)));
        let gateway = home.start();
        let cookie = gateway.connect().login("alice").cookies();
        // A file system with files open for writing is not made read-only; a file that may not be written to is.
        assert!(!remount("ro"));
        for name in ["portcullis.db", "portcullis.db-wal", "portcullis.db-shm"] {
            let _ = std::fs::set_permissions(disk.join(name), PermissionsExt::from_mode(0o400));
        }
        // The files that are open stay open: nothing changes for a gateway that runs.
        assert_eq!(gateway.status("/", &cookie), 200);
        assert_eq!(login(&gateway).status, 200);
        drop(gateway);
        assert!(remount("ro"));
        let ended = home.fail_to_start();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("readonly database"), "{ended:?}");
        assert!(remount("rw"));
        let gateway = home.start();
        assert_eq!(gateway.status("/", &cookie), 200);
    });
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let upstream = Upstream::application();
    let home = Home::new(&configuration(&upstream, ""));
    let text = "these are my notes, and not a database, whatever its name may say\n".repeat(100);
    std::fs::write(home.path("portcullis.db"), &text).unwrap();
    for ended in [home.fail_to_start(), home.run(&["sessions", "list"])] {
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("portcullis.db"), "{ended:?}");
    }
    assert_eq!(
        std::fs::read_to_string(home.path("portcullis.db")).unwrap(),
        text
    );
}
