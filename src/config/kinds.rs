//! The kinds of values that a [`Section`] gives: texts, lists of them, durations, sizes, numbers, words, secrets.

use std::borrow::Cow;
use std::time::Duration;

use super::document::{Node, Value, untyped_list};
use super::error::{Origin, Problem};
use super::reader::Section;
use super::values::{self, Reason};

impl Section<'_> {
    /// A text that `parse` accepts. A default is written as it would be in the file, and read in the same way.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> T {
        self.survey(key, Some(format!("{default:?}")));
        self.given_text(key, &parse)
            .unwrap_or_else(|| parse(default).expect("a default is acceptable"))
    }

    /// The same, without a default.
    pub fn optional_text<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> Option<T> {
        self.survey(key, None);
        self.given_text(key, &parse)
    }

    /// The same, and it has to be there: `None` has been reported.
    pub fn required_text<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> Option<T> {
        self.survey(key, None);
        if self.node(key).is_none() {
            self.miss(key, allowed);
        }
        self.given_text(key, &parse)
    }

    fn given_text<T>(
        &mut self,
        key: &'static str,
        parse: &impl Fn(&str) -> Result<T, Reason>,
    ) -> Option<T> {
        let node = self.node(key)?;
        let result = match node.as_text() {
            Some(text) => parse(text),
            None => Err(wrong_kind(node, parse)),
        };
        result.map_err(|allowed| self.refuse(key, &allowed)).ok()
    }

    /// A list of texts; one text stands for a list of one.
    pub fn texts<T>(
        &mut self,
        key: &'static str,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> Vec<T> {
        self.survey(key, Some(format!("{default:?}")));
        self.given_texts(key, &parse).unwrap_or_else(|| {
            let parse = |text: &&str| parse(text).expect("a default is acceptable");
            default.iter().map(parse).collect()
        })
    }

    /// The same, and it has to be there: an empty list has been reported.
    pub fn required_texts<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> Vec<T> {
        self.survey(key, None);
        if self.node(key).is_none() {
            self.miss(key, allowed);
        }
        self.given_texts(key, &parse).unwrap_or_default()
    }

    /// The same, where absence means something of its own.
    pub fn optional_texts<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> Option<Vec<T>> {
        self.survey(key, None);
        self.given_texts(key, &parse)
    }

    fn given_texts<T>(
        &mut self,
        key: &'static str,
        parse: &impl Fn(&str) -> Result<T, Reason>,
    ) -> Option<Vec<T>> {
        let node = self.node(key)?;
        let from_environment;
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Untyped(text) => {
                from_environment = untyped_list(text, &node.origin);
                &from_environment
            }
            Value::String(_) => std::slice::from_ref(node),
            _ => {
                self.refuse(key, "a list of texts");
                return None;
            }
        };
        let mut values = Vec::new();
        for item in items {
            let result = match item.as_text() {
                Some(text) => parse(text),
                None => Err(wrong_kind(item, parse)),
            };
            match result {
                Ok(value) => values.push(value),
                Err(allowed) => self.note_at(
                    &item.origin,
                    key,
                    Problem::Refused {
                        found: item.shown(),
                        allowed: allowed.into_owned(),
                    },
                ),
            }
        }
        Some(values)
    }

    /// A duration within limits that are allowed themselves.
    pub fn duration(&mut self, key: &'static str, default: &str, limits: (&str, &str)) -> Duration {
        self.text(key, default, |text| duration_within(text, limits))
    }

    /// The same, where absence means something of its own.
    pub fn optional_duration(
        &mut self,
        key: &'static str,
        limits: (&'static str, &'static str),
    ) -> Option<Duration> {
        self.optional_text(key, |text| duration_within(text, limits))
    }

    /// A number of bytes, as a text with a unit or as an integer.
    pub fn bytes(
        &mut self,
        key: &'static str,
        default: &str,
        (least, most): (&str, &str),
    ) -> usize {
        self.survey(key, Some(format!("{default:?}")));
        let parse = |text| values::bytes(text).expect("a limit or default is a size");
        let Some(node) = self.node(key) else {
            return parse(default);
        };
        let found = match node.as_integer() {
            Some(number) => usize::try_from(number).ok(),
            None => node.as_text().and_then(values::bytes),
        };
        match found {
            Some(bytes) if (parse(least)..=parse(most)).contains(&bytes) => bytes,
            _ => {
                self.refuse(key, &format!("a size from \"{least}\" to \"{most}\""));
                parse(default)
            }
        }
    }

    /// The same, where absence means something of its own.
    pub fn optional_bytes(
        &mut self,
        key: &'static str,
        (least, most): (&str, &str),
    ) -> Option<u64> {
        self.survey(key, None);
        let node = self.node(key)?;
        let parse = |text| values::bytes(text).expect("a limit is a size");
        let found = match node.as_integer() {
            Some(number) => usize::try_from(number).ok(),
            None => node.as_text().and_then(values::bytes),
        };
        match found {
            Some(bytes) if (parse(least)..=parse(most)).contains(&bytes) => {
                u64::try_from(bytes).ok()
            }
            _ => {
                self.refuse(key, &format!("a size from \"{least}\" to \"{most}\""));
                None
            }
        }
    }

    pub fn integer(&mut self, key: &'static str, default: i64, (least, most): (i64, i64)) -> usize {
        self.survey(key, Some(default.to_string()));
        let number = self.given_integer(key, (least, most)).unwrap_or(default);
        usize::try_from(number).expect("limits and defaults are not negative")
    }

    /// The same, where absence means something of its own.
    pub fn optional_integer(&mut self, key: &'static str, limits: (i64, i64)) -> Option<usize> {
        self.survey(key, None);
        let number = self.given_integer(key, limits)?;
        usize::try_from(number).ok()
    }

    fn given_integer(&mut self, key: &'static str, (least, most): (i64, i64)) -> Option<i64> {
        match self.node(key)?.as_integer() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                self.refuse(key, &format!("an integer from {least} to {most}"));
                None
            }
        }
    }

    /// A list of integers, where absence means something of its own.
    pub fn optional_integers(
        &mut self,
        key: &'static str,
        (least, most): (i64, i64),
    ) -> Option<Vec<usize>> {
        self.survey(key, None);
        let number = |item: &Node| {
            let number = item.as_integer().filter(|n| (least..=most).contains(n));
            number.and_then(|number| usize::try_from(number).ok())
        };
        let node = self.node(key)?;
        let numbers = match &node.value {
            Value::List(items) => items.iter().map(number).collect(),
            Value::Untyped(text) => {
                let items = untyped_list(text, &node.origin);
                items.iter().map(number).collect()
            }
            _ => None,
        };
        if numbers.is_none() {
            self.refuse(key, &format!("a list of integers from {least} to {most}"));
        }
        numbers
    }

    pub fn bool(&mut self, key: &'static str, default: bool) -> bool {
        self.survey(key, Some(default.to_string()));
        self.given_bool(key).unwrap_or(default)
    }

    /// The same, where absence means something of its own.
    pub fn optional_bool(&mut self, key: &'static str) -> Option<bool> {
        self.survey(key, None);
        self.given_bool(key)
    }

    fn given_bool(&mut self, key: &'static str) -> Option<bool> {
        let value = self.node(key)?.as_bool();
        if value.is_none() {
            self.refuse(key, "true or false");
        }
        value
    }

    /// One word of a closed set; the first is the default.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> T {
        let (default, _) = choices.first().expect("a set of words is not empty");
        self.text(key, default, |text| chosen(text, choices))
    }

    /// The same, where absence means something of its own.
    pub fn optional_one_of<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        self.optional_text(key, |text| chosen(text, choices))
    }

    /// A secret, which only the environment may hold and no error shows.
    pub fn secret<T>(
        &mut self,
        key: &'static str,
        instead: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.survey(key, None);
        let node = self.node(key)?;
        if !matches!(node.origin, Origin::Environment { .. }) {
            self.conflict(key, instead);
            return None;
        }
        let secret = node.as_text().and_then(parse);
        if secret.is_none() {
            self.note_at(
                &node.origin,
                key,
                Problem::Refused {
                    found: "a value that is not shown".to_owned(),
                    allowed: allowed.to_owned(),
                },
            );
        }
        secret
    }
}

fn duration_within(text: &str, (least, most): (&str, &str)) -> Result<Duration, Reason> {
    let limit = |text| values::duration(text).expect("a limit is a duration");
    let duration = values::duration(text)?;
    if duration < limit(least) || duration > limit(most) {
        return Err(format!("a duration from \"{least}\" to \"{most}\"").into());
    }
    Ok(duration)
}

fn chosen<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Reason> {
    let choice = choices.iter().find(|(word, _)| *word == text);
    choice.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = choices
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect();
        values::one_of(&words).into()
    })
}

/// What is said of a value that is no text: if it would not do as a text either, what would.
fn wrong_kind<T>(node: &Node, parse: &impl Fn(&str) -> Result<T, Reason>) -> Reason {
    parse(&node.shown())
        .err()
        .unwrap_or(Cow::Borrowed("a text in quotes"))
}
