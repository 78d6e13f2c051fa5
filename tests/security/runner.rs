//! Runs cases and prints what became of them as a table. Understands as much of the command line of Rust's own test harness as
//! `cargo test` and `cargo nextest` use.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::stores::Database;
use crate::transport::Transport;

/// One number of the list.
pub struct Case {
    /// `t004_identity_aliases`: begins with the number.
    pub name: &'static str,
    pub title: &'static str,
    /// What is tried beyond what befell others.
    pub own: &'static str,
    pub run: fn(&mut Tried),
}

/// Cases, how their requests get to the gateway, and where its sessions are.
pub struct Chapter {
    cases: &'static [Case],
    transports: &'static [Transport],
    databases: &'static [Database],
    /// These are about HTTP/1.1 itself, or about what is the same in all.
    once: &'static [&'static str],
}

impl Chapter {
    /// As the cases have it.
    pub const fn of(cases: &'static [Case]) -> Self {
        Self {
            cases,
            transports: &[Transport::Http1],
            databases: &[Database::Sqlite],
            once: &[],
        }
    }

    /// On SQLite and on PostgreSQL, but for those of these numbers.
    pub const fn on_all_databases(self, once: &'static [&'static str]) -> Self {
        Self {
            databases: Database::ALL,
            once,
            ..self
        }
    }

    /// Over HTTP/1.1, TLS and HTTP/2, but for those of these numbers.
    pub const fn over_all(cases: &'static [Case], once: &'static [&'static str]) -> Self {
        Self {
            transports: Transport::ALL,
            once,
            ..Self::of(cases)
        }
    }

    fn wanted(&self, case: &'static Case) -> Wanted {
        match self.once.iter().any(|number| case.name.starts_with(number)) {
            true => Wanted {
                case,
                transports: &[Transport::Http1],
                databases: &[Database::Sqlite],
            },
            false => Wanted {
                case,
                transports: self.transports,
                databases: self.databases,
            },
        }
    }
}

/// What a case has tried, and what did not hold.
#[derive(Default)]
pub struct Tried {
    variants: usize,
    failures: Vec<String>,
    missing: Option<&'static str>,
    elsewhere: Vec<&'static str>,
    /// How the variants are tried now.
    over: String,
}

impl Tried {
    /// Tries one variant; when it fails the others are tried all the same.
    pub fn variant(&mut self, what: impl Display, holds: impl FnOnce()) {
        self.variants += 1;
        if catch_unwind(AssertUnwindSafe(holds)).is_err() {
            self.failures
                .push(format!("{}, {what}: {}", self.over, last_words()));
        }
    }

    /// What is tried by a test of another program, which has its own result: `tests/process/tls.rs::name`. Here it is looked up
    /// alone, so that the table names no test that is not there.
    pub fn elsewhere(&mut self, test: &'static str) {
        if self.elsewhere.contains(&test) {
            return;
        }
        self.elsewhere.push(test);
        self.variant(test, || {
            let (file, name) = test.split_once("::").unwrap();
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let source = std::fs::read_to_string(path).unwrap();
            assert!(
                source.contains(&format!("fn {name}(")),
                "there is no such test"
            );
        });
    }

    /// The rest of the case waits for a feature that does not exist.
    pub fn waits_for(&mut self, feature: &'static str) {
        self.missing = Some(feature);
    }
}

thread_local! {
    static LAST_WORDS: RefCell<String> = RefCell::default();
}

/// What the last panic of this thread said, and where.
fn last_words() -> String {
    LAST_WORDS.take()
}

/// A failure is a line of the table, not a backtrace in the middle of it.
fn keep_last_words() {
    panic::set_hook(Box::new(|panic| {
        let said = panic.payload_as_str().unwrap_or("panicked");
        let at = panic.location().map(|at| format!(" ({at})"));
        let words = said.chars().take(MAX_WORDS).collect::<String>();
        LAST_WORDS.set(words.replace('\n', " | ") + &at.unwrap_or_default());
    }));
}

/// Runs the cases that the command line names, or all.
pub fn run(chapters: &[Chapter]) -> ExitCode {
    let asked = match Asked::from_arguments(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(unknown) => {
            print(&format!("unknown argument: {unknown}\n"));
            return ExitCode::from(2);
        }
    };
    let cases: Vec<Wanted> = chapters
        .iter()
        .flat_map(|chapter| chapter.cases.iter().map(|case| chapter.wanted(case)))
        .filter(|wanted| asked.wants(wanted.case.name))
        .collect();
    if asked.list {
        for wanted in &cases {
            print(&format!("{}: test\n", wanted.case.name));
        }
        return ExitCode::SUCCESS;
    }
    keep_last_words();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Tried)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..asked.threads.min(cases.len()) {
            scope.spawn(|| {
                while let Some((number, case)) = take(&next, &cases) {
                    let tried = one(case);
                    done.lock().unwrap().push((number, tried));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(number, _)| *number);
    table(&cases, &done)
}

/// A case that was asked for, and all ways in which it is tried.
#[derive(Clone, Copy)]
struct Wanted {
    case: &'static Case,
    transports: &'static [Transport],
    databases: &'static [Database],
}

fn take(next: &AtomicUsize, cases: &[Wanted]) -> Option<(usize, Wanted)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    Some((number, *cases.get(number)?))
}

fn one(wanted: Wanted) -> Tried {
    let mut tried = Tried::default();
    let databases = wanted.databases.iter();
    let ways = databases.flat_map(|database| {
        let transports = wanted.transports.iter();
        transports.map(move |transport| (transport, database))
    });
    for (transport, database) in ways {
        transport.choose();
        database.choose();
        tried.over = format!("{} and {}", transport.name(), database.name());
        let ran = catch_unwind(AssertUnwindSafe(|| (wanted.case.run)(&mut tried)));
        if ran.is_err() {
            let failure = format!("{}: {}", tried.over, last_words());
            tried.failures.push(failure);
        }
    }
    Database::Sqlite.choose();
    Transport::Http1.choose();
    if tried.variants == 0 && tried.missing.is_none() && tried.failures.is_empty() {
        tried.failures.push("nothing was tried".to_owned());
    }
    tried
}

fn table(cases: &[Wanted], done: &[(usize, Tried)]) -> ExitCode {
    let mut text = String::from("\nno.    result  variants  title\n");
    let (mut failed, mut waiting) = (0, 0);
    for (number, tried) in done {
        let Wanted {
            case,
            transports,
            databases,
        } = cases[*number];
        let only_elsewhere = tried.elsewhere.len() == tried.variants;
        let result = match (tried.failures.is_empty(), tried.missing) {
            (false, _) => "FAILED",
            (true, Some(_)) => "waits",
            (true, None) if only_elsewhere => "see",
            (true, None) => "ok",
        };
        failed += usize::from(!tried.failures.is_empty());
        waiting += usize::from(tried.missing.is_some());
        let id = case.name.split('_').next().unwrap_or(case.name);
        text.push_str(&format!(
            "{:<6} {result:<7} {:>8}  {}\n",
            id.to_uppercase(),
            tried.variants,
            case.title
        ));
        if !case.own.is_empty() {
            text.push_str(&format!("{:<26}also: {}\n", "", case.own));
        }
        if transports.len() > 1 {
            text.push_str(&format!("{:<26}over HTTP/1.1, TLS and HTTP/2\n", ""));
        }
        if databases.len() > 1 {
            text.push_str(&format!("{:<26}on SQLite and on PostgreSQL\n", ""));
        }
        for test in &tried.elsewhere {
            text.push_str(&format!("{:<26}see {test}\n", ""));
        }
        if let Some(feature) = tried.missing {
            text.push_str(&format!("{:<26}not applicable yet: {feature}\n", ""));
        }
        for failure in &tried.failures {
            text.push_str(&format!("{:<26}! {failure}\n", ""));
        }
    }
    text.push_str(&format!(
        "\ntest result: {}. {} passed; {failed} failed; {waiting} wait in part for a feature\n",
        if failed == 0 { "ok" } else { "FAILED" },
        done.len() - failed
    ));
    print(&text);
    ExitCode::from(u8::from(failed > 0))
}

fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// What the command line asks for.
struct Asked {
    list: bool,
    exact: bool,
    /// No case is ever ignored.
    ignored: bool,
    threads: usize,
    filters: Vec<String>,
}

impl Asked {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self {
            list: false,
            exact: false,
            ignored: false,
            threads: thread::available_parallelism().map_or(2, usize::from),
            filters: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => asked.list = true,
                "--exact" => asked.exact = true,
                "--ignored" => asked.ignored = true,
                "--nocapture" | "--no-capture" | "--include-ignored" | "-q" | "--quiet" => {}
                "--format" | "--color" => drop(arguments.next()),
                "--test-threads" => {
                    let threads = arguments.next().and_then(|number| number.parse().ok());
                    asked.threads = threads.ok_or(argument)?;
                }
                option if option.starts_with('-') => return Err(argument),
                _ => asked.filters.push(argument),
            }
        }
        Ok(asked)
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        !self.ignored && (self.filters.is_empty() || self.filters.iter().any(matches))
    }
}

/// Of a failure's text.
const MAX_WORDS: usize = 600;
