//! What rules leave open: requests that no rule is the most specific one for, and rules that no request falls under.

use std::collections::HashMap;
use std::fmt;

use super::methods::MethodSet;
use super::pattern::PathPattern;
use super::rule::RuleName;

/// Two rules that cannot stand side by side. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConflict {
    pub first: RuleName,
    pub second: RuleName,
    /// A path that both match; of rules that are too intricate, one that the first matches.
    pub example: String,
    pub kind: ConflictKind,
}

/// What is wrong between two rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// Same pattern, and these methods in both.
    SameRank { methods: MethodSet },
    /// Each has paths that the other has not, and for what they share, this is not decided by a rule.
    Crossing {
        pattern: PathPattern,
        methods: MethodSet,
    },
    /// More specific rules, of which `second` is one, take every request that `first` matches.
    Unreachable,
    /// All rules together distinguish too many cases; these two have the most `*` segments.
    TooIntricate,
}

impl fmt::Display for RouteConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first,
            second,
            example,
            kind,
        } = self;
        match kind {
            ConflictKind::SameRank { methods } => write!(
                f,
                "{first} and {second} are for the same paths and both for {methods}: remove one, or give them different methods"
            ),
            ConflictKind::Crossing { pattern, methods } => write!(
                f,
                "{first} and {second} both match {example}, and neither is more specific: add a rule for {pattern} ({methods}) that decides, or narrow one of the two"
            ),
            ConflictKind::Unreachable => write!(
                f,
                "{first} can never be reached: more specific rules take all that it matches, {second} among them; remove it, or narrow them"
            ),
            ConflictKind::TooIntricate => write!(
                f,
                "the rules distinguish too many combinations of * and fixed segments; {first} and {second} have the most *: write /** or fixed segments instead"
            ),
        }
    }
}

/// Of every two rules that share requests, one has to be more specific, or others have to decide what they share.
///
/// Then every request has one most specific rule: if there were two, there would be one that is more specific than both.
pub(super) fn open_questions(rules: &[RuleName]) -> Vec<RouteConflict> {
    let mut same_pattern: HashMap<&PathPattern, Vec<&MethodSet>> = HashMap::new();
    for rule in rules {
        same_pattern
            .entry(&rule.pattern)
            .or_default()
            .push(&rule.methods);
    }
    let mut found = Vec::new();
    for (nth, first) in rules.iter().enumerate() {
        for second in &rules[nth + 1..] {
            let Some((shared, kind)) = between(first, second, &same_pattern) else {
                continue;
            };
            found.push(RouteConflict {
                first: first.clone(),
                second: second.clone(),
                example: shared.example(),
                kind,
            });
        }
    }
    found
}

fn between(
    first: &RuleName,
    second: &RuleName,
    same_pattern: &HashMap<&PathPattern, Vec<&MethodSet>>,
) -> Option<(PathPattern, ConflictKind)> {
    if first.is_more_specific_than(second) || second.is_more_specific_than(first) {
        return None;
    }
    let pattern = first.pattern.intersection(&second.pattern)?;
    let methods = first.methods.intersection(&second.methods)?;
    if first.pattern == second.pattern {
        return Some((pattern, ConflictKind::SameRank { methods }));
    }
    let deciding = same_pattern.get(&pattern).map_or(&[][..], Vec::as_slice);
    let methods = undecided(methods, deciding)?;
    let kind = ConflictKind::Crossing {
        pattern: pattern.clone(),
        methods,
    };
    Some((pattern, kind))
}

/// What is left of `methods` without those of `deciding`.
fn undecided(methods: MethodSet, deciding: &[&MethodSet]) -> Option<MethodSet> {
    let Some(listed) = methods.listed() else {
        let all_decided = deciding.iter().any(|methods| methods.listed().is_none());
        return (!all_decided).then_some(methods);
    };
    let open: Vec<&str> = listed
        .iter()
        .filter(|method| !deciding.iter().any(|methods| methods.contains(method)))
        .map(|method| method.as_str())
        .collect();
    MethodSet::parse(&open).ok()
}
