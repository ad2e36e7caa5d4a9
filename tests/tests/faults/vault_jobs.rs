//! Packed jobs under the same faults as others: programs that die before any step, and a vault whose disk is full.

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::mount::SmallDisk;
use orbit_tests::settled::patient;
use orbit_tests::strace::Strace;
use orbit_tests::tree::{differences, plant_files};

use super::SHORT_LEASE;

const MIB: u64 = 1 << 20;
/// Size of files that do not all fit on a disk, in bytes.
const HUGE_BYTES: u64 = 6 * MIB;

/// The calls of a Star that change its vault, and the numbers of those at which it is killed.
const STAR_POINTS: [(&str, &[usize]); 5] = [
    ("fdatasync", &[1, 2, 3, 4, 5, 6]),
    ("fsync", &[1, 2, 3, 4, 5, 6]),
    ("pwrite64,write", &[10, 40, 80, 160]),
    ("rename,renameat,renameat2", &[1, 2, 3]),
    ("unlink,unlinkat", &[1, 2]),
];
/// The numbers of the calls of the coordinator.
const COORDINATOR_POINTS: [usize; 6] = [4, 8, 12, 16, 20, 24];

fn spec(grid: &Grid, tag: &str) -> v1::JobSpec {
    let tags = vec![tag.to_owned()];
    v1::JobSpec { penalty: Some(patient()), tags, ..grid.packed_spec("tree", "star-1", &["star-2"]) }
}

/// Another version of the tree. Its files have different sizes, since generated files of all versions have the same
/// times.
fn plant(grid: &Grid, round: usize) {
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree.join("small"), 12, 3000 + round, round as u64);
    plant_files(&tree.join("large"), 1, (3 << 20) + round, 1000 + round as u64);
}

/// Creates a job and waits for its end, whichever process dies meanwhile.
async fn pack(client: &Client, spec: v1::JobSpec, name: &str) -> u64 {
    let job_id = client.create_surely(spec, name).await;
    client.wait_end(job_id).await;
    job_id
}

/// Each job has made one snapshot; the last one equals the current tree.
async fn assert_all_there(grid: &Grid, client: &Client, jobs: &[u64]) {
    let snapshots = client.all_snapshots().await;
    for &job_id in jobs {
        let job = client.job(job_id).await;
        assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
        let of_job: Vec<_> = snapshots.iter().filter(|snapshot| snapshot.job_id == job_id).collect();
        assert_eq!(of_job.len(), 1, "{of_job:#?}");
        assert_eq!(of_job[0].snapshot_id, job.snapshot_ids[0]);
    }
    let last = jobs.last().expect("there was a job");
    let snapshot = snapshots.iter().find(|snapshot| snapshot.job_id == *last).expect("it has a snapshot");
    let request = v1::RestoreSnapshotRequest {
        snapshot_id: snapshot.snapshot_id.clone(),
        destination: Some(grid.place("star-2", "back")),
        ..v1::RestoreSnapshotRequest::default()
    };
    let job = client.restore(request).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("back"));
    assert!(found.is_empty(), "{}", found.join("\n"));
    let scrub = v1::ScrubVaultRequest {
        star_id: "star-2".to_owned(),
        check_all: true,
        ..v1::ScrubVaultRequest::default()
    };
    let scrub = client.vaults().scrub_vault(scrub).await.expect("it can be scrubbed").into_inner().scrub;
    assert_eq!(scrub.map(|scrub| (scrub.progress(), scrub.damaged_chunks)), Some((v1::Progress::Done, 0)));
}

#[tokio::test]
async fn a_vault_killed_before_any_step_continues_where_it_was() {
    let mut grid = Grid::start_with(&["star-1", "star-2"], &SHORT_LEASE).await;
    let client = grid.client();
    let points =
        STAR_POINTS.iter().flat_map(|(calls, numbers)| numbers.iter().map(move |number| (calls, number)));
    let (mut jobs, mut deaths) = (Vec::new(), 0);
    for (round, (calls, number)) in points.enumerate() {
        plant(&grid, round);
        grid.star("star-2").kill().await;
        let strace = Strace::injecting(calls, &format!("signal=KILL:when={number}"));
        grid.try_launch_star("star-2", strace.wrap(&grid.star_command("star-2"))).await;
        let name = format!("{calls}-{number}");
        let packing = pack(&client, spec(&grid, &name), &name);
        tokio::pin!(packing);
        let ended = tokio::select! {
            job_id = &mut packing => Some(job_id),
            _ = grid.star("star-2").ended() => None,
        };
        jobs.push(match ended {
            Some(job_id) => job_id,
            None => {
                deaths += 1;
                grid.launch_star("star-2", grid.star_command("star-2")).await;
                packing.await
            }
        });
    }
    // The last process may not have reached its kill.
    grid.star("star-2").kill().await;
    grid.add_star("star-2").await;
    assert!(deaths * 2 > jobs.len(), "only {deaths} of {} points were reached", jobs.len());
    assert_all_there(&grid, &client, &jobs).await;
}

#[tokio::test]
async fn a_coordinator_killed_before_any_step_of_a_packed_job_still_completes_it() {
    let mut grid = Grid::start_with(&["star-1", "star-2"], &SHORT_LEASE).await;
    let client = grid.client();
    let mut jobs = Vec::new();
    for (round, number) in COORDINATOR_POINTS.into_iter().enumerate() {
        plant(&grid, 500 + round);
        grid.coordinator().kill().await;
        let strace = Strace::injecting("fdatasync,fsync", &format!("signal=KILL:when={number}"));
        grid.try_restart_coordinator(|command| strace.wrap(&command)).await;
        let name = format!("coordinator-{number}");
        let packing = pack(&client, spec(&grid, &name), &name);
        tokio::pin!(packing);
        let ended = tokio::select! {
            job_id = &mut packing => Some(job_id),
            _ = grid.coordinator().ended() => None,
        };
        jobs.push(match ended {
            Some(job_id) => job_id,
            None => {
                grid.restart_coordinator().await;
                packing.await
            }
        });
    }
    grid.coordinator().kill().await;
    grid.restart_coordinator().await;
    client.wait_star("star-2", "is back", is_ready).await;
    assert_all_there(&grid, &client, &jobs).await;
}

#[tokio::test]
async fn a_vault_on_a_full_disk_waits_stays_readable_and_continues_when_there_is_space() {
    let mut grid = Grid::start_with(&["star-1"], &SHORT_LEASE).await;
    let vault = grid.vault("star-2");
    let _disk = SmallDisk::mount(&vault, 64 * MIB);
    grid.launch_star("star-2", grid.star_command("star-2")).await;
    let client = grid.client();
    client.wait_star("star-2", "receives work", is_ready).await;
    plant(&grid, 900);
    let first = pack(&client, spec(&grid, "small"), "small").await;
    std::fs::write(vault.join("ballast"), vec![7; (40 * MIB) as usize]).expect("the disk has room");
    plant_files(&grid.root("star-1").join("tree/huge"), 6, HUGE_BYTES as usize, 901);
    let job_id = client.create_surely(spec(&grid, "huge"), "huge").await;
    let is_told = |job: &v1::Job| job.state_reason.contains("star-2");
    let job = client.wait_job(job_id, "out of space, and to say so", is_told).await;
    assert_eq!(job.progress.map_or(0, |progress| progress.items_dead), 0, "a full disk is no item's fault");
    eventually("some of the files that fit to be stored", async || {
        let items = client.all_items(job_id).await;
        let is_kept =
            |item: &&v1::Item| item.state() == v1::ItemState::Stored && item.size_bytes == HUGE_BYTES;
        (items.iter().filter(is_kept).count() > 0).then_some(())
    })
    .await;
    // Stored snapshots can be read.
    let snapshots = client.all_snapshots().await;
    let old = snapshots.iter().find(|snapshot| snapshot.job_id == first).expect("the first one is there");
    let list = v1::ListSnapshotEntriesRequest {
        snapshot_id: old.snapshot_id.clone(),
        ..v1::ListSnapshotEntriesRequest::default()
    };
    let listed = client.vaults().list_snapshot_entries(list).await.expect("it can be read").into_inner();
    assert!(listed.entries.len() > 10, "{listed:#?}");
    std::fs::remove_file(vault.join("ballast")).expect("a file can be removed");
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    assert_all_there(&grid, &client, &[first, job_id]).await;
}
