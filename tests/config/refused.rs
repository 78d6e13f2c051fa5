//! Each kind of mistake: `refused/NAME.toml` and, in `refused/NAME.txt`, what is said about it. After a deliberate change of a
//! text, run with `BLESS=1` and read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis::config::Config;

use crate::NOWHERE;

#[test]
fn every_mistake_is_explained() {
    let mut wrong = Vec::new();
    for file in mistakes() {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let told = match Config::parse(&text, name, Path::new("/etc"), NOWHERE) {
            Ok(_) => "accepted\n".to_owned(),
            Err(errors) => format!("{errors}\n"),
        };
        let expected_file = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected_file, &told).unwrap();
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{name}\nexpected:\n{expected}told:\n{told}"));
        }
        assert_ne!(told, "accepted\n", "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_text_has_its_input() {
    let folder = folder();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("toml").exists(), "{}", path.display());
    }
}

#[test]
fn ten_mistakes_are_reported_at_once() {
    let text = fs::read_to_string(folder().join("ten-at-once.txt")).unwrap();
    assert_eq!(text.lines().count(), 10, "{text}");
    for line in text.lines() {
        assert!(line.starts_with("ten-at-once.toml:"), "{line}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/refused")
}

fn mistakes() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(files.len() > 20, "the files are gone");
    files
}
