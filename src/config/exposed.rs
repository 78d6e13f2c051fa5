//! Refuses rules that open other paths of an application than those they are written for.
//!
//! A prefix that is taken away leads anywhere: with `strip_prefix = "/x"`, `/x/logout` is the application's `/logout`. So a rule
//! that needs no session would open what needs one, and any rule would lead past a `[[logout]]`, which then ends no session, and
//! past a `[[login]]` with its limits. Both are seen here, where all rules and all servers are known; what is meant is said by
//! `expose_subpaths = true`.
//!
//! The gateway's own endpoints are no paths of the application, so nothing leads past them.

use super::reader::Section;
use super::rules::{Auth, FALLBACK, ForwardRule, RuleTarget, WrittenRule};
use super::upstream::{UpstreamId, Upstreams};
use crate::route::{MethodSet, PathPattern};

/// A public rule that takes a prefix away reaches whatever else the application has: `/static/admin` becomes `/admin`, which
/// needs a session by its own name.
pub(super) fn refuse_exposed(root: &Section<'_>, upstreams: &Upstreams, rules: &[WrittenRule]) {
    for (rule, public) in forwards(rules) {
        if public.auth == Auth::Required || public.strip_prefix.is_none() || public.exposes_subpaths
        {
            continue;
        }
        let is_protected = |other: &ForwardRule| {
            other.auth == Auth::Required && upstreams.share_servers(public.upstream, other.upstream)
        };
        if is_protected(&FALLBACK) || forwards(rules).any(|(_, other)| is_protected(other)) {
            root.report_at(
                Some(&rule.origin),
                format!(
                    "{} takes its prefix away and needs no session, so it opens paths of the same servers that need one by another rule, or because no rule names them: serve what is public by an [[upstream]] of its own that is not the first, or say expose_subpaths = true in this [[route]]",
                    rule.rule.pattern
                ),
            );
        }
    }
}

/// Whatever reaches a path at which the application logs in or out goes by its `[[login]]` or `[[logout]]`.
pub(super) fn refuse_ways_around(root: &Section<'_>, upstreams: &Upstreams, rules: &[WrittenRule]) {
    let mut doors: Vec<Door<'_>> = rules
        .iter()
        .flat_map(|rule| Door::of(rule, rules))
        .collect();
    doors.sort_by_key(|door| !door.is_logout());
    for (rule, forward) in forwards(rules) {
        let way = Way {
            forward,
            pattern: &rule.rule.pattern,
            methods: &rule.rule.methods,
        };
        let around = doors
            .iter()
            .find_map(|door| Some((door, way.around(door, upstreams, rules)?)));
        if let Some((door, path)) = around {
            root.report_at(
                Some(&rule.origin),
                format!(
                    "{path} would reach {} of the same application, past the {} of {}: {}, or say expose_subpaths = true in this [[route]]",
                    door.pattern,
                    door.section(),
                    door.by.rule.pattern,
                    match door.is_logout() {
                        true => format!("add a [[logout]] with path = \"{path}\""),
                        false => "narrow the path".to_owned(),
                    }
                ),
            );
        }
    }
    let everything = PathPattern::parse("/**").expect("it is a pattern");
    let unnamed = Way {
        forward: &FALLBACK,
        pattern: &everything,
        methods: &MethodSet::ANY,
    };
    for door in &doors {
        if let Some(path) = unnamed.around(door, upstreams, rules) {
            root.report_at(
                Some(&door.by.origin),
                format!(
                    "a rule takes away the prefix of {}, so the application logs out at {path}, which is reached by this name too: add a [[logout]] with path = \"{path}\"",
                    door.by.rule.pattern
                ),
            );
        }
    }
}

fn forwards(rules: &[WrittenRule]) -> impl Iterator<Item = (&WrittenRule, &ForwardRule)> {
    rules.iter().filter_map(|rule| match &rule.rule.target {
        RuleTarget::Forward(forward) => Some((rule, forward)),
        _ => None,
    })
}

/// Where an application logs in or out, as the application sees it.
struct Door<'a> {
    /// What guards it.
    by: &'a WrittenRule,
    upstream: UpstreamId,
    pattern: PathPattern,
    /// It is not the path that the rule is written for.
    is_moved: bool,
}

impl<'a> Door<'a> {
    fn of(by: &'a WrittenRule, rules: &[WrittenRule]) -> Vec<Self> {
        let as_written = |upstream| Self {
            by,
            upstream,
            pattern: by.rule.pattern.clone(),
            is_moved: false,
        };
        let logout = match &by.rule.target {
            RuleTarget::Login(login) => return vec![as_written(login.upstream)],
            RuleTarget::Logout(logout) => logout,
            _ => return Vec::new(),
        };
        let otherwise = forward_without(by, rules);
        let prefix = otherwise.strip_prefix.as_deref();
        let moved = prefix.and_then(|prefix| by.rule.pattern.stripped(prefix));
        let Some(pattern) = moved else {
            return vec![as_written(logout.upstream), as_written(otherwise.upstream)];
        };
        let moved = Self {
            pattern,
            is_moved: true,
            ..as_written(otherwise.upstream)
        };
        // A logout that is forwarded goes there as it is.
        let forwarded = logout.forward.then(|| as_written(logout.upstream));
        std::iter::once(moved).chain(forwarded).collect()
    }

    fn is_logout(&self) -> bool {
        matches!(self.by.rule.target, RuleTarget::Logout(_))
    }

    fn section(&self) -> &'static str {
        match self.is_logout() {
            true => "[[logout]]",
            false => "[[login]]",
        }
    }
}

/// What a request for a logout's path would fall under if there were no logout.
fn forward_without<'a>(logout: &WrittenRule, rules: &'a [WrittenRule]) -> &'a ForwardRule {
    let of_all = |rule: &WrittenRule| {
        rule.rule.pattern.contains(&logout.rule.pattern)
            && rule.rule.methods.overlaps(&logout.rule.methods)
    };
    forwards(rules)
        .filter(|(rule, _)| of_all(rule))
        .reduce(
            |one, other| match one.0.rule.pattern.contains(&other.0.rule.pattern) {
                true => other,
                false => one,
            },
        )
        .map_or(&FALLBACK, |(_, forward)| forward)
}

/// How requests get to an application.
struct Way<'a> {
    forward: &'a ForwardRule,
    pattern: &'a PathPattern,
    methods: &'a MethodSet,
}

impl Way<'_> {
    /// The paths by which requests get to `door` and not to what guards it.
    fn around(
        &self,
        door: &Door<'_>,
        upstreams: &Upstreams,
        rules: &[WrittenRule],
    ) -> Option<PathPattern> {
        let prefix = self.forward.strip_prefix.as_deref();
        let is_moved = prefix.is_some() || door.is_moved;
        if !is_moved
            || self.forward.exposes_subpaths
            || !upstreams.share_servers(self.forward.upstream, door.upstream)
        {
            return None;
        }
        let seen = match prefix {
            Some(prefix) => self.pattern.stripped(prefix)?,
            None => self.pattern.clone(),
        };
        let reached = seen.intersection(&door.pattern)?;
        let paths = reached.below(prefix.unwrap_or_default());
        // An application that logs out on POST often does so on GET as well.
        let methods = match door.is_logout() {
            true => self.methods.clone(),
            false => self.methods.intersection(&door.by.rule.methods)?,
        };
        let is_kept = rules
            .iter()
            .any(|rule| rule.rule.pattern.contains(&paths) && self.gives_way_to(rule, &methods));
        (!is_kept).then_some(paths)
    }

    /// Whether `rule` takes its paths from this one, for these methods at least.
    fn gives_way_to(&self, rule: &WrittenRule, methods: &MethodSet) -> bool {
        match &rule.rule.target {
            // Its other methods are answered by the gateway.
            RuleTarget::Logout(_) => true,
            // Is looked at by itself.
            RuleTarget::Forward(_) | RuleTarget::Login(_) => {
                let takes_all = match (rule.rule.methods.listed(), methods.listed()) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(_), Some(methods)) => methods
                        .iter()
                        .all(|method| rule.rule.methods.contains(method)),
                };
                takes_all
                    && rule.rule.pattern != *self.pattern
                    && self.pattern.contains(&rule.rule.pattern)
            }
            _ => false,
        }
    }
}
