//! The `orbit-star` program: settings, log lines on standard error, signals. Everything else is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use orbit_program::private_files::claim;
use orbit_program::signals::{StopSignals, survive_file_size_limit};
use orbit_program::start::{self, EXIT_USAGE, complain, prepare_process, read_settings};
use orbit_star::vault_tool::VaultFlags;
use orbit_star::{ExitReport, StarError, StarFlags, StarHandle, StarOptions};
use orbit_telemetry::{Exporting, Identity, Spans, start_log};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Every item of every job needs a few dozen small allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orbit_program::memory::return_freed_soon();
    orbit_program::private_files::keep_private();
    orbit_program::private_files::keep_apart();
    // These are not flags of a Star, each of which can also be given in a file or in the environment.
    if std::env::args_os().nth(1).is_some_and(|first| first == "vault") {
        return look_after_vault();
    }
    let read_file = |path: &std::path::Path| {
        claim_settings(path);
        std::fs::read_to_string(path)
    };
    match prepare_process().and_then(|()| read_settings::<StarFlags>(read_file)) {
        Ok(flags) => {
            start_log(flags.log_format);
            start::run(run(flags))
        }
        Err(code) => code,
    }
}

/// Protects the settings file, and the directory of the package's settings, from jobs.
fn claim_settings(path: &std::path::Path) {
    claim(path);
    claim(std::path::Path::new("/etc/orbit"));
}

fn look_after_vault() -> ExitCode {
    let flags = match VaultFlags::try_parse_from(std::env::args_os().skip(1)) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    match flags.command.run(&mut std::io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&error.to_string(), EXIT_USAGE),
    }
}

async fn run(flags: StarFlags) -> ExitCode {
    let identity = Identity {
        service: "orbit-star",
        version: env!("CARGO_PKG_VERSION"),
        instance: flags.star_id.to_string(),
    };
    let spans = match flags.otlp_endpoint.as_deref().map(|endpoint| Exporting::start(endpoint, identity)) {
        None => Spans::default(),
        Some(Ok(exporting)) => Spans::to(exporting),
        Some(Err(error)) => return complain(&error.to_string(), EXIT_USAGE),
    };
    let code = serve(StarOptions { spans: spans.clone(), ..flags.into() }).await;
    spans.close().await;
    code
}

async fn serve(options: StarOptions) -> ExitCode {
    survive_file_size_limit();
    let mut handle = match orbit_star::start(options, CancellationToken::new()).await {
        Ok(handle) => handle,
        Err(error @ (StarError::Options(_) | StarError::Coordinator(_))) => {
            return complain(&error.to_string(), EXIT_USAGE);
        }
        Err(error) => return complain(&error.to_string(), 1),
    };
    // Before the line below, which tells scripts that they can send signals from now on.
    let signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("cannot listen for signals: {error}"), 1),
    };
    let mut output = std::io::stdout();
    // Scripts wait for this line; without a reader the Star still works.
    if let Some(address) = handle.local_addr {
        let _ = writeln!(output, "listening on {address}");
    }
    if let Some(path) = &handle.socket {
        let _ = writeln!(output, "listening on unix:{}", path.display());
    }
    let _ = output.flush();
    let report = wait_with_signals(&mut handle, signals).await;
    if report.code == 0 {
        info!("{}", report.reason);
        return ExitCode::SUCCESS;
    }
    complain(&report.reason, report.code)
}

/// Waits until the Star has exited. The first SIGTERM, SIGINT or SIGHUP asks it to drain, the second one to exit at
/// once.
async fn wait_with_signals(handle: &mut StarHandle, mut signals: StopSignals) -> ExitReport {
    let drainer = handle.drainer();
    let forwarding = tokio::spawn(async move {
        loop {
            signals.next().await;
            info!("asked to stop; draining (once more to stop at once)");
            drainer.drain().await;
        }
    });
    let report = handle.wait().await;
    forwarding.abort();
    report
}
