//! Disk errors at a destination: one call fails with ENOSPC or EIO, nothing wrong is published, and the next attempt
//! stores the item.

use orbit_proto::v1;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::settled::{assert_nothing_held, assert_settled, patient};
use orbit_tests::strace::Strace;
use orbit_tests::tree::plant_files;

use super::SHORT_LEASE;

/// The calls that fail, the error that they return, and which call of a thread fails: the n-th one.
const FAULTS: [(&str, &str, usize); 12] = [
    ("fsync", "EIO", 1),
    ("fsync", "EIO", 2),
    ("fsync", "ENOSPC", 3),
    ("syncfs", "EIO", 1),
    ("syncfs", "EIO", 2),
    ("pwrite64", "ENOSPC", 1),
    ("pwrite64", "EIO", 2),
    ("pwrite64", "ENOSPC", 4),
    ("renameat", "EIO", 1),
    ("renameat", "ENOSPC", 5),
    ("rename", "ENOSPC", 1),
    ("mkdirat", "ENOSPC", 1),
];

#[tokio::test]
async fn a_single_disk_error_costs_an_attempt_and_nothing_else() {
    let stars = ["star-1", "star-2"];
    let mut grid = Grid::start_with(&stars, &SHORT_LEASE).await;
    let client = grid.client();
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree.join("small"), 12, 3000, 3);
    plant_files(&tree.join("large"), 1, 3 << 20, 4);
    let mut penalized = 0;
    for (index, (calls, error, number)) in FAULTS.iter().enumerate() {
        grid.star("star-2").kill().await;
        grid.launch_star("star-2", grid.star_command("star-2")).await;
        client.wait_star("star-2", "receives work", is_ready).await;
        // A Star whose vault cannot be opened does not start. This tests its work.
        let strace = Strace::injecting(calls, &format!("error={error}:when={number}"));
        strace.attach(grid.star("star-2").id()).await;
        let mut spec = grid.copy_spec("tree", "star-1", &[]);
        spec.destinations = vec![grid.place("star-2", &format!("at-{index}"))];
        spec.penalty = Some(patient());
        let job_id = client.create(spec).await;
        assert_settled(&client, job_id).await;
        penalized += client.events_of(job_id, v1::ProvenanceType::ChunkPenalized).await.len();
    }
    assert!(penalized >= FAULTS.len(), "{penalized} items met a fault, which proves little");
    assert_nothing_held(&grid, &client, &stars).await;
}

/// A directory of the source that temporarily cannot be read is listed a little later, and nothing of it is given up.
#[tokio::test]
async fn a_directory_that_cannot_be_listed_for_a_moment_is_listed_again() {
    let stars = ["star-1", "star-2"];
    let mut grid = Grid::start_with(&stars, &SHORT_LEASE).await;
    let client = grid.client();
    let tree = grid.root("star-1").join("tree");
    for directory in ["a", "b", "c"] {
        plant_files(&tree.join(directory), 5, 1000, 3);
    }
    for (index, error) in ["EIO", "ESTALE", "EMFILE"].into_iter().enumerate() {
        grid.star("star-1").kill().await;
        grid.launch_star("star-1", grid.star_command("star-1")).await;
        client.wait_star("star-1", "receives work", is_ready).await;
        let strace = Strace::injecting("openat", &format!("error={error}:when=1")).on_path(&tree.join("b"));
        strace.attach(grid.star("star-1").id()).await;
        let mut spec = grid.copy_spec("tree", "star-1", &[]);
        spec.destinations = vec![grid.place("star-2", &format!("at-{index}"))];
        spec.penalty = Some(patient());
        let job_id = client.create(spec).await;
        assert_settled(&client, job_id).await;
        let logged = grid.star("star-1").errors();
        assert!(logged.contains("a directory is listed again"), "nothing was put into its way: {logged}");
    }
}
