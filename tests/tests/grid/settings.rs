//! Programs that cannot start with their settings name the flag or key at fault, and change nothing.

use std::path::Path;
use std::process::Output;

use orbit_proto::v1;
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::programs::program;
use orbit_tests::strace::Strace;
use orbit_tests::tree::{differences, plant_files};
use tokio::process::Command;

async fn run(mut command: Command) -> Output {
    within("a program that cannot start to end", command.kill_on_drop(true).output())
        .await
        .expect("it starts")
}

/// Runs a program that must exit with a code and one line of text that contains these parts.
async fn assert_refused(command: Command, code: i32, parts: &[&str]) {
    let shown = format!("{command:?}");
    let output = run(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{shown}\n{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in what {shown} said:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn coordinator(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("orbit-coordinator"));
    command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(directory.join("data")).args(arguments);
    command
}

fn star(coordinator: &str, root: &Path, vault: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("orbit-star"));
    command.args(["--star-id", "star-1", "--listen", "127.0.0.1:0", "--coordinator"]);
    command
        .arg(format!("http://{coordinator}"))
        .arg("--root")
        .arg(root)
        .arg("--vault")
        .arg(vault)
        .args(arguments);
    command
}

#[tokio::test]
async fn a_second_identity_under_a_taken_name_is_refused() {
    let grid = Grid::start(&["star-1"]).await;
    let before = grid.client().star("star-1").await;
    let vault = grid.directory().join("other-vault");
    let command = star(grid.address(), &grid.root("star-1"), &vault, &[]);
    assert_refused(command, 1, &["star-1", "RemoveStar"]).await;
    let after = grid.client().star("star-1").await;
    assert_eq!(
        (after.instance_id, after.epoch),
        (before.instance_id, before.epoch),
        "the first one keeps its name"
    );
}

#[tokio::test]
async fn a_vault_in_use_is_refused() {
    let grid = Grid::start(&["star-1"]).await;
    let vault = grid.vault("star-1");
    let command = star(grid.address(), &grid.root("star-1"), &vault, &[]);
    let told = ["--vault", vault.to_str().expect("text"), "another process uses this vault; stop it"];
    assert_refused(command, 1, &told).await;
    // The tool for stopped vaults is refused as well.
    let mut tool = Command::new(program("orbit-star"));
    tool.args(["vault", "rebuild", "--vault"]).arg(&vault);
    assert_refused(tool, 2, &told).await;
}

#[tokio::test]
async fn a_vault_whose_index_can_neither_be_read_nor_rebuilt_is_refused_with_advice() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    plant_files(&grid.root("star-1").join("tree"), 10, 9000, 31);
    let client = grid.client();
    let job_id = client.create(grid.packed_spec("tree", "star-1", &["star-2"])).await;
    assert_eq!(client.wait_end(job_id).await.state(), v1::JobState::Completed);
    grid.star("star-2").kill().await;
    let vault = grid.vault("star-2");
    let universe = vault.join("packed/universe.redb");
    let told = ["--vault", vault.to_str().expect("text"), "universe.redb", "vault check"];

    // In the place of the index there is something that cannot be an index and cannot be replaced.
    let whole = std::fs::read(&universe).expect("there is an index");
    std::fs::remove_file(&universe).expect("it can be removed");
    std::fs::create_dir(&universe).expect("a directory can be made");
    std::fs::write(universe.join("in-the-way"), b"x").expect("a file can be written");
    let refused = star(grid.address(), &grid.root("star-2"), &vault, &[]);
    assert_refused(refused, 1, &told).await;
    std::fs::remove_dir_all(&universe).expect("it can be removed");

    // A disk whose writes all fail from the middle of the rebuild on.
    std::fs::write(&universe, &whole[..whole.len() / 2]).expect("it can be written");
    let strace = Strace::injecting("pwrite64", "error=EIO:when=3+");
    let refused = strace.wrap(&star(grid.address(), &grid.root("star-2"), &vault, &[]));
    assert_refused(refused, 1, &["--vault", "index of chunks", "errors of the disk", "vault rebuild"]).await;

    // Nothing was lost: with a good disk the index is rebuilt.
    grid.add_star("star-2").await;
    let snapshot_id = client.all_snapshots().await.remove(0).snapshot_id;
    let request = v1::RestoreSnapshotRequest {
        snapshot_id,
        destination: Some(grid.place("star-2", "back")),
        ..v1::RestoreSnapshotRequest::default()
    };
    let restored = client.restore(request).await;
    assert_eq!(restored.state(), v1::JobState::Completed, "{restored:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("back"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused() {
    let grid = Grid::start(&[]).await;
    let mut command = Command::new(program("orbit-coordinator"));
    command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(grid.directory().join("coordinator"));
    assert_refused(command, 1, &["coordinator"]).await;
}

#[tokio::test]
async fn a_port_in_use_is_refused_with_its_flag() {
    let grid = Grid::start(&["star-1"]).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (taken, http) = (grid.address().to_owned(), grid.http_address().to_owned());
    let base = |listen: &str, http: &str| {
        let mut command = Command::new(program("orbit-coordinator"));
        command
            .args(["--listen", listen, "--http-listen", http, "--data-dir"])
            .arg(directory.path().join("data"));
        command
    };
    assert_refused(base(&taken, "127.0.0.1:0"), 1, &["--listen", &taken, "in use"]).await;
    assert_refused(base("127.0.0.1:0", &http), 1, &["--http-listen", &http, "in use"]).await;
    let mut command = Command::new(program("orbit-star"));
    command.args([
        "--star-id",
        "star-9",
        "--listen",
        &taken,
        "--coordinator",
        "http://127.0.0.1:1",
        "--root",
        "/tmp",
    ]);
    command.arg("--vault").arg(directory.path().join("vault"));
    assert_refused(command, 1, &["--listen", &taken, "in use"]).await;
}

#[tokio::test]
async fn directories_that_cannot_be_written_are_refused_with_their_flag() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Not even root can make a directory there.
    let nowhere = Path::new("/proc/orbit");
    let command = star("127.0.0.1:1", directory.path(), nowhere, &[]);
    assert_refused(command, 1, &["--vault", "/proc/orbit"]).await;
    let mut command = Command::new(program("orbit-coordinator"));
    command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir", "/proc/orbit"]);
    assert_refused(command, 1, &["--data-dir", "/proc/orbit"]).await;
}

#[tokio::test]
async fn a_root_that_does_not_exist_is_refused_with_its_flag() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("missing");
    let output = run(star("127.0.0.1:1", &missing, &directory.path().join("vault"), &[])).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--root") && said.contains("missing"), "{said}");
}

#[tokio::test]
async fn a_key_that_does_not_exist_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("orbit.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\nlisten-adress = \"127.0.0.1:0\"\n")
        .expect("a file can be written");
    let path = file.to_str().expect("text");
    let parts = ["listen-adress", path];
    assert_refused(coordinator(directory.path(), &["--config", path]), 2, &parts).await;
    let vault = directory.path().join("vault");
    assert_refused(star("127.0.0.1:1", directory.path(), &vault, &["--config", path]), 2, &parts).await;
    assert!(
        !vault.exists() && !directory.path().join("data").exists(),
        "a refused start left something behind"
    );
}

#[tokio::test]
async fn a_flag_that_does_not_exist_is_a_usage_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert_refused(coordinator(directory.path(), &["--lisen", "x"]), 2, &["--lisen"]).await;
    let vault = directory.path().join("vault");
    assert_refused(star("127.0.0.1:1", directory.path(), &vault, &["--rot", "x"]), 2, &["--rot"]).await;
}

#[tokio::test]
async fn settings_come_from_flags_before_the_environment_before_the_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("orbit.toml");
    std::fs::write(&file, "lease = \"31s\"\nheartbeat-interval = \"3s\"\nlisten = \"127.0.0.1:11\"\n")
        .expect("a file can be written");
    let mut command = Command::new(program("orbit-coordinator"));
    command.args(["--print-config", "--data-dir", "/tmp/somewhere", "--listen", "127.0.0.1:22", "--config"]);
    command.arg(&file).env("ORBIT_HEARTBEAT_INTERVAL", "4s").env("ORBIT_LISTEN", "127.0.0.1:33");
    let output = run(command).await;
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["127.0.0.1:22", "31s", "4s", "ORBIT_HEARTBEAT_INTERVAL", "orbit.toml"] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
    for part in ["127.0.0.1:11", "127.0.0.1:33"] {
        assert!(!shown.contains(part), "{part:?} must have lost:\n{shown}");
    }
}
