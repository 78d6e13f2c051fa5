//! What is expected of all fronts, and what of one that differs.

use std::fmt::Debug;

use super::Make;

/// A value, and what a peer has instead.
pub struct Expected<T> {
    usual: T,
    others: Vec<(Make, T, &'static str)>,
}

/// Expected of every front that is not named by [`Expected::but`].
pub fn usually<T>(usual: T) -> Expected<T> {
    Expected {
        usual,
        others: Vec::new(),
    }
}

impl<T: Debug + PartialEq> Expected<T> {
    /// Of that one it is this, and why.
    pub fn but(mut self, make: Make, value: T, why: &'static str) -> Self {
        assert_ne!(value, self.usual, "{make:?} is no exception: {why}");
        self.others.push((make, value, why));
        self
    }

    /// Fails the test if it is not what was found.
    pub fn assert(&self, make: Make, found: &T, what: &str) {
        if let Some(difference) = self.difference(make, found) {
            panic!("{what}: {difference}");
        }
    }

    /// How what was found differs from it.
    pub fn difference(&self, make: Make, found: &T) -> Option<String> {
        let other = self.others.iter().find(|(of, ..)| *of == make);
        match other {
            None => (*found != self.usual).then(|| format!("{found:?} is not {:?}", self.usual)),
            Some((_, value, why)) => {
                (*found != *value).then(|| format!("{found:?} is not {value:?} ({why})"))
            }
        }
    }
}
