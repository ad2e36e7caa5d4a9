//! Servers without TLS that belong to another user: every user can listen on a loopback port, so clients check the
//! owner of the socket before they send anything. Needs root, to switch to another user.

use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::process::Process;
use orbit_tests::programs::program;
use orbit_tests::stranger::{STRANGER, Stranger, give, open, said};
use tempfile::TempDir;
use tokio::process::Command;

/// A coordinator of another user, on a free port.
async fn impostor(stranger: &Stranger, listen: &str) -> (Process, String, TempDir) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    open(directory.path());
    let data = directory.path().join("data");
    std::fs::create_dir(&data).expect("a directory of the test is writable");
    give(&[&data]);
    let mut command = stranger.command("orbit-coordinator");
    command.args(["--listen", listen, "--http-listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    let mut process = Process::spawn("impostor", command, directory.path());
    let address = process.line_after("listening on ").await;
    (process, address, directory)
}

async fn orbit(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program("orbit"));
    let output = command.args(arguments).env_remove("ORBIT_COORDINATOR").output().await.expect("it starts");
    (output.status.code(), said(&output))
}

#[tokio::test]
async fn orbit_sends_nothing_to_a_coordinator_of_another_user() {
    let stranger = Stranger::new();
    let (_impostor, address, _directory) = impostor(&stranger, "127.0.0.1:0").await;
    let url = format!("http://{address}");
    for arguments in [&["status"][..], &["ping"], &["star", "drain", "x"]] {
        let (code, said) = orbit(&[&["--coordinator", &url], arguments].concat()).await;
        assert_ne!(code, Some(0), "{arguments:?}: {said}");
        for part in ["nobody", "--local-users", &address] {
            assert!(said.contains(part), "{arguments:?}: {said}");
        }
    }
    for named in [STRANGER, "nobody", "@nogroup"] {
        let (code, said) = orbit(&["--coordinator", &url, "--local-users", named, "status"]).await;
        assert_eq!(code, Some(0), "{named}: {said}");
    }
    let (code, said) = orbit(&["--coordinator", &url, "--local-users", "no-such-user", "status"]).await;
    assert_eq!(code, Some(2), "{said}");
}

#[tokio::test]
async fn a_star_waits_for_its_own_coordinator_while_another_user_holds_the_port() {
    let stranger = Stranger::new();
    let mut grid = Grid::start(&[]).await;
    let address = grid.address().to_owned();
    grid.coordinator().kill().await;
    let (mut impostor, held, _directory) = impostor(&stranger, &address).await;
    assert_eq!(held, address);
    let command = grid.star_command("star-1");
    grid.launch_star("star-1", command).await;
    grid.star("star-1").says("is held by user nobody").await;
    assert!(!impostor.errors().contains("star-1"), "it was told nothing:\n{}", impostor.errors());
    impostor.kill().await;
    grid.restart_coordinator().await;
    let client = grid.client();
    client.wait_star("star-1", "receives work", is_ready).await;
}

#[tokio::test]
async fn a_star_fetches_nothing_from_a_star_of_another_user() {
    let grid = Grid::start_with(&["star-1", "star-2"], &["--local-users", STRANGER]).await;
    let stranger = Stranger::new();
    // A trusted coordinator names a Star that is not trusted: the data port is checked separately.
    let own = tempfile::tempdir().expect("the temporary directory is writable");
    open(own.path());
    let (root, vault) = (own.path().join("root"), own.path().join("vault"));
    for path in [&root, &vault] {
        std::fs::create_dir(path).expect("a directory of the test is writable");
    }
    std::fs::write(root.join("file"), "bait").expect("a directory of the test is writable");
    give(&[&root, &vault, &root.join("file")]);
    let url = format!("http://{}", grid.address());
    let mut command = stranger.command("orbit-star");
    command.args(["--star-id", "stranger", "--coordinator", &url, "--listen", "127.0.0.1:0", "--root"]);
    command.arg(&root).arg("--vault").arg(&vault);
    let _star = Process::spawn("stranger", command, own.path());
    let client = grid.client();
    client.wait_star("stranger", "receives work", is_ready).await;
    let source = orbit_proto::v1::Location {
        star_id: "stranger".to_owned(),
        path: root.to_str().expect("it is text").to_owned(),
        ..Default::default()
    };
    let spec =
        orbit_proto::v1::JobSpec { source: Some(source), ..grid.copy_spec("x", "star-1", &["star-2"]) };
    let job = client.create(spec).await;
    let reason = eventually("the failure to be shown", async || {
        let told = client.bulletins_like(Default::default()).await;
        let text = format!("{told:?} {:?}", client.job(job).await);
        text.contains("--local-users").then_some(text)
    })
    .await;
    assert!(reason.contains("nobody"), "{reason}");
    assert!(!grid.root("star-2").join("x/file").exists());
}
