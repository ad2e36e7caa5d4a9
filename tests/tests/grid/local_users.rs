//! Other users of the machine: without TLS a port on the loopback address serves its own user and root only, and a grid
//! in one process has no port at all. Needs root, to switch to another user.

use orbit_proto::v1;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::Grid;
use orbit_tests::process::Process;
use orbit_tests::programs::program;
use orbit_tests::stranger::{STRANGER, Stranger, give, open, said};
use orbit_tests::tree::{differences, plant_files};
use tokio::process::Command;

#[tokio::test]
async fn a_standing_grid_without_tls_serves_no_other_user() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let stranger = Stranger::new();
    plant_files(&grid.root("star-1").join("tree"), 3, 1000, 1);
    let url = format!("http://{}", grid.address());
    let source = format!("star-1:{}", grid.root("star-1").join("tree").display());
    let destination = format!("star-2:{}", grid.root("star-2").join("planted").display());
    for arguments in [
        &["status"][..],
        &["star", "ls"],
        &["star", "drain", "star-1"],
        &["job", "create", &source, &destination],
        &["bulletins"],
    ] {
        let output = stranger.run("orbit", &[&["--coordinator", &url], arguments].concat()).await;
        assert_ne!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("--local-users"), "{arguments:?}: {}", said(&output));
    }
    // A Star of another user is refused: it keeps trying, and its log says why.
    let own = tempfile::tempdir().expect("the temporary directory is writable");
    let (root, vault) = (own.path().join("root"), own.path().join("vault"));
    for path in [&root, &vault] {
        std::fs::create_dir(path).expect("a directory of the test is writable");
    }
    open(own.path());
    give(&[&root, &vault]);
    let mut command = stranger.command("orbit-star");
    command.args(["--star-id", "stranger", "--coordinator", &url, "--listen", "127.0.0.1:0", "--root"]);
    command.arg(&root).arg("--vault").arg(&vault);
    let star = Process::spawn("stranger", command, own.path());
    star.says("--local-users").await;

    let client = grid.client();
    let listed = client.stars().list_stars(v1::ListStarsRequest::default()).await;
    let stars = listed.expect("root is served").into_inner().stars;
    let names: Vec<&str> = stars.iter().map(|star| star.star_id.as_str()).collect();
    assert_eq!(names, ["star-1", "star-2"]);
    assert!(stars.iter().all(|star| star.state() == v1::StarState::Scheduled), "{stars:?}");
    assert!(client.all_jobs().await.is_empty());

    // The data port of a Star, and the coordinator's HTTP port.
    let data = format!("http://{}", client.star("star-1").await.data_address);
    let output = stranger.run("orbit", &["ping", &data]).await;
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("--local-users"), "{}", said(&output));
    for path in ["/", "/api/stars", "/metrics", "/healthz"] {
        let answer = stranger.http(grid.http_address(), path).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
        assert!(answer.contains("--local-users") && !answer.contains("star-1"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn other_users_in_local_users_are_served() {
    let stranger = Stranger::new();
    for named in [STRANGER, "nobody", "@nogroup"] {
        let grid = Grid::start_with(&[], &["--local-users", named]).await;
        let url = format!("http://{}", grid.address());
        let output = stranger.run("orbit", &["--coordinator", &url, "status"]).await;
        assert_eq!(output.status.code(), Some(0), "{named}: {}", said(&output));
        let answer = stranger.http(grid.http_address(), "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{named}: {answer}");
    }
}

/// The listening sockets of this machine, as `socket:[NUMBER]`.
fn listening() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let tcp = ["/proc/net/tcp", "/proc/net/tcp6"].map(read).concat();
    // The state is the fourth field, the inode the tenth.
    let tcp = tcp.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let tcp = tcp
        .filter(|fields| fields.get(3) == Some(&"0A"))
        .filter_map(|fields| fields.get(9).copied().map(str::to_owned));
    let unix = read("/proc/net/unix");
    let unix = unix.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // The flag of a listening socket.
    let unix = unix
        .filter(|fields| fields.get(3) == Some(&"00010000"))
        .filter_map(|fields| fields.get(6).copied().map(str::to_owned));
    tcp.chain(unix).map(|number| format!("socket:[{number}]")).collect()
}

/// The open sockets of a process.
fn sockets(process: u32) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("a process of ours can be looked at");
    let targets = open.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    targets
        .filter_map(|target| target.to_str().map(str::to_owned))
        .filter(|name| name.starts_with("socket:"))
        .collect()
}

#[tokio::test]
async fn a_copy_in_one_process_opens_no_address() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    plant_files(&from, 200, 20_000, 1);
    let mut command = Command::new(program("orbit"));
    command.args(["copy", "--bwlimit", "1M"]).args([&from, &to]).env_remove("ORBIT_COORDINATOR");
    let mut copy = Process::spawn("copy", command, directory.path());
    // It is copying now, so all of its servers are running.
    eventually("the copy to begin", async || to.join("d0000").is_dir().then_some(())).await;
    let (listening, held) = (listening(), sockets(copy.id()));
    assert!(!listening.is_empty() || held.is_empty(), "the kernel's tables were read");
    let open: Vec<&String> = held.iter().filter(|socket| listening.contains(socket)).collect();
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(copy.ended().await.code(), Some(0), "{}", copy.errors());
    assert_eq!(differences(&from, &to), Vec::<String>::new());
}
