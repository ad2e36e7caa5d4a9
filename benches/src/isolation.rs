//! A network and mounts of its own, so that the bytes on the loopback interface are those of the programs that are compared
//! and of nobody else on this machine, and so that what was mounted ends with the comparison. The program starts itself
//! again in them; its own process cannot be moved once it has threads, and the calls that could are not safe ones.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::programs::is_there;

/// Set for the program in its own network.
const MARK: &str = "ORBIT_COMPARE_OWN_NETWORK";
/// Brings the interface up, which a new network has down, and goes on as the program.
const BRING_UP: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// Whether this process has a network of its own.
pub(crate) fn is_isolated() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Whether it could have one.
pub(crate) fn can_isolate() -> bool {
    rustix::process::geteuid().is_root() && is_there("unshare") && is_there("ip")
}

/// Becomes the same program in a network of its own. Returns only when that fails, with the reason.
pub(crate) fn isolate(programs: &Path) -> String {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error.to_string(),
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", BRING_UP]).arg(own).args(std::env::args_os().skip(1));
    // What was built is not built again: a build may need the network that is left behind.
    if !std::env::args().any(|argument| argument.starts_with("--programs")) {
        command.arg("--programs").arg(programs);
    }
    let error = command.env(MARK, "1").exec();
    format!("unshare: {error}; with --shared-network it is not needed")
}
