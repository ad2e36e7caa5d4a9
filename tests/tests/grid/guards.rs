//! Backpressure: a Star is never given more than its guard admits, and nothing while it is paused.

use orbit_proto::v1;
use orbit_tests::grid::Grid;
use orbit_tests::tree::{differences, plant_files};

#[tokio::test]
async fn a_star_never_holds_more_than_its_guard_admits() {
    const LIMIT: u64 = 3;
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 300, 20_000, 5);
    client.limit_guard("star-2", LIMIT as i64).await;
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    let sampling = async {
        let (mut samples, mut highest) = (0_u32, 0);
        loop {
            let guard = client.guard("star-2").await;
            assert_eq!(guard.max_object_count, LIMIT);
            assert!(guard.object_count <= LIMIT, "{guard:?}");
            (samples, highest) = (samples + 1, highest.max(guard.object_count));
            if client.job(job_id).await.end_time.is_some() {
                return (samples, highest);
            }
        }
    };
    let (samples, highest) = orbit_tests::deadline::within("a throttled job to end", sampling).await;
    assert!(samples > 10 && highest > 0, "{samples} samples, {highest} at most");
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(client.guard("star-2").await.object_count, 0, "what is held is given back");
}

#[tokio::test]
async fn a_paused_guard_stops_dispatch_until_it_is_resumed() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 50, 1000, 6);
    client.pause_guard("star-2", "maintenance window").await;
    let guard = client.guard("star-2").await;
    assert!(
        guard.is_paused && !guard.is_accepting && guard.pause_reason.contains("maintenance window"),
        "{guard:?}"
    );

    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2", "star-3"])).await;
    let half = client
        .wait_job(job_id, "done but for star-2", |job| {
            let progress = job.progress.as_ref().expect("a job shows its progress");
            job.state() == v1::JobState::Running && progress.items_stored * 2 == progress.items_total
        })
        .await;
    assert!(
        half.state_reason.contains("star-2") && half.state_reason.contains("maintenance window"),
        "{half:#?}"
    );
    assert_eq!(client.guard("star-2").await.object_count, 0);
    assert!(!grid.root("star-2").join("tree").exists(), "nothing was dispatched to star-2");

    client.resume_guard("star-2").await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
