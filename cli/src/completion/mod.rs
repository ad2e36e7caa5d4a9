//! Completion of command lines. At each Tab the shell's script runs this program again, with the words so far and a variable
//! that names the shell. The program answers with candidates for the word under the cursor: Stars, jobs, snapshots, schedules, and paths
//! as far as they can be listed.
//!
//! Subcommands and flags come from the description of the command line. [`values`] completes the values of arguments by their names
//! (`STAR`, `JOB`, ...). [`shells`] reads words and writes answers in the form of each shell.

mod grid;
mod shells;
mod values;

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use crate::args::Args;
use crate::errors::CliError;

/// Set, to the name of the shell, only by the completion scripts.
const VARIABLE: &str = "ORBIT_COMPLETE";
const PROGRAM: &str = "orbit";
const SHELLS: Shells<'static> = Shells(&[
    &shells::BASH,
    &clap_complete::env::Elvish,
    &clap_complete::env::Fish,
    &clap_complete::env::Powershell,
    &shells::ZSH,
]);

/// If a completion script runs this program, answers it and ends the process. Called before any thread starts.
pub(crate) fn answer_shell() {
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let command = || values::described(Args::command(), &words);
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .bin(PROGRAM)
        .completer(PROGRAM)
        .shells(SHELLS)
        .complete();
}

/// The script that makes a shell ask this program.
pub(crate) fn script(shell: clap_complete::Shell) -> Result<String, CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("the script cannot be made: {error}"));
    let name = shell.to_string();
    let completer = SHELLS.completer(&name).ok_or_else(|| failed(std::io::Error::other(name.clone())))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script).map_err(failed)?;
    Ok(String::from_utf8_lossy(&script).trim().to_owned())
}
