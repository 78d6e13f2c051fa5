//! One event, one line.
//!
//! Messages and errors may quote what a stranger sent. In the text format a line break in it would begin a line that looks
//! like ours, and an escape sequence would speak to the terminal of whoever reads it. So every control character of the
//! finished line is escaped, wherever it came from, instead of trusting each place that logs. (JSON escapes by itself.)

use std::fmt::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The format inside, made harmless.
pub(super) struct OneLine<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for OneLine<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::with_capacity(512);
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        write_escaped(&mut writer, line.strip_suffix('\n').unwrap_or(&line))?;
        writer.write_char('\n')
    }
}

fn write_escaped(writer: &mut impl Write, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some((at, character)) = rest.char_indices().find(|(_, c)| is_treacherous(*c)) {
        writer.write_str(&rest[..at])?;
        write!(writer, "{}", character.escape_default())?;
        rest = &rest[at + character.len_utf8()..];
    }
    writer.write_str(rest)
}

/// Controls, the line separators of Unicode, and what turns the direction of text around.
fn is_treacherous(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use proptest::prop_assert;

    use super::{is_treacherous, write_escaped};

    fn escaped(text: &str) -> String {
        let mut line = String::new();
        write_escaped(&mut line, text).unwrap();
        line
    }

    #[test]
    fn what_could_forge_a_line_or_speak_to_a_terminal_is_escaped() {
        for (text, line) in [
            ("plain: zoë \"x\" \\n", "plain: zoë \"x\" \\n"),
            ("a\nb\r\n", "a\\nb\\r\\n"),
            ("\u{1b}[2J\u{7f}\0", "\\u{1b}[2J\\u{7f}\\u{0}"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            ("a\u{2028}b\u{202e}c", "a\\u{2028}b\\u{202e}c"),
        ] {
            assert_eq!(escaped(text), line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_treacherous_is_left(text in any::<String>()) {
            prop_assert!(!escaped(&text).chars().any(is_treacherous));
        }
    }
}
