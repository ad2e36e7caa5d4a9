//! A destination's disk gets full during a job: no partial file is left, the job waits, and it continues by itself once
//! there is space.

use orbit_proto::v1;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::mount::SmallDisk;
use orbit_tests::settled::{assert_nothing_held, assert_settled};
use orbit_tests::tree::{inventory, plant_files};

use super::SHORT_LEASE;

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 64 * MIB;
/// Leaves space for about half of the tree.
const BALLAST_BYTES: u64 = 44 * MIB;

#[tokio::test]
async fn a_full_disk_leaves_no_partial_file_and_the_job_continues_when_there_is_space() {
    let stars = ["star-1", "star-2"];
    let mut grid = Grid::start_with(&["star-1"], &SHORT_LEASE).await;
    let root = grid.root("star-2");
    let _disk = SmallDisk::mount(&root, DISK_BYTES);
    std::fs::write(root.join("ballast"), vec![7; BALLAST_BYTES as usize]).expect("the disk has room");
    grid.launch_star("star-2", grid.star_command("star-2")).await;
    let client = grid.client();
    client.wait_star("star-2", "receives work", is_ready).await;

    let tree = grid.root("star-1").join("tree");
    plant_files(&tree.join("small"), 300, 40_000, 12);
    plant_files(&tree.join("large"), 4, 6 << 20, 13);
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    let is_told = |job: &v1::Job| job.state_reason.contains("star-2") && job.state_reason.contains("disk");
    let job = client.wait_job(job_id, "out of space, and to say so", is_told).await;
    assert_eq!(job.progress.map_or(0, |progress| progress.items_dead), 0, "a full disk is no item's fault");

    // Every file with its final name is complete.
    let sources = inventory(&tree);
    // The job may say so before its first file is there.
    let arrived = root.join("tree");
    let arrived = if arrived.is_dir() { inventory(&arrived) } else { Default::default() };
    for (path, node) in arrived {
        if let Some(source) = sources.get(&path) {
            assert_eq!(node.kind, source.kind, "{}", path.escape_ascii());
        }
    }
    std::fs::remove_file(root.join("ballast")).expect("a file can be removed");
    assert_settled(&client, job_id).await;
    assert_nothing_held(&grid, &client, &stars).await;
}
