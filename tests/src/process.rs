//! One program under test as a real process: its standard output by lines, its standard error in a file that is shown
//! when the test fails, signals, and its exit. Dropping it kills it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::deadline::{eventually, within};

/// Maximum number of lines of standard error that a failed test shows.
const LINES_SHOWN_MAX: usize = 60;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    error_path: PathBuf,
}

impl Process {
    /// Starts a command. Its standard error is appended to `NAME.stderr` in `log_directory`.
    pub fn spawn(name: &str, mut command: Command, log_directory: &Path) -> Self {
        let error_path = log_directory.join(format!("{name}.stderr"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&error_path);
        let log = log.expect("the log directory is writable");
        let spawned =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = child.stdout.take().expect("standard output is piped");
        Self { name: name.to_owned(), child, output: BufReader::new(output).lines(), error_path }
    }

    /// The rest of the next line of standard output that begins with `prefix`.
    pub async fn line_after(&mut self, prefix: &str) -> String {
        match self.line_or_end(prefix).await {
            Some(rest) => rest,
            None => panic!("{} ended without printing {prefix:?}:\n{}", self.name, self.errors()),
        }
    }

    /// As [`Self::line_after`], for a program that may be killed before it prints such a line; `None` then.
    pub async fn line_or_end(&mut self, prefix: &str) -> Option<String> {
        let what = format!("{} to print {prefix:?}", self.name);
        within(&what, async {
            while let Some(line) = self.output.next_line().await.expect("standard output is text") {
                if let Some(rest) = line.strip_prefix(prefix) {
                    return Some(rest.trim().to_owned());
                }
            }
            None
        })
        .await
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended:\n{}", self.name, self.errors()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.unwrap_or_else(|| panic!("{} has ended:\n{}", self.name, self.errors()));
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// Kills it with SIGKILL, and waits until it has ended.
    pub async fn kill(&mut self) {
        within("a killed process to end", self.child.kill()).await.expect("a process can be killed");
    }

    /// Waits until it exits by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("{} to end", self.name);
        within(&what, self.child.wait()).await.expect("a child can be waited for")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Peak of its resident memory, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let id = self.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak of memory");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number of KiB")
    }

    /// The processor time of all its threads.
    pub fn processor_time(&self) -> std::time::Duration {
        let id = self.id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("a process has a status");
        // The program's name is in brackets. After it, user and system time are the 12th and 13th fields.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
        std::time::Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Its whole standard error.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.error_path).unwrap_or_default()).into_owned()
    }

    /// Waits until its standard error contains a text.
    pub async fn says(&self, text: &str) {
        let what = format!("{} to say {text:?}", self.name);
        eventually(&what, async || self.errors().contains(text).then_some(())).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let errors = self.errors();
            let lines: Vec<&str> = errors.lines().collect();
            let from = lines.len().saturating_sub(LINES_SHOWN_MAX);
            // A failed test can only report this here.
            #[expect(clippy::print_stderr, reason = "shown with the output of the failed test")]
            {
                eprintln!("--- {} said:\n{}", self.name, lines[from..].join("\n"));
            }
        }
    }
}
