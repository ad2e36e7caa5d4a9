//! A backup is made while jobs run, and a coordinator that is started on it continues from that moment.

use orbit_proto::v1;
use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::programs::program;
use orbit_tests::tree::{differences, plant_files};
use tokio::process::Command;

/// Runs `orbit backup NAME` and returns what it printed.
async fn back_up(grid: &Grid, name: &str) -> (bool, String) {
    let mut command = Command::new(program("orbit"));
    command.arg("--coordinator").arg(format!("http://{}", grid.address())).args(["backup", name]);
    let output = within("orbit to end", command.output()).await.expect("orbit starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_job_continues_from_a_backup_that_was_made_in_its_middle() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 600, 2500, 21);
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    spec.max_bytes_per_second = 500_000;
    let job_id = client.create(spec).await;
    let stored = |job: &v1::Job| job.progress.as_ref().map_or(0, |progress| progress.items_stored);
    client.wait_job(job_id, "in its middle", |job| stored(job) > 60).await;

    let (is_done, text) = back_up(&grid, "before").await;
    assert!(is_done && text.contains("before"), "{text}");
    let data = grid.data_directory();
    let backup = data.join("backups/before");
    assert!(text.contains(&backup.display().to_string()), "{text}");
    let (is_done, text) = back_up(&grid, "before").await;
    assert!(!is_done && text.contains("already"), "{text}");
    let (is_done, text) = back_up(&grid, "../out").await;
    assert!(!is_done && text.contains("no name for a backup"), "{text}");

    // The machine is lost, and restored from the backup.
    let later = client.wait_job(job_id, "further on", |job| stored(job) > 200).await;
    assert!(later.end_time.is_none(), "the job ended before its coordinator was lost");
    grid.coordinator().kill().await;
    let kept = grid.directory().join("kept");
    std::fs::rename(&backup, &kept).expect("moves the backup");
    std::fs::remove_dir_all(&data).expect("loses the data directory");
    std::fs::rename(&kept, &data).expect("restores the backup");
    grid.restart_coordinator().await;

    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let progress = job.progress.expect("a job shows its progress");
    assert_eq!(progress.items_stored + progress.items_skipped, progress.items_total, "{progress:?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
