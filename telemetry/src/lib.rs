//! How the programs of an Orbit Grid tell what they do: log lines on standard error, and spans to a collector.
//!
//! Both are shells' business. A core says what happened as data; a driver that executes it writes the line or ends the
//! span. Nothing here decides anything, and nothing here waits: what a collector does not take is dropped and counted.

mod export;
mod log;
mod signals;
mod spans;

pub use crate::export::{ExportError, Exporting, Identity};
pub use crate::log::{LogFormat, start_log};
pub use crate::signals::survive_file_size_limit;
pub use crate::spans::{EndedSpan, Field, Kind, Span, Spans};
