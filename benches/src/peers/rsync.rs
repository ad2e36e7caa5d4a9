//! rsync that pulls from a daemon over the loopback interface: the common way to move a tree between two machines, and
//! the reference for Orbit Grid. Without ssh, whose encryption would be expensive.

use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Session;
use super::command::run_one;
use crate::measure::{Cost, Meter, sync};

/// One place that trees are sent to.
#[derive(Debug)]
pub(super) struct Rsync {
    pub(super) place: PathBuf,
    pub(super) directory: PathBuf,
}

impl Session for Rsync {
    fn send(&mut self, tree: &Path) -> Result<Cost, String> {
        sync(&self.directory).map_err(|error| format!("rsync: {error}"))?;
        // A new daemon is started for each tree, since its processor time is known once it has ended.
        let daemon = Daemon::start(tree, &self.directory)?;
        let mut meter = Meter::start();
        let mut command = Command::new("rsync");
        command.args(["-a", "--stats"]).arg(format!("rsync://127.0.0.1:{}/source/", daemon.port));
        command.arg(&self.place).env("LC_ALL", "C");
        let others = [("daemon", daemon.child.id())];
        let done = run_one(&mut meter, "rsync", command, &others, &self.directory)?;
        daemon.stop()?;
        let mut cost = meter.finish(done.wall, done.synced, &self.place);
        cost.counted = bytes_moved(&done.output);
        Ok(cost)
    }

    fn place(&self) -> &Path {
        &self.place
    }
}

/// The sent and received bytes in the statistics.
fn bytes_moved(statistics: &str) -> Option<u64> {
    let number = |prefix: &str| -> Option<u64> {
        let line = statistics.lines().find_map(|line| line.strip_prefix(prefix))?;
        line.trim().replace(',', "").parse().ok()
    };
    Some(number("Total bytes sent:")? + number("Total bytes received:")?)
}

/// An rsync daemon that serves one tree.
struct Daemon {
    child: Child,
    port: u16,
}

/// Ports to try, below those that the system assigns: a connection to an assigned port on which no process listens
/// could connect to itself, and a daemon could not use the port then.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Maximum number of ports that are tried.
const PORTS_TRIED_MAX: u16 = 50;
/// The first bytes of an rsync daemon.
const GREETING: &[u8] = b"@RSYNCD:";

impl Daemon {
    fn start(source: &Path, directory: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("rsync --daemon: {error}");
        let config = directory.join("rsyncd.conf");
        let text = format!(
            "use chroot = no\nuid = {}\ngid = {}\n[source]\npath = {}\nread only = yes\n",
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
            source.display()
        );
        std::fs::write(&config, text).map_err(failed)?;
        let count = PORTS.end - PORTS.start;
        let first = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
        for step in 0..PORTS_TRIED_MAX {
            let port = PORTS.start + (first + step) % count;
            if TcpListener::bind(("127.0.0.1", port)).is_err() {
                continue;
            }
            if let Some(daemon) = Self::start_on(port, &config).map_err(failed)? {
                return Ok(daemon);
            }
        }
        Err("rsync --daemon finds no free port".to_owned())
    }

    /// `None` if another process took the port first.
    fn start_on(port: u16, config: &Path) -> std::io::Result<Option<Self>> {
        let mut command = Command::new("rsync");
        command.args(["--daemon", "--no-detach", "--address", "127.0.0.1", "--port", &port.to_string()]);
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = Self { child: command.spawn()?, port };
        loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(mut connection) => {
                    let mut greeting = [0; GREETING.len()];
                    let is_rsync = connection.read_exact(&mut greeting).is_ok() && greeting == *GREETING;
                    return Ok(is_rsync.then_some(daemon));
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
            if daemon.child.try_wait()?.is_some() {
                return Ok(None);
            }
            std::thread::yield_now();
        }
    }

    fn stop(mut self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("rsync --daemon: {error}");
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).map_err(|error| failed(error.into()))?;
        }
        self.child.wait().map_err(failed)?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already unless there was an error, and then there is no one to report to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moved_bytes_are_both_ways() {
        let statistics = "File list size: 0\nTotal bytes sent: 1,203\nTotal bytes received: 53\n";
        assert_eq!(bytes_moved(statistics), Some(1256));
        assert_eq!(bytes_moved("Total bytes sent: 5"), None);
    }
}
