//! The configuration as written: a tree of values, each of which knows where it was written.
//!
//! An own tree and not serde's, because serde stops at the first error and forgets where a value came from. File, environment
//! and flags become one tree before anything is judged, so that every source is judged alike.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::ffi::OsString;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin, Problem, shown};

/// A whole configuration as written, with what is wrong with its form.
pub(super) struct Document {
    pub root: Node,
    pub errors: Vec<ConfigError>,
}

pub(super) struct Node {
    pub value: Value,
    /// Of the value; a key's own place is in [`Entry`].
    pub origin: Origin,
}

pub(super) enum Value {
    String(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// Numbers with a fraction, dates, and integers beyond 64 bits: no key takes them. Holds the text.
    Other(String),
    /// From the environment, which has no types: taken as the key wants it.
    Untyped(String),
}

pub(super) type Table = BTreeMap<String, Entry>;

pub(super) struct Entry {
    /// Where the key stands.
    pub origin: Origin,
    pub node: Node,
}

/// What `portcullis serve` was told without a file.
#[derive(Clone, Debug, Default)]
pub struct QuickFlags {
    /// `--listen`, as `server.listen`.
    pub listen: Option<String>,
    /// `--upstream`, as `server.upstream`.
    pub upstream: Option<String>,
    /// `--login`: the path of a `[[login]]`; may be repeated.
    pub login: Vec<String>,
    /// `--logout`: the path of a `[[logout]]`; may be repeated.
    pub logout: Vec<String>,
    /// `--store`, as `store.url`.
    pub store: Option<String>,
    /// `--public-url`, as `server.public_url`.
    pub public_url: Option<String>,
}

impl Document {
    /// A TOML file. A broken file yields its syntax errors alone: what its keys were meant to be would be guesswork.
    pub fn parse(text: &str, name: &str) -> Self {
        let source = Source {
            name: name.into(),
            line_starts: line_starts(text),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        let errors: Vec<_> = errors
            .into_iter()
            .map(|error| ConfigError {
                origin: source.origin(error.span().map(|span| span.start)),
                key: String::new(),
                problem: Problem::Unreadable(error.message().to_owned()),
                hint: None,
            })
            .collect();
        let table = if errors.is_empty() {
            source.table(table.get_ref())
        } else {
            Table::new()
        };
        Self {
            root: Node {
                value: Value::Table(table),
                origin: source.origin(None),
            },
            errors,
        }
    }

    /// No file, or one that could not be read.
    pub fn without_file(origin: Origin, errors: Vec<ConfigError>) -> Self {
        Self {
            root: Node {
                value: Value::Table(Table::new()),
                origin,
            },
            errors,
        }
    }

    /// The flags of a command line that names no file.
    pub fn from_flags(flags: &QuickFlags) -> Self {
        let mut document = Self::without_file(Origin::CommandLine, Vec::new());
        let single: [(&'static str, &[&str], &Option<String>); 4] = [
            ("--listen", &["server", "listen"], &flags.listen),
            ("--upstream", &["server", "upstream"], &flags.upstream),
            ("--public-url", &["server", "public_url"], &flags.public_url),
            ("--store", &["store", "url"], &flags.store),
        ];
        for (name, path, value) in single {
            if let Some(value) = value {
                let node = Node {
                    value: Value::String(value.clone()),
                    origin: Origin::Flag { name },
                };
                // Two flags never share a key, nor is one a section of another.
                let _ = set(&mut document.root, path, node);
            }
        }
        let Value::Table(root) = &mut document.root.value else {
            return document;
        };
        for (name, key, paths) in [
            ("--login", "login", &flags.login),
            ("--logout", "logout", &flags.logout),
        ] {
            if !paths.is_empty() {
                root.insert(key.to_owned(), rules_of_flag(name, paths));
            }
        }
        document
    }

    /// Lets every `PORTCULLIS_SECTION__KEY` take the place of `section.key`, in whatever case it is written. Names without a
    /// double underscore belong to others (no key stands outside of a section).
    pub fn override_by<K, V>(&mut self, environment: impl IntoIterator<Item = (K, V)>)
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let mut variables = BTreeMap::new();
        for (variable, value) in environment {
            let Ok(variable) = variable.into().into_string() else {
                continue;
            };
            let lower = variable.to_ascii_lowercase();
            let Some(path) = lower
                .strip_prefix(PREFIX)
                .filter(|path| path.contains("__"))
            else {
                continue;
            };
            variables
                .entry(path.to_owned())
                .or_insert_with(Vec::new)
                .push((variable, value.into()));
        }
        for (path, mut spellings) in variables {
            spellings.sort();
            let Some((variable, value)) = spellings.pop() else {
                continue;
            };
            let origin = Origin::Environment { variable };
            let path: Vec<&str> = path.split("__").collect();
            let result = match spellings.pop() {
                Some((other, _)) => Err(Problem::Conflict(format!(
                    "{other} sets the same key: unset one of them"
                ))),
                None if path.len() > DEEPEST_KEY => Err(Problem::UnknownKey),
                None => self.override_one(&path, value, &origin),
            };
            if let Err(problem) = result {
                self.errors.push(ConfigError {
                    origin,
                    key: path.join("."),
                    problem,
                    hint: None,
                });
            }
        }
    }

    fn override_one(
        &mut self,
        path: &[&str],
        value: OsString,
        origin: &Origin,
    ) -> Result<(), Problem> {
        let value = value.into_string().map_err(|_| Problem::Refused {
            found: "bytes that are not UTF-8".to_owned(),
            allowed: "text".to_owned(),
        })?;
        let node = Node {
            value: match DeValue::parse(&value).map(Spanned::into_inner) {
                Ok(DeValue::String(unquoted)) => Value::String(unquoted.into_owned()),
                _ => Value::Untyped(value),
            },
            origin: origin.clone(),
        };
        set(&mut self.root, path, node).map_err(|NotATable| {
            Problem::Conflict("the environment can set neither a whole section nor a key of one of several tables: write it in the file".to_owned())
        })
    }
}

const PREFIX: &str = "portcullis_";

/// No key has as many parts; a tree as deep as the environment likes would exhaust the stack.
const DEEPEST_KEY: usize = 8;

/// The way to a key leads through something that is not a table.
struct NotATable;

fn set(node: &mut Node, path: &[&str], new: Node) -> Result<(), NotATable> {
    let Some((first, rest)) = path.split_first() else {
        *node = new;
        return Ok(());
    };
    let Value::Table(table) = &mut node.value else {
        return Err(NotATable);
    };
    let entry = match table.entry((*first).to_owned()) {
        MapEntry::Occupied(entry) => entry.into_mut(),
        MapEntry::Vacant(place) => place.insert(Entry {
            origin: new.origin.clone(),
            node: Node {
                value: Value::Table(Table::new()),
                origin: new.origin.clone(),
            },
        }),
    };
    if rest.is_empty() {
        if matches!(entry.node.value, Value::Table(ref table) if !table.is_empty()) {
            return Err(NotATable);
        }
        entry.origin = new.origin.clone();
    }
    set(&mut entry.node, rest, new)
}

fn rules_of_flag(name: &'static str, paths: &[String]) -> Entry {
    let origin = Origin::Flag { name };
    let rule = |path: &String| {
        let path = Node {
            value: Value::String(path.clone()),
            origin: origin.clone(),
        };
        let entry = Entry {
            origin: origin.clone(),
            node: path,
        };
        Node {
            value: Value::Table(Table::from([("path".to_owned(), entry)])),
            origin: origin.clone(),
        }
    };
    Entry {
        node: Node {
            value: Value::List(paths.iter().map(rule).collect()),
            origin: origin.clone(),
        },
        origin: origin.clone(),
    }
}

/// A file's name and the offsets at which its lines begin.
struct Source {
    name: Arc<str>,
    line_starts: Vec<usize>,
}

impl Source {
    fn origin(&self, offset: Option<usize>) -> Origin {
        Origin::File {
            name: self.name.clone(),
            line: offset.map(|offset| self.line_starts.partition_point(|start| *start <= offset)),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                let entry = Entry {
                    origin: self.origin(Some(key.span().start)),
                    node: self.node(value.get_ref(), value.span().start),
                };
                (key.get_ref().clone().into_owned(), entry)
            })
            .collect()
    }

    fn node(&self, value: &DeValue<'_>, offset: usize) -> Node {
        let value = match value {
            DeValue::String(text) => Value::String(text.clone().into_owned()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => Value::Other(integer.to_string()),
                }
            }
            DeValue::Float(number) => Value::Other(number.to_string()),
            DeValue::Datetime(date) => Value::Other(date.to_string()),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| self.node(item.get_ref(), item.span().start))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node {
            value,
            origin: self.origin(Some(offset)),
        }
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_breaks).collect()
}

impl Node {
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) | Value::Untyped(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(value) => Some(*value),
            Value::Untyped(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub fn as_integer(&self) -> Option<i64> {
        match &self.value {
            Value::Integer(number) => Some(*number),
            Value::Untyped(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The value as an error may show it.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::String(text) | Value::Untyped(text) => shown(text),
            Value::Integer(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::List(items) if items.is_empty() => "an empty list".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Other(text) => text.clone(),
        }
    }
}

/// The items of a list that the environment writes as TOML: `["a", "b"]`. Anything else is one item.
pub(super) fn untyped_list(text: &str, origin: &Origin) -> Vec<Node> {
    let node = |text: &str| Node {
        value: Value::String(text.to_owned()),
        origin: origin.clone(),
    };
    let Ok(value) = DeValue::parse(text) else {
        return vec![node(text)];
    };
    match value.get_ref() {
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => node(text),
                _ => Node {
                    value: Value::Other("an item that is no text".to_owned()),
                    origin: origin.clone(),
                },
            })
            .collect(),
        _ => vec![node(text)],
    }
}
