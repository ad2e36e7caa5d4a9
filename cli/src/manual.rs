//! Completions and manual pages, made from the command line's own description, so that they say what it does.

use std::path::Path;

use clap::CommandFactory as _;

use crate::args::Args;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

/// Prints a completion script.
pub(crate) fn completions(shell: clap_complete::Shell, output: Output) -> Result<Outcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "orbit", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Outcome::Completed)
}

/// Writes a page for the command and one for each subcommand.
pub(crate) fn pages(directory: &Path, output: Output) -> Result<Outcome, CliError> {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Args::command(), directory))
        .and_then(|()| std::fs::read_dir(directory).map(Iterator::count));
    let shown = directory.display();
    let count = written
        .map_err(|error| CliError::Failed(format!("the pages cannot be written to {shown}: {error}")))?;
    output.note(&format!("{count} pages are in {shown}; read one with: man {shown}/orbit.1"));
    Ok(Outcome::Completed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    #[test]
    fn every_command_has_its_page() {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path(), Output::new(false, Color::Never)).unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(page("orbit.1").contains("orbit"));
        for command in Args::command().get_subcommands() {
            let page = page(&format!("orbit-{}.1", command.get_name()));
            assert!(page.contains("NAME") && page.contains("SYNOPSIS"), "{}", command.get_name());
        }
        assert!(page("orbit-job-create.1").contains("files\\-from"));
    }
}
