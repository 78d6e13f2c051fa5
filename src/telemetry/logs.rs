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
use tracing_subscriber::filter::{EnvFilter, ParseError};
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
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter {
            filter: filter.to_owned(),
            source,
        })
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
