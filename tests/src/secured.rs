//! A grid of real processes with TLS: a coordinator with its own authority, Stars that join it, and operators and
//! viewers that this process acts as.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use orbit_identity::{Credentials, Expected, Name, NewKey};
use orbit_proto::v1;
use tempfile::TempDir;
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};

use crate::client::Client;
use crate::deadline::within;
use crate::grid::is_ready;
use crate::process::Process;
use crate::programs::program;

/// A coordinator and its Stars. Dropping it kills them and removes their directories.
#[derive(Debug)]
pub struct SecuredGrid {
    // Fields are dropped in this order: the processes end before their directories are removed.
    coordinator: Process,
    stars: BTreeMap<String, Process>,
    address: String,
    http_address: String,
    arguments: Vec<String>,
    directory: TempDir,
}

const LISTENING: &str = "listening on ";
const HTTP: &str = "http on ";

impl SecuredGrid {
    /// A coordinator without Stars, with further arguments.
    pub async fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("orbit-tls-").tempdir();
        let directory = directory.expect("the temporary directory is writable");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let command = coordinator_command(directory.path(), ["127.0.0.1:0"; 2], &arguments);
        let mut coordinator = Process::spawn("coordinator", command, directory.path());
        let address = coordinator.line_after(LISTENING).await;
        let http_address = coordinator.line_after(HTTP).await;
        Self { coordinator, stars: BTreeMap::new(), address, http_address, arguments, directory }
    }

    /// A token that is made on the coordinator's machine.
    pub async fn token(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("orbit-coordinator"));
        command.args(["token", "create", "--data-dir"]).arg(self.data_directory()).args(arguments);
        let output = within("a token", command.output()).await.expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
    }

    /// The command that starts a Star, with further arguments.
    pub fn star_command(&self, name: &str, arguments: &[&str]) -> Command {
        std::fs::create_dir_all(self.root(name)).expect("a grid's directory is writable");
        let mut command = Command::new(program("orbit-star"));
        command.args(["--star-id", name, "--coordinator", &self.url(), "--listen", "127.0.0.1:0", "--root"]);
        command.arg(self.root(name)).arg("--vault").arg(self.vault(name)).args(arguments);
        command
    }

    /// Starts a Star that joins, and returns its address.
    pub async fn add_star(&mut self, name: &str) -> String {
        let token = self.token(&[]).await;
        let command = self.star_command(name, &["--join", &token]);
        self.launch_star(name, command).await
    }

    /// As [`Self::add_star`], with the caller's command.
    pub async fn launch_star(&mut self, name: &str, command: Command) -> String {
        let mut star = Process::spawn(name, command, self.directory.path());
        let address = star.line_after(LISTENING).await;
        self.stars.insert(name.to_owned(), star);
        address
    }

    /// Starts a program of this grid that must exit by itself, and returns its exit code and its output.
    pub async fn failing(&self, name: &str, command: Command) -> (Option<i32>, String) {
        let mut process = Process::spawn(name, command, self.directory.path());
        let status = process.ended().await;
        (status.code(), process.errors())
    }

    /// An identity with a role, which joins with a new token.
    pub async fn join(&self, role: &str, name: &str) -> Credentials {
        let token = self.token(&["--role", role]).await;
        self.join_with(&token, name).await.unwrap_or_else(|error| panic!("{role} {name}: {error}"))
    }

    /// The identity for a token.
    pub async fn join_with(
        &self,
        token: &str,
        name: &str,
    ) -> Result<Credentials, orbit_identity::EnrollError> {
        let directory =
            self.directory.path().join("identities").join(format!("{name}-{}", uuid::Uuid::new_v4()));
        let key = NewKey::prepare(&directory).expect("a directory is writable");
        let name: Name = name.parse().expect("a name");
        within("joining", orbit_identity::join(&self.endpoint(), token, key, Some(&name))).await
    }

    /// A channel to the coordinator with an identity.
    pub fn channel(&self, credentials: &Credentials) -> Channel {
        credentials.dialing().connect_lazily(&self.endpoint(), Expected::Coordinator)
    }

    /// A client of the coordinator with an identity.
    pub fn client(&self, credentials: &Credentials) -> Client {
        Client::over(self.channel(credentials))
    }

    /// Waits until a Star is ready for work.
    pub async fn wait_ready(&self, client: &Client, star: &str) {
        client.wait_star(star, "receives work", is_ready).await;
    }

    /// The endpoint of the coordinator.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(self.url()).expect("an address makes a URL")
    }

    /// The endpoint as text.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The coordinator's gRPC address, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The coordinator's HTTP address, `host:port`.
    pub fn http_address(&self) -> &str {
        &self.http_address
    }

    /// The directory of all files of this grid.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The coordinator's data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The directory that a Star exports.
    pub fn root(&self, star: &str) -> PathBuf {
        self.directory.path().join(star).join("data")
    }

    /// The vault of a Star.
    pub fn vault(&self, star: &str) -> PathBuf {
        self.directory.path().join(star).join("vault")
    }

    /// A specification that copies `path` of one Star to `path` of another.
    pub fn copy_spec(&self, path: &str, source: &str, destination: &str) -> v1::JobSpec {
        let place = |star: &str| {
            let path = self.root(star).join(path);
            let path = path.to_str().expect("places of tests have names of text").to_owned();
            v1::Location { star_id: star.to_owned(), path, ..v1::Location::default() }
        };
        let destinations = vec![place(destination)];
        v1::JobSpec { source: Some(place(source)), destinations, ..v1::JobSpec::default() }
    }

    /// The coordinator's process.
    pub fn coordinator(&mut self) -> &mut Process {
        &mut self.coordinator
    }

    /// A Star's process.
    pub fn star(&mut self, name: &str) -> &mut Process {
        self.stars.get_mut(name).unwrap_or_else(|| panic!("this grid has no {name}"))
    }

    /// Kills the coordinator and restarts it, with the same directory and ports.
    pub async fn kill_and_restart_coordinator(&mut self) {
        self.coordinator.kill().await;
        let listen = [&self.address[..], &self.http_address];
        let command = coordinator_command(self.directory.path(), listen, &self.arguments);
        self.coordinator = Process::spawn("coordinator", command, self.directory.path());
        self.coordinator.line_after(HTTP).await;
    }
}

fn coordinator_command(directory: &Path, [listen, http_listen]: [&str; 2], arguments: &[String]) -> Command {
    let mut command = Command::new(program("orbit-coordinator"));
    command.args(["--tls", "--listen", listen, "--http-listen", http_listen]);
    command.arg("--data-dir").arg(directory.join("data")).args(arguments);
    command
}
