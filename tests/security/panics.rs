//! T119g: a stage that panics in the program as it is built. It asks the system for the time, and gets none: Rust's library then
//! panics. What makes it so is a library that comes before the system's; no part of the gateway knows of it.

use std::fs;

use crate::runner::{Case, Tried};
use crate::world::{Held, Setup, World, request};

pub const CASES: &[Case] = &[Case {
    name: "t119g_panic_in_a_stage",
    title: "a panic in a stage is answered with 500, and no stage follows",
    own: "on optional routes, with tokens to renew, a logout of all devices; the gateway goes on",
    run: t119g_panic_in_a_stage,
}];

/// Fails to tell a worker the wall clock's time once it has told it as often as there are bytes in a file named `armed`.
const NO_TIME: &str = r#"
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *time) {
    char thread[16] = "";
    struct stat armed;
    if (id == CLOCK_REALTIME && prctl(PR_GET_NAME, thread) == 0 && strncmp(thread, "worker-", 7) == 0
        && stat("armed", &armed) == 0) {
        if (armed.st_size == 0) {
            unlink("armed");
            errno = EINVAL;
            return -1;
        }
        if (truncate("armed", armed.st_size - 1) != 0)
            return -1;
    }
    return syscall(SYS_clock_gettime, id, time);
}
"#;

fn t119g_panic_in_a_stage(tried: &mut Tried) {
    let world = World::with(&Setup {
        library: Some(NO_TIME),
        log: Some("info"),
        session: "refresh = \"transparent\"",
        ..Default::default()
    });
    let alice = world.login("alice");
    let expired = format!("{}; {}", world.expired(&alice), alice.refresh);
    for (what, method, target, cookie) in [
        ("required", "GET", "/app/a", &alice.access),
        ("optional", "GET", "/opt/a", &alice.access),
        ("to be renewed", "GET", "/app/a", &expired),
        ("logout", "POST", "/auth/signout-all", &alice.access),
    ] {
        tried.variant(what, || {
            let headers = [("Cookie", &**cookie), ("Sec-Fetch-Site", "same-origin")];
            panics_in_each_place(&world, &request(method, target, &headers), &alice);
        });
    }
    world.gateway().has_logged("panicked");
}

/// One reading of the time after the other fails. Those of a stage are answered with 500; others, before the stages and after
/// them, are of the library that speaks HTTP, and close the connection. How many there are before the stages depends on how
/// the request comes in, so a round that has met none of a stage is followed by another.
fn panics_in_each_place(world: &World, bytes: &str, alive: &Held) {
    let mut refused = 0;
    for round in 0..ROUNDS * PLACES {
        if refused > 0 && round % PLACES == 0 {
            break;
        }
        arm(world, round % PLACES);
        let mut conn = world.gateway().connect();
        conn.send(bytes);
        let answer = conn.try_answer();
        let _ = fs::remove_file(world.home.path("armed"));
        let came = world.recorded();
        if let Some(answer) = answer.filter(|answer| answer.status == 500) {
            assert_eq!(answer.set_cookies().count(), 0, "{}", answer.head);
            assert!(came.is_empty(), "{came:?}");
            refused += 1;
        }
        assert_eq!(world.get("/public/a", &alive.access).status, 200);
        world.recorded();
    }
    assert!(refused > 0, "no stage has panicked");
}

/// At once, so that nobody sees a file that is not complete.
fn arm(world: &World, readings: usize) {
    fs::write(world.home.path("arming"), "x".repeat(readings)).unwrap();
    fs::rename(world.home.path("arming"), world.home.path("armed")).unwrap();
}

/// More than there are on the way of any of these requests.
const PLACES: usize = 12;

const ROUNDS: usize = 10;
