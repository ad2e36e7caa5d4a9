//! `/api/events`: the current state, then every change, resumed by id; readers that do not read are disconnected.

use std::time::Duration;

use orbit_proto::v1;
use orbit_tests::deadline::{eventually, within};
use orbit_tests::grid::Grid;
use orbit_tests::http::Http;
use orbit_tests::tree::plant_files;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_reader_gets_the_present_and_then_every_change() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (client, http) = (grid.client(), Http::new(grid.http_address()));
    let mut events = http.events("", None).await;
    let hello = events.wait("hello", |_| true).await;
    assert_eq!(hello.data["isResumed"], false);
    events.wait("star", |star| star["starId"] == "star-1").await;
    events.wait("star", |star| star["starId"] == "star-2").await;
    events.wait("live", |_| true).await;

    plant_files(&grid.root("star-1").join("tree"), 10, 1000, 1);
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    let id = job_id.to_string();
    events.wait("job", |job| job["jobId"] == id[..] && job["state"] == "JOB_STATE_COMPLETED").await;
    client.pause_guard("star-2", "a test").await;
    client.resume_guard("star-2").await;
    let request = v1::CordonStarRequest { star_id: "star-2".to_owned(), ..v1::CordonStarRequest::default() };
    client.stars().cordon_star(request).await.expect("a Star can be cordoned");
    events.wait("star", |star| star["starId"] == "star-2" && star["isCordoned"] == true).await;
    events.wait("throughput", |sample| sample["time"].is_string()).await;

    let mut only = http.events("?topics=bulletins", None).await;
    only.wait("live", |_| true).await;
    // No bulletin is posted, and much else happens: both ends get signs of life nevertheless.
    only.wait_comment().await;
    let refused = http.get("/api/events?topics=weather&every=1s").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"]["violations"].as_array().expect("violations").len(), 2);
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_no_bulletin_and_no_event() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let (client, http) = (grid.client(), Http::new(grid.http_address()));
    let mut events = http.events("", None).await;
    let live = events.wait("live", |_| true).await;
    drop(events);
    plant_files(&grid.root("star-1").join("tree"), 10, 1000, 1);
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(job_id).await;
    grid.star("star-2").kill().await;
    let lost = eventually("a bulletin about star-2", async || {
        let about =
            v1::ListBulletinsRequest { star_id: "star-2".to_owned(), ..v1::ListBulletinsRequest::default() };
        let found = client.bulletins_like(about).await;
        found.into_iter().find(|bulletin| bulletin.severity() >= v1::Severity::Warning)
    })
    .await;

    let mut again = http.events("", Some(&live.id)).await;
    assert_eq!(again.wait("hello", |_| true).await.data["isResumed"], true);
    let (mut bulletins, mut completed) = (Vec::new(), 0);
    let last = loop {
        let event = within("what was missed", again.next()).await.expect("the stream goes on");
        match event.name.as_str() {
            "bulletin" => bulletins.push(event.data["bulletinId"].clone()),
            "provenance" if event.data["type"] == "PROVENANCE_TYPE_FILE_COMPLETED" => completed += 1,
            "live" => break event.id,
            _ => {}
        }
    };
    let all = client.events_of(job_id, v1::ProvenanceType::FileCompleted).await;
    assert_eq!(completed, all.len());
    assert!(bulletins.contains(&serde_json::json!(lost.bulletin_id.to_string())), "{bulletins:?}");
    // From there on nothing was missed.
    let mut third = http.events("", Some(&last)).await;
    loop {
        let event = third.next().await.expect("the stream goes on");
        assert_ne!(event.name, "bulletin", "{event:?}");
        if event.name == "live" {
            break;
        }
    }
    // After a restart, events that are no longer available are named, and are in the list.
    grid.coordinator().kill().await;
    grid.restart_coordinator().await;
    let mut fourth = http.events("", Some(&live.id)).await;
    let gap = fourth.wait("gap", |_| true).await;
    assert!(gap.data["untilEventId"].as_str().expect("a number").parse::<u64>().expect("a number") > 10);
    assert_eq!(http.get("/api/events?last_event_id=yesterday").await.status, 400);
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_off() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (client, http) = (grid.client(), Http::new(grid.http_address()));
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    // A small buffer, so that unread data is noticed soon.
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut lazy: TcpStream =
        socket.connect(grid.http_address().parse().expect("an address")).await.expect("connects");
    let request = format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", grid.http_address());
    lazy.write_all(request.as_bytes()).await.expect("a request can be sent");
    let watchers = async |expected: &str| {
        let page = http.get("/metrics").await.text;
        page.lines().any(|line| line == format!("orbit_watchers {expected}")).then_some(())
    };
    eventually("the reader to be counted", async || watchers("1").await).await;
    // Far more than all buffers hold: short jobs, each with its own events.
    plant_files(&grid.root("star-1").join("tree"), 400, 10, 1);
    Box::pin(eventually("the reader to be cut off", async || {
        let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
        client.wait_end(job_id).await;
        watchers("0").await
    }))
    .await;
    // The connection is closed and not only silent: data in flight can be read, and then it ends.
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        let mut buffer = vec![0; 65536];
        while lazy.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    });
    ended.await.expect("the connection ends");
}
