//! What a configuration says, key by key: to name one, and to tell in which keys two differ.
//!
//! Values are kept as digests, so that what is compared and shown cannot give away a password. The digests of [`SECRETS`] are
//! not even in the hash, which others see: with all else known, a short password could be guessed from it.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::document::{Node, Table, Value, untyped_list};

/// A configuration as it was written, file, environment and flags together; without comments and places.
#[derive(Clone, PartialEq, Eq)]
pub struct Written {
    /// In the order of the configuration, tables by name.
    keys: Vec<(String, Digest)>,
    hash: String,
}

type Digest = [u8; 32];

impl Written {
    pub(super) fn of(root: &Node) -> Self {
        let mut keys = Vec::new();
        if let Value::Table(table) = &root.value {
            collect(table, "", &mut keys);
        }
        let mut all = Context::new(&SHA256);
        for (key, value) in &keys {
            all.update(&(key.len() as u64).to_be_bytes());
            all.update(key.as_bytes());
            if !SECRETS.contains(&key.as_str()) {
                all.update(value);
            }
        }
        let all = all.finish();
        let hash = all.as_ref()[..HASH_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self { keys, hash }
    }

    /// The same for the same keys and values, in hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The keys that were added, removed or given another value; those of the tables of a list by what their tables are called:
    /// `route[/admin/**].auth`. Rules that only changed places are no change of a key.
    pub fn changes(&self, newer: &Self) -> Vec<String> {
        let (before, after) = (self.by_key(), newer.by_key());
        let mut changed: Vec<&str> = before
            .keys()
            .chain(after.keys())
            .copied()
            .filter(|key| before.get(key) != after.get(key))
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed.into_iter().map(str::to_owned).collect()
    }

    fn by_key(&self) -> BTreeMap<&str, &Digest> {
        let pairs = self.keys.iter().map(|(key, value)| (key.as_str(), value));
        pairs.collect()
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Written({})", self.hash)
    }
}

fn collect(table: &Table, path: &str, keys: &mut Vec<(String, Digest)>) {
    for (key, entry) in table {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        match &entry.node.value {
            Value::Table(table) if !table.is_empty() => collect(table, &path, keys),
            Value::List(items) if items.iter().any(is_table) => collect_tables(items, &path, keys),
            _ => keys.push((path, digest_of(&entry.node))),
        }
    }
}

fn collect_tables(items: &[Node], path: &str, keys: &mut Vec<(String, Digest)>) {
    let mut seen = BTreeMap::<String, usize>::new();
    for item in items {
        let Value::Table(table) = &item.value else {
            continue;
        };
        let name = NAMES.iter().find_map(|key| table.get(*key)?.node.as_text());
        let times = seen.entry(name.unwrap_or_default().to_owned()).or_default();
        *times += 1;
        let name = name.unwrap_or_default().escape_debug();
        let path = match *times {
            1 => format!("{path}[{name}]"),
            times => format!("{path}[{name}#{times}]"),
        };
        collect(table, &path, keys);
    }
}

fn is_table(node: &Node) -> bool {
    matches!(node.value, Value::Table(_))
}

/// Of the value as it is meant: the environment has no types.
fn digest_of(node: &Node) -> Digest {
    let mut text = String::new();
    write_value(node, &mut text);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

fn write_value(node: &Node, text: &mut String) {
    let mut list = |items: &[Node]| {
        text.push('[');
        for item in items {
            let mut one = String::new();
            write_value(item, &mut one);
            text.push_str(&format!("{}:{one},", one.len()));
        }
        text.push(']');
    };
    match &node.value {
        Value::List(items) => list(items),
        Value::Untyped(raw) if raw.trim_start().starts_with('[') => {
            list(&untyped_list(raw, &node.origin));
        }
        Value::String(raw) | Value::Other(raw) | Value::Untyped(raw) => text.push_str(raw),
        Value::Integer(number) => text.push_str(&number.to_string()),
        Value::Bool(value) => text.push_str(&value.to_string()),
        Value::Table(_) => text.push_str("{}"),
    }
}

/// What a table of a list is called by, the first that it has.
const NAMES: [&str; 3] = ["path", "name", "address"];

/// Keys whose values can hold passwords or are secrets.
const SECRETS: [&str; 2] = ["store.url", "store.master_key"];

/// Enough to tell the configurations of an operator apart, and short enough to read out.
const HASH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Config {
        let upstream = "[server]\nupstream = \"http://127.0.0.1:1\"\n";
        let text = format!("{upstream}{text}");
        Config::parse(&text, "p.toml", "".as_ref(), environment.iter().copied()).unwrap()
    }

    const RULES: &str = "[[route]]\npath = \"/a\"\nauth = \"none\"\n[[route]]\npath = \"/b\"\n";

    #[test]
    fn the_hash_is_of_what_is_said_and_not_of_how() {
        let plain = parse(RULES, &[]);
        let same = parse(&format!("# a comment\n\n{RULES}"), &[]);
        assert_eq!(plain.written.hash(), same.written.hash());
        assert_eq!(plain.written.hash().len(), 16);
        let by_variable = parse("", &[("PORTCULLIS_SESSION__HEADER_MODE", "false")]);
        let by_file = parse("[session]\nheader_mode = false\n", &[]);
        assert_eq!(by_variable.written, by_file.written);
        let list = "[session]\nallowed_origins = [\"https://a.test\"]\n";
        let variable = (
            "PORTCULLIS_SESSION__ALLOWED_ORIGINS",
            "[\"https://a.test\"]",
        );
        assert_eq!(parse(list, &[]).written, parse("", &[variable]).written);
    }

    #[test]
    fn changes_are_told_by_key() {
        let before = parse(RULES, &[]);
        for (text, expected) in [
            (RULES.to_owned(), vec![]),
            (RULES.replace("none", "optional"), vec!["route[/a].auth"]),
            (
                RULES.replace("/b", "/c"),
                vec!["route[/b].path", "route[/c].path"],
            ),
            (
                format!("{RULES}[[login]]\npath = \"/in\"\n[keys]\nrotate_after = \"1d\"\n"),
                vec!["keys.rotate_after", "login[/in].path"],
            ),
            (
                format!("{RULES}[store]\nurl = \"sqlite:other.db\"\n"),
                vec!["store.url"],
            ),
        ] {
            let after = parse(&text, &[]);
            assert_eq!(before.written.changes(&after.written), expected, "{text}");
            assert_eq!(after.written.changes(&before.written), expected, "{text}");
            let is_same = before.written.hash() == after.written.hash();
            assert_eq!(is_same, expected.is_empty(), "{text}");
        }
    }

    #[test]
    fn the_hash_gives_no_secret_away() {
        let with = |url: &str| parse(&format!("[store]\nurl = \"{url}\"\n"), &[]);
        let one = with("postgres://me:one@db/x");
        let two = with("postgres://me:two@db/x");
        assert_eq!(one.written.hash(), two.written.hash());
        assert_eq!(one.written.changes(&two.written), ["store.url"]);
        assert_eq!(
            format!("{:?}", one.written),
            format!("Written({})", one.written.hash())
        );
    }
}
