//! Log lines: as text for people, or as one JSON object a line for what collects logs.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// In which form log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people to read, in colours on a terminal.
    #[default]
    Text,
    /// One JSON object a line: timestamp, level, message, and what the line is about as fields.
    Json,
}

/// From now on log lines of this process go to standard error; `RUST_LOG` says which, those of level info and above
/// otherwise. A panic is one line too instead of a stack. To be called once.
pub fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    match format {
        LogFormat::Text => {
            let is_coloured = io::stderr().is_terminal();
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(io::stderr)
                .with_target(false)
                .with_ansi(is_coloured)
                .init();
        }
        LogFormat::Json => json(filter, io::stderr).init(),
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
}

/// A subscriber whose lines are objects without nesting: what a collector of logs indexes as it is.
fn json<W>(filter: EnvFilter, writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_has_level_message_and_fields_side_by_side_whatever_they_contain() {
        let written = Shared::default();
        let writer = written.clone();
        tracing::subscriber::with_default(json(EnvFilter::new("info"), move || writer.clone()), || {
            tracing::warn!(star = "nas-1", job = 7, path = "/a\n\"b\"\u{1b}[31m", "it\nbroke");
            tracing::debug!("not asked for");
        });
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "it\nbroke");
        assert_eq!(line["star"], "nas-1");
        assert_eq!(line["job"], 7);
        assert_eq!(line["path"], "/a\n\"b\"\u{1b}[31m");
        assert!(line["timestamp"].is_string(), "{line}");
    }
}
