//! What the gateway tells its operator: logs, one line per request, metrics.
//!
//! Everything here is about requests and replicas, never about secrets: no function takes a token or a cookie, the types of
//! [`crate::secret`] print as redacted, and no metric has a label that a client can choose. Counting on the way of a request
//! touches only memory that belongs to the worker that serves it; what is summed is summed when somebody asks.

mod counters;
mod logs;
mod metrics;
mod one_line;
mod outcome;
mod process;
mod request_log;
mod scrape;

pub use counters::WorkerMetrics;
pub use logs::{LogError, LogFormat, LogGuard, LogSettings, check_filter, init};
pub use metrics::{
    CONTENT_TYPE, CertificateGauges, ConfigurationGauges, Metrics, MetricsSettings, RefreshKind,
    RevocationGauges, ServerGauges,
};
pub use outcome::{MAX_REJECTIONS, Outcome, RejectionId, RouteId, StatusClass};
pub use request_log::{REQUEST_TARGET, RequestLine};
