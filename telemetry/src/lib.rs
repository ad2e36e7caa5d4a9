//! How the programs of an Orbit Grid report what they do: log lines on standard error, and spans to a collector.
//!
//! Only drivers use this crate. A core returns what happened as data; its driver writes the log line or ends the span.
//! Nothing here decides anything or waits: spans that a collector does not take are dropped and counted.

mod export;
mod log;
mod spans;

pub use crate::export::{ExportError, Exporting, Identity};
pub use crate::log::{LogFormat, start_log};
pub use crate::spans::{EndedSpan, Field, Kind, Span, Spans};
