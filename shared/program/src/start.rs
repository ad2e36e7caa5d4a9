//! The start of a program that serves: the process's limits, its settings, and the runtime that it runs in.
//!
//! A `main` consists of these steps and of what is peculiar to its program. Log output and spans belong to
//! `orbit-telemetry`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::settings::parse_layered;
use crate::{memory, open_files};

/// Exit code for a command line or a setting that is not valid.
pub const EXIT_USAGE: u8 = 2;

/// Raises the limit of open files, and turns off huge pages.
///
/// # Errors
/// The limit is too low and cannot be raised. The problem was printed; the program must exit with the code.
pub fn prepare_process() -> Result<(), ExitCode> {
    open_files::raise_limit().map_err(|error| complain(&error.to_string(), 1))?;
    memory::disable_huge_pages();
    Ok(())
}

/// Reads the settings of a program from its command line, the environment and the file of `--config`.
///
/// # Errors
/// They are not valid, or the user asked for help, the version, or the settings. The answer was printed; the program must
/// exit with the code.
pub fn read_settings<F: CommandFactory + FromArgMatches>(
    read_file: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<F, ExitCode> {
    let layered = parse_layered(F::command(), std::env::args_os(), read_file).map_err(|error| {
        error.print();
        ExitCode::from(error.exit_code())
    })?;
    if layered.is_print_requested {
        // If the reader has gone away, it needs no more output.
        let _ = std::io::stdout().write_all(layered.print_config().as_bytes());
        return Err(ExitCode::SUCCESS);
    }
    F::from_arg_matches(&layered.matches).map_err(|error| error.exit())
}

/// Runs a program in a runtime with several threads, and does not wait for blocked threads at its end.
pub fn run(program: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(program);
            // A file system that hangs can block a thread for ever.
            runtime.shutdown_background();
            code
        }
        Err(error) => complain(&format!("cannot start threads: {error}"), 1),
    }
}

/// Prints an error and returns the exit code.
pub fn complain(problem: &str, code: u8) -> ExitCode {
    // If standard error is closed, only the exit code is left.
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::from(code)
}
