//! The programs that are compared, each brought to copy one tree to one new place.

use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use orbit_tests::tree::differences;
use rustix::process::{Pid, Signal, kill_process};

use crate::measure::{Cost, Meter, sync};

/// Name of rsync in the report, as it is run.
pub(crate) const RSYNC: &str = "rsync -a";
/// Name of Orbit Grid in the report, as it is run.
pub(crate) const ORBIT: &str = "orbit copy";

/// A program that copies trees.
#[derive(Debug)]
pub(crate) enum Peer {
    /// rsync, pulling from a daemon on a port of this machine.
    Rsync,
    /// The whole grid in one process.
    Orbit(PathBuf),
}

impl Peer {
    /// rsync, if it is installed.
    pub(crate) fn rsync() -> Result<Self, String> {
        let version = Command::new("rsync").arg("--version").stdout(Stdio::null()).status();
        match version {
            Ok(status) if status.success() => Ok(Self::Rsync),
            Ok(_) | Err(_) => Err("rsync does not run; install it with: apt-get install rsync".to_owned()),
        }
    }

    /// `orbit`, built when it is missing.
    pub(crate) fn orbit(given: Option<PathBuf>) -> Result<Self, String> {
        if let Some(path) = given {
            return if path.is_file() {
                Ok(Self::Orbit(path))
            } else {
                Err(format!("--orbit {}: no such file", path.display()))
            };
        }
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let path = own.with_file_name("orbit");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "-p", "orbit-cli"]);
        if own.parent().is_some_and(|directory| directory.ends_with("release")) {
            cargo.arg("--release");
        }
        let target = own.parent().and_then(Path::parent).ok_or("this program lies in no target directory")?;
        let built = cargo.arg("--target-dir").arg(target).status().map_err(|error| error.to_string())?;
        if built.success() { Ok(Self::Orbit(path)) } else { Err("orbit cannot be built".to_owned()) }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rsync => RSYNC,
            Self::Orbit(_) => ORBIT,
        }
    }

    /// Copies `source` to a new place in `directory`, checks the copy, and removes it.
    pub(crate) fn copy(&self, source: &Path, directory: &Path) -> Result<Cost, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.name());
        let place = directory.join("copy");
        // What an earlier copy left to be written must not slow this one.
        sync(directory).map_err(failed)?;
        let cost = match self {
            Self::Rsync => copy_with_rsync(source, &place, directory)?,
            Self::Orbit(program) => copy_with_orbit(program, source, &place, directory)?,
        };
        let found = differences(source, &place);
        if !found.is_empty() {
            return Err(format!("{} made a wrong copy:\n{}", self.name(), found.join("\n")));
        }
        std::fs::remove_dir_all(&place).map_err(failed)?;
        Ok(cost)
    }
}

fn copy_with_orbit(program: &Path, source: &Path, place: &Path, directory: &Path) -> Result<Cost, String> {
    let mut command = Command::new(program);
    command.arg("copy").arg(source).arg(place).env_remove("ORBIT_COORDINATOR");
    let mut meter = Meter::start();
    let (wall, synced) = run(&mut meter, command, &[], directory)?;
    Ok(meter.finish(wall, synced))
}

fn copy_with_rsync(source: &Path, place: &Path, directory: &Path) -> Result<Cost, String> {
    // The daemon is started anew for each copy, since its processor time is known once it has ended.
    let mut meter = Meter::start();
    let daemon = Daemon::start(source, directory)?;
    let idle = meter.elapsed();
    let mut command = Command::new("rsync");
    command.arg("-a").arg(format!("rsync://127.0.0.1:{}/source/", daemon.port)).arg(place);
    let (wall, synced) = run(&mut meter, command, &[daemon.child.id()], directory)?;
    daemon.stop()?;
    Ok(meter.finish(wall.saturating_sub(idle), synced.saturating_sub(idle)))
}

/// Runs a program to its end and then until its result is on the disk.
fn run(
    meter: &mut Meter,
    mut command: Command,
    others: &[u32],
    directory: &Path,
) -> Result<(std::time::Duration, std::time::Duration), String> {
    let shown = format!("{command:?}");
    let failed = |error: std::io::Error| format!("{shown}: {error}");
    let errors = directory.join("errors");
    let log = std::fs::File::create(&errors).map_err(failed)?;
    let mut child = command.stdout(Stdio::null()).stderr(log).spawn().map_err(failed)?;
    let status = meter.follow(&mut child, others).map_err(failed)?;
    let wall = meter.elapsed();
    sync(directory).map_err(failed)?;
    let synced = meter.elapsed();
    if status.success() {
        return Ok((wall, synced));
    }
    Err(format!("{shown} failed with {status}:\n{}", std::fs::read_to_string(&errors).unwrap_or_default()))
}

/// An rsync daemon that serves one tree.
struct Daemon {
    child: Child,
    port: u16,
}

/// Ports to try, below those that the system hands out: a connection to such a port that nobody listens on could meet
/// itself, and a daemon could not have it then.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Ports that are tried before giving up.
const PORTS_TRIED_MAX: u16 = 50;
/// What an rsync daemon says first.
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

    /// Nothing when somebody else took the port first.
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
        // It has ended already unless something failed on the way; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
