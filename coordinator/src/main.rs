//! The `orbit-coordinator` program: settings, log lines on standard error, signals; everything else is the library.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use orbit_coordinator::config::CoordinatorFlags;
use orbit_coordinator::token_tool::TokenFlags;
use orbit_coordinator::{CoordinatorHandle, CoordinatorOptions, StartError};
use orbit_program::signals::{StopSignals, survive_file_size_limit};
use orbit_program::start::{self, EXIT_USAGE, complain, prepare_process, read_settings};
use orbit_telemetry::{Exporting, Identity, Spans, start_log};

/// Every item of every job passes through a few dozen small allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orbit_program::memory::return_freed_soon();
    orbit_program::private_files::keep_private();
    // Apart from the flags of a coordinator, each of which may also stand in a file or in the environment.
    if std::env::args_os().nth(1).is_some_and(|first| first == "token") {
        return make_token();
    }
    let read_file = |path: &std::path::Path| std::fs::read_to_string(path);
    match prepare_process().and_then(|()| read_settings::<CoordinatorFlags>(read_file)) {
        Ok(flags) => {
            start_log(flags.log_format);
            start::run(run(flags))
        }
        Err(code) => code,
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
    survive_file_size_limit();
    let handle = match orbit_coordinator::start(options).await {
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
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        () = signals.next() => {}
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
        () = signals.next() => Ok(ExitCode::from(1)),
    }
}
