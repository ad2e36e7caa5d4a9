//! Standard output and standard error: the one place that writes to them.
//!
//! Answers go to standard output, as JSON or as text; progress, notes and errors go to standard error. A reader that
//! went away ends a command quietly, as `orbit job ls | head -1` must.

pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod table;

use std::io::{self, IsTerminal as _, Write as _};

use crate::errors::CliError;
use crate::output::json::WireMessage;

/// Where answers go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    is_json: bool,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Answers with a message: as one line of JSON, or as the text that `text` makes of it.
    pub(crate) fn answer<M: WireMessage>(
        &self,
        message: &M,
        text: impl FnOnce(&M) -> String,
    ) -> Result<(), CliError> {
        let shown = if self.is_json { json::render(message)? } else { text(message) };
        // An empty table is nothing, not an empty line.
        if shown.is_empty() { Ok(()) } else { self.line(&shown) }
    }

    /// Writes lines to standard output.
    pub(crate) fn line(&self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::OutputClosed,
            _ => CliError::Failed(format!("cannot write to standard output: {error}")),
        })
    }

    /// Writes lines to standard error. When nobody reads that, there is nobody to tell.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Whether a person watches standard error, where progress is shown.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}
