//! Trees go into vaults and come back.

use std::path::Path;

use orbit_proto::v1;
use orbit_tests::grid::Grid;
use orbit_tests::tree::{differences, plant_files, plant_odd_tree};

fn restore(grid: &Grid, snapshot: &v1::Snapshot, star: &str, path: &str) -> v1::RestoreSnapshotRequest {
    v1::RestoreSnapshotRequest {
        snapshot_id: snapshot.snapshot_id.clone(),
        destination: Some(grid.place(star, path)),
        ..v1::RestoreSnapshotRequest::default()
    }
}

async fn pack(grid: &Grid, path: &str, to: &[&str]) -> v1::Job {
    let client = grid.client();
    let id = client.create(grid.packed_spec(path, "star-1", to)).await;
    let job = client.wait_end(id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    job
}

fn progress(job: &v1::Job) -> v1::JobProgress {
    job.progress.expect("a job has progress")
}

/// Gives a file another content and keeps nothing of its old time.
fn change(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("a file can be written");
}

#[tokio::test]
async fn an_odd_tree_comes_back_from_a_vault_as_it_was() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let (tree, back) = (grid.root("star-1").join("tree"), grid.root("star-3").join("back"));
    plant_odd_tree(&tree, 1);
    let job = pack(&grid, "tree", &["star-2"]).await;
    assert_eq!(job.snapshot_ids.len(), 1, "{job:#?}");
    let client = grid.client();
    let snapshots = client.all_snapshots().await;
    assert_eq!(snapshots.len(), 1, "{snapshots:#?}");
    let snapshot = &snapshots[0];
    assert_eq!((snapshot.star_id.as_str(), &snapshot.snapshot_id), ("star-2", &job.snapshot_ids[0]));
    assert_eq!(snapshot.entry_count, progress(&job).items_total, "{snapshot:#?}");
    let restored = client.restore(restore(&grid, snapshot, "star-3", "back")).await;
    assert_eq!(restored.state(), v1::JobState::Completed, "{restored:#?}");
    let found = differences(&tree, &back);
    assert!(found.is_empty(), "{}", found.join("\n"));
    // The vault of the restoring Star itself is as good a source as any.
    let here = client.restore(restore(&grid, snapshot, "star-2", "here")).await;
    assert_eq!(here.state(), v1::JobState::Completed, "{here:#?}");
    assert_eq!(differences(&tree, &grid.root("star-2").join("here")), Vec::<String>::new());
}

#[tokio::test]
async fn of_a_second_version_only_new_chunks_move_and_both_come_back() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, 200, 20_000, 2);
    let big: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    std::fs::write(tree.join("big"), &big).expect("a file can be written");
    let first = pack(&grid, "tree", &["star-2"]).await;
    let total = progress(&first).bytes_total;
    assert_eq!(progress(&first).bytes_transferred, total, "an empty vault has nothing of it");
    let old = grid.root("star-1").join("old");
    copy_tree(&tree, &old);

    // 4,000 bytes more in the middle of a large file, one file that is new, and one that is gone.
    let changed = [&big[..5_000_000], &[7; 4_000], &big[5_000_000..]].concat();
    change(&tree.join("big"), &changed);
    change(&tree.join("d0000/new"), &[9; 10_000]);
    std::fs::remove_file(tree.join("d0000/f000003")).expect("a file can be removed");
    let second = pack(&grid, "tree", &["star-2"]).await;
    let moved = progress(&second).bytes_transferred;
    assert!(moved < 800_000, "an insertion moves the chunks around it and nothing else, not {moved} bytes");
    assert_eq!(moved + progress(&second).bytes_deduplicated, progress(&second).bytes_total);

    let client = grid.client();
    let snapshots = client.all_snapshots().await;
    assert_eq!(snapshots.len(), 2);
    for (snapshot, to, of) in [(&snapshots[0], "new-back", &tree), (&snapshots[1], "old-back", &old)] {
        let job = client.restore(restore(&grid, snapshot, "star-2", to)).await;
        assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
        let found = differences(of, &grid.root("star-2").join(to));
        assert!(found.is_empty(), "{to}: {}", found.join("\n"));
    }
}

/// With times and modes, by a program of the system.
fn copy_tree(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp starts").success());
}
