//! Programs die, sources become unavailable and bits rot while trees are stored in vaults and restored.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::tree::{differences, plant_files};

const FILES: usize = 400;
const FILE_BYTES: usize = 20_000;

/// A packed job in its middle, which takes some seconds.
async fn slow_job(grid: &Grid, client: &Client, to: &[&str]) -> u64 {
    plant_files(&grid.root("star-1").join("tree"), FILES, FILE_BYTES, 21);
    let mut spec = grid.packed_spec("tree", "star-1", to);
    spec.max_bytes_per_second = (FILES * FILE_BYTES / 3) as i64;
    let job_id = client.create(spec).await;
    let is_begun = |job: &v1::Job| job.progress.is_some_and(|progress| progress.items_stored > 20);
    client.wait_job(job_id, "in its middle", is_begun).await;
    job_id
}

/// The job has succeeded, with one snapshot in each vault, from which the tree is restored.
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
async fn a_killed_vault_and_a_lost_source_lose_nothing() {
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
async fn a_snapshot_is_made_once_whichever_process_dies_meanwhile() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    let job_id = slow_job(&grid, &client, &["star-2"]).await;
    // Once every item is stored, only the seal is left until the end of the job.
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
async fn a_cancelled_job_leaves_no_stage_even_at_a_star_that_was_away() {
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

/// The first container of a vault.
fn container(grid: &Grid, star: &str) -> PathBuf {
    let containers = std::fs::read_dir(grid.vault(star).join("packed/containers")).expect("containers");
    let mut paths: Vec<PathBuf> = containers.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "orbitpak"));
    paths.sort();
    paths.remove(0)
}

/// The offset of each chunk of the first container, from its journal: see `docs/format.md`.
fn chunk_starts(grid: &Grid, star: &str) -> Vec<u64> {
    let mut journal = container(grid, star).into_os_string();
    journal.push(".journal");
    let journal = std::fs::read(journal).expect("a container that grows has a journal");
    let start = |record: &[u8]| u64::from_le_bytes(record[32..40].try_into().expect("eight bytes"));
    journal[16..].chunks_exact(56).map(start).collect()
}

/// Changes one byte of the first chunk in a vault.
pub(crate) fn damage(grid: &Grid, star: &str) {
    damage_at(grid, star, 16 + 100);
}

/// Changes one byte of the first container.
fn damage_at(grid: &Grid, star: &str, offset: u64) {
    let path = container(grid, star);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("it can be opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("it has content");
    file.write_all_at(&[byte[0] ^ 0x40], offset).expect("it can be written");
}

#[tokio::test]
async fn a_damaged_chunk_affects_only_the_files_that_need_it() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 30, FILE_BYTES, 22);
    let packed = client.create(grid.packed_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(packed).await;
    // Otherwise the chunks would be healed from these files.
    std::fs::remove_dir_all(grid.root("star-1").join("tree")).expect("it can be removed");
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
    // The loss is also a dead letter of the snapshot's job, which names the affected places.
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

/// The first chunk that was healed for a job, and its source.
async fn wait_healed(client: &Client, job_id: u64) -> v1::ProvenanceEvent {
    eventually("the chunk to be healed", async || {
        client.events_of(job_id, v1::ProvenanceType::ChunkHealed).await.into_iter().next()
    })
    .await
}

#[tokio::test]
async fn damage_is_found_without_a_request_and_healed_also_after_a_restart() {
    let mut grid = Grid::start(&["star-1", "star-3"]).await;
    let command = |grid: &Grid| {
        let mut command = grid.star_command("star-2");
        command.args(["--scrub-interval", "1s", "--scrub-bytes-per-second", "100000000"]);
        command
    };
    grid.launch_star("star-2", command(&grid)).await;
    let client = grid.client();
    client.wait_star("star-2", "receives work", is_ready).await;
    plant_files(&grid.root("star-1").join("tree"), 30, FILE_BYTES, 24);
    let job_id = client.create(grid.packed_spec("tree", "star-1", &["star-2", "star-3"])).await;
    client.wait_end(job_id).await;
    damage(&grid, "star-2");
    let healed = wait_healed(&client, job_id).await;
    assert_eq!((healed.source.as_str(), healed.destination.as_str()), ("star-3", "star-2"), "{healed:#?}");

    // Damage that occurs while the Star is stopped is found by the next process.
    grid.star("star-2").kill().await;
    damage_at(&grid, "star-2", chunk_starts(&grid, "star-2")[1] + 50);
    grid.launch_star("star-2", command(&grid)).await;
    eventually("the other chunk to be healed", async || {
        let healed = client.events_of(job_id, v1::ProvenanceType::ChunkHealed).await;
        (healed.len() == 2 && healed[0].chunk_hash != healed[1].chunk_hash).then_some(())
    })
    .await;
    assert!(client.dead_letters_of(job_id).await.is_empty());
    assert_restorable(&grid, &client, job_id, &["star-2", "star-3"]).await;
}

#[tokio::test]
async fn a_chunk_that_no_other_vault_has_is_healed_from_its_source_file_if_unchanged() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, 30, FILE_BYTES, 25);
    // A file of several chunks, the first of which is damaged first.
    let big: Vec<u8> =
        (0..500_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(tree.join("big"), &big).expect("a file can be written");
    let job_id = client.create(grid.packed_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(job_id).await;
    let scrub = async || {
        let request = v1::ScrubVaultRequest {
            star_id: "star-2".to_owned(),
            check_all: true,
            ..v1::ScrubVaultRequest::default()
        };
        let scrub = client.vaults().scrub_vault(request).await.expect("it can be scrubbed").into_inner();
        scrub.scrub.map(|scrub| scrub.damaged_chunks)
    };
    let places = chunk_starts(&grid, "star-2");
    assert!(places.len() > 35, "the large file has several chunks: {places:?}");
    // Every chunk of content is damaged; those of the tree cannot be healed from a file.
    for place in &places[..places.len() - 1] {
        damage_at(&grid, "star-2", place + 50);
    }
    assert_eq!(scrub().await, Some(places.len() as u64 - 1));
    eventually("all chunks to be healed", async || {
        let healed = client.events_of(job_id, v1::ProvenanceType::ChunkHealed).await;
        (healed.len() == places.len() - 1).then_some(())
    })
    .await;
    let healed = wait_healed(&client, job_id).await;
    let source = format!("star-1:{}", tree.display());
    assert!(healed.source.starts_with(&source), "{healed:#?}");
    assert_eq!(healed.destination, "star-2");
    assert_eq!(scrub().await, Some(0));
    assert!(client.dead_letters_of(job_id).await.is_empty());
    assert_restorable(&grid, &client, job_id, &["star-2"]).await;

    // Other content under the same name cannot heal it.
    for entry in std::fs::read_dir(tree.join("d0000")).expect("it is there") {
        std::fs::write(entry.expect("an entry").path(), [7; FILE_BYTES]).expect("a file can be written");
    }
    std::fs::write(tree.join("big"), vec![7; 2_000_000]).expect("a file can be written");
    damage_at(&grid, "star-2", chunk_starts(&grid, "star-2")[places.len()] + 50);
    assert_eq!(scrub().await, Some(1));
    let lost =
        eventually("the damage to be told", async || client.dead_letters_of(job_id).await.into_iter().next())
            .await;
    assert_eq!(lost.failure_reason(), v1::FailureReason::DataCorruption);
    let snapshot = client.all_snapshots().await.remove(0).snapshot_id;
    for part in [&source, "is not as it was when it was stored", &snapshot] {
        assert!(lost.last_error.contains(part), "{part}: {lost:#?}");
    }
}
