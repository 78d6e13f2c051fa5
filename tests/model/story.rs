//! A trace in words.

use crate::checker::Violation;
use crate::fleet::{Config, rows};
use crate::state::{Logout, Phase, Replica, SERVED, Stage, State, TOO_OLD};

/// What happened, one line a step.
pub fn told(config: &Config, violation: &Violation) -> String {
    let states: Vec<State> = violation.trace.iter().map(|key| State::of(*key)).collect();
    let mut story = format!(
        "{} steps ({} states until then): {}\n",
        states.len() - 1,
        violation.states,
        violation.what
    );
    for (number, pair) in states.windows(2).enumerate() {
        let step = step(config, &pair[0], &pair[1]);
        story += &format!("{:>4}  {step}\n", number + 1);
    }
    story
}

const NAMES: [&str; 3] = ["A", "B", "C"];

fn step(config: &Config, before: &State, after: &State) -> String {
    if after.request != before.request {
        return request(config, before, after);
    }
    for number in 0..config.logouts.len() {
        let (was, is) = (&before.logouts[number], &after.logouts[number]);
        if was.stage != is.stage || was.behind != is.behind {
            let dead = after.crashes + after.leaves > before.crashes + before.leaves;
            if !dead || is.stage == Stage::Answered {
                return logout(config, number, was, is);
            }
        }
    }
    for (number, name) in NAMES.iter().enumerate() {
        let (was, is) = (&before.replicas[number], &after.replicas[number]);
        if was.phase != is.phase || was.read != is.read {
            return format!("{name} {}", feed(was, is));
        }
    }
    if after.misfortune != before.misfortune {
        return "what the rule, or the assumption, is there for: the database's clock jumps, or the newest entry goes".to_owned();
    }
    if after.reapers != before.reapers
        && after.small_steps == before.small_steps
        && let Some(told) = reaper(before, after)
    {
        return told;
    }
    let lapsed: Vec<_> = (0..config.replicas())
        .filter(|at| before.replicas[*at].trust != TOO_OLD && after.replicas[*at].trust == TOO_OLD)
        .map(|at| NAMES[at])
        .collect();
    match lapsed[..] {
        [] => "time passes".to_owned(),
        _ => format!("time passes; the lease of {} runs out", lapsed.join(", ")),
    }
}

fn request(config: &Config, before: &State, after: &State) -> String {
    let made = match after.request {
        0 => return "the request is refused".to_owned(),
        SERVED => before.request,
        made => made,
    };
    let (replica, session) = crate::state::of_request(made);
    let name = NAMES[replica];
    let broken = config.broken == Some(crate::fleet::Break::SetBeforeDeadline);
    match (after.request == SERVED, broken) {
        (false, false) => {
            format!("a request of session {session} comes to {name}: the deadline has not passed")
        }
        (false, true) => {
            format!("a request of session {session} comes to {name}: the set does not have it")
        }
        (true, false) => {
            format!("{name} does not find session {session} in its set, and serves the request")
        }
        (true, true) => format!(
            "{name} finds its deadline not passed, and serves the request of session {session}"
        ),
    }
}

fn logout(config: &Config, number: usize, was: &Logout, is: &Logout) -> String {
    let asked = config.logouts[number];
    let what = match asked.by_handle {
        true => format!("logout {number} (session {})", asked.session),
        false => format!("logout {number} (the user of session {})", asked.session),
    };
    let at = NAMES[usize::from(was.at)];
    match is.stage {
        Stage::NotAsked => format!("{what}: not asked for"),
        Stage::Sent => format!(
            "{what}: {} is asked, and sends it to the store",
            NAMES[usize::from(is.at)]
        ),
        Stage::NothingFound => format!("{what}: the store finds nothing to delete"),
        Stage::Committed => format!("{what}: committed as {}", is.sequence),
        Stage::HeadRead => format!("{what}: the head is read: {}", is.sequence),
        Stage::Waiting => format!("{what}: {at} has the store's reply, and waits"),
        Stage::Looked => format!(
            "{what}: {at} reads the rows; behind are [{}]",
            names(is.behind)
        ),
        Stage::Answered => format!("{what}: answered"),
        Stage::Lost => format!("{what}: lost"),
        Stage::Orphaned => format!("{what}: orphaned"),
        Stage::Drawn => format!("{what}: draws the number {}", is.sequence),
        Stage::Listed => format!(
            "{what}: the rows are read before the commit: [{}]",
            names(is.behind)
        ),
    }
}

fn feed(was: &Replica, is: &Replica) -> String {
    match is.phase {
        Phase::Out => "is out".to_owned(),
        Phase::Down => "is gone".to_owned(),
        Phase::Started => "reads its clock and sends the write of its row".to_owned(),
        Phase::Written => format!("has its row committed (applied {})", is.applied),
        Phase::Read | Phase::ReadFirst if was.phase == Phase::ReadFirst => {
            "has its row committed".to_owned()
        }
        Phase::Read | Phase::ReadFirst => {
            format!("reads the log: {} entries", is.read.count_ones())
        }
        Phase::Inserted => "inserts them into its set".to_owned(),
        Phase::Cut => "cuts the streams".to_owned(),
        Phase::Applied => format!("has applied {}", is.applied),
        Phase::Leaving => "begins to leave".to_owned(),
        Phase::Confirmed => "confirms them".to_owned(),
        Phase::Trusted => "moves its deadline".to_owned(),
        Phase::Idle if is.trust != was.trust && is.trust != TOO_OLD => {
            "has nothing more to do, and moves its deadline".to_owned()
        }
        Phase::Idle => format!("is idle (applied {})", is.applied),
    }
}

fn reaper(before: &State, after: &State) -> Option<String> {
    if rows(before) != rows(after) {
        let gone = rows(before) & !rows(after);
        return Some(format!("a reaper deletes the row of {}", names(gone)));
    }
    for (was, is) in before.reapers.iter().zip(&after.reapers) {
        if was.row == 0 && is.row > 0 {
            let row = NAMES[usize::from(is.row - 1)];
            return Some(format!("a reaper sees the row of {row}"));
        }
        if !was.decided && is.decided {
            return Some(
                "the reaper finds that the beat stands still, and is about to delete".to_owned(),
            );
        }
    }
    None
}

fn names(mask: u8) -> String {
    let named = (0..NAMES.len()).filter(|at| mask & 1 << at != 0);
    named.map(|at| NAMES[at]).collect::<Vec<_>>().join(" ")
}
