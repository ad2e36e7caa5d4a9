//! The `orbit-star` program: settings, log lines on standard error, signals. Everything else is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser as _};
use orbit_shared::private_files::claim;
use orbit_shared::settings::parse_layered;
use orbit_shared::signals::is_hangup_ignored;
use orbit_star::vault_tool::VaultFlags;
use orbit_star::{ExitReport, StarError, StarFlags, StarHandle, StarOptions, start};
use orbit_telemetry::{Exporting, Identity, Spans, start_log};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

const EXIT_USAGE: u8 = 2;

/// Every item of every job needs a few dozen small allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orbit_shared::freed_memory::return_soon();
    orbit_shared::private_files::keep_private();
    orbit_shared::private_files::keep_apart();
    // These are not flags of a Star, each of which can also be given in a file or in the environment.
    if std::env::args_os().nth(1).is_some_and(|first| first == "vault") {
        return look_after_vault();
    }
    if let Err(error) = orbit_shared::open_files::raise_limit() {
        return complain(&error.to_string(), 1);
    }
    orbit_shared::huge_pages::do_without();
    let read_file = |path: &std::path::Path| {
        claim_settings(path);
        std::fs::read_to_string(path)
    };
    let layered = match parse_layered(StarFlags::command(), std::env::args_os(), read_file) {
        Ok(layered) => layered,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    if layered.is_print_requested {
        // If the reader has gone away, it needs no more output.
        let _ = std::io::stdout().write_all(layered.print_config().as_bytes());
        return ExitCode::SUCCESS;
    }
    let flags = match StarFlags::from_arg_matches(&layered.matches) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    start_log(flags.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(run(flags));
            // A file system that hangs can block a thread for ever.
            runtime.shutdown_background();
            code
        }
        Err(error) => complain(&format!("cannot start threads: {error}"), 1),
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
    let code = shine(StarOptions { spans: spans.clone(), ..flags.into() }).await;
    spans.close().await;
    code
}

async fn shine(options: StarOptions) -> ExitCode {
    orbit_star::survive_file_size_limit();
    let mut handle = match start(options, CancellationToken::new()).await {
        Ok(handle) => handle,
        Err(error @ (StarError::Options(_) | StarError::Coordinator(_))) => {
            return complain(&error.to_string(), EXIT_USAGE);
        }
        Err(error) => return complain(&error.to_string(), 1),
    };
    // Before the line below, which tells scripts that they can send signals from now on.
    let signals = signals();
    let signals = match signals {
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

/// The signals that ask the Star to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` for a Star that was started to outlive its terminal.
    hangup: Option<Signal>,
}

fn signals() -> std::io::Result<Signals> {
    let hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup,
    })
}

/// Waits until the Star has exited. The first SIGTERM, SIGINT or SIGHUP asks it to drain, the second one to exit at
/// once.
async fn wait_with_signals(handle: &mut StarHandle, signals: Signals) -> ExitReport {
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
    let drainer = handle.drainer();
    let forwarding = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                Some(()) = async { hangup.as_mut()?.recv().await } => {}
            }
            info!("asked to stop; draining (once more to stop at once)");
            drainer.drain().await;
        }
    });
    let report = handle.wait().await;
    forwarding.abort();
    report
}

fn complain(problem: &str, code: u8) -> ExitCode {
    // If standard error is closed, only the exit code is left.
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::from(code)
}
