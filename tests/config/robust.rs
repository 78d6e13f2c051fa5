//! Whatever stands in a file or in the environment, the loader answers.

use proptest::prelude::{ProptestConfig, proptest};
use proptest::sample::select;
use proptest::{collection::vec, prop_assert};

use portcullis::config::Config;

use crate::{parse, parse_with, with_upstream};

/// What is likely to lead somewhere: keys and sections of ours with values of every kind.
fn fragments() -> Vec<String> {
    let mut fragments: Vec<String> = [
        "[",
        "]",
        "\n",
        "=",
        "\"",
        "[[route]]\n",
        "[server]\n",
        "path = \"/**\"\n",
        "'''",
        "{",
        "}",
        "\u{feff}",
        "é",
    ]
    .map(str::to_owned)
    .to_vec();
    for key in Config::known_keys() {
        let key = key.path.replace("[]", "");
        for value in [
            "1",
            "-1",
            "99999999999999999999",
            "1.5",
            "nan",
            "true",
            "\"\"",
            "\"/a\"",
            "[]",
            "[1]",
            "{}",
            "[{}]",
            "1979-05-27",
            "\"1h\"",
            "\"é\u{0}\"",
        ] {
            fragments.push(format!("{key} = {value}\n"));
        }
    }
    fragments
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_answered(text in ".{0,400}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_keys_are_answered(parts in vec(select(fragments()), 0..20)) {
        if let Err(errors) = parse(&parts.concat()) {
            prop_assert!(!errors.is_empty());
        }
    }

    #[test]
    fn any_text_value_is_answered(
        key in select(Config::known_keys()),
        value in "\\PC{0,60}",
    ) {
        let variable = format!("PORTCULLIS_{}", key.path.replace("[]", "").replace('.', "__"));
        let _ = parse_with(&with_upstream(""), &[(&variable, &value)]);
    }
}

#[test]
fn nesting_is_bounded() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}{}", "[".repeat(5000), "]".repeat(5000)),
        format!("{}a = 1", "a.".repeat(5000)),
        format!("[{}a]", "a.".repeat(5000)),
        format!("a = {}", "{a=".repeat(5000)),
    ] {
        assert!(parse(&text).is_err());
        let variable = format!("PORTCULLIS_{}B", "A__".repeat(5000));
        assert!(parse_with(&with_upstream(""), &[(&variable, "1")]).is_err());
        assert!(
            parse_with(
                &with_upstream(""),
                &[("PORTCULLIS_SERVER__LISTEN", &text[4..])]
            )
            .is_err()
        );
    }
}
