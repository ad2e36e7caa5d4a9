//! A Star leaves: it is drained, then it exits, and work for it waits and is reported.

use orbit_proto::v1;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::Grid;
use orbit_tests::tree::{differences, plant_files};
use rustix::process::Signal;

fn stored(job: &v1::Job) -> u64 {
    job.progress.as_ref().expect("a job shows its progress").items_stored
}

#[tokio::test]
async fn a_drained_star_ends_its_work_receives_nothing_and_can_leave() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 400, 50_000, 8);
    // Slow enough to be caught in the middle.
    client.limit_guard("star-2", 4).await;
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    spec.max_bytes_per_second = 4 << 20;
    let job_id = client.create(spec).await;
    client.wait_job(job_id, "in its middle", |job| stored(job) > 10).await;

    let early =
        v1::ShutdownStarRequest { star_id: "star-2".to_owned(), ..v1::ShutdownStarRequest::default() };
    let refused = client.stars().shutdown_star(early).await;
    let refused = refused.expect_err("a Star that works cannot be shut down without force");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");

    let drain = v1::DrainStarRequest {
        star_id: "star-2".to_owned(),
        reason: "new disks".to_owned(),
        ..v1::DrainStarRequest::default()
    };
    let drained = client.stars().drain_star(drain).await.expect("a Star can be drained").into_inner();
    assert_eq!(drained.star.expect("the Star is shown").state(), v1::StarState::Draining);
    let mut held = client.guard("star-2").await.object_count;
    eventually("star-2 to be drained", async || {
        let now = client.guard("star-2").await.object_count;
        assert!(now <= held, "a draining Star received {now} where it held {held}");
        held = now;
        client.star("star-2").await.is_drained.then_some(())
    })
    .await;
    assert_eq!(client.guard("star-2").await.object_count, 0, "a drained Star holds nothing");

    let waiting = client.wait_job(job_id, "waiting", |job| job.state_reason.contains("star-2")).await;
    assert_eq!(waiting.state(), v1::JobState::Running, "{waiting:#?}");
    assert!(waiting.state_reason.contains("drain"), "{}", waiting.state_reason);
    let before = stored(&waiting);
    let total = waiting.progress.as_ref().map_or(0, |progress| progress.items_total);
    assert!(before < total, "the job must not be done yet");

    let shutdown =
        v1::ShutdownStarRequest { star_id: "star-2".to_owned(), ..v1::ShutdownStarRequest::default() };
    client.stars().shutdown_star(shutdown).await.expect("a drained Star can be shut down");
    assert_eq!(grid.star("star-2").ended().await.code(), Some(0));
    let gone = client.wait_star("star-2", "has left", |star| star.state() == v1::StarState::Shutdown).await;
    let reasons: Vec<&str> = gone.history.iter().map(|step| step.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("new disks")), "{reasons:?}");
    assert_eq!(stored(&client.job(job_id).await), before, "the rest waits");

    // The same identity comes back and registers again.
    grid.add_star("star-2").await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_star_that_gets_sigterm_drains_and_exits_with_success() {
    let mut grid = Grid::start(&["star-1"]).await;
    grid.star("star-1").signal(Signal::TERM);
    assert_eq!(grid.star("star-1").ended().await.code(), Some(0));
    let star =
        grid.client().wait_star("star-1", "has left", |star| star.state() == v1::StarState::Shutdown).await;
    let states: Vec<v1::StarState> = star.history.iter().map(v1::StarTransition::to).collect();
    assert!(states.contains(&v1::StarState::Draining), "{states:?}");
}

#[tokio::test]
async fn a_coordinator_that_gets_sigterm_ends_streams_and_exits_with_success() {
    let mut grid = Grid::start(&["star-1"]).await;
    let watch = grid.client().stars().watch_stars(v1::WatchStarsRequest {}).await;
    let mut watch = watch.expect("Stars can be watched").into_inner();
    grid.coordinator().signal(Signal::TERM);
    assert_eq!(grid.coordinator().ended().await.code(), Some(0));
    let end = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(status) => break Some(status.code()),
        }
    };
    assert_eq!(end, Some(tonic::Code::Unavailable), "a watcher is told to come back");
    grid.restart_coordinator().await;
    grid.client().wait_star("star-1", "is back", orbit_tests::grid::is_ready).await;
}

#[tokio::test]
async fn a_frozen_star_is_suspected_then_lost_and_its_work_is_done_when_it_wakes() {
    let mut grid =
        Grid::start_with(&["star-1", "star-2"], &["--lease", "3s", "--heartbeat-interval", "500ms"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 200, 50_000, 9);
    client.limit_guard("star-2", 4).await;
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    spec.max_bytes_per_second = 2 << 20;
    let job_id = client.create(spec).await;
    client.wait_job(job_id, "in its middle", |job| stored(job) > 4).await;
    grid.star("star-2").signal(Signal::STOP);
    client.wait_star("star-2", "is lost", |star| star.liveness() == v1::Liveness::Lost).await;
    grid.star("star-2").signal(Signal::CONT);
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
