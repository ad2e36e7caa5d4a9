//! Connections that send nothing, or read nothing, do not keep others out of any port without TLS.

use orbit_tests::client::Client;
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::http::Http;
use orbit_tests::idle;
use orbit_tests::tree::{differences, plant_files};
use tokio::process::Command;

/// More connections than any port has places for.
const COUNT: usize = 600;

/// Sends a request to an HTTP port, on a new connection each time.
async fn assert_http_answers(address: &str, beside: &str) {
    for path in ["/healthz", "/readyz", "/metrics", "/api/stars"] {
        let answered = within(&format!("{path} beside {beside}"), Http::new(address).get(path)).await;
        assert_eq!(answered.status, 200, "{path} beside {beside}: {}", answered.text);
    }
}

#[tokio::test]
async fn silent_connections_keep_no_other_out_of_a_port() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 3, 1000, 1);
    let star = client.star("star-1").await.data_address;
    let mut silent = Vec::new();
    for address in [grid.address(), grid.http_address(), &star] {
        silent.push(idle::open(address, COUNT, b"").await);
    }
    Client::new(grid.address()).star("star-1").await;
    assert_http_answers(grid.http_address(), "silent connections").await;
    // The destination connects to the source's port for the first time.
    let job = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(job).await;
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{found:?}");
    drop(silent);
}

#[tokio::test]
async fn partial_requests_and_unread_answers_keep_no_other_out_of_http() {
    let mut grid = Grid::start(&["star-1"]).await;
    let address = grid.http_address().to_owned();
    let half = idle::open(&address, COUNT, b"GET /healthz HTTP/1.1\r\nHost: local").await;
    assert_http_answers(&address, "half requests").await;
    let head = "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    let half_bodies = idle::open(&address, COUNT, head.as_bytes()).await;
    assert_http_answers(&address, "half bodies").await;
    drop((half, half_bodies));
    let asked = "GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(60);
    let unread = idle::open(&address, COUNT - 50, asked.as_bytes()).await;
    assert_http_answers(&address, "unread answers").await;
    let watching = idle::open(&address, COUNT, b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_http_answers(&address, "unread events").await;
    drop((unread, watching));
    let peak = grid.coordinator().memory_peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
}

#[tokio::test]
async fn a_star_that_restarts_gets_in_when_no_descriptors_are_left() {
    let mut grid = Grid::start(&["star-1"]).await;
    grid.coordinator().kill().await;
    assert!(
        grid.try_restart_coordinator(|command| with_few_descriptors(&command)).await,
        "{}",
        grid.coordinator().errors()
    );
    let mut silent = Vec::new();
    for address in [grid.address().to_owned(), grid.http_address().to_owned()] {
        silent.push(idle::open(&address, COUNT / 2, b"").await);
    }
    grid.star("star-1").kill().await;
    // Waits until it is ready for work.
    grid.add_star("star-1").await;
    assert_eq!(Http::new(grid.http_address()).get("/healthz").await.status, 200);
    drop(silent);
}

/// The same command with few descriptors.
fn with_few_descriptors(command: &Command) -> Command {
    let command = command.as_std();
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=96:96").arg(command.get_program()).args(command.get_args());
    limited
}

/// Maximum peak of the coordinator's memory, with unread answers, in KiB.
const MEMORY_KIB_MAX: u64 = 384 * 1024;
