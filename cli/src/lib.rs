//! `orbit`, the operator's command: a client of the coordinator's services, and the whole grid in one process for
//! `copy` and `demo`.
//!
//! It decides nothing about jobs. It turns a command line into requests, and answers into tables, lines or JSON; what
//! an answer means for the exit code stands in [`Outcome`]. Servers are started in one place only, [`grid`].

mod args;
mod client;
mod commands;
mod completion;
mod contexts;
mod copy;
mod demo;
mod errors;
pub mod grid;
mod identity;
pub mod in_process;
mod manual;
mod outcome;
mod output;
mod parse;
mod progress;
mod vocabulary;
mod words;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use orbit_program::settings::{Layered, SettingsError, Source, parse_layered};
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command, GlobalArgs};
use crate::contexts::Target;
pub use crate::errors::CliError;
pub use crate::outcome::Outcome;
use crate::output::{Color, Output};

/// The program's command line, for tests that compare the documents with it.
pub fn command_line() -> clap::Command {
    Args::command()
}

/// Runs the program with the process's arguments and says what to exit with.
pub fn main() -> ExitCode {
    completion::answer_shell();
    let layered =
        parse_layered(Args::command(), std::env::args_os(), |path: &Path| std::fs::read_to_string(path));
    let parsed = layered.and_then(|layered| {
        let args = Args::from_arg_matches(&layered.matches).map_err(SettingsError::Usage)?;
        Ok((layered, args))
    });
    let (layered, args) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            refuse(&error);
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
    let coordinator = layered.sources.get("coordinator").unwrap_or(&Source::Unset);
    let target = Target::resolve(&args.global, coordinator);
    let shown = target.as_ref().map_or_else(|_| args.global.coordinator.clone(), Target::shown);
    let code = match runtime.block_on(run(command, target, &args.global, output)) {
        Ok(outcome) => outcome.code(),
        Err(error) => {
            complain(&error, &shown, output);
            error.code()
        }
    };
    // A task that reads a slow disk must not keep a finished command from ending.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Says why a command could not be carried out.
fn complain(error: &CliError, shown: &str, output: Output) {
    if output.is_json() {
        if let Some(value) = error.to_json(shown) {
            output.note(&value.to_string());
        }
    } else if let Some(text) = error.render(shown) {
        output.note(&format!("error: {text}"));
    }
}

/// Says what is wrong with the command line. Whether JSON is wanted is looked for by hand: there is no parsed line.
fn refuse(error: &SettingsError) {
    let is_json = std::env::args_os().any(|arg| arg == "--json")
        || std::env::var("ORBIT_JSON").is_ok_and(|value| value == "true");
    if !is_json || error.exit_code() == 0 {
        return error.print();
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned();
    complain(&CliError::Usage(text), "", Output::new(true, Color::Never));
}

async fn run(
    command: Command,
    target: Result<Target, CliError>,
    global: &GlobalArgs,
    output: Output,
) -> Result<Outcome, CliError> {
    match command {
        Command::Copy(args) => Box::pin(copy::run(args, output)).await.map_err(CliError::within_this_process),
        Command::Demo(args) => Box::pin(demo::run(args, output)).await.map_err(CliError::within_this_process),
        Command::Completions(args) => manual::completions(args.shell, output),
        Command::Man(args) => manual::pages(&args.directory, output),
        Command::Ping(args) => {
            let target = match args.url {
                Some(url) => target?.at(&url),
                None => target?,
            };
            Box::pin(commands::ping(&target, output)).await
        }
        Command::Join(args) => {
            let url = client::normalize_url(&global.coordinator);
            Box::pin(identity::join(args, (&url, global), output)).await
        }
        Command::Context(command) => identity::context(command, output),
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
        | Command::Keys(_)
        | Command::Identity(_)
        | Command::Top(_)
        | Command::Events(_)
        | Command::Status => {
            let client = connect(&target?).await?;
            Box::pin(commands::run(command, &client, output)).await
        }
    }
}

/// Connects to a coordinator, with an identity where it speaks TLS.
async fn connect(target: &Target) -> Result<client::Client, CliError> {
    let url = target.url.as_str();
    if !url.starts_with("https://") {
        let client = client::Client::connect(url, std::sync::Arc::clone(&target.users)).await?;
        return Ok(client.with_identity_for_stars(target.identity_for_stars()));
    }
    let credentials = identity::credentials(&target.directory()?, url)?;
    Box::pin(client::Client::connect_as(url, credentials)).await
}

/// Errors of the grid in this process, without its bulletins.
const LOG_OF_ERRORS: &str = "error,orbit_coordinator::driver::told=off";

fn print_config(output: &Output, layered: &Layered) -> ExitCode {
    let text = layered.print_config();
    match output.line(text.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(error.code()),
    }
}

/// Log lines of the grid in this process go to standard error, and only what an operator asked for.
fn start_log(filter: &str, output: Output) {
    // What the coordinator tells of failed items is said by the copy itself, once.
    let filter = if filter == "error" { LOG_OF_ERRORS } else { filter };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(LOG_OF_ERRORS));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(output.is_colored_on_stderr());
    // A test harness may have installed a subscriber of its own; then that one stays.
    let _ = lines.with_writer(io::stderr).try_init();
}
