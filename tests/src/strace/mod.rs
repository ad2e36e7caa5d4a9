//! Programs under strace: their system calls in order, and faults that are injected into chosen calls.

mod calls;
mod session;

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

pub use calls::{Call, calls};
pub use session::reports_sent;

use crate::deadline::eventually;

/// Whether every thread of a process is traced.
fn is_traced(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("a process has threads");
    threads.flatten().all(|thread| {
        // A thread that has ended meanwhile has no status, and need not be traced.
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.is_empty() || !status.contains("TracerPid:\t0\n")
    })
}

/// The way in which a program is traced.
#[derive(Debug, Clone)]
pub struct Strace {
    arguments: Vec<String>,
}

impl Strace {
    /// Writes the named calls to a file, with complete strings.
    pub fn recording(names: &str, path: &Path) -> Self {
        let path = path.to_str().expect("temporary directories have names of text").to_owned();
        // Every string in hexadecimal digits, so that none can be taken for syntax.
        let shape = ["-yy", "-xx", "--string-limit=4194304", "-o", &path].map(str::to_owned);
        let mut arguments = vec![format!("--trace={names}")];
        arguments.extend(shape);
        Self { arguments }
    }

    /// Injects a fault into the chosen calls and writes nothing: `signal=KILL:when=3` kills the program when one of its
    /// threads is about to make its third call of one of these names.
    pub fn injecting(names: &str, fault: &str) -> Self {
        let arguments = vec![format!("--trace={names}"), "-o".to_owned(), "/dev/null".to_owned()];
        Self { arguments }.and_injecting(names, fault)
    }

    /// Only calls that use this path, or a handle of it.
    #[must_use]
    pub fn on_path(mut self, path: &Path) -> Self {
        let path = path.to_str().expect("temporary directories have names of text");
        self.arguments.push(format!("--trace-path={path}"));
        self
    }

    /// Additionally injects a fault.
    #[must_use]
    pub fn and_injecting(mut self, names: &str, fault: &str) -> Self {
        self.arguments.push(format!("--inject={names}:{fault}"));
        self
    }

    /// The command under strace. The spawned process is the program itself, so that signals reach it.
    pub fn wrap(&self, command: &Command) -> Command {
        let traced = command.as_std();
        let mut wrapped = Command::new("strace");
        // Without --seccomp-bpf, with which no signal is injected into a call.
        wrapped.args(["--daemonize", "--follow-forks", "--quiet=all"]).args(&self.arguments);
        wrapped.arg("--").arg(traced.get_program()).args(traced.get_args());
        wrapped
    }

    /// Traces a running program until it ends: calls count from now on, without those of its start.
    pub async fn attach(&self, process: u32) {
        let mut command = Command::new("strace");
        command.args(["--follow-forks", "--quiet=all"]).args(&self.arguments);
        command.arg(format!("--attach={process}")).stdin(Stdio::null());
        let _ends_with_the_program = command.spawn().expect("strace can be started");
        eventually("strace to follow every thread", async || is_traced(process).then_some(())).await;
    }
}
