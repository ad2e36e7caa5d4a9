//! Programs die, sources go away and bits rot while trees go into vaults and come back.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::tree::{differences, plant_files};

const FILES: usize = 400;
const FILE_BYTES: usize = 20_000;

/// A packed job that takes some seconds, in its middle.
async fn slow_job(grid: &Grid, client: &Client, to: &[&str]) -> u64 {
    plant_files(&grid.root("star-1").join("tree"), FILES, FILE_BYTES, 21);
    let mut spec = grid.packed_spec("tree", "star-1", to);
    spec.max_bytes_per_second = (FILES * FILE_BYTES / 3) as i64;
    let job_id = client.create(spec).await;
    let is_begun = |job: &v1::Job| job.progress.is_some_and(|progress| progress.items_stored > 20);
    client.wait_job(job_id, "in its middle", is_begun).await;
    job_id
}

/// The job has ended well, with one snapshot in each vault, from which the tree comes back.
async fn assert_restorable(grid: &Grid, client: &Client, job_id: u64, stars: &[&str]) {
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let snapshots = client.all_snapshots().await;
    assert_eq!(snapshots.len(), stars.len(), "{snapshots:#?}");
    for snapshot in snapshots {
        assert!(stars.contains(&snapshot.star_id.as_str()) && !snapshot.is_partial, "{snapshot:#?}");
        let place = format!("back-{}", snapshot.snapshot_id);
        let request = v1::RestoreSnapshotRequest {
            snapshot_id: snapshot.snapshot_id,
            destination: Some(grid.place("star-1", &place)),
            ..v1::RestoreSnapshotRequest::default()
        };
        let restored = client.restore(request).await;
        assert_eq!(restored.state(), v1::JobState::Completed, "{restored:#?}");
        let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-1").join(place));
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[tokio::test]
async fn a_vault_that_is_killed_and_a_source_that_goes_away_cost_nothing() {
    let mut grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let client = grid.client();
    let job_id = slow_job(&grid, &client, &["star-2", "star-3"]).await;
    grid.star("star-2").kill().await;
    grid.add_star("star-2").await;
    grid.star("star-1").kill().await;
    grid.add_star("star-1").await;
    assert_restorable(&grid, &client, job_id, &["star-2", "star-3"]).await;
}

#[tokio::test]
async fn whoever_dies_while_a_snapshot_is_made_it_is_made_once() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    let job_id = slow_job(&grid, &client, &["star-2"]).await;
    // From the moment at which every item is stored to the end of the job there is only the seal.
    let is_stored = |job: &v1::Job| {
        job.progress.is_some_and(|progress| progress.items_stored + 2 >= progress.items_total)
            && job.state() != v1::JobState::Scanning
    };
    client.wait_job(job_id, "nearly stored", is_stored).await;
    for round in 0..4 {
        if round % 2 == 0 {
            grid.star("star-2").kill().await;
            grid.add_star("star-2").await;
        } else {
            grid.coordinator().kill().await;
            grid.restart_coordinator().await;
        }
    }
    client.wait_star("star-1", "is back", is_ready).await;
    assert_restorable(&grid, &client, job_id, &["star-2"]).await;
}

fn stages(grid: &Grid, star: &str) -> usize {
    std::fs::read_dir(grid.vault(star).join("packed/stages")).expect("a vault has stages").count()
}

#[tokio::test]
async fn a_cancelled_job_leaves_no_stage_also_where_nobody_could_be_told() {
    let mut grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let client = grid.client();
    let job_id = slow_job(&grid, &client, &["star-2", "star-3"]).await;
    assert!(stages(&grid, "star-2") > 0);
    grid.star("star-3").kill().await;
    let cancel = v1::CancelJobRequest { job_id, ..v1::CancelJobRequest::default() };
    client.jobs().cancel_job(cancel).await.expect("a job that runs can be cancelled");
    eventually("the stage to go", async || (stages(&grid, "star-2") == 0).then_some(())).await;
    grid.add_star("star-3").await;
    eventually("the other stage to go", async || (stages(&grid, "star-3") == 0).then_some(())).await;
    assert!(client.all_snapshots().await.is_empty());
}

/// Changes one byte of the first chunk in a vault.
fn damage(grid: &Grid, star: &str) {
    let containers = std::fs::read_dir(grid.vault(star).join("packed/containers")).expect("containers");
    let mut paths: Vec<PathBuf> = containers.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "orbitpak"));
    paths.sort();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&paths[0]).expect("it can be opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 16 + 100).expect("it has content");
    file.write_all_at(&[byte[0] ^ 0x40], 16 + 100).expect("it can be written");
}

#[tokio::test]
async fn a_damaged_chunk_costs_the_files_that_need_it_and_nothing_else() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 30, FILE_BYTES, 22);
    let packed = client.create(grid.packed_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(packed).await;
    damage(&grid, "star-2");
    let snapshot = client.all_snapshots().await.remove(0);
    let request = v1::RestoreSnapshotRequest {
        snapshot_id: snapshot.snapshot_id.clone(),
        destination: Some(grid.place("star-1", "back")),
        ..v1::RestoreSnapshotRequest::default()
    };
    let job = client.restore(request).await;
    assert_eq!(job.state(), v1::JobState::PartiallyCompleted, "{job:#?}");
    let letters = client.dead_letters_of(job.job_id).await;
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!(letters[0].failure_reason(), v1::FailureReason::DataCorruption, "{letters:#?}");
    assert_eq!(letters[0].attempts, 1, "trying again cannot help");
    let progress = job.progress.expect("a job has progress");
    assert_eq!(progress.items_stored, progress.items_total - 1, "{progress:?}");
    // What is lost is a dead letter of the snapshot's job as well, which names where it is missing.
    let lost =
        eventually("the damage to be told", async || client.dead_letters_of(packed).await.into_iter().next())
            .await;
    assert_eq!(lost.failure_reason(), v1::FailureReason::DataCorruption);
    let name = letters[0].dest_path.rsplit('/').next().expect("a name");
    assert!(lost.last_error.contains(&snapshot.snapshot_id) && lost.last_error.contains(name), "{lost:#?}");
}

#[tokio::test]
async fn a_scrub_finds_damage_and_another_vault_heals_it() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 30, FILE_BYTES, 23);
    let job_id = client.create(grid.packed_spec("tree", "star-1", &["star-2", "star-3"])).await;
    client.wait_end(job_id).await;
    damage(&grid, "star-2");
    let request = v1::ScrubVaultRequest {
        star_id: "star-2".to_owned(),
        check_all: true,
        ..v1::ScrubVaultRequest::default()
    };
    let scrub = client.vaults().scrub_vault(request).await.expect("a vault can be scrubbed").into_inner();
    assert_eq!(scrub.scrub.map(|scrub| scrub.damaged_chunks), Some(1));
    let healed = eventually("the chunk to be healed", async || {
        client.events_of(job_id, v1::ProvenanceType::ChunkHealed).await.into_iter().next()
    })
    .await;
    assert_eq!((healed.source.as_str(), healed.destination.as_str()), ("star-3", "star-2"), "{healed:#?}");
    let located =
        v1::LocateChunkRequest { chunk_hash: healed.chunk_hash, ..v1::LocateChunkRequest::default() };
    let located = client.vaults().locate_chunk(located).await.expect("a hash").into_inner().locations;
    assert!(located.len() == 2 && located.iter().all(|place| !place.is_damaged), "{located:#?}");
    assert!(client.dead_letters_of(job_id).await.is_empty());
    assert_restorable(&grid, &client, job_id, &["star-2", "star-3"]).await;
}
