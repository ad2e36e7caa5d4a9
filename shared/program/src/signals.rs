//! Signals: those that ask a program to stop, and those that must not end it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of SIGXFSZ on the architectures that the programs are built for.
const FILE_SIZE_LIMIT: i32 = 25;

/// The signals that ask a program to stop.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` for a program that was started to outlive its terminal.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Listens for SIGTERM, SIGINT and SIGHUP. If the program was started with SIGHUP ignored, as `nohup` does, SIGHUP
    /// stays ignored.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }

    /// Waits for the next of them. Cancellation loses no signal.
    pub async fn next(&mut self) {
        let Self { terminate, interrupt, hangup } = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            Some(()) = async { hangup.as_mut()?.recv().await } => {}
        }
    }
}

/// Whether the program was started with SIGHUP ignored. Then it must stay ignored.
fn is_hangup_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The signals count from 1 and SIGHUP is the first.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// Makes a write beyond the file size limit (`ulimit -f`) an error of that write, which is reported with its item,
/// instead of the end of the program. A program must call this within a runtime with I/O enabled; a simulation has
/// none. One call per process is enough.
pub fn survive_file_size_limit() {
    // The handler stays for the life of the process, whether or not anything listens. Without it the system's default
    // applies.
    drop(signal(SignalKind::from_raw(FILE_SIZE_LIMIT)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_to_this_process(signal: &str) {
        let id = std::process::id().to_string();
        let status = std::process::Command::new("kill").args([signal, &id]).status();
        assert!(status.expect("kill is there").success());
    }

    #[test]
    fn an_ignored_hangup_is_noticed() {
        // Either is possible for a test; the expected answer is the kernel's for the process that asks.
        let ask =
            |program: &str| std::process::Command::new("sh").args(["-c", program]).output().unwrap().stdout;
        let ignored = ask("trap '' HUP; grep SigIgn /proc/self/status");
        let mask = String::from_utf8(ignored).unwrap();
        assert!(mask.trim_end().ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']), "{mask}");
        let _ = is_hangup_ignored();
    }

    #[tokio::test]
    async fn the_file_size_limit_does_not_end_the_process() {
        survive_file_size_limit();
        send_to_this_process("-XFSZ");
    }

    #[tokio::test]
    async fn each_signal_asks_to_stop_once() {
        let mut signals = StopSignals::listen().unwrap();
        for signal in ["-TERM", "-INT"] {
            send_to_this_process(signal);
            signals.next().await;
        }
        assert!(futures_is_pending(&mut signals).await);
    }

    async fn futures_is_pending(signals: &mut StopSignals) -> bool {
        tokio::select! {
            biased;
            () = signals.next() => false,
            () = std::future::ready(()) => true,
        }
    }
}
