//! Signals that must not end a program.

use tokio::signal::unix::{SignalKind, signal};

/// The number of SIGXFSZ on the architectures that the programs are built for.
const FILE_SIZE_LIMIT: i32 = 25;

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error of that write, which is told with the item it
/// belongs to, and not the end of the program. Must be called by a program, within a runtime that
/// does I/O: a simulation has none. Once is enough for the process.
pub fn survive_file_size_limit() {
    // The handler stays for as long as the process, whether or not anyone listens. Without it the system's default holds.
    drop(signal(SignalKind::from_raw(FILE_SIZE_LIMIT)));
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn the_signal_does_not_end_the_process() {
        survive_file_size_limit();
        let status =
            std::process::Command::new("kill").args(["-XFSZ", &std::process::id().to_string()]).status();
        assert!(status.expect("kill is there").success());
        std::io::stdout().flush().expect("still here");
    }
}
