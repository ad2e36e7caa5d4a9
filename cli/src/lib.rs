//! `orbit`, the operator's command: a client of the coordinator's services, and the whole grid in one process for
//! `copy` and `demo`.
//!
//! It decides nothing about jobs. It turns a command line into requests, and answers into tables, lines or JSON; what
//! an answer means for the exit code stands in [`Outcome`]. Servers are started in one place only, [`grid`].

mod args;
mod client;
mod commands;
mod copy;
mod demo;
mod errors;
pub mod grid;
mod identity;
mod manual;
mod outcome;
mod output;
mod parse;
mod progress;
mod vocabulary;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use orbit_shared::settings::{Layered, SettingsError, parse_layered};
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
pub use crate::errors::CliError;
pub use crate::outcome::Outcome;
use crate::output::Output;

/// The program's command line, for whoever compares with it what is written about it.
pub fn command_line() -> clap::Command {
    Args::command()
}

/// Runs the program with the process's arguments and says what to exit with.
pub fn main() -> ExitCode {
    let layered =
        parse_layered(Args::command(), std::env::args_os(), |path: &Path| std::fs::read_to_string(path));
    let parsed = layered.and_then(|layered| {
        let args = Args::from_arg_matches(&layered.matches).map_err(SettingsError::Usage)?;
        Ok((layered, args))
    });
    let (layered, args) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    let output = Output::new(args.global.json, args.global.color);
    if layered.is_print_requested {
        return print_config(&output, &layered);
    }
    let Some(command) = args.command else {
        output.note(&Args::command().render_help().to_string());
        return ExitCode::from(outcome::USAGE);
    };
    start_log(&args.global.log, output);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.note(&format!("error: cannot start threads: {error}"));
            return ExitCode::from(Outcome::Failed.code());
        }
    };
    let url = client::normalize_url(&args.global.coordinator);
    let code = match runtime.block_on(run(command, &url, args.global.identity.as_deref(), output)) {
        Ok(outcome) => outcome.code(),
        Err(error) => {
            if let Some(text) = error.render(&url) {
                output.note(&format!("error: {text}"));
            }
            error.code()
        }
    };
    // A task that reads a slow disk must not keep a finished command from ending.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(
    command: Command,
    url: &str,
    identity: Option<&Path>,
    output: Output,
) -> Result<Outcome, CliError> {
    match command {
        Command::Copy(args) => Box::pin(copy::run(args, output)).await.map_err(CliError::within_this_process),
        Command::Demo(args) => Box::pin(demo::run(args, output)).await.map_err(CliError::within_this_process),
        Command::Completions(args) => manual::completions(args.shell, output),
        Command::Man(args) => manual::pages(&args.directory, output),
        Command::Ping(args) => {
            let url = args.url.as_deref().unwrap_or(url);
            Box::pin(commands::ping(&client::normalize_url(url), identity, output)).await
        }
        Command::Join(args) => {
            Box::pin(identity::join(args, url, &identity::directory(identity)?, output)).await
        }
        Command::Job(_)
        | Command::Schedule(_)
        | Command::Star(_)
        | Command::Guard(_)
        | Command::Penalties(_)
        | Command::Bulletins(_)
        | Command::DeadLetters(_)
        | Command::Provenance(_)
        | Command::Snapshot(_)
        | Command::Gc(_)
        | Command::Scrub(_)
        | Command::Health(_)
        | Command::Backup(_)
        | Command::Token(_)
        | Command::Identity(_)
        | Command::Top(_)
        | Command::Events(_)
        | Command::Status => {
            let client = match url.starts_with("https://") {
                false => client::Client::connect(url).await?,
                true => {
                    let credentials = identity::credentials(&identity::directory(identity)?, url)?;
                    Box::pin(client::Client::connect_as(url, credentials)).await?
                }
            };
            Box::pin(commands::run(command, &client, output)).await
        }
    }
}

fn print_config(output: &Output, layered: &Layered) -> ExitCode {
    let text = layered.print_config();
    match output.line(text.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(error.code()),
    }
}

/// Log lines of the grid in this process go to standard error, and only what an operator asked for.
fn start_log(filter: &str, output: Output) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("error"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(output.is_colored_on_stderr());
    // A test harness may have installed a subscriber of its own; then that one stays.
    let _ = lines.with_writer(io::stderr).try_init();
}
