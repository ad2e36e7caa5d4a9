//! Watches of numbered messages: none is silently skipped. A reader that does not read, and one whose position is no
//! longer available, are told how far they came, and continue.

use std::process::Stdio;

use orbit_proto::v1;
use orbit_tests::client::{Client, reason};
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::programs::program;
use orbit_tests::tree::plant_files;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Receive window of a reader in this test, in bytes: small, so that a few hundred events fill it.
const WINDOW_BYTES: u32 = 4096;
/// Number of drains, each of which is a bulletin: more than the board's capacity.
const DRAINS: usize = 2300;

fn number(status: &Status, name: &str) -> u64 {
    let metadata = status.get_details_error_info().expect("details").metadata;
    metadata[name].parse().expect("a number")
}

/// Reads events until one ends a job, or the stream ends.
async fn read_events(
    stream: &mut tonic::Streaming<v1::WatchEventsResponse>,
    ids: &mut Vec<u64>,
) -> Result<(), Status> {
    while let Some(message) = stream.message().await? {
        let event = message.event.expect("an event");
        ids.push(event.event_id);
        if event.r#type() == v1::ProvenanceType::JobCompleted {
            break;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_disconnected_and_misses_nothing_when_it_continues() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    plant_files(&grid.root("star-1").join("tree"), 1500, 100, 6);
    let client = grid.client();
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(job_id).await;
    let created = client.events_of(job_id, v1::ProvenanceType::JobCreated).await;
    let start = created.first().expect("the job was created").event_id;

    let endpoint =
        Endpoint::from_shared(format!("http://{}", grid.address())).expect("an address makes a URL");
    let narrow =
        endpoint.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let slow = Client::over(narrow.connect_lazy());
    let request = |after_event_id| v1::WatchEventsRequest {
        job_id: Some(job_id),
        after_event_id,
        ..v1::WatchEventsRequest::default()
    };
    let mut stream = slow.provenance().watch_events(request(start)).await.expect("a watch").into_inner();
    grid.coordinator().says("a watch is cut off").await;
    let mut ids = Vec::new();
    let ended = within("the end of the watch", read_events(&mut stream, &mut ids)).await;
    let status = ended.expect_err("the reader was too slow");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "READER_TOO_SLOW"), "{status:?}");
    let last = number(&status, "last_position");
    assert_eq!(ids.last(), Some(&last), "it says what was sent last");

    let mut stream = client.provenance().watch_events(request(last)).await.expect("a watch").into_inner();
    within("the rest", read_events(&mut stream, &mut ids)).await.expect("a reader that reads is not cut off");
    let mut all = Vec::new();
    let mut page = v1::ListEventsRequest { job_id: Some(job_id), page_size: 1000, ..Default::default() };
    loop {
        let listed = client.provenance().list_events(page.clone()).await.expect("events").into_inner();
        all.extend(listed.events.iter().map(|event| event.event_id).filter(|id| *id > start));
        page.page_token = listed.next_page_token;
        if page.page_token.is_empty() {
            break;
        }
    }
    assert!(ids.len() > 1500, "{} events prove little", ids.len());
    assert_eq!(ids, all, "what both watches sent is all there was, each event once");
}

async fn first_bulletin(client: &Client, after_id: u64) -> Result<u64, Status> {
    let request = v1::WatchBulletinsRequest { after_id, ..v1::WatchBulletinsRequest::default() };
    let mut stream = client.bulletins().watch_bulletins(request).await?.into_inner();
    let message = within("a bulletin", stream.message()).await?.expect("a watch does not end");
    Ok(message.bulletin.expect("a bulletin").bulletin_id)
}

/// An `orbit` command that follows something.
struct Follower {
    out: Lines<BufReader<tokio::process::ChildStdout>>,
    err: Lines<BufReader<tokio::process::ChildStderr>>,
    _child: Child,
}

impl Follower {
    fn start(grid: &Grid, arguments: &[&str]) -> Self {
        let mut command = Command::new(program("orbit"));
        command.args(arguments).arg("--coordinator").arg(format!("http://{}", grid.address()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("orbit starts");
        let out = BufReader::new(child.stdout.take().expect("is piped")).lines();
        let err = BufReader::new(child.stderr.take().expect("is piped")).lines();
        Self { out, err, _child: child }
    }
}

/// The next line that contains a text.
async fn line<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, text: &str) -> String {
    within(&format!("a line with {text:?}"), async {
        loop {
            let line = lines.next_line().await.expect("text");
            let line = line.unwrap_or_else(|| panic!("orbit ended without a line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    })
    .await
}

/// Drains star-2 with a reason, which is a bulletin, and schedules it again.
async fn drain_and_take_back(client: &Client, reason: &str) {
    let star_id = "star-2".to_owned();
    let drain = v1::DrainStarRequest {
        star_id: star_id.clone(),
        reason: reason.to_owned(),
        ..v1::DrainStarRequest::default()
    };
    client.stars().drain_star(drain).await.expect("a Star can be drained");
    let schedule = v1::ScheduleStarRequest { star_id, ..v1::ScheduleStarRequest::default() };
    client.stars().schedule_star(schedule).await.expect("a drained Star can be scheduled");
}

#[tokio::test]
async fn a_reader_whose_position_is_gone_is_told_what_it_missed_and_continues() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    std::fs::create_dir_all(grid.root("star-1").join("tree")).expect("makes a directory");
    for index in 0..DRAINS {
        drain_and_take_back(&client, &format!("for the {index}th time")).await;
    }
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(job_id).await;

    let status = first_bulletin(&client, 1).await.expect_err("what follows 1 has made room");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "POSITION_GONE"), "{status:?}");
    assert_eq!(number(&status, "last_position"), 1);
    let (oldest, newest) = (number(&status, "oldest_available"), number(&status, "newest_available"));
    assert!(oldest > 2 && newest >= DRAINS as u64, "{status:?}");
    let first = first_bulletin(&client, number(&status, "resume_at")).await.expect("what is kept");
    assert!(first <= oldest, "{first} is sent first, and {oldest} is the oldest after 1");

    // The same for an operator.
    let mut bulletins = Follower::start(&grid, &["bulletins", "--follow", "--after", "1"]);
    let note = line(&mut bulletins.err, "were removed").await;
    // Further bulletins may have been evicted since.
    let from = note.rsplit_once("from ").and_then(|(_, from)| from.trim_end_matches('.').parse::<u64>().ok());
    assert!(note.contains("bulletins after 1 ") && from.is_some_and(|from| from >= oldest), "{note}");
    line(&mut bulletins.out, "has ended").await;

    // It continues after a restart. Events are lost with their log, which is reported too.
    let mut events = Follower::start(&grid, &["provenance", "--follow", "--after", "1"]);
    line(&mut events.out, "job-completed").await;
    grid.coordinator().kill().await;
    std::fs::remove_dir_all(grid.data_directory().join("provenance")).expect("loses the log");
    grid.restart_coordinator().await;
    line(&mut bulletins.err, "trying again").await;
    let mut late = Follower::start(&grid, &["provenance", "--follow", "--after", "1"]);
    let note = line(&mut late.err, "were removed").await;
    assert!(note.contains("events after 1 "), "{note}");
    client.wait_star("star-2", "is back", orbit_tests::grid::is_ready).await;
    let drain = v1::DrainStarRequest {
        star_id: "star-2".to_owned(),
        reason: "a test".to_owned(),
        ..v1::DrainStarRequest::default()
    };
    client.stars().drain_star(drain).await.expect("a Star can be drained");
    line(&mut bulletins.out, "star-2 is draining: a test").await;
    for follower in [&mut events, &mut late] {
        line(&mut follower.out, "star-draining").await;
    }
}
