//! Signals that must not end a program.

use tokio::signal::unix::{SignalKind, signal};

/// The number of SIGXFSZ on the architectures that the programs are built for.
const FILE_SIZE_LIMIT: i32 = 25;

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
