//! Programs are killed in the middle of a job, and the job still completes normally.

use std::collections::BTreeMap;

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::Grid;
use orbit_tests::tree::{differences, plant_files};

/// Environment variable with the number of files of the jobs; more make the test slower and no better.
const FILES_VARIABLE: &str = "ORBIT_TEST_CRASH_FILES";

fn file_count() -> usize {
    std::env::var(FILES_VARIABLE).map_or(3000, |text| text.parse().expect("a number of files"))
}

async fn start_slow_job(grid: &Grid, client: &Client) -> u64 {
    let count = file_count();
    plant_files(&grid.root("star-1").join("tree"), count, 2500, 11);
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    // Three seconds, so that the kill comes in the middle.
    spec.max_bytes_per_second = i64::try_from(count * 2500 / 3).expect("a number of bytes");
    let job_id = client.create(spec).await;
    eventually("a tenth of the job to be stored", async || {
        let progress = client.job(job_id).await.progress?;
        (progress.items_stored * 10 > count as u64).then_some(())
    })
    .await;
    job_id
}

/// The job has completed, the trees are equal, and each item was stored once.
async fn assert_stored_once(grid: &Grid, client: &Client, job_id: u64) {
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let progress = job.progress.expect("a job shows its progress");
    assert_eq!(progress.items_stored, progress.items_total, "{progress:?}");
    assert_eq!(progress.items_skipped + progress.items_dead, 0, "{progress:?}");
    assert_eq!(progress.bytes_stored, progress.bytes_total, "{progress:?}");
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for event in client.events_of(job_id, v1::ProvenanceType::FileCompleted).await {
        *times.entry(event.item_key).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, count)| **count > 1).take(5).collect();
    assert!(twice.is_empty(), "stored more than once: {twice:?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_killed_coordinator_resumes_its_job() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    let job_id = start_slow_job(&grid, &client).await;
    let before = client.job(job_id).await.progress.expect("a job shows its progress");
    grid.coordinator().kill().await;
    grid.restart_coordinator().await;
    let after = client.job(job_id).await.progress.expect("a job shows its progress");
    assert!(before.items_stored < before.items_total, "killed too late: {before:?}");
    assert!(after.items_stored >= before.items_stored, "{before:?} was shown, {after:?} is left");
    assert_stored_once(&grid, &client, job_id).await;
}

#[tokio::test]
async fn a_coordinator_that_is_killed_again_and_again_still_finishes() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    let job_id = start_slow_job(&grid, &client).await;
    for _ in 0..4 {
        let before = client.job(job_id).await;
        if before.end_time.is_some() {
            break;
        }
        grid.coordinator().kill().await;
        grid.restart_coordinator().await;
        let shown = before.progress.map_or(0, |progress| progress.items_stored);
        eventually("the job to go on", async || {
            let job = client.job(job_id).await;
            let progress = job.progress?;
            (progress.items_stored > shown || job.end_time.is_some()).then_some(())
        })
        .await;
    }
    assert_stored_once(&grid, &client, job_id).await;
}

#[tokio::test]
async fn a_killed_destination_comes_back_and_the_job_completes() {
    let mut grid =
        Grid::start_with(&["star-1", "star-2"], &["--lease", "3s", "--heartbeat-interval", "500ms"]).await;
    let client = grid.client();
    let job_id = start_slow_job(&grid, &client).await;
    grid.star("star-2").kill().await;
    grid.add_star("star-2").await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_killed_source_comes_back_and_the_job_completes() {
    let mut grid =
        Grid::start_with(&["star-1", "star-2"], &["--lease", "3s", "--heartbeat-interval", "500ms"]).await;
    let client = grid.client();
    let job_id = start_slow_job(&grid, &client).await;
    grid.star("star-1").kill().await;
    grid.add_star("star-1").await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
