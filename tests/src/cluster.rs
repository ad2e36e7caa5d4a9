//! The compose cluster as an operator starts it: the image, `docker-compose.yml`, and the operations of an engine on a
//! container.
//!
//! All names are unique, so that it can run beside an operator's cluster on the same machine. Everything is removed at
//! the end, even when a test fails or an earlier one was killed. Needs a running Docker engine, root, and the base
//! image (`scripts/base-image`); without them a test fails with that reason.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
use crate::deadline::{eventually, within};
use crate::grid::is_ready;
use crate::programs::program;

/// Prefix of the names of projects and images of tests; the number of the test's process follows.
const NAME_PREFIX: &str = "orbit-test-";
/// The services of `docker-compose.yml` that are Stars.
pub const STARS: [&str; 3] = ["star-1", "star-2", "star-3"];
/// The lease in the settings of a container, short so that tests need not wait long for that of a Star that is cut off.
const LEASE: &str = "4s";

/// A running compose project. Dropping it removes it with its volumes, network and image.
#[derive(Debug)]
pub struct Cluster {
    project: String,
    source: PathBuf,
    port: u16,
    http_port: u16,
}

impl Cluster {
    /// Builds the image from the programs of this build, and starts the cluster. star-1 exports `source`.
    pub async fn start(source: &Path) -> Self {
        let programs = program("orbit");
        let programs = programs.parent().expect("a program lies in a directory").to_owned();
        assert_engine();
        remove_abandoned();
        let [port, http_port] = free_ports();
        let project = format!("{NAME_PREFIX}{}", std::process::id());
        let cluster = Self { project, source: source.to_owned(), port, http_port };
        let image = cluster.project.clone();
        within("the image to be built", async move {
            let building = tokio::task::spawn_blocking(move || {
                let mut build = Command::new(workspace().join("scripts/image"));
                run(build.arg(image).arg(programs))
            });
            building.await.expect("the build does not panic")
        })
        .await;
        cluster.compose(&["up", "--detach", "--no-build"]).await;
        let client = cluster.client();
        for star in STARS {
            client.wait_star(star, "receives work", is_ready).await;
        }
        cluster
    }

    /// A client of the coordinator, through its published port.
    pub fn client(&self) -> Client {
        Client::new(&self.address())
    }

    /// The coordinator's address on this machine, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of the coordinator's web server on this machine, `host:port`.
    pub fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    /// Runs docker-compose on this project; it must succeed.
    pub async fn compose(&self, arguments: &[&str]) -> String {
        let mut command = self.compose_command(arguments);
        let shown = arguments.join(" ");
        let running = tokio::task::spawn_blocking(move || run(&mut command));
        within(&format!("docker-compose {shown}"), running).await.expect("a command does not panic")
    }

    fn compose_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        command.arg("--project-name").arg(&self.project).arg("--file");
        command.arg(workspace().join("docker-compose.yml")).args(arguments);
        command.env("ORBIT_IMAGE", &self.project).env("ORBIT_SOURCE", &self.source).env("ORBIT_LEASE", LEASE);
        command.env("ORBIT_PORT", self.port.to_string()).env("ORBIT_HTTP_PORT", self.http_port.to_string());
        command
    }

    /// The name of the container of a service.
    pub fn container(&self, service: &str) -> String {
        let mut list = Command::new("docker");
        list.args(["ps", "--all", "--format", "{{.Names}}"]);
        list.args(["--filter", &format!("label=com.docker.compose.project={}", self.project)]);
        list.args(["--filter", &format!("label=com.docker.compose.service={service}")]);
        let names = run(&mut list);
        names.lines().next().unwrap_or_else(|| panic!("{service} has no container")).to_owned()
    }

    /// A value from `docker inspect` of a container, by a template.
    pub fn inspect(&self, service: &str, template: &str) -> String {
        let container = self.container(service);
        run(Command::new("docker").args(["inspect", "--format", template, &container])).trim().to_owned()
    }

    /// Kills the program of a service from outside, so that the engine restarts it as after a crash. Waits until it
    /// has.
    pub async fn crash(&self, service: &str) {
        let starts = self.inspect(service, "{{.State.StartedAt}}");
        let id: i32 =
            self.inspect(service, "{{.State.Pid}}").parse().expect("a running container has a process");
        let id = Pid::from_raw(id).unwrap_or_else(|| panic!("{service} does not run"));
        kill_process(id, Signal::KILL).unwrap_or_else(|error| panic!("cannot kill {service}: {error}"));
        eventually(&format!("the engine to start {service} again"), async || {
            let is_up = self.inspect(service, "{{.State.Running}}") == "true";
            (is_up && self.inspect(service, "{{.State.StartedAt}}") != starts).then_some(())
        })
        .await;
    }

    /// Freezes or unfreezes a service.
    pub fn set_paused(&self, service: &str, is_paused: bool) {
        let verb = if is_paused { "pause" } else { "unpause" };
        run(Command::new("docker").args([verb, &self.container(service)]));
    }

    /// Takes a service off the network, or puts it back under its name.
    pub fn set_connected(&self, service: &str, is_connected: bool) {
        let (network, container) = (format!("{}_grid", self.project), self.container(service));
        let mut command = Command::new("docker");
        if is_connected {
            command.args(["network", "connect", "--alias", service, &network, &container]);
        } else {
            command.args(["network", "disconnect", &network, &container]);
        }
        run(&mut command);
    }

    /// The directory on this machine of a volume of the compose file.
    pub fn volume(&self, name: &str) -> PathBuf {
        let name = format!("{}_{name}", self.project);
        let mut inspect = Command::new("docker");
        PathBuf::from(run(inspect.args(["volume", "inspect", "--format", "{{.Mountpoint}}", &name])).trim())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.compose_command(&["logs", "--no-color", "--tail", "40"]).output();
            let logs = logs.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            // A failed test can only report this here.
            #[expect(clippy::print_stderr, reason = "shown with the output of the failed test")]
            {
                eprintln!("--- the cluster said:\n{}", logs.unwrap_or_default());
            }
        }
        for star in STARS.iter().chain(&["coordinator"]) {
            // A frozen container cannot be stopped. For one that is not frozen this fails, which is harmless.
            let _ = self.compose_command(&["unpause", star]).output();
        }
        let _ = self.compose_command(&["down", "--volumes", "--remove-orphans", "--timeout", "2"]).output();
        remove(&self.project);
    }
}

/// The directory of the workspace, where `docker-compose.yml` and `scripts` are.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// The image that the Dockerfile starts from; `scripts/base-image` makes it.
pub fn base_image() -> String {
    let dockerfile = std::fs::read_to_string(workspace().join("Dockerfile")).expect("the Dockerfile is text");
    let base = dockerfile.lines().find_map(|line| line.strip_prefix("ARG BASE="));
    base.expect("the Dockerfile names its base").to_owned()
}

/// Fails if there is no engine, since nothing can be tested then.
pub fn assert_engine() {
    let info = Command::new("docker").arg("info").output();
    let problem = match &info {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("docker: {error}")),
    };
    if let Some(problem) = problem {
        panic!(
            "this test needs a Docker engine that runs, and the right to use it: {problem}\n`scripts/test` installs \
             docker.io and docker-compose and starts the engine; by hand: start dockerd as root, then \
             scripts/base-image"
        );
    }
    let mut base = Command::new(workspace().join("scripts/base-image"));
    run(&mut base);
}

/// Removes what killed tests have left.
fn remove_abandoned() {
    let lists = [
        ["ps", "--all", "--format", r#"{{.Label "com.docker.compose.project"}}"#],
        ["volume", "ls", "--format", r#"{{.Label "com.docker.compose.project"}}"#],
        ["network", "ls", "--format", r#"{{.Label "com.docker.compose.project"}}"#],
    ];
    let images = ["images", "--format", "{{.Repository}}"];
    let mut names: Vec<String> = Vec::new();
    for arguments in lists.iter().map(|list| &list[..]).chain([&images[..]]) {
        names.extend(run(Command::new("docker").args(arguments)).lines().map(str::to_owned));
    }
    names.sort();
    names.dedup();
    for name in names {
        let process = name.strip_prefix(NAME_PREFIX).map(str::to_owned);
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&name);
        }
    }
}

/// Removes everything with the name of a project. A failure has no reader.
fn remove(project: &str) {
    let label = format!("label=com.docker.compose.project={project}");
    for (list, removal) in [
        (&["ps", "--all", "--quiet", "--filter"][..], &["rm", "--force", "--volumes"][..]),
        (&["volume", "ls", "--quiet", "--filter"][..], &["volume", "rm", "--force"][..]),
        (&["network", "ls", "--quiet", "--filter"][..], &["network", "rm"][..]),
    ] {
        let Ok(listed) = Command::new("docker").args(list).arg(&label).output() else { continue };
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for id in listed.lines() {
            let _ = Command::new("docker").args(removal).arg(id).output();
        }
    }
    let _ = Command::new("docker").args(["rmi", "--force", project]).output();
}

/// Two ports that were free a moment ago. The engine must get fixed ones, so that they are the same after a restart.
fn free_ports() -> [u16; 2] {
    let sockets =
        [0; 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("this machine has free ports"));
    sockets.map(|socket| socket.local_addr().expect("a bound socket has an address").port())
}

/// Runs a command that must succeed, and returns its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output();
    let output: Output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
