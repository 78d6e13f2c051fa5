//! The files of `config/`: they load, and the example is complete and true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis::config::Config;

use crate::NOWHERE;

#[test]
fn every_file_loads() {
    let mut names = Vec::new();
    let forward_auth = fs::read_dir(folder().join("forward-auth")).unwrap();
    for entry in fs::read_dir(folder()).unwrap().chain(forward_auth) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if let Err(errors) = Config::load(&path, NOWHERE) {
            panic!("{errors}");
        }
        names.push(path.file_name().unwrap().to_owned());
    }
    names.sort();
    assert!(names.iter().any(|name| name == "portcullis.example.toml"));
    assert!(names.iter().any(|name| name == "quickstart.toml"));
}

#[test]
fn the_quickstart_is_ten_lines() {
    let text = fs::read_to_string(folder().join("quickstart.toml")).unwrap();
    assert_eq!(text.lines().count(), 10);
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let written: BTreeSet<_> = keys_of_example().into_iter().map(|key| key.path).collect();
    let known: BTreeSet<_> = Config::known_keys()
        .into_iter()
        .map(|key| key.path)
        .collect();
    let missing: Vec<_> = known.difference(&written).collect();
    let surplus: Vec<_> = written.difference(&known).collect();
    assert!(missing.is_empty(), "not in the example: {missing:?}");
    assert!(surplus.is_empty(), "only in the example: {surplus:?}");
}

#[test]
fn the_example_shows_defaults() {
    const REQUIRED: [&str; 6] = [
        "server.listener[].address",
        "upstream[].name",
        "upstream[].servers",
        "login[].path",
        "logout[].path",
        "route[].path",
    ];
    let written = keys_of_example();
    for known in Config::known_keys() {
        let shown = written.iter().find(|key| key.path == known.path).unwrap();
        match known.default {
            Some(default) => {
                assert!(!shown.commented, "{} has a default: show it", known.path);
                assert_eq!(shown.value, default, "{}", known.path);
            }
            None => assert_ne!(
                shown.commented,
                REQUIRED.contains(&known.path.as_str()),
                "{} has no default",
                known.path
            ),
        }
    }
}

#[test]
fn the_example_explains_every_key() {
    let text = example();
    let lines: Vec<_> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if key_line(line).is_some() {
            let before = lines[at - 1];
            assert!(before.starts_with("# "), "no word about {line:?}");
        }
    }
}

struct ShownKey {
    path: String,
    value: String,
    commented: bool,
}

/// The keys of the example, those behind a `#` included.
fn keys_of_example() -> Vec<ShownKey> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in example().lines() {
        if let Some(name) = line.strip_prefix("[[") {
            section = format!("{}[]", name.trim_end_matches("]]"));
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, value)) = key_line(line) {
            keys.push(ShownKey {
                path: format!("{section}.{key}"),
                value: value.to_owned(),
                commented: line.starts_with('#'),
            });
        }
    }
    keys
}

fn key_line(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix('#').unwrap_or(line);
    let (key, value) = line.split_once(" = ")?;
    let is_key = key
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_key.then_some((key, value))
}

fn example() -> String {
    fs::read_to_string(folder().join("portcullis.example.toml")).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}
