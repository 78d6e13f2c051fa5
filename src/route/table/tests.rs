use http::Method;
use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, proptest};

use super::super::conflict::ConflictKind;
use super::super::methods::MethodSet;
use super::super::path::CanonicalPath;
use super::super::pattern::PathPattern;
use super::super::rule::Rule;
use super::RouteTable;

/// A rule that leads to its own text. No methods means any.
fn rule(line: usize, pattern: &str, methods: &[&str]) -> Rule<String> {
    let methods = if methods.is_empty() {
        MethodSet::ANY
    } else {
        MethodSet::parse(methods).unwrap()
    };
    Rule {
        target: format!("{pattern} {methods}"),
        pattern: PathPattern::parse(pattern).unwrap(),
        methods,
        origin: format!("portcullis.toml:{line}"),
    }
}

/// Patterns and methods; their lines are counted from 1.
type Written<'a> = &'a [(&'a str, &'a [&'a str])];

fn rules(written: Written) -> Vec<Rule<String>> {
    written
        .iter()
        .enumerate()
        .map(|(at, (pattern, methods))| rule(at + 1, pattern, methods))
        .collect()
}

fn table(written: Written) -> RouteTable<String> {
    RouteTable::build(rules(written)).unwrap()
}

fn conflicts(written: Written) -> Vec<String> {
    RouteTable::build(rules(written))
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn look_up<'a>(table: &'a RouteTable<String>, method: &str, path: &str) -> Option<&'a str> {
    let path = CanonicalPath::parse(path).unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    table.lookup(&path, &method).map(String::as_str)
}

#[test]
fn the_most_specific_rule_wins() {
    let table = table(&[
        ("/**", &[]),
        ("/public/**", &["GET", "HEAD"]),
        ("/public/**", &["POST"]),
        ("/public/*/edit", &[]),
        ("/public/*/edit", &["DELETE"]),
        ("/public/me/edit", &["GET"]),
        ("/auth/signout", &["POST"]),
    ]);
    for (method, path, expected) in [
        ("GET", "/", "/** any method"),
        ("GET", "/app/a?x=/public/b", "/** any method"),
        ("GET", "/?/public/a", "/** any method"),
        ("GET", "/public", "/public/** GET, HEAD"),
        ("GET", "/public/", "/public/** GET, HEAD"),
        ("GET", "//public//a/b", "/public/** GET, HEAD"),
        ("GET", "/public/%252e%252e/app/a", "/public/** GET, HEAD"),
        ("POST", "/public/a", "/public/** POST"),
        ("PATCH", "/public/a", "/** any method"),
        ("GETT", "/public/a", "/** any method"),
        ("get", "/public/a", "/** any method"),
        ("GET", "/PUBLIC/a", "/** any method"),
        ("GET", "/Public/a", "/** any method"),
        ("GET", "/publicx/a", "/** any method"),
        ("GET", "/public/a/edit", "/public/*/edit any method"),
        ("PATCH", "/public/a/edit", "/public/*/edit any method"),
        ("DELETE", "/public/a/edit", "/public/*/edit DELETE"),
        ("DELETE", "/public/me/edit", "/public/*/edit DELETE"),
        ("GET", "/public/a/edit/", "/public/** GET, HEAD"),
        ("GET", "/public/me/edit", "/public/me/edit GET"),
        ("PUT", "/public/me/edit", "/public/*/edit any method"),
        ("GET", "/public/me/other", "/public/** GET, HEAD"),
        ("POST", "/auth/%73ignout", "/auth/signout POST"),
        ("POST", "/auth//signout", "/auth/signout POST"),
        ("GET", "/auth/signout", "/** any method"),
        ("POST", "/auth/signout/", "/** any method"),
        ("POST", "/AUTH/signout", "/** any method"),
    ] {
        assert_eq!(
            look_up(&table, method, path),
            Some(expected),
            "{method} {path}"
        );
    }
}

#[test]
fn without_a_rule_there_is_nothing() {
    let none = table(&[]);
    let one = table(&[("/a/*", &["GET"])]);
    assert_eq!(look_up(&none, "GET", "/"), None);
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/a"),
        ("GET", "/a/"),
        ("GET", "/a/b/c"),
        ("PUT", "/a/b"),
    ] {
        assert_eq!(look_up(&one, method, path), None, "{method} {path}");
    }
}

/// A lookup that prefers the fixed segment would be lost in `/a` and had to come back for `/*/x/c`.
#[test]
fn a_fixed_segment_does_not_hide_a_star() {
    let table = table(&[("/a/b", &[]), ("/*/x/c", &[]), ("/*/**", &[])]);
    for (path, expected) in [
        ("/a/b", "/a/b any method"),
        ("/a/x/c", "/*/x/c any method"),
        ("/z/x/c", "/*/x/c any method"),
        ("/a/x", "/*/** any method"),
        ("/a/b/c", "/*/** any method"),
    ] {
        assert_eq!(look_up(&table, "GET", path), Some(expected), "{path}");
    }
}

#[test]
fn a_third_rule_decides_a_crossing() {
    table(&[("/a/*", &[]), ("/*/b", &[]), ("/a/b", &[])]);
    table(&[("/a/*", &[]), ("/*/b", &["GET"]), ("/a/b", &["GET"])]);
    table(&[("/a/*", &["PUT"]), ("/*/b", &["GET"])]);
    table(&[
        ("/a/**", &["GET", "PUT"]),
        ("/*/b", &[]),
        ("/a/b", &["GET"]),
        ("/a/b", &["PUT"]),
    ]);
}

#[test]
fn conflicts_say_what_to_do() {
    let cases: &[(Written, &[&str])] = &[
        (
            &[("/a", &[]), ("/a", &[])],
            &[
                "portcullis.toml:1 (/a, any method) and portcullis.toml:2 (/a, any method) are for the same paths and both for any method: remove one, or give them different methods",
            ],
        ),
        (
            &[("/a/**", &["GET", "HEAD"]), ("/a/**", &["POST", "GET"])],
            &[
                "portcullis.toml:1 (/a/**, GET, HEAD) and portcullis.toml:2 (/a/**, GET, POST) are for the same paths and both for GET: remove one, or give them different methods",
            ],
        ),
        (
            &[("/a/*", &[]), ("/*/b", &["GET", "PUT"]), ("/a/b", &["GET"])],
            &[
                "portcullis.toml:1 (/a/*, any method) and portcullis.toml:2 (/*/b, GET, PUT) both match /a/b, and neither is more specific: add a rule for /a/b (PUT) that decides, or narrow one of the two",
            ],
        ),
        (
            &[("/x/**", &[]), ("/x", &[]), ("/x/", &[]), ("/x/*/**", &[])],
            &[
                "portcullis.toml:1 (/x/**, any method) can never be reached: more specific rules take all that it matches, portcullis.toml:2 (/x, any method) among them; remove it, or narrow them",
            ],
        ),
    ];
    for (written, expected) in cases {
        assert_eq!(conflicts(written), *expected);
    }
}

#[test]
fn all_conflicts_are_reported_at_once() {
    let found = RouteTable::build(rules(&[
        ("/a/*", &[]),
        ("/*/b", &[]),
        ("/c", &["GET"]),
        ("/c", &["GET"]),
        ("/", &[]),
        ("/*/**", &[]),
        ("/**", &["GET"]),
    ]))
    .unwrap_err();
    let kinds: Vec<_> = found
        .iter()
        .map(|conflict| {
            (
                conflict.first.origin.as_str(),
                conflict.second.origin.as_str(),
                &conflict.kind,
            )
        })
        .collect();
    let methods = |names: &[&str]| MethodSet::parse(names).unwrap();
    assert_eq!(
        kinds,
        [
            (
                "portcullis.toml:1",
                "portcullis.toml:2",
                &ConflictKind::Crossing {
                    pattern: PathPattern::parse("/a/b").unwrap(),
                    methods: MethodSet::ANY,
                },
            ),
            (
                "portcullis.toml:3",
                "portcullis.toml:4",
                &ConflictKind::SameRank {
                    methods: methods(&["GET"])
                },
            ),
            (
                "portcullis.toml:7",
                "portcullis.toml:5",
                &ConflictKind::Unreachable
            ),
        ]
    );
}

#[test]
fn too_many_combinations_are_refused() {
    // No two overlap, as their ends differ; but before the end any subset of them may be alive.
    let written: Vec<Rule<String>> = (0..20)
        .map(|nth| {
            let segments: String = (0..20)
                .map(|at| if at == nth { "/a" } else { "/*" })
                .collect();
            rule(nth + 1, &format!("{segments}/{nth}"), &[])
        })
        .collect();
    let found = RouteTable::build(written).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, ConflictKind::TooIntricate);
}

#[test]
fn many_rules_make_few_states() {
    let mut written: Vec<Rule<String>> = (0..500)
        .map(|nth| rule(nth, &format!("/app{nth}/items/*"), &["GET"]))
        .collect();
    written.push(rule(500, "/*/health", &[]));
    written.push(rule(501, "/**", &[]));
    let table = RouteTable::build(written).unwrap();
    assert!(table.states.len() < 2_500, "{}", table.states.len());
    assert_eq!(
        look_up(&table, "GET", "/app7/items/x"),
        Some("/app7/items/* GET")
    );
    assert_eq!(
        look_up(&table, "GET", "/app7/health"),
        Some("/*/health any method")
    );
    assert_eq!(
        look_up(&table, "PUT", "/app7/items/x"),
        Some("/** any method")
    );
}

/// Every path that the patterns below can tell apart.
fn all_paths() -> Vec<CanonicalPath> {
    let mut level = vec![String::new()];
    let mut all = vec!["/".to_owned()];
    for _ in 0..4 {
        level = level
            .iter()
            .flat_map(|path| ["a", "b", "z"].map(|segment| format!("{path}/{segment}")))
            .collect();
        all.extend(
            level
                .iter()
                .flat_map(|path| [path.clone(), format!("{path}/")]),
        );
    }
    all.iter()
        .map(|path| CanonicalPath::parse(path).unwrap())
        .collect()
}

/// What the table has to find, from the definition: the rules that match and that no other matching rule is more specific
/// than.
fn most_specific<'a>(
    rules: &'a [Rule<String>],
    path: &CanonicalPath,
    method: &Method,
) -> Vec<&'a Rule<String>> {
    let matching: Vec<&Rule<String>> = rules
        .iter()
        .filter(|rule| rule.methods.contains(method) && rule.pattern.matches(path))
        .collect();
    let beats = |one: &Rule<String>, other: &Rule<String>| {
        let narrower = one.pattern != other.pattern && other.pattern.contains(&one.pattern);
        let listed = one.methods.listed().is_some() && other.methods.listed().is_none();
        narrower || one.pattern == other.pattern && listed
    };
    matching
        .iter()
        .filter(|rule| !matching.iter().any(|other| beats(other, rule)))
        .copied()
        .collect()
}

fn some_rules() -> impl Strategy<Value = Vec<Rule<String>>> {
    let pattern = "(/[ab*]){0,3}(/|/\\*\\*)?"
        .prop_filter("not a pattern", |text| PathPattern::parse(text).is_ok());
    let methods = prop::sample::select(vec![&[][..], &[], &["GET"], &["PUT"], &["GET", "PUT"]]);
    prop::collection::vec((pattern, methods), 0..12).prop_map(|written| {
        written
            .iter()
            .enumerate()
            .map(|(at, (pattern, methods))| rule(at, pattern, methods))
            .collect()
    })
}

/// Takes rules away until the rest leaves nothing open.
fn without_conflicts(mut rules: Vec<Rule<String>>) -> (Vec<Rule<String>>, RouteTable<String>) {
    loop {
        match RouteTable::build(rules.clone()) {
            Ok(table) => return (rules, table),
            Err(conflicts) => rules.retain(|rule| rule.origin != conflicts[0].first.origin),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_table_finds_what_the_definition_says(rules in some_rules()) {
        let (rules, table) = without_conflicts(rules);
        let mut reached = vec![false; rules.len()];
        for path in all_paths() {
            for method in [Method::GET, Method::PUT, Method::POST] {
                let expected = most_specific(&rules, &path, &method);
                prop_assert!(expected.len() < 2, "{path:?} {expected:?}");
                let found = table.lookup(&path, &method);
                prop_assert_eq!(found, expected.first().map(|rule| &rule.target), "{:?} {}", path, method);
                for (reached, rule) in reached.iter_mut().zip(&rules) {
                    *reached |= expected.iter().any(|one| one.origin == rule.origin);
                }
            }
        }
        prop_assert!(reached.iter().all(|reached| *reached), "{:?}", rules);
    }

    #[test]
    fn no_conflict_is_made_up(rules in some_rules()) {
        let Err(conflicts) = RouteTable::build(rules.clone()) else { return Ok(()) };
        let paths = all_paths();
        for conflict in conflicts {
            let example = CanonicalPath::parse(&conflict.example).unwrap();
            prop_assert!(conflict.first.pattern.matches(&example));
            prop_assert!(conflict.second.pattern.matches(&example));
            if conflict.kind != ConflictKind::Unreachable {
                continue;
            }
            for path in &paths {
                for method in [Method::GET, Method::PUT, Method::POST] {
                    let found = most_specific(&rules, path, &method);
                    prop_assert!(found.iter().all(|rule| rule.origin != conflict.first.origin));
                }
            }
        }
    }
}
