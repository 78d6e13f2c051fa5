//! The checker of histories, on histories made by hand.

use std::time::Duration;

use portcullis::clock::BootTime;

use crate::support::history::{History, Logout, Outcome, Request};

fn at(millis: u64) -> BootTime {
    BootTime::ZERO + Duration::from_millis(millis)
}

fn request(session: u32, sent: u64, answered: u64, outcome: Outcome) -> Request {
    Request {
        session,
        replica: 0,
        sent: at(sent),
        answered: at(answered),
        outcome,
    }
}

fn logout(session: u32, sent: u64, answered: Option<u64>) -> Logout {
    Logout {
        session,
        sent: at(sent),
        answered: answered.map(at),
    }
}

#[test]
fn the_checker_tells_what_must_not_be_from_what_may() {
    use Outcome::{Lost, Mistaken, Refused, Served, Unavailable};
    let logouts = vec![
        logout(1, 100, Some(200)),
        // A second try: the first answer counts, and the first asking.
        logout(1, 150, Some(300)),
        logout(2, 100, None),
    ];
    let cases = [
        ("before", request(1, 10, 20, Served), [0, 0, 0]),
        (
            "while it is asked for",
            request(1, 110, 120, Served),
            [0, 0, 0],
        ),
        (
            "begun before its answer",
            request(1, 199, 900, Served),
            [0, 0, 0],
        ),
        (
            "begun after its answer",
            request(1, 201, 202, Served),
            [1, 0, 0],
        ),
        ("long after", request(1, 9000, 9001, Served), [1, 0, 0]),
        ("refused after", request(1, 201, 202, Refused), [0, 0, 0]),
        (
            "refused while it is asked for",
            request(1, 50, 101, Refused),
            [0, 0, 0],
        ),
        ("refused before", request(1, 50, 99, Refused), [0, 1, 0]),
        ("unavailable", request(1, 50, 99, Unavailable), [0, 0, 0]),
        ("lost", request(1, 201, 250, Lost), [0, 0, 0]),
        ("never answered", request(2, 900, 901, Served), [0, 0, 0]),
        ("never asked for", request(3, 900, 901, Served), [0, 0, 0]),
        (
            "refused for nothing",
            request(3, 900, 901, Refused),
            [0, 1, 0],
        ),
        (
            "as somebody else",
            request(3, 900, 901, Mistaken),
            [0, 0, 1],
        ),
    ];
    for (what, request, expected) in cases {
        let history = History {
            requests: vec![request],
            logouts: logouts.clone(),
        };
        let found = history.check();
        let counts = [
            found.violations.len(),
            found.refused_early.len(),
            found.mistaken.len(),
        ];
        assert_eq!(counts, expected, "{what}");
    }
}

#[test]
fn staleness_is_counted_from_the_first_asking() {
    let history = History {
        requests: vec![
            request(1, 130, 500, Outcome::Served),
            request(1, 190, 500, Outcome::Refused),
        ],
        logouts: vec![logout(1, 100, Some(200)), logout(1, 120, Some(180))],
    };
    assert_eq!(history.check().stalest, Duration::from_millis(30));
}
