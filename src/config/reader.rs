//! Takes keys out of a [`Document`](super::document::Document) by name and kind.
//!
//! A mistake is noted and reading goes on with the default, so that one run reports all of them. A [`Section`] remembers which
//! keys it was asked for: at its end the others are unknown, and no list of known keys can drift from the code that reads.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::document::{Entry, Node, Table, Value, untyped_list};
use super::error::{ConfigError, Origin, Problem};

/// What all sections of one run share.
#[derive(Default)]
pub(super) struct Report {
    errors: RefCell<Vec<ConfigError>>,
    /// Set when it is the keys that are wanted, not the values.
    survey: Option<RefCell<Vec<KnownKey>>>,
}

/// A key that the configuration can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// `session.cookies.path`, `upstream[].name`.
    pub path: String,
    /// As TOML; `None` when there is none: the key is required, or its absence means something.
    pub default: Option<String>,
}

impl Report {
    /// Lists keys instead of reading values.
    pub fn survey() -> Self {
        Self {
            survey: Some(RefCell::default()),
            ..Self::default()
        }
    }

    pub fn note(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }

    pub fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }

    pub fn into_known_keys(self) -> Vec<KnownKey> {
        self.survey.map(RefCell::into_inner).unwrap_or_default()
    }
}

/// One table of the document, absent ones included: their keys have their defaults.
pub(super) struct Section<'d> {
    table: &'d Table,
    /// Where to point when a key is missing.
    origin: &'d Origin,
    /// With the position in a list of tables: `route[2]`.
    path: String,
    /// Without it: `route[]`.
    general_path: String,
    asked: Vec<&'static str>,
    report: &'d Report,
}

static ABSENT: Table = BTreeMap::new();

impl<'d> Section<'d> {
    /// Reads the whole document.
    pub fn read_root<T>(
        root: &'d Node,
        report: &'d Report,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let section = Self {
            table: root.as_table().unwrap_or(&ABSENT),
            origin: &root.origin,
            path: String::new(),
            general_path: String::new(),
            asked: Vec::new(),
            report,
        };
        section.run(read)
    }

    /// The table `key`.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let node = self.node(key);
        let table = node.map(Node::as_table);
        if matches!(table, Some(None)) {
            self.refuse(key, &format!("a table [{}]", join(&self.path, key)));
        }
        let section = Self {
            table: table.flatten().unwrap_or(&ABSENT),
            origin: node.map_or(self.origin, |node| &node.origin),
            path: join(&self.path, key),
            general_path: join(&self.general_path, key),
            asked: Vec::new(),
            report: self.report,
        };
        section.run(read)
    }

    /// The tables `[[key]]`, in their order.
    pub fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        if self.report.survey.is_some() {
            return vec![self.one_of_sections(key, 0, &ABSENT, self.origin, &mut read)];
        }
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let items = match &node.value {
            Value::List(items) if items.iter().all(|item| item.as_table().is_some()) => items,
            _ => {
                let path = join(&self.path, key);
                self.refuse(key, &format!("tables [[{path}]] in a file"));
                return Vec::new();
            }
        };
        items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| Some((at, item.as_table()?, &item.origin)))
            .map(|(at, table, origin)| self.one_of_sections(key, at, table, origin, &mut read))
            .collect()
    }

    fn one_of_sections<T>(
        &self,
        key: &'static str,
        at: usize,
        table: &'d Table,
        origin: &'d Origin,
        read: &mut impl FnMut(&mut Self) -> T,
    ) -> T {
        let section = Self {
            table,
            origin,
            path: format!("{}[{at}]", join(&self.path, key)),
            general_path: format!("{}[]", join(&self.general_path, key)),
            asked: Vec::new(),
            report: self.report,
        };
        section.run(read)
    }

    fn run<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let result = read(&mut self);
        for (key, entry) in self.table {
            if !self.asked.contains(&key.as_str()) {
                self.note_unknown(key, entry);
            }
        }
        result
    }

    fn note_unknown(&self, key: &str, entry: &Entry) {
        let nearest = self
            .asked
            .iter()
            .map(|known| (strsim::damerau_levenshtein(key, known), *known))
            .min()
            .filter(|(distance, known)| *distance <= known.len().max(key.len()).div_ceil(3));
        self.report.note(ConfigError {
            origin: entry.origin.clone(),
            key: join(&self.path, key),
            problem: Problem::UnknownKey,
            hint: nearest.map(|(_, known)| format!("did you mean {known}?")),
        });
    }

    /// Whether the key was written anywhere.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// How many items or tables were written under `key`, broken ones included.
    pub fn count(&self, key: &str) -> usize {
        let Some(entry) = self.table.get(key) else {
            return 0;
        };
        match &entry.node.value {
            Value::List(items) => items.len(),
            Value::Untyped(text) => untyped_list(text, &entry.node.origin).len(),
            _ => 1,
        }
    }

    /// Where the key was written; if it was not, where its table was.
    pub fn origin_of(&self, key: &str) -> Origin {
        let written = self.table.get(key).map(|entry| &entry.node.origin);
        written.unwrap_or(self.origin).clone()
    }

    /// Notes that the value of `key` is not acceptable.
    pub fn refuse(&self, key: &str, allowed: &str) {
        let found = match self.table.get(key) {
            Some(entry) => entry.node.shown(),
            None => "nothing".to_owned(),
        };
        self.note(
            key,
            Problem::Refused {
                found,
                allowed: allowed.to_owned(),
            },
        );
    }

    /// Notes that `key` has to be there.
    pub fn miss(&self, key: &str, allowed: &str) {
        if self.report.survey.is_none() {
            let allowed = allowed.to_owned();
            self.note(key, Problem::Missing { allowed });
        }
    }

    /// Notes that `key` does not go together with something else.
    pub fn conflict(&self, key: &str, text: &str) {
        self.note(key, Problem::Conflict(text.to_owned()));
    }

    /// Notes something that two places have to do with, at one of them.
    pub fn report_at(&self, origin: Option<&Origin>, text: String) {
        self.report.note(ConfigError {
            origin: origin.unwrap_or(self.origin).clone(),
            key: String::new(),
            problem: Problem::Conflict(text),
            hint: None,
        });
    }

    fn note(&self, key: &str, problem: Problem) {
        self.note_at(&self.origin_of(key), key, problem);
    }

    /// The same, at the place of an item of a list.
    pub(super) fn note_at(&self, origin: &Origin, key: &str, problem: Problem) {
        self.report.note(ConfigError {
            origin: origin.clone(),
            key: join(&self.path, key),
            problem,
            hint: None,
        });
    }

    pub(super) fn node(&mut self, key: &'static str) -> Option<&'d Node> {
        self.asked.push(key);
        self.table.get(key).map(|entry| &entry.node)
    }

    pub(super) fn survey(&self, key: &str, default: Option<String>) {
        if let Some(keys) = &self.report.survey {
            keys.borrow_mut().push(KnownKey {
                path: join(&self.general_path, key),
                default,
            });
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
