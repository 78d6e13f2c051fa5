//! Where log lines go, and in which form.
//!
//! Lines are written by a thread of their own: a reader of standard error that stands still must not stop requests. The queue
//! to it is bounded, and what does not fit is dropped and counted. Text has no colours, because the escape sequences of
//! a terminal could not be told from a client's (see [`super::one_line`]).

use std::io::{self, Write};
use std::panic::PanicHookInfo;

use thiserror::Error;
use tracing::Subscriber;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::one_line::OneLine;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Levels by target, in the syntax of [`EnvFilter`]: `info`, `warn,portcullis=debug`, `info,portcullis::request=off`.
    pub filter: String,
    pub format: LogFormat,
    /// How many lines may wait to be written before lines are dropped.
    pub queued_lines: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
            queued_lines: 16 * 1024,
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    #[error(
        "the log filter {filter:?} cannot be read; write levels such as \"info\" or \"warn,portcullis=debug\""
    )]
    Filter {
        filter: String,
        #[source]
        source: ParseError,
    },
    #[error(
        "{word:?} in the log filter is no level; write off, error, warn, info, debug or trace, or target=level"
    )]
    NoLevel { word: String },
    #[error("logs were set up before in this process")]
    AlreadySetUp(#[source] SetGlobalDefaultError),
}

/// Whether a filter can be read, for those who check settings before they are used.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse_filter(filter).map(drop)
}

/// Sends the logs of this process, its panics included, to standard error for as long as the process lives.
pub fn init(settings: &LogSettings) -> Result<LogGuard, LogError> {
    let filter = parse_filter(&settings.filter)?;
    let (writer, worker) = queued(io::stderr(), settings.queued_lines);
    let dropped = writer.error_counter();
    let subscriber = subscriber(filter, settings.format, writer);
    tracing::subscriber::set_global_default(subscriber).map_err(LogError::AlreadySetUp)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(LogGuard {
        dropped,
        _worker: worker,
    })
}

/// Holds the writing thread; when it is dropped, what is queued is written (for a second at most).
#[must_use = "lines that are queued when the process ends are lost unless the guard is dropped"]
#[derive(Debug)]
pub struct LogGuard {
    dropped: ErrorCounter,
    _worker: WorkerGuard,
}

impl LogGuard {
    /// Tells how many lines were dropped since the start; for [`super::Metrics::observe_dropped_log_lines`].
    pub fn dropped_lines(&self) -> impl Fn() -> u64 + Send + Sync + 'static + use<> {
        let dropped = self.dropped.clone();
        move || u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX)
    }
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    if let Some(word) = filter
        .split(',')
        .map(str::trim)
        .find(|word| is_no_level(word))
    {
        return Err(LogError::NoLevel {
            word: word.to_owned(),
        });
    }
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter {
            filter: filter.to_owned(),
            source,
        })
}

/// `EnvFilter` takes a lone word that is no level for a target: with `inof`, all other logs would be off. Of what is not ASCII it
/// takes half a character, and panics; targets are names of modules.
fn is_no_level(word: &str) -> bool {
    if !word.is_ascii() {
        return true;
    }
    !word.is_empty() && !word.contains(['=', '[', ']']) && word.parse::<LevelFilter>().is_err()
}

fn queued(
    writer: impl Write + Send + 'static,
    queued_lines: usize,
) -> (tracing_appender::non_blocking::NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(queued_lines)
        .thread_name("log-writer")
        .finish(writer)
}

fn subscriber<W>(filter: EnvFilter, format: LogFormat, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(false);
    let layer = match format {
        LogFormat::Text => layer.event_format(OneLine(Format::default())).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    Registry::default().with(filter).with(layer)
}

/// One line: where, and the message. A stack is the core dump's business.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("(no message)");
    let end = message.floor_char_boundary(MAX_PANIC_MESSAGE_BYTES);
    tracing::error!(
        target: "portcullis::panic",
        location,
        thread = std::thread::current().name(),
        reason = &message[..end],
        "panicked"
    );
}

const MAX_PANIC_MESSAGE_BYTES: usize = 1024;

#[cfg(test)]
pub(super) mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::{LogError, LogFormat, check_filter, log_panic, parse_filter, queued, subscriber};

    /// Standard error's stand-in.
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `act` logs.
    pub(in crate::telemetry) fn logged(
        filter: &str,
        format: LogFormat,
        act: impl FnOnce(),
    ) -> Vec<String> {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(parse_filter(filter).unwrap(), format, move || {
            writer.clone()
        });
        tracing::subscriber::with_default(subscriber, act);
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn text_is_a_line_per_event_for_people() {
        let lines = logged("info", LogFormat::Text, || {
            tracing::info!(target: "portcullis::feed", sequence = 7, elapsed_ms = 12, "caught up");
            tracing::debug!("not wanted");
        });
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert_eq!(
            rest.trim_start(),
            "INFO portcullis::feed: caught up sequence=7 elapsed_ms=12"
        );
    }

    #[test]
    fn json_is_an_object_per_event_with_its_fields_beside_the_message() {
        let lines = logged("info", LogFormat::Json, || {
            tracing::warn!(target: "portcullis::feed", sequence = 7, "lease lapsed");
        });
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["timestamp"].is_string(), "{line}");
        for (name, value) in [
            ("level", Value::from("WARN")),
            ("target", Value::from("portcullis::feed")),
            ("message", Value::from("lease lapsed")),
            ("sequence", Value::from(7)),
        ] {
            assert_eq!(event[name], value, "{name}");
        }
    }

    #[test]
    fn no_message_and_no_error_begins_a_second_line() {
        let error = io::Error::other("refused\n2026-01-01T00:00:00Z  INFO forged: \u{1b}[2K");
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = logged("info", format, || {
                tracing::warn!(%error, source = ?error, "a\r\nb {error}");
                tracing::warn!("{error}");
            });
            assert_eq!(lines.len(), 2, "{format:?} {lines:?}");
            assert!(
                lines.iter().all(|line| !line.chars().any(char::is_control)),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_panic_is_one_line() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let lines = logged("info", LogFormat::Text, || {
            let _ = std::panic::catch_unwind(|| panic!("lost\nits {} head", 1));
        });
        std::panic::set_hook(hook);
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert!(line.contains("ERROR portcullis::panic: panicked"), "{line}");
        assert!(line.contains("logs.rs:"), "{line}");
        assert!(line.contains(r"lost\nits 1 head"), "{line}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        for filter in [
            "info",
            "warn,portcullis=debug",
            "info,portcullis::request=off",
            "",
        ] {
            assert!(check_filter(filter).is_ok(), "{filter:?}");
        }
        for filter in ["portcullis=loud", "info,a=b=c"] {
            let error = check_filter(filter).unwrap_err();
            assert!(matches!(error, LogError::Filter { .. }), "{filter:?}");
            assert!(error.to_string().contains(filter), "{error}");
        }
        for (filter, typo) in [
            ("inof", "inof"),
            ("warn, portcullis", "portcullis"),
            (" 0𐝀=", "0𐝀="),
        ] {
            let error = check_filter(filter).unwrap_err();
            assert!(matches!(error, LogError::NoLevel { .. }), "{filter:?}");
            assert!(error.to_string().contains(typo), "{error}");
        }
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_not_requests() {
        let captured = Captured::default();
        let held = captured.0.lock().unwrap();
        let (mut writer, guard) = queued(captured.clone(), 2);
        let dropped = writer.error_counter();
        for _ in 0..10 {
            writer.write_all(b"line\n").unwrap();
        }
        // Two wait, at most one is being written.
        let lost = dropped.dropped_lines();
        assert!((7..=8).contains(&lost), "{lost}");

        drop(held);
        drop(guard);
        let written = captured.0.lock().unwrap().len() / "line\n".len();
        assert_eq!(written + lost, 10);
    }
}
