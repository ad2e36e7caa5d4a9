//! A separate network and mount namespace, so that the bytes on the loopback interface are only those of the compared
//! programs, and mounts end with the comparison. The program restarts itself in them: a process with threads cannot be
//! moved, and the system calls for it are unsafe.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::programs::is_there;

/// Environment variable that is set for the program in its own network.
const MARK: &str = "ORBIT_COMPARE_OWN_NETWORK";
/// Enables the interface, which is down in a new network, and continues as the program.
const BRING_UP: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// Whether this process has its own network.
pub(crate) fn is_isolated() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Whether it could have one.
pub(crate) fn can_isolate() -> bool {
    rustix::process::geteuid().is_root() && is_there("unshare") && is_there("ip")
}

/// Replaces this process by the same program in its own network. Returns only if that fails, with the reason.
pub(crate) fn isolate(programs: &Path) -> String {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error.to_string(),
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", BRING_UP]).arg(own).args(std::env::args_os().skip(1));
    // Existing programs are not built again: a build may need the outer network.
    if !std::env::args().any(|argument| argument.starts_with("--programs")) {
        command.arg("--programs").arg(programs);
    }
    let error = command.env(MARK, "1").exec();
    format!("unshare: {error}; with --shared-network it is not needed")
}
