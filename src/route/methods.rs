//! The methods that a rule is for.

use std::fmt;

use http::Method;
use thiserror::Error;

/// Any method, or those listed. `GET` implies nothing else: `HEAD` has to be named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MethodSet(Methods);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Methods {
    Any,
    /// Sorted by name, at least one.
    Listed(Vec<Method>),
}

impl MethodSet {
    /// Every method, known or not.
    pub const ANY: Self = Self(Methods::Any);

    /// From names as in a request line: tokens (RFC 9110 section 9.1) in upper case.
    pub fn parse<N: AsRef<str>>(names: &[N]) -> Result<Self, InvalidMethods> {
        let mut methods = Vec::with_capacity(names.len());
        for name in names {
            let method = parse_method(name.as_ref())?;
            if methods.contains(&method) {
                return Err(InvalidMethods::Twice(method));
            }
            methods.push(method);
        }
        if methods.is_empty() {
            return Err(InvalidMethods::None);
        }
        Ok(Self::listed_methods(methods))
    }

    fn listed_methods(mut methods: Vec<Method>) -> Self {
        methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        Self(Methods::Listed(methods))
    }

    /// Whether a request with `method` is meant.
    pub fn contains(&self, method: &Method) -> bool {
        self.listed().is_none_or(|listed| listed.contains(method))
    }

    /// The listed methods; `None` if any is meant.
    pub fn listed(&self) -> Option<&[Method]> {
        match &self.0 {
            Methods::Any => None,
            Methods::Listed(methods) => Some(methods),
        }
    }

    /// The methods of both, if there are any.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (listed, of) = match (self.listed(), other.listed()) {
            (None, _) => return Some(other.clone()),
            (_, None) => return Some(self.clone()),
            (Some(listed), Some(_)) => (listed, other),
        };
        let both: Vec<Method> = listed
            .iter()
            .filter(|method| of.contains(method))
            .cloned()
            .collect();
        (!both.is_empty()).then(|| Self::listed_methods(both))
    }

    /// Whether a method is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.intersection(other).is_some()
    }
}

/// `any method`, or `GET, HEAD`.
impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(listed) = self.listed() else {
            return f.write_str("any method");
        };
        for (nth, method) in listed.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")?;
        }
        Ok(())
    }
}

fn parse_method(name: &str) -> Result<Method, InvalidMethods> {
    if name.contains(|char: char| char.is_ascii_lowercase()) {
        return Err(InvalidMethods::LowerCase(name.to_owned()));
    }
    Method::from_bytes(name.as_bytes()).map_err(|_| InvalidMethods::NotAToken(name.to_owned()))
}

/// Why a list of names is no set of methods.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidMethods {
    #[error("the list of methods is empty; leave it out to mean any method")]
    None,
    #[error("{0:?} is no method name")]
    NotAToken(String),
    #[error("method names are case-sensitive; write {0:?} in upper case")]
    LowerCase(String),
    #[error("the method {0} is listed twice")]
    Twice(Method),
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{InvalidMethods, MethodSet};

    fn set(names: &[&str]) -> MethodSet {
        MethodSet::parse(names).unwrap()
    }

    #[test]
    fn a_method_is_meant_only_by_its_name() {
        let get = set(&["GET"]);
        for (name, expected) in [
            ("GET", true),
            ("HEAD", false),
            ("POST", false),
            ("get", false),
            ("GETT", false),
        ] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(get.contains(&method), expected, "{name}");
            assert!(MethodSet::ANY.contains(&method));
        }
    }

    #[test]
    fn what_is_no_list_of_methods() {
        for (names, reason) in [
            (&[][..], InvalidMethods::None),
            (&["get"], InvalidMethods::LowerCase("get".into())),
            (&["GET", "*/*"], InvalidMethods::NotAToken("*/*".into())),
            (&[""], InvalidMethods::NotAToken(String::new())),
            (&["GET "], InvalidMethods::NotAToken("GET ".into())),
            (&["GET", "PUT", "GET"], InvalidMethods::Twice(Method::GET)),
        ] {
            assert_eq!(MethodSet::parse(names), Err(reason), "{names:?}");
        }
    }

    #[test]
    fn what_two_sets_share() {
        let any = &MethodSet::ANY;
        let read = &set(&["HEAD", "GET"]);
        let write = &set(&["POST", "PUT"]);
        let form = &set(&["GET", "POST"]);
        for (one, other, both) in [
            (any, any, Some(MethodSet::ANY)),
            (any, read, Some(set(&["GET", "HEAD"]))),
            (read, write, None),
            (read, form, Some(set(&["GET"]))),
        ] {
            assert_eq!(one.intersection(other), both);
            assert_eq!(other.intersection(one), both);
            assert_eq!(one.overlaps(other), both.is_some());
        }
        assert_eq!(read.to_string(), "GET, HEAD");
        assert_eq!(any.to_string(), "any method");
    }
}
