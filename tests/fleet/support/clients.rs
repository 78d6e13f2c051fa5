//! What one client does: it logs in, is on all replicas at once, logs out somewhere, and writes down what it saw.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clock::BootTime;

use super::client::{Answer, Client};
use super::fleet::Fleet;
use super::history::{History, Logout, Outcome, Request};
use super::random::Random;

/// A session, as its browser knows it.
#[derive(Clone, Debug)]
pub struct Session {
    pub number: u32,
    pub user: String,
    pub cookie: String,
}

impl Session {
    /// From the claims of the access token.
    pub fn handle(&self) -> String {
        let claims = self.cookie.split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        claims["sid"].as_str().unwrap().to_owned()
    }
}

/// Which way a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Logout,
    /// With all others of its user.
    LogoutAll,
    /// By the admin API.
    Admin,
    /// All of its user, by the admin API.
    AdminUser,
}

/// A client with connections of its own to every replica.
pub struct Person<'f> {
    fleet: &'f Fleet,
    random: Random,
    /// One that asks for what changes something, and one per replica that looks.
    hand: Client,
    eyes: Vec<Client>,
    next: u32,
    pub history: History,
    /// Those whose end was answered.
    pub ended: Vec<Session>,
}

impl<'f> Person<'f> {
    pub fn new(fleet: &'f Fleet, random: &Random, number: u32) -> Self {
        Self {
            fleet,
            random: random.fork(u64::from(number) + 1),
            hand: Client::default(),
            eyes: fleet.replicas().iter().map(|_| Client::default()).collect(),
            next: number * 1_000_000,
            history: History::default(),
            ended: Vec::new(),
        }
    }

    /// Anywhere that lets them in.
    pub fn log_in(&mut self, user: &str) -> Session {
        loop {
            let replica = self.random.below(self.fleet.replicas().len());
            if let Some(session) = self.log_in_at(replica, user) {
                return session;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `None` if that replica lets nobody in now.
    pub fn log_in_at(&mut self, replica: usize, user: &str) -> Option<Session> {
        let address = self.fleet.replica(replica).address();
        let answer = self.hand.post(address, &format!("/login?{user}"), "")?;
        self.next += 1;
        (answer.status == 200).then(|| Session {
            number: self.next,
            user: user.to_owned(),
            cookie: answer.cookies,
        })
    }

    /// One session, or two of one user, from login to logout; every replica is asked all the while, and once more after.
    pub fn live(&mut self) {
        let ending = match self.random.below(20) {
            0..11 => Ending::Logout,
            11..14 => Ending::LogoutAll,
            14..17 => Ending::Admin,
            _ => Ending::AdminUser,
        };
        let user = format!("user-{}", self.next);
        let mut sessions = vec![self.log_in(&user)];
        if matches!(ending, Ending::LogoutAll | Ending::AdminUser) {
            sessions.push(self.log_in(&user));
        }
        let at_once = if self.random.below(5) == 0 { 2 } else { 1 };
        self.end_under_watch(&sessions, ending, at_once, None);
    }

    /// Ends the sessions, `at_once` times at once, first at `replica`, or else anywhere, while they are used on every replica.
    /// Says how long it took to be answered.
    pub fn end_under_watch(
        &mut self,
        sessions: &[Session],
        ending: Ending,
        at_once: usize,
        replica: Option<usize>,
    ) -> Duration {
        let over = AtomicBool::new(false);
        let fleet = self.fleet;
        let random = &mut self.random;
        let (eyes, hand) = (&mut self.eyes, &mut self.hand);
        let (requests, logouts) = thread::scope(|scope| {
            let watches: Vec<_> = (eyes.iter_mut().enumerate())
                .map(|(replica, eye)| {
                    let (over, pace) = (&over, random.fork(replica as u64));
                    scope.spawn(move || watch(fleet, replica, eye, sessions, over, pace))
                })
                .collect();
            thread::sleep(Duration::from_millis(random.between(0, 8)));
            let others: Vec<_> = (1..at_once)
                .map(|number| {
                    let choices = random.fork(number as u64);
                    scope.spawn(move || {
                        end(
                            fleet,
                            &mut Client::default(),
                            sessions,
                            ending,
                            None,
                            choices,
                        )
                    })
                })
                .collect();
            let choices = random.fork(0);
            let mut logouts = vec![end(fleet, hand, sessions, ending, replica, choices)];
            random.number();
            over.store(true, Ordering::Relaxed);
            logouts.extend(others.into_iter().map(|other| other.join().unwrap()));
            let requests: Vec<Request> = watches
                .into_iter()
                .flat_map(|watch| watch.join().unwrap())
                .collect();
            (requests, logouts)
        });
        self.history.requests.extend(requests);
        let took = (logouts.iter())
            .map(|(sent, answered)| {
                answered.map_or(Duration::MAX, |answered| answered.since(*sent))
            })
            .max();
        for (sent, answered) in logouts {
            for session in sessions {
                self.history.logouts.push(Logout {
                    session: session.number,
                    sent,
                    answered,
                });
            }
            if answered.is_some() {
                self.ended.extend(sessions.iter().cloned());
            }
        }
        took.unwrap_or_default()
    }

    /// Asks every replica once.
    pub fn look(&mut self, session: &Session) -> Vec<Outcome> {
        (0..self.eyes.len())
            .map(|replica| self.look_at(replica, session))
            .collect()
    }

    pub fn look_at(&mut self, replica: usize, session: &Session) -> Outcome {
        let request = ask(self.fleet, replica, &mut self.eyes[replica], session);
        self.history.requests.push(request);
        request.outcome
    }
}

/// Uses the sessions on a replica in turn, and once more each when it is over.
fn watch(
    fleet: &Fleet,
    replica: usize,
    eye: &mut Client,
    sessions: &[Session],
    over: &AtomicBool,
    mut pace: Random,
) -> Vec<Request> {
    let mut requests = Vec::new();
    loop {
        let is_last = over.load(Ordering::Relaxed);
        for session in sessions {
            requests.push(ask(fleet, replica, eye, session));
        }
        if is_last {
            return requests;
        }
        thread::sleep(Duration::from_micros(pace.between(200, 4000)));
    }
}

fn ask(fleet: &Fleet, replica: usize, eye: &mut Client, session: &Session) -> Request {
    let address = fleet.replica(replica).address();
    let sent = fleet.clock.boot();
    let answer = eye.get(address, "/", &session.cookie);
    let answered = fleet.clock.boot();
    Request {
        session: session.number,
        replica: u8::try_from(replica).unwrap(),
        sent,
        answered,
        outcome: outcome(answer.as_ref(), &session.user),
    }
}

pub fn outcome(answer: Option<&Answer>, user: &str) -> Outcome {
    match answer {
        Some(answer) if answer.status == 200 && answer.body == user => Outcome::Served,
        Some(answer) if answer.status == 200 => Outcome::Mistaken,
        Some(answer) if answer.status == 401 => Outcome::Refused,
        Some(answer) if answer.status == 503 => Outcome::Unavailable,
        _ => Outcome::Lost,
    }
}

/// Asks until somebody says that it is done: when it was first asked for, and when it was answered.
fn end(
    fleet: &Fleet,
    hand: &mut Client,
    sessions: &[Session],
    ending: Ending,
    first: Option<usize>,
    mut random: Random,
) -> (BootTime, Option<BootTime>) {
    let sent = fleet.clock.boot();
    let Session { user, cookie, .. } = &sessions[0];
    let mut next = first;
    for _ in 0..MOST_TRIES {
        let number = next
            .take()
            .unwrap_or_else(|| random.below(fleet.replicas().len()));
        let replica = fleet.replica(number);
        let answer = match ending {
            Ending::Logout => hand.post(replica.address(), "/logout", cookie),
            Ending::LogoutAll => hand.post(replica.address(), "/logout-all", cookie),
            Ending::Admin => {
                let target = format!("/v1/sessions/{}", sessions[0].handle());
                replica.admin(hand, "DELETE", &target)
            }
            Ending::AdminUser => {
                replica.admin(hand, "DELETE", &format!("/v1/users/{user}/sessions"))
            }
        };
        if answer.is_some_and(|answer| answer.status == 200) {
            return (sent, Some(fleet.clock.boot()));
        }
        thread::sleep(Duration::from_millis(random.between(10, 50)));
    }
    (sent, None)
}

const MOST_TRIES: u32 = 400;
