//! A grid of real processes on this machine: a coordinator, a Star that may only read, and a Star that writes. It is
//! started before the measurement, like a service; a job of the command line sends a tree.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use orbit_tests::client::Client;
use orbit_tests::grid::is_ready;
use serde_json::Value;

use super::Session;
use super::command::run_one;
use crate::measure::{Cost, Meter, forget_peak, process_cpu, sync};
use crate::programs::Programs;

/// Roles of the processes.
pub(crate) const COORDINATOR: &str = "coordinator";
pub(crate) const SOURCE: &str = "source";
pub(crate) const DESTINATION: &str = "destination";
/// What a program prints before the address of its service.
const LISTENING: &str = "listening on ";

/// A running grid, and the destination of its jobs.
#[derive(Debug)]
pub(crate) struct GridSession {
    programs: Programs,
    address: String,
    processes: [Service; 3],
    place: PathBuf,
    directory: PathBuf,
}

/// A process that serves until it is dropped.
#[derive(Debug)]
struct Service {
    role: &'static str,
    child: Child,
    /// Kept open, since a program may end if its output has no reader.
    output: BufReader<ChildStdout>,
}

impl GridSession {
    /// Starts a grid whose source exports `root` and whose destination exports a new directory below `directory`.
    pub(crate) fn begin(programs: &Programs, root: &Path, directory: &Path) -> Result<Self, String> {
        let (exported, state) = (directory.join("exported"), directory.join("state"));
        for new in [&exported, &state] {
            std::fs::create_dir_all(new).map_err(|error| format!("{}: {error}", new.display()))?;
        }
        let mut command = programs.command("orbit-coordinator");
        command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(state.join(COORDINATOR));
        let (coordinator, address) = Service::start(COORDINATOR, command, &state)?;
        let start_star = |role: &'static str, root: String| {
            let mut command = programs.command("orbit-star");
            command.args(["--star-id", role, "--coordinator", &format!("http://{address}")]);
            command.args(["--listen", "127.0.0.1:0", "--root", &root, "--vault"]).arg(state.join(role));
            Service::start(role, command, &state).map(|(service, _)| service)
        };
        let source = start_star(SOURCE, format!("{}:ro", root.display()))?;
        let destination = start_star(DESTINATION, exported.display().to_string())?;
        let grid = Self {
            programs: programs.clone(),
            address,
            processes: [coordinator, source, destination],
            place: exported.join("copy"),
            directory: directory.to_owned(),
        };
        grid.wait_until_ready()?;
        Ok(grid)
    }

    /// The coordinator's address, `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The process with a role.
    pub(crate) fn process(&self, role: &str) -> u32 {
        let found = self.processes.iter().find(|service| service.role == role);
        found.map_or(0, |service| service.child.id())
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let client = Client::new(&self.address);
            for star in [SOURCE, DESTINATION] {
                client.wait_star(star, "receives work", is_ready).await;
            }
        });
        Ok(())
    }

    fn roles(&self) -> [(&'static str, u32); 3] {
        self.processes.each_ref().map(|service| (service.role, service.child.id()))
    }

    fn cpu(&self) -> [(&'static str, Duration); 3] {
        self.roles().map(|(role, process)| (role, process_cpu(process)))
    }
}

impl GridSession {
    /// A call of the command line for this grid.
    pub(super) fn command(&self) -> Command {
        let mut command = self.programs.command("orbit");
        command.args(["--json", "--coordinator", &format!("http://{}", self.address)]);
        command
    }

    /// Runs a command that ends with its job, and returns its cost and its output. `result` is where the job stores.
    pub(super) fn measure(&self, command: Command, result: &Path) -> Result<(Cost, String), String> {
        let failed = |error: std::io::Error| format!("orbit grid: {error}");
        for (_, process) in self.roles() {
            forget_peak(process).map_err(failed)?;
        }
        sync(&self.directory).map_err(failed)?;
        let before = self.cpu();
        let mut meter = Meter::start();
        let done = run_one(&mut meter, "orbit job", command, &self.roles(), &self.directory)?;
        let mut cost = meter.finish(done.wall, done.synced, result);
        for ((role, before), (_, after)) in before.into_iter().zip(self.cpu()) {
            let spent = after.saturating_sub(before);
            cost.cpu += spent;
            cost.cpu_by_role.insert(role, spent);
        }
        cost.counted = bytes_transferred(&done.output);
        Ok((cost, done.output))
    }

    /// The directory of a process's state.
    pub(super) fn state_of(&self, role: &str) -> PathBuf {
        self.directory.join("state").join(role)
    }

    /// A directory below the destination's root.
    pub(super) fn exported(&self, name: &str) -> PathBuf {
        self.directory.join("exported").join(name)
    }
}

impl Session for GridSession {
    fn send(&mut self, tree: &Path) -> Result<Cost, String> {
        let mut command = self.command();
        command.args(["job", "create", "--wait"]);
        command.arg(format!("{SOURCE}:{}", tree.display()));
        command.arg(format!("{DESTINATION}:{}", self.place.display()));
        Ok(self.measure(command, &self.place)?.0)
    }

    fn place(&self) -> &Path {
        &self.place
    }

    fn end(&mut self) {
        self.processes.iter_mut().for_each(Service::stop);
    }
}

impl Service {
    /// Starts a program and waits for the line with its address.
    fn start(role: &'static str, mut command: Command, logs: &Path) -> Result<(Self, String), String> {
        let failed = |error: std::io::Error| format!("{role}: {error}");
        let log = logs.join(format!("{role}.stderr"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(std::fs::File::create(&log).map_err(failed)?);
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stdout.take().ok_or("standard output is not piped")?;
        let mut service = Self { role, child, output: BufReader::new(output) };
        let mut line = String::new();
        while service.output.read_line(&mut line).map_err(failed)? > 0 {
            if let Some(address) = line.trim_end().strip_prefix(LISTENING) {
                return Ok((service, address.to_owned()));
            }
            line.clear();
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        Err(format!("{role} ended before it listened:\n{said}"))
    }

    fn stop(&mut self) {
        // Its work is done and checked, or has failed; there is nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The number of bytes that an ended job has moved between Stars, from the answer in JSON.
pub(super) fn bytes_transferred(answer: &str) -> Option<u64> {
    let answer: Value = serde_json::from_str(answer.lines().last()?).ok()?;
    answer["job"]["progress"]["bytesTransferred"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moved_bytes_are_read_from_the_answer() {
        let answer = r#"{"job":{"jobId":"1","progress":{"bytesTransferred":"1234"}}}"#;
        assert_eq!(bytes_transferred(answer), Some(1234));
        assert_eq!(bytes_transferred("job 1"), None);
    }
}
