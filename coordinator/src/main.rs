//! The `orbit-coordinator` program: settings, log lines on standard error, signals; everything else is the library.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser as _};
use orbit_coordinator::config::CoordinatorFlags;
use orbit_coordinator::token_tool::TokenFlags;
use orbit_coordinator::{CoordinatorHandle, CoordinatorOptions, StartError, start};
use orbit_shared::settings::parse_layered;
use orbit_shared::signals::is_hangup_ignored;
use orbit_telemetry::{Exporting, Identity, Spans, start_log};
use tokio::signal::unix::{SignalKind, signal};

const EXIT_USAGE: u8 = 2;

/// Every item of every job passes through a few dozen small allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orbit_shared::freed_memory::return_soon();
    orbit_shared::private_files::keep_private();
    // Apart from the flags of a coordinator, each of which may also stand in a file or in the environment.
    if std::env::args_os().nth(1).is_some_and(|first| first == "token") {
        return make_token();
    }
    if let Err(error) = orbit_shared::open_files::raise_limit() {
        return complain(&error.to_string(), 1);
    }
    orbit_shared::huge_pages::do_without();
    let read_file = |path: &std::path::Path| std::fs::read_to_string(path);
    let layered = match parse_layered(CoordinatorFlags::command(), std::env::args_os(), read_file) {
        Ok(layered) => layered,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    if layered.is_print_requested {
        // A reader that has gone away wants no more.
        let _ = std::io::stdout().write_all(layered.print_config().as_bytes());
        return ExitCode::SUCCESS;
    }
    let flags = match CoordinatorFlags::from_arg_matches(&layered.matches) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    start_log(flags.log_format);
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run(flags));
            // A disk that hangs may hold a blocking thread for ever.
            runtime.shutdown_background();
            code
        }
        Err(error) => complain(&format!("cannot start threads: {error}"), 1),
    }
}

fn make_token() -> ExitCode {
    let flags = match TokenFlags::try_parse_from(std::env::args_os().skip(1)) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    match flags.command.run(&mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), EXIT_USAGE),
    }
}

async fn run(flags: CoordinatorFlags) -> ExitCode {
    let spans = match flags.otlp_endpoint.as_deref().map(|endpoint| Exporting::start(endpoint, identity())) {
        None => Spans::default(),
        Some(Ok(exporting)) => Spans::to(exporting),
        Some(Err(error)) => return complain(&error.to_string(), EXIT_USAGE),
    };
    let code = serve(CoordinatorOptions { spans: spans.clone(), ..flags.into() }).await;
    spans.close().await;
    code
}

/// Under which name a collector shows what this program did.
fn identity() -> Identity {
    Identity {
        service: "orbit-coordinator",
        version: env!("CARGO_PKG_VERSION"),
        instance: "coordinator".to_owned(),
    }
}

async fn serve(options: CoordinatorOptions) -> ExitCode {
    orbit_telemetry::survive_file_size_limit();
    let handle = match start(options).await {
        Ok(handle) => handle,
        Err(error @ StartError::Options(_)) => return complain(&error.to_string(), EXIT_USAGE),
        Err(error) => return complain(&error.to_string(), 1),
    };
    announce(&handle);
    match serve_until_signal(handle).await {
        Ok(code) => code,
        Err(error) => complain(&format!("cannot listen for signals: {error}"), 1),
    }
}

/// Prints where it serves. Scripts wait for these lines; without a reader the coordinator still works.
fn announce(handle: &CoordinatorHandle) {
    let mut output = std::io::stdout();
    if let Some(address) = handle.local_addr() {
        let _ = writeln!(output, "listening on {address}");
    }
    if let Some(path) = handle.socket() {
        let _ = writeln!(output, "listening on unix:{}", path.display());
    }
    if let Some(address) = handle.http_addr() {
        let _ = writeln!(output, "http on {address}");
    }
    if let Some(path) = handle.http_socket() {
        let _ = writeln!(output, "http on unix:{}", path.display());
    }
    let _ = output.flush();
}

/// The first SIGTERM, SIGINT or SIGHUP stops it in good order, the second at once.
async fn serve_until_signal(mut handle: CoordinatorHandle) -> std::io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Not for one that was started to outlive its terminal.
    let mut hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        Some(()) = async { hangup.as_mut()?.recv().await } => {}
        failure = handle.failed() => {
            let problem = failure.map_or_else(|| "the driver has ended".to_owned(), |error| error.to_string());
            return Ok(complain(&format!("{problem}. Nothing that was acknowledged is lost; mend the cause and start again"), 1));
        }
    }
    tracing::info!("stopping (once more to stop at once)");
    tokio::select! {
        stopped = handle.stop() => Ok(match stopped {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error.to_string(), 1),
        }),
        _ = terminate.recv() => Ok(ExitCode::from(1)),
        _ = interrupt.recv() => Ok(ExitCode::from(1)),
    }
}

fn complain(problem: &str, code: u8) -> ExitCode {
    // A closed standard error leaves only the exit code.
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::from(code)
}
