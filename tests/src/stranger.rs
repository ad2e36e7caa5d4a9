//! Another user of the machine. Needs root, to switch to it.

use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;
use tokio::process::Command;

use crate::deadline::within;
use crate::programs::program;

/// The user `nobody`, whose group is `nogroup`, on every Debian system.
pub const STRANGER: &str = "65534";

/// Another user, with copies of the programs where that user can run them, regardless of the build directory.
#[derive(Debug)]
pub struct Stranger(TempDir);

impl Default for Stranger {
    fn default() -> Self {
        Self::new()
    }
}

impl Stranger {
    /// Copies the programs of this build.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        open(directory.path());
        for name in ["orbit", "orbit-star", "orbit-coordinator"] {
            let (from, to) = (program(name), directory.path().join(name));
            if std::fs::hard_link(&from, &to).is_err() {
                std::fs::copy(&from, &to).expect("a program can be copied");
            }
        }
        Self(directory)
    }

    /// A command that runs one of these programs, or one of the system's, as another user.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups"]);
        let own = self.0.path().join(name);
        command.arg(if own.exists() { own } else { PathBuf::from(name) });
        command.env_remove("ORBIT_COORDINATOR").env("HOME", "/nonexistent").kill_on_drop(true);
        command.current_dir("/");
        command
    }

    /// Runs one and waits for its end.
    pub async fn run(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(name);
        within("another user's command to end", command.args(arguments).output()).await.expect("it starts")
    }

    /// Sends a request over HTTP as another user, without our programs. Returns the answer.
    pub async fn http(&self, address: &str, path: &str) -> String {
        let (host, port) = address.rsplit_once(':').expect("an address has a port");
        let script = format!(
            "exec 3<>/dev/tcp/{host}/{port}; printf 'GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3"
        );
        said(&self.run("bash", &["-c", &script]).await)
    }
}

/// Lets all users read a directory.
pub fn open(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory, permissions).expect("a directory of the test can be changed");
}

/// The output of a command.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Changes the owner of files to the other user.
pub fn give(paths: &[&Path]) {
    let given = std::process::Command::new("chown").arg(STRANGER).args(paths).status();
    assert!(given.expect("chown starts").success());
}
