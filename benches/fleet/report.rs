//! What was measured, for the terminal and for README.md.

use std::fs;
use std::process::Command;

use crate::support::server::{Kind, mariadb_program, postgres_program};

/// Lines of Markdown.
#[derive(Default)]
pub struct Report(String);

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- figures: cargo bench --bench fleet -- --readme -->\n";
const END: &str = "<!-- end of figures -->";

impl Report {
    /// Prints it, too: a run takes minutes.
    pub fn line(&mut self, line: &str) {
        println!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Puts it between its marks, with what the figures depend on.
    pub fn write_readme(&self) {
        let readme = fs::read_to_string(README).unwrap();
        let (before, rest) = readme.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let said = surroundings();
        let lines = &self.0;
        fs::write(
            README,
            format!("{before}{BEGIN}{said}\n\n{lines}{END}{after}"),
        )
        .unwrap();
    }
}

/// As people call it.
pub fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "SQLite",
        Kind::Postgres => "PostgreSQL",
        Kind::MariaDb => "MariaDB",
    }
}

fn surroundings() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    let postgres = postgres_program("postgres");
    let mariadb = mariadb_program();
    format!(
        "{}, revision {}: `cargo bench --bench fleet -- --readme`. {cores} cores ({model}), {} GiB, {}. {}, {}, {}.",
        said_by("date", &["-I"]),
        said_by("git", &["describe", "--always", "--dirty"]),
        kib / 1024 / 1024,
        said_by("uname", &["-sr"]),
        said_by(&postgres.display().to_string(), &["--version"]),
        said_by(&mariadb.display().to_string(), &["--version"]),
        said_by("rustc", &["--version"]),
    )
}

/// The first line.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
