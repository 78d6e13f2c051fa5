//! What README.md, ARCHITECTURE.md and SECURITY.md say of the code is so: files, imports, dependencies, tests and configuration keys.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are their helpers"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis::config::Config;

/// Modules of the crate from the ground up. A module may name those of lower levels, and no other.
const LEVELS: [&[&str]; 10] = [
    &["causes", "clock", "file_stamp", "secret", "socket_file"],
    &["identity"],
    &["session", "route", "cookie"],
    &["store"],
    &["keys"],
    &[
        "issuer",
        "revocation",
        "upstream",
        "telemetry",
        "certificates",
    ],
    &["refresher"],
    &["config", "proxy", "admin"],
    &["gateway"],
    &["cli"],
];

/// Crates that a module must not know of.
const ABSENT: [(&str, &[&str]); 11] = [
    ("clock", &["http", "hyper", "sqlx"]),
    ("secret", &["http", "hyper", "sqlx"]),
    ("session", &["http", "hyper", "sqlx", "tokio"]),
    ("route", &["hyper", "sqlx", "tokio"]),
    ("store", &["http", "hyper"]),
    ("keys", &["http", "hyper", "sqlx"]),
    ("issuer", &["http", "hyper", "sqlx"]),
    ("revocation", &["http", "hyper", "sqlx"]),
    ("refresher", &["http", "hyper", "sqlx"]),
    ("upstream", &["sqlx"]),
    ("proxy", &["sqlx"]),
];

/// That headers are fit to be sent is said of one type, and they become a plain map where they are sent.
#[test]
fn only_the_rule_over_headers_makes_what_is_sent_to_applications() {
    let places = |text: &str| -> Vec<String> {
        let named = sources().filter(|file| file.text.contains(text));
        named.map(|file| file.path).collect()
    };
    assert_eq!(places("FitHeaders for "), ["src/proxy/headers.rs"]);
    assert_eq!(places(".into_map()"), ["src/upstream/outgoing.rs"]);
    assert_eq!(places("UpstreamHeaders("), ["src/proxy/headers.rs"]);
    assert_eq!(places("Outgoing {"), ["src/proxy/forward.rs"]);
}

#[test]
fn every_source_file_is_in_the_house_and_no_other() {
    let named: BTreeSet<String> = quoted(&document("ARCHITECTURE.md"))
        .filter(|text| text.starts_with("src/") && text.ends_with(".rs"))
        .collect();
    let there: BTreeSet<String> = sources().map(|file| file.path).collect();
    let missing: Vec<_> = there.difference(&named).collect();
    let surplus: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "not in ARCHITECTURE.md: {missing:?}");
    assert!(surplus.is_empty(), "only in ARCHITECTURE.md: {surplus:?}");
}

#[test]
fn every_path_that_is_named_exists() {
    const FOLDERS: [&str; 8] = [
        "src",
        "tests",
        "config",
        "docs",
        "fuzz",
        "migrations",
        "examples",
        "scripts",
    ];
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ] {
        let text = document(name);
        for path in quoted(&text).chain(linked(&text)) {
            let path = path.split("::").next().unwrap();
            let path = path.split('#').next().unwrap().trim_start_matches("./");
            let first = path.split('/').next().unwrap();
            if path.contains('/') && FOLDERS.contains(&first) && !path.contains(['*', ' ', '<']) {
                assert!(root().join(path).exists(), "{name} names {path}");
            }
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    for name in ["ARCHITECTURE.md", "SECURITY.md"] {
        let text = document(name);
        let tests: Vec<String> = quoted(&text)
            .filter(|text| text.contains(".rs::"))
            .collect();
        assert!(tests.len() > 30, "{name} names tests");
        for test in tests {
            let (path, function) = test.split_once("::").unwrap();
            let source = fs::read_to_string(root().join(path)).unwrap_or_default();
            assert!(
                source.contains(&format!("fn {function}(")),
                "{name}: there is no {test}"
            );
        }
    }
}

/// Of the words that SECURITY.md names as what closes a class, each is one of a file of the same cell.
#[test]
fn what_closes_a_class_is_where_it_is_said_to_be() {
    let text = document("SECURITY.md");
    let classes = text.split("| class |").nth(1).unwrap();
    let cells: Vec<&str> = classes
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .map(|line| line.split(" | ").nth(1).unwrap())
        .collect();
    assert!(cells.len() > 20, "the table of classes");
    for cell in cells {
        let (files, words): (Vec<String>, Vec<String>) =
            quoted(cell).partition(|text| text.starts_with("src/"));
        let sources: String = files.iter().map(|file| document(file)).collect();
        assert!(!files.is_empty(), "{cell}");
        for part in words.iter().flat_map(|word| word.split("::")) {
            assert!(sources.contains(part), "{part} is not in {files:?}");
        }
    }
}

#[test]
fn imports_run_downwards_only() {
    let mut violations = Vec::new();
    for file in sources() {
        let Some(module) = file.module() else {
            continue;
        };
        for (number, line) in file.code_lines() {
            for named in names_after(line, "crate::") {
                if named != module && level_of(&named) >= level_of(&module) {
                    violations.push(format!("{}:{number}: {}", file.path, line.trim()));
                }
            }
            // From the root of a module, `super` is the crate.
            if file.is_root_of_module() && line.contains("use super::") && !line.starts_with(' ') {
                violations.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn modules_know_nothing_of_what_is_none_of_their_business() {
    let mut violations = Vec::new();
    for file in sources() {
        let module = file.module().unwrap_or_default();
        let absent = ABSENT
            .iter()
            .filter(|(name, _)| *name == module)
            .flat_map(|(_, absent)| *absent);
        for name in absent {
            for (number, line) in file.code_lines() {
                if !names_after(line, &format!("{name}::")).is_empty() {
                    violations.push(format!("{}:{number}: {}", file.path, line.trim()));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// The clocks of two hosts of a database differ, and one may be set: times come from the gateways.
#[test]
fn no_statement_reads_the_clock_of_a_database() {
    const CLOCKS: [&str; 9] = [
        "now()",
        "current_timestamp",
        "clock_timestamp",
        "unix_timestamp",
        "unixepoch",
        "strftime",
        "sysdate",
        "localtimestamp",
        "julianday",
    ];
    let statements: Vec<Source> = sources()
        .filter(|file| file.path.starts_with("src/store/"))
        .collect();
    assert!(statements.len() > 20, "the statements are elsewhere");
    for line in statements.iter().flat_map(|file| file.text.lines()) {
        // A method of this program's own types is none of a database.
        let statement = line.to_lowercase().replace("::now()", "");
        let clock = CLOCKS.iter().find(|clock| statement.contains(**clock));
        assert_eq!(clock, None, "{line}");
    }
}

#[test]
fn every_dependency_is_justified() {
    let text = document("ARCHITECTURE.md");
    let section = text.split("\n## Dependencies").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let named: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    let used: BTreeSet<String> = dependencies().collect();
    assert_eq!(named, used);
}

#[test]
fn the_table_of_configuration_is_complete() {
    let text = document("README.md");
    let named: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let key = cells.next()?.strip_suffix('`')?;
            let default = match cells.next()?.trim_matches('`') {
                "required" => "none",
                default => default,
            };
            key.contains('.')
                .then(|| (key.to_owned(), default.to_owned()))
        })
        .collect();
    let known: BTreeSet<(String, String)> = Config::known_keys()
        .into_iter()
        .map(|key| (key.path, key.default.unwrap_or_else(|| "none".to_owned())))
        .collect();
    let missing: Vec<_> = known.difference(&named).collect();
    let surplus: Vec<_> = named.difference(&known).collect();
    assert!(missing.is_empty(), "not in README.md: {missing:?}");
    assert!(surplus.is_empty(), "only in README.md: {surplus:?}");
}

/// A file of `src`.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl Source {
    /// The module of the crate that the file belongs to; `main.rs` and `lib.rs` belong to none.
    fn module(&self) -> Option<String> {
        let inside = self.path.strip_prefix("src/").unwrap();
        let first = inside.split('/').next().unwrap().trim_end_matches(".rs");
        (!["main", "lib"].contains(&first)).then(|| first.to_owned())
    }

    fn is_root_of_module(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        matches!(parts[..], [_, _] | [_, _, "mod.rs"])
    }

    /// Without comments.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at + 1, line))
    }
}

fn level_of(module: &str) -> usize {
    LEVELS
        .iter()
        .position(|level| level.contains(&module))
        .unwrap_or_else(|| panic!("say in tests/architecture.rs where {module} stands"))
}

/// The words that follow a path's beginning: `store` in `crate::store::Sequence` after `crate::`.
fn names_after(line: &str, beginning: &str) -> Vec<String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    line.match_indices(beginning)
        .filter(|(at, _)| {
            let before = line[..*at].bytes().next_back();
            !before.is_some_and(|byte| word(byte) || byte == b':')
        })
        .map(|(at, _)| {
            let rest = &line[at + beginning.len()..];
            let end = rest.bytes().position(|byte| !word(byte));
            rest[..end.unwrap_or(rest.len())].to_owned()
        })
        .collect()
}

fn sources() -> impl Iterator<Item = Source> {
    let mut folders = vec![root().join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.into_iter().map(|path| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().into(),
    })
}

/// Of all kinds.
fn dependencies() -> impl Iterator<Item = String> {
    let manifest = document("Cargo.toml");
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| inside) {
            names.push(name.to_owned());
        }
    }
    names.into_iter()
}

/// What stands in backticks, outside of fenced blocks.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found.into_iter()
}

/// Where Markdown links lead.
fn linked(text: &str) -> impl Iterator<Item = String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(str::to_owned)
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
