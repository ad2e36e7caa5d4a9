//! Unix sockets: every server has one, every client can connect to one, and the kernel identifies the peer. Needs root,
//! to switch to another user.

use std::path::{Path, PathBuf};

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::grid::is_ready;
use orbit_tests::grpcurl::Grpcurl;
use orbit_tests::process::Process;
use orbit_tests::programs::program;
use orbit_tests::stranger::{STRANGER, Stranger, open, said};
use orbit_tests::tree::{differences, plant_files};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

/// A coordinator that listens on no port.
struct Portless {
    coordinator: Process,
    directory: TempDir,
}

impl Portless {
    async fn start(further: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        open(directory.path());
        let mut command = command(directory.path());
        command.args(further);
        let mut coordinator = Process::spawn("coordinator", command, directory.path());
        let line = coordinator.line_after("listening on unix:").await;
        assert_eq!(line, directory.path().join("coordinator.sock").to_str().expect("it is text"));
        let line = coordinator.line_after("http on unix:").await;
        assert_eq!(line, directory.path().join("http.sock").to_str().expect("it is text"));
        Self { coordinator, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn url(&self) -> String {
        format!("unix:{}", self.path("coordinator.sock").display())
    }

    async fn star(&self, name: &str) -> Process {
        let mut command = Command::new(program("orbit-star"));
        let socket = format!("unix:{}", self.path(&format!("{name}.sock")).display());
        let root = self.path(name);
        std::fs::create_dir_all(&root).expect("a directory of the test is writable");
        command.args(["--star-id", name, "--coordinator", &self.url(), "--listen", &socket, "--root"]);
        command.arg(root).arg("--vault").arg(self.path(&format!("{name}-vault")));
        let mut star = Process::spawn(name, command, self.directory.path());
        star.line_after("listening on unix:").await;
        star
    }
}

fn command(directory: &Path) -> Command {
    let socket = |name: &str| format!("unix:{}", directory.join(name).display());
    let mut command = Command::new(program("orbit-coordinator"));
    command.args(["--listen", &socket("coordinator.sock"), "--http-listen", &socket("http.sock")]);
    command.arg("--data-dir").arg(directory.join("data"));
    command
}

fn ports(process: u32) -> usize {
    let listed = std::process::Command::new("ss").args(["-Hltnp"]).output();
    let text = String::from_utf8(listed.expect("ss starts").stdout).expect("ss prints text");
    text.matches(&format!("pid={process},")).count()
}

async fn orbit(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program("orbit"));
    let output = command.args(arguments).env_remove("ORBIT_COORDINATOR").output().await.expect("it starts");
    (output.status.code(), said(&output))
}

#[tokio::test]
async fn a_grid_works_by_unix_sockets_alone() {
    let grid = Portless::start(&[]).await;
    let stars = [grid.star("star-1").await, grid.star("star-2").await];
    assert_eq!(ports(grid.coordinator.id()) + ports(stars[0].id()) + ports(stars[1].id()), 0);
    plant_files(&grid.path("star-1").join("tree"), 20, 10_000, 1);
    let endpoint = orbit_identity::endpoint(&grid.url()).expect("it is an address");
    let channel = orbit_identity::PlainDialing::default().connect(&endpoint).await.expect("it listens");
    let client = Client::over(channel);
    for name in ["star-1", "star-2"] {
        let star = client.wait_star(name, "receives work", is_ready).await;
        assert!(star.data_address.starts_with("unix:/"), "{star:?}");
    }
    let (from, to) = (grid.path("star-1").join("tree"), grid.path("star-2").join("tree"));
    let place = |star: &str, path: &Path| format!("{star}:{}", path.display());
    let arguments = [
        "--coordinator",
        &grid.url(),
        "job",
        "create",
        &place("star-1", &from),
        &place("star-2", &to),
        "--wait",
    ];
    let (code, said) = orbit(&arguments).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(differences(&from, &to), Vec::<String>::new());
    let grpcurl = Grpcurl::at_socket(&grid.path("coordinator.sock"));
    let listed = grpcurl.call("JobService/ListJobs", &json!({})).await.expect("grpcurl is served");
    assert_eq!(listed[0]["jobs"].as_array().map(Vec::len), Some(1), "{listed:?}");
    assert!(grpcurl.services().await.expect("reflection").iter().any(|name| name == "orbit.v1.JobService"));
    let mut curl = Command::new("curl");
    curl.args(["-s", "http://localhost/healthz", "--unix-socket"]).arg(grid.path("http.sock"));
    let output = curl.output().await.expect("curl starts");
    assert_eq!(output.stdout, b"ok\n");
}

#[tokio::test]
async fn another_user_can_connect_and_is_refused_unless_named() {
    let stranger = Stranger::new();
    let grid = Portless::start(&[]).await;
    let star = grid.star("star-1").await;
    for arguments in [
        vec!["--coordinator".to_owned(), grid.url(), "status".to_owned()],
        vec!["ping".to_owned(), format!("unix:{}", grid.path("star-1.sock").display())],
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = stranger.run("orbit", &arguments).await;
        assert_ne!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("and root on this machine are served here"), "{}", said(&output));
    }
    let path = grid.path("http.sock");
    let path = path.to_str().expect("it is text");
    let output = stranger.run("curl", &["-si", "--unix-socket", path, "http://localhost/api/stars"]).await;
    assert!(said(&output).starts_with("HTTP/1.1 403"), "{}", said(&output));
    drop(star);
    drop(grid);
    let grid = Portless::start(&["--local-users", STRANGER]).await;
    let output = stranger.run("orbit", &["--coordinator", &grid.url(), "status"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[tokio::test]
async fn the_socket_of_a_killed_coordinator_is_replaced_and_that_of_a_living_one_is_named() {
    let mut grid = Portless::start(&[]).await;
    let second = tempfile::tempdir().expect("the temporary directory is writable");
    let mut other = Command::new(program("orbit-coordinator"));
    other.args(["--listen", &grid.url(), "--data-dir"]).arg(second.path());
    let output = other.output().await.expect("it starts");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let holder = format!("process {} (orbit-coordinat", grid.coordinator.id());
    assert!(told.contains(&grid.url()) && told.contains(&holder), "{told}");
    grid.coordinator.kill().await;
    assert!(grid.path("coordinator.sock").exists());
    let (code, told) = orbit(&["--coordinator", &grid.url(), "status"]).await;
    assert_ne!(code, Some(0));
    assert!(told.contains("no process listens"), "{told}");
    let mut coordinator = Process::spawn("again", command(grid.directory.path()), grid.directory.path());
    coordinator.line_after("listening on unix:").await;
    let (code, told) = orbit(&["--coordinator", &grid.url(), "status"]).await;
    assert_eq!(code, Some(0), "{told}");
    coordinator.signal(rustix::process::Signal::TERM);
    coordinator.ended().await;
    assert!(!grid.path("coordinator.sock").exists(), "a coordinator that ends takes its socket away");
}

#[tokio::test]
async fn with_tls_a_unix_socket_is_for_operators_of_this_machine() {
    let grid = Portless::start(&["--tls"]).await;
    let (code, told) = orbit(&["--coordinator", &grid.url(), "token", "create"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("orbit-join-"), "{told}");
    let endpoint = orbit_identity::endpoint(&grid.url()).expect("it is an address");
    let channel = orbit_identity::PlainDialing::default().connect(&endpoint).await.expect("it listens");
    let mut sessions = v1::session_service_client::SessionServiceClient::new(channel);
    let refused = sessions.connect(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "a Star has a certificate: {refused:?}");
}
