//! This build can use a coordinator's data directory and a Star's vault of an earlier build.
//!
//! `tests/formats` has an archive for each format. That of 29 November 2026 was made by the build of that day: a Star
//! that exports /srv/photos, two backups, the second of which has one file more, a copy with a dead letter, a paused
//! schedule, and a guard for 77 items.

use std::fs;
use std::path::Path;
use std::process::Command;

use orbit_proto::v1;
use orbit_tests::grid::Grid;
use orbit_tests::tree::differences;

/// Replaces the files of a new grid by those of an archive.
fn unpack(archive: &str, grid: &Grid) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(archive);
    let place = grid.directory().join("unpacked");
    fs::create_dir(&place).expect("a directory");
    let script = "zstd -dcq \"$1\" | tar -x --no-same-owner -C \"$2\"";
    let unpacked =
        Command::new("bash").args(["-o", "pipefail", "-c", script, "-"]).arg(archive).arg(&place).status();
    assert!(unpacked.expect("bash starts").success());
    fs::remove_dir_all(grid.data_directory()).expect("the fresh store goes");
    fs::rename(place.join("grid"), grid.data_directory()).expect("the store takes its place");
    fs::create_dir_all(grid.vault("star-1").parent().expect("a directory above")).expect("a directory");
    fs::rename(place.join("vault"), grid.vault("star-1")).expect("the vault takes its place");
}

/// The tree of the first backup, and with `has_extra` that of the second.
fn plant(root: &Path, has_extra: bool) {
    let numbers = |last: u32| (1..=last).map(|number| format!("{number}\n")).collect::<String>();
    fs::create_dir_all(root.join("d")).expect("a directory");
    for file in 1..=5 {
        fs::write(root.join(format!("d/f{file}")), numbers(file * 1000)).expect("writes");
    }
    if has_extra {
        fs::write(root.join("d/extra"), numbers(3)).expect("writes");
    }
    std::os::unix::fs::symlink("d/f1", root.join("link")).expect("links");
    fs::write(root.join("empty"), "").expect("writes");
    let paths = ["d/f1", "d/f2", "d/f3", "d/f4", "d/f5", "d/extra", "empty", "link", "d", ""];
    for path in paths.iter().filter(|path| has_extra || **path != "d/extra") {
        let date = ["-h", "-d", "2020-02-02T02:02:02Z"];
        assert!(
            Command::new("touch").args(date).arg(root.join(path)).status().expect("touch starts").success()
        );
    }
}

async fn restore(grid: &Grid, snapshot: &v1::Snapshot, name: &str) -> v1::Job {
    let request = v1::RestoreSnapshotRequest {
        snapshot_id: snapshot.snapshot_id.clone(),
        destination: Some(grid.place("star-1", name)),
        ..v1::RestoreSnapshotRequest::default()
    };
    let client = grid.client();
    let job = client.restore(request).await;
    client.wait_end(job.job_id).await
}

#[tokio::test]
async fn the_grid_of_29_november_continues_and_its_backups_are_restored_exactly() {
    let mut grid = Grid::start(&[]).await;
    grid.coordinator().kill().await;
    unpack("2026-11-29.tar.zst", &grid);
    grid.restart_coordinator().await;
    grid.add_star("star-1").await;
    let client = grid.client();

    let states: Vec<v1::JobState> = client.all_jobs().await.iter().map(v1::Job::state).collect();
    let mut expected = [v1::JobState::PartiallyCompleted, v1::JobState::Completed, v1::JobState::Completed];
    if states.first() == Some(&v1::JobState::Completed) {
        expected.reverse();
    }
    assert_eq!(states, expected);
    assert_eq!(client.dead_letters_of(3).await[0].source_path, "star-1:/srv/photos/pipe");
    assert_eq!(client.guard("star-1").await.max_object_count, 77);
    let schedules = client.schedules().list_schedules(v1::ListSchedulesRequest::default()).await;
    let schedules = schedules.expect("lists schedules").into_inner().schedules;
    assert!(schedules.len() == 1 && schedules[0].is_paused, "{schedules:?}");

    let mut snapshots = client.all_snapshots().await;
    snapshots.sort_by_key(|snapshot| snapshot.job_id);
    assert_eq!(snapshots.iter().map(|snapshot| snapshot.job_id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(snapshots[0].tags, ["kept"]);
    for (snapshot, has_extra) in snapshots.iter().zip([false, true]) {
        let (back, tree) = (format!("back-{has_extra}"), format!("tree-{has_extra}"));
        plant(&grid.root("star-1").join(&tree), has_extra);
        let job = restore(&grid, snapshot, &back).await;
        assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
        let found = differences(&grid.root("star-1").join(&tree), &grid.root("star-1").join(&back));
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    // The next backup finds its chunks in the old container, and is restored exactly too.
    let next = client.create(grid.packed_spec("tree-true", "star-1", &["star-1"])).await;
    let job = client.wait_end(next).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    assert_eq!(job.progress.expect("a job shows its progress").bytes_transferred, 0);
    let snapshots = client.all_snapshots().await;
    let newest = snapshots.iter().find(|snapshot| snapshot.job_id == next).expect("it has a snapshot");
    let job = restore(&grid, newest, "back-next").await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree-true"), &grid.root("star-1").join("back-next"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
