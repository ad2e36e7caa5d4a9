//! A grid of real processes: a coordinator and Stars, each with its own directories, on free ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use orbit_proto::v1;
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::Client;
use crate::network::Network;
use crate::process::Process;
use crate::programs::program;

/// A coordinator and its Stars. Dropping it kills them and removes their directories.
#[derive(Debug)]
pub struct Grid {
    // Fields are dropped in this order: the processes end before their directories are removed.
    coordinator: Process,
    stars: BTreeMap<String, Process>,
    address: String,
    http_address: String,
    coordinator_arguments: Vec<String>,
    network: Option<Network>,
    directory: TempDir,
}

/// The coordinator's name as a member of a network.
pub const COORDINATOR: &str = "coordinator";

impl Grid {
    /// A grid whose Stars are ready for work.
    pub async fn start(stars: &[&str]) -> Self {
        Self::start_with(stars, &[]).await
    }

    /// As [`Self::start`], with further arguments for the coordinator.
    pub async fn start_with(stars: &[&str], coordinator_arguments: &[&str]) -> Self {
        Self::start_on(None, stars, coordinator_arguments).await
    }

    /// As [`Self::start`], with a separate network: the coordinator and each Star are members of it.
    pub async fn start_in_network(stars: &[&str], coordinator_arguments: &[&str]) -> Self {
        let network = Network::new(&[&[COORDINATOR], stars].concat());
        Self::start_on(Some(network), stars, coordinator_arguments).await
    }

    async fn start_on(network: Option<Network>, stars: &[&str], coordinator_arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("orbit-grid-").tempdir();
        let directory = directory.expect("the temporary directory is writable");
        let arguments: Vec<String> =
            coordinator_arguments.iter().map(|&argument| argument.to_owned()).collect();
        let listen = any_port(network.as_ref(), COORDINATOR);
        let command = coordinator_command(network.as_ref(), &directory, [&listen, "127.0.0.1:0"], &arguments);
        let mut coordinator = Process::spawn(COORDINATOR, command, directory.path());
        let address = coordinator.line_after(LISTENING).await;
        let http_address = coordinator.line_after(HTTP).await;
        let mut grid = Self {
            coordinator,
            stars: BTreeMap::new(),
            address,
            http_address,
            coordinator_arguments: arguments,
            network,
            directory,
        };
        for name in stars {
            grid.add_star(name).await;
        }
        grid
    }

    /// Starts a Star and waits until it is ready for work.
    pub async fn add_star(&mut self, name: &str) {
        self.launch_star(name, self.star_command(name)).await;
        let client = self.client();
        client.wait_star(name, "receives work", is_ready).await;
    }

    /// Starts a Star with the caller's command, and waits for the line with its address.
    pub async fn launch_star(&mut self, name: &str, command: Command) {
        let is_up = self.try_launch_star(name, command).await;
        assert!(is_up, "{name} ended before it listened:\n{}", self.star(name).errors());
    }

    /// As [`Self::launch_star`], for a Star that may be killed before it listens. Returns whether it listens.
    pub async fn try_launch_star(&mut self, name: &str, command: Command) -> bool {
        std::fs::create_dir_all(self.root(name)).expect("a grid's directory is writable");
        let mut star = Process::spawn(name, command, self.directory.path());
        let is_up = star.line_or_end(LISTENING).await.is_some();
        self.stars.insert(name.to_owned(), star);
        is_up
    }

    /// The command that starts a Star of this grid.
    pub fn star_command(&self, name: &str) -> Command {
        let mut command = command_on(self.network.as_ref(), name, "orbit-star");
        command.args(self.star_arguments(name));
        command
    }

    /// The command that starts a Star without the capability to read files regardless of their permissions.
    pub fn powerless_star_command(&self, name: &str) -> Command {
        if !rustix::process::geteuid().is_root() {
            return self.star_command(name);
        }
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(program("orbit-star"));
        command.args(self.star_arguments(name));
        command
    }

    fn star_arguments(&self, name: &str) -> Vec<String> {
        let text =
            |path: PathBuf| path.to_str().expect("temporary directories have names of text").to_owned();
        let mut arguments = vec!["--star-id".to_owned(), name.to_owned()];
        arguments.extend(["--coordinator".to_owned(), format!("http://{}", self.address)]);
        arguments.extend(["--listen".to_owned(), any_port(self.network.as_ref(), name)]);
        arguments.extend(self.network.iter().map(|_| PLAINTEXT.to_owned()));
        arguments.extend(["--root".to_owned(), text(self.root(name))]);
        arguments.extend(["--vault".to_owned(), text(self.vault(name))]);
        arguments
    }

    /// The directory of all files of this grid.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory that a Star exports.
    pub fn root(&self, star: &str) -> PathBuf {
        self.directory.path().join(star).join("data")
    }

    /// The vault of a Star.
    pub fn vault(&self, star: &str) -> PathBuf {
        self.directory.path().join(star).join("vault")
    }

    /// A place below the root of a Star.
    pub fn place(&self, star: &str, path: &str) -> v1::Location {
        let path = self.root(star).join(path);
        let path = path.to_str().expect("places of tests have names of text").to_owned();
        v1::Location { star_id: star.to_owned(), path, ..v1::Location::default() }
    }

    /// A specification that copies `path` of one Star to `path` of others.
    pub fn copy_spec(&self, path: &str, source: &str, destinations: &[&str]) -> v1::JobSpec {
        v1::JobSpec {
            source: Some(self.place(source, path)),
            destinations: destinations.iter().map(|star| self.place(star, path)).collect(),
            ..v1::JobSpec::default()
        }
    }

    /// A specification that stores `path` of one Star in the vaults of others.
    pub fn packed_spec(&self, path: &str, source: &str, destinations: &[&str]) -> v1::JobSpec {
        let vault = |star: &&str| v1::Location { star_id: (*star).to_owned(), ..v1::Location::default() };
        v1::JobSpec {
            source: Some(self.place(source, path)),
            destinations: destinations.iter().map(vault).collect(),
            layout: v1::Layout::Packed.into(),
            ..v1::JobSpec::default()
        }
    }

    /// The coordinator's gRPC address, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The coordinator's HTTP address, `host:port`.
    pub fn http_address(&self) -> &str {
        &self.http_address
    }

    /// A client of the coordinator. It survives a restart of the coordinator.
    pub fn client(&self) -> Client {
        match &self.network {
            Some(network) => Client::within_namespace(&self.address, &network.hub()),
            None => Client::new(&self.address),
        }
    }

    /// The separate network of this grid.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("the grid was started in a network")
    }

    /// The coordinator's process.
    pub fn coordinator(&mut self) -> &mut Process {
        &mut self.coordinator
    }

    /// A Star's process.
    pub fn star(&mut self, name: &str) -> &mut Process {
        self.stars.get_mut(name).unwrap_or_else(|| panic!("this grid has no {name}"))
    }

    /// The coordinator's data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("coordinator")
    }

    /// Restarts the coordinator, with the same directory and ports.
    pub async fn restart_coordinator(&mut self) {
        let is_up = self.try_restart_coordinator(|command| command).await;
        assert!(is_up, "the coordinator ended before it listened:\n{}", self.coordinator.errors());
    }

    /// As [`Self::restart_coordinator`], with a changed command, which may kill it before it listens. Returns whether
    /// it listens.
    pub async fn try_restart_coordinator(&mut self, change: impl FnOnce(Command) -> Command) -> bool {
        assert!(!self.coordinator.is_running(), "the coordinator still runs");
        let listen = [&self.address[..], &self.http_address];
        let arguments = &self.coordinator_arguments;
        let command = coordinator_command(self.network.as_ref(), &self.directory, listen, arguments);
        self.coordinator = Process::spawn(COORDINATOR, change(command), self.directory.path());
        self.coordinator.line_or_end(HTTP).await.is_some()
    }
}

/// Whether a Star is connected and ready for work.
pub fn is_ready(star: &v1::Star) -> bool {
    star.state() == v1::StarState::Scheduled && star.liveness() == v1::Liveness::Alive
}

/// What programs print before the address of their service.
const LISTENING: &str = "listening on ";
/// What the coordinator prints before the address of its web server, after the other line.
const HTTP: &str = "http on ";
/// Allows listening on an address that other machines can reach.
const PLAINTEXT: &str = "--insecure-plaintext";

fn coordinator_command(
    network: Option<&Network>,
    directory: &TempDir,
    [listen, http_listen]: [&str; 2],
    arguments: &[String],
) -> Command {
    let mut command = command_on(network, COORDINATOR, "orbit-coordinator");
    command.args(["--listen", listen, "--http-listen", http_listen]);
    command.args(network.map(|_| PLAINTEXT));
    command.arg("--data-dir").arg(directory.path().join("coordinator")).args(arguments);
    command
}

/// A command that runs a program of this build as a member of the network, if there is one.
fn command_on(network: Option<&Network>, member: &str, name: &str) -> Command {
    let prefix = network.map(|network| network.prefix(member)).unwrap_or_default();
    match prefix.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program(name));
            command
        }
        None => Command::new(program(name)),
    }
}

/// An address of a member with a free port.
fn any_port(network: Option<&Network>, member: &str) -> String {
    network.map_or_else(|| "127.0.0.1:0".to_owned(), |network| format!("{}:0", network.address(member)))
}
