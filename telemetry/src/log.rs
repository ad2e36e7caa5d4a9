//! Log lines: as text for people, or as one JSON object per line for log collectors. Both can contain text of others,
//! so characters that are not printable are escaped here, for every line of every program.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use orbit_shared::entry::is_hidden;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt as _;

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people to read, in colours on a terminal.
    #[default]
    Text,
    /// One JSON object a line: timestamp, level, message, and what the line is about as fields.
    Json,
}

/// From now on log lines of this process go to standard error. `RUST_LOG` selects them; the default is level info and
/// above. A panic is one line as well, without a stack trace. Must be called once.
pub fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    match format {
        LogFormat::Text => {
            text(filter, io::stderr, io::stderr().is_terminal()).init();
        }
        LogFormat::Json => json(filter, io::stderr).init(),
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
}

/// A subscriber that writes each event as one line, whatever text of others it contains.
fn text<W>(filter: EnvFilter, writer: W, is_coloured: bool) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let fields = debug_fn(|writer, field, value| {
        let mut writer = Escaping(writer);
        match field.name() {
            "message" => write!(writer, "{value:?}"),
            name => write!(writer, "{name}={value:?}"),
        }
    });
    tracing_subscriber::fmt()
        .fmt_fields(fields.delimited(" "))
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        .with_ansi(is_coloured)
        .finish()
}

/// Escapes characters that are not printable, so that a field cannot end the line or move the cursor.
struct Escaping<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_hidden) {
            let (plain, odd) = rest.split_at(at);
            self.0.write_str(plain)?;
            let Some(character) = odd.chars().next() else { break };
            write!(self.0, "{}", character.escape_default())?;
            rest = &odd[character.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// A subscriber that writes each event as a flat JSON object, which log collectors can index directly.
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
    fn a_line_of_text_is_one_line_whatever_it_contains() {
        let written = Shared::default();
        let writer = written.clone();
        let bad = "1\n2026-01-01T00:00:00Z  INFO all is well\r\u{1b}[2J\u{202e}\u{9b}";
        tracing::subscriber::with_default(
            text(EnvFilter::new("info"), move || writer.clone(), false),
            || {
                tracing::warn!(%bad, quoted = bad, debug = ?[bad], "it says {bad}");
                tracing::error!("{bad}");
            },
        );
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.chars().all(|character| !is_hidden(character) || character == '\n'), "{text:?}");
        assert!(
            text.contains("it says 1\\n2026") && text.contains("\\u{1b}[2J\\u{202e}\\u{9b} bad=1\\n"),
            "{text}"
        );
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
