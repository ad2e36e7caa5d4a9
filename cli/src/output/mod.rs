//! Standard output and standard error: the one place that writes to them.
//!
//! Answers go to standard output, as JSON or as text; progress, notes and errors go to standard error. A reader that
//! went away ends a command quietly, as `orbit job ls | head -1` must. Text may have colours, which are taken out here
//! unless the reader sees them: on a terminal, or where an operator says so.

mod fit;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod table;
pub(crate) mod tone;

use std::io::{self, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};

use crate::errors::CliError;
use crate::output::json::WireMessage;

/// When text has colours: `auto` is on a terminal, where the environment does not say otherwise.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    // What stands here as documentation would make the help of every command several screens long.
    #[default]
    Auto,
    Always,
    Never,
}

/// Where answers go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    is_json: bool,
    color: ColorChoice,
}

impl Output {
    pub(crate) fn new(is_json: bool, color: Color) -> Self {
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Self { is_json, color }
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
        if self.is_json {
            return self.line(&json::render(message)?);
        }
        let shown = text(message);
        // An empty table is nothing, not an empty line.
        if shown.is_empty() { Ok(()) } else { self.text(&shown) }
    }

    /// Writes lines for people to standard output, with their colours if those are seen.
    pub(crate) fn text(&self, text: &str) -> Result<(), CliError> {
        write_line(AutoStream::new(io::stdout().lock(), self.color), text)
    }

    /// Writes lines for programs to standard output, byte for byte.
    pub(crate) fn line(&self, text: &str) -> Result<(), CliError> {
        write_line(io::stdout().lock(), text)
    }

    /// Writes lines to standard error. When nobody reads that, there is nobody to tell.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(AutoStream::new(io::stderr().lock(), self.color), "{text}");
    }

    /// Whether colours are seen on standard output.
    pub(crate) fn is_colored(&self) -> bool {
        AutoStream::new(io::stdout(), self.color).current_choice() != ColorChoice::Never
    }

    /// Whether colours are seen on standard error.
    pub(crate) fn is_colored_on_stderr(&self) -> bool {
        AutoStream::new(io::stderr(), self.color).current_choice() != ColorChoice::Never
    }
}

fn write_line(mut stream: impl Write, text: &str) -> Result<(), CliError> {
    writeln!(stream, "{text}").and_then(|()| stream.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::OutputClosed,
        _ => CliError::Failed(format!("cannot write to standard output: {error}")),
    })
}

/// The width of the terminal that standard output is, in cells; `None` for a pipe or a file.
fn terminal_width() -> Option<usize> {
    let is_terminal = io::stdout().is_terminal();
    let size = is_terminal.then(ratatui::crossterm::terminal::size)?.ok()?;
    Some(usize::from(size.0)).filter(|&width| width > 0)
}

/// Whether a person watches standard error, where progress is shown.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}
