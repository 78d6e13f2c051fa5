//! From rules to a table; from a request to its rule.
//!
//! A pattern is a little automaton over segments. [`RouteTable::build`] runs all of them at once over every path that makes a
//! difference, and writes down where they stand; so a lookup is one step per segment, never takes a step back, allocates
//! nothing, and takes as long with a thousand rules as with ten. What it costs is states: see [`MAX_STATES`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::Method;

use super::conflict::{ConflictKind, RouteConflict, open_questions};
use super::path::CanonicalPath;
use super::pattern::Segment;
use super::rule::{Rule, RuleName};

/// For each request, the most specific rule that matches its path and its method.
#[derive(Debug)]
pub struct RouteTable<T> {
    /// The first one is where a path begins.
    states: Arc<[State]>,
    rules: Arc<[RuleName]>,
    targets: Vec<T>,
}

/// Places in `states` and in `targets`.
type StateId = usize;
type RuleId = usize;

/// Where all patterns stand after some segments of a path.
#[derive(Debug, Default)]
struct State {
    /// By the next segment, where it makes a difference.
    exact: HashMap<Box<str>, StateId>,
    /// For every other segment that is not empty.
    one: Option<StateId>,
    /// If the path ends here.
    here: Choice,
    /// If it goes on with a segment that leads nowhere.
    below: Choice,
}

/// Which rule it is, by the method.
#[derive(Debug, Default)]
struct Choice {
    listed: Box<[(Method, RuleId)]>,
    otherwise: Option<RuleId>,
}

/// More states than this are refused at start-up. Plain paths make one state per segment; a `*` beside fixed segments
/// repeats what follows it for each of them, and rules with many `*` multiply.
const MAX_STATES: usize = 1 << 16;

impl<T> RouteTable<T> {
    /// The order of `rules` has no meaning. Either they leave nothing open, or all that they do leave open is returned.
    pub fn build(rules: Vec<Rule<T>>) -> Result<Self, Vec<RouteConflict>> {
        let mut names = Vec::with_capacity(rules.len());
        let mut targets = Vec::with_capacity(rules.len());
        for rule in rules {
            targets.push(rule.target);
            names.push(RuleName {
                origin: rule.origin,
                pattern: rule.pattern,
                methods: rule.methods,
            });
        }
        let mut conflicts = open_questions(&names);
        let mut builder = Builder::new(&names);
        match builder.run() {
            Ok(()) => conflicts.extend(builder.unreachable()),
            Err(TooManyStates) => conflicts.push(builder.too_intricate()),
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let states = builder.states.into();
        let rules = names.into();
        Ok(Self {
            states,
            rules,
            targets,
        })
    }

    /// The same rules, leading to what `target` makes of each.
    pub fn map<U>(&self, target: impl FnMut((&RuleName, &T)) -> U) -> RouteTable<U> {
        RouteTable {
            states: Arc::clone(&self.states),
            rules: Arc::clone(&self.rules),
            targets: self.rules.iter().zip(&self.targets).map(target).collect(),
        }
    }

    /// What the most specific rule leads to; `None` if no rule matches.
    pub fn lookup(&self, path: &CanonicalPath, method: &Method) -> Option<&T> {
        let mut state = &self.states[START];
        for segment in path.segments() {
            let Some(next) = state.after(segment) else {
                return self.target(&state.below, method);
            };
            state = &self.states[next];
        }
        self.target(&state.here, method)
    }

    fn target(&self, choice: &Choice, method: &Method) -> Option<&T> {
        choice.rule_for(method).map(|rule| &self.targets[rule])
    }
}

const START: StateId = 0;

impl State {
    fn after(&self, segment: &str) -> Option<StateId> {
        match self.exact.get(segment) {
            Some(next) => Some(*next),
            None if segment.is_empty() => None,
            None => self.one,
        }
    }
}

impl Choice {
    fn rule_for(&self, method: &Method) -> Option<RuleId> {
        self.listed
            .iter()
            .find(|(listed, _)| listed == method)
            .map(|(_, rule)| *rule)
            .or(self.otherwise)
    }
}

/// Makes the states, each from the rules that a path could still match after as many segments.
struct Builder<'a> {
    rules: &'a [RuleName],
    states: Vec<State>,
    /// States by depth and live rules.
    known: HashMap<(usize, Vec<RuleId>), StateId>,
    /// Made, but where they lead is not known yet.
    open: Vec<(StateId, usize, Vec<RuleId>)>,
    /// By rule: some request falls under it.
    reached: Vec<bool>,
}

struct TooManyStates;

impl<'a> Builder<'a> {
    fn new(rules: &'a [RuleName]) -> Self {
        Self {
            rules,
            states: Vec::new(),
            known: HashMap::new(),
            open: Vec::new(),
            reached: vec![false; rules.len()],
        }
    }

    fn run(&mut self) -> Result<(), TooManyStates> {
        self.state(0, (0..self.rules.len()).collect());
        while let Some((id, depth, live)) = self.open.pop() {
            if self.states.len() > MAX_STATES {
                return Err(TooManyStates);
            }
            self.states[id] = self.fill(depth, &live);
        }
        Ok(())
    }

    fn state(&mut self, depth: usize, live: Vec<RuleId>) -> StateId {
        let next_id = self.states.len();
        let id = *self.known.entry((depth, live.clone())).or_insert(next_id);
        if id == next_id {
            self.states.push(State::default());
            self.open.push((id, depth, live));
        }
        id
    }

    fn fill(&mut self, depth: usize, live: &[RuleId]) -> State {
        // Rules by what they want next: nothing in particular any more, any segment, or this one.
        let (mut satisfied, mut one, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        let mut exact: BTreeMap<&str, Vec<RuleId>> = BTreeMap::new();
        for &rule in live {
            let pattern = &self.rules[rule].pattern;
            match pattern.segments.get(depth) {
                Some(Segment::Exact(text)) => exact.entry(text).or_default().push(rule),
                Some(Segment::One) => one.push(rule),
                None if pattern.and_below => satisfied.push(rule),
                None => ended.push(rule),
            }
        }
        let mut state = State::default();
        // No canonical path has no segments, none goes on after an empty one; and no segment leads nowhere if all have a state.
        let can_end = depth > 0;
        let can_go_astray = one.is_empty() || !exact.contains_key("");
        if can_end {
            ended.extend(&satisfied);
            state.here = self.choose(&ended);
        }
        if can_go_astray && !self.ends_in_slash(depth, live) {
            state.below = self.choose(&satisfied);
        }
        if !one.is_empty() {
            state.one = Some(self.state(depth + 1, sorted(&[&one, &satisfied])));
        }
        for (text, rules) in exact {
            let one: &[RuleId] = if text.is_empty() { &[] } else { &one };
            let next = self.state(depth + 1, sorted(&[&rules, one, &satisfied]));
            state.exact.insert(text.into(), next);
        }
        state
    }

    /// Whether the last segment is the empty one; a rule lives here that says so, else there were no state for it.
    fn ends_in_slash(&self, depth: usize, live: &[RuleId]) -> bool {
        live.iter().any(|&rule| {
            let segments = &self.rules[rule].pattern.segments;
            depth > 0
                && matches!(segments.get(depth - 1), Some(Segment::Exact(text)) if text.is_empty())
        })
    }

    fn choose(&mut self, candidates: &[RuleId]) -> Choice {
        let mut methods: Vec<&Method> = candidates
            .iter()
            .flat_map(|&rule| self.rules[rule].methods.listed().unwrap_or_default())
            .collect();
        methods.sort_by_key(|method| method.as_str());
        methods.dedup();
        let listed = methods
            .into_iter()
            .filter_map(|method| {
                let rule = self.most_specific(candidates, |rule| rule.methods.contains(method))?;
                Some((method.clone(), rule))
            })
            .collect();
        let otherwise = self.most_specific(candidates, |rule| rule.methods.listed().is_none());
        Choice { listed, otherwise }
    }

    fn most_specific(
        &mut self,
        candidates: &[RuleId],
        accepts: impl Fn(&RuleName) -> bool,
    ) -> Option<RuleId> {
        let rules = self.rules;
        let mut best = None;
        for &rule in candidates.iter().filter(|&&rule| accepts(&rules[rule])) {
            let beaten = candidates.iter().any(|&other| {
                accepts(&rules[other]) && rules[other].is_more_specific_than(&rules[rule])
            });
            if !beaten {
                self.reached[rule] = true;
                best = Some(rule);
            }
        }
        best
    }

    fn unreachable(&self) -> Vec<RouteConflict> {
        let mut found = Vec::new();
        for (first, reached) in self.rules.iter().zip(&self.reached) {
            if *reached {
                continue;
            }
            let takers = self.rules.iter().filter(|other| {
                other.is_more_specific_than(first) && other.methods.overlaps(&first.methods)
            });
            // The widest says most about why.
            let second = takers.clone().find(|taker| {
                !takers
                    .clone()
                    .any(|other| taker.is_more_specific_than(other))
            });
            if let Some(second) = second {
                found.push(RouteConflict {
                    first: first.clone(),
                    second: second.clone(),
                    example: second.pattern.example(),
                    kind: ConflictKind::Unreachable,
                });
            }
        }
        found
    }

    fn too_intricate(&self) -> RouteConflict {
        let stars = |rule: &&RuleName| {
            let segments = &rule.pattern.segments;
            segments.iter().filter(|one| **one == Segment::One).count()
        };
        let mut by_stars: Vec<&RuleName> = self.rules.iter().collect();
        by_stars.sort_by_key(|rule| std::cmp::Reverse(stars(rule)));
        // One rule alone has a state per segment, so there are two.
        let [first, second] = [by_stars[0], by_stars[1]];
        RouteConflict {
            first: first.clone(),
            second: second.clone(),
            example: first.pattern.example(),
            kind: ConflictKind::TooIntricate,
        }
    }
}

fn sorted(parts: &[&[RuleId]]) -> Vec<RuleId> {
    let mut all = parts.concat();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests;
