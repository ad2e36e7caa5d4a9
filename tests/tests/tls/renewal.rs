//! Certificates are renewed while everything runs.

use orbit_identity::Credentials;
use orbit_proto::v1;
use orbit_tests::deadline::eventually;
use orbit_tests::secured::SecuredGrid;
use orbit_tests::tree::{differences, plant_files};

#[tokio::test]
async fn a_star_and_its_coordinator_outlive_their_first_certificates() {
    let mut grid = SecuredGrid::start(&["--certificate-validity", "6s"]).await;
    grid.add_star("star-1").await;
    grid.add_star("star-2").await;
    let credentials = grid.vault("star-2").join("credentials");
    let facts = || Credentials::load(&credentials).unwrap().expect("it has joined").facts();
    let first = facts();
    eventually("the first certificates to have ended", async || {
        let now = facts();
        (now.serial != first.serial && orbit_identity::now() > first.not_after + 1).then_some(())
    })
    .await;
    assert!(grid.star("star-1").is_running() && grid.star("star-2").is_running());
    // All of these connections are new: to the coordinator, and from Star to Star.
    plant_files(&grid.root("star-1").join("tree"), 5, 1000, 1);
    let operator = grid.join("operator", "ann").await;
    let client = grid.client(&operator);
    grid.wait_ready(&client, "star-2").await;
    let job = client.create(grid.copy_spec("tree", "star-1", "star-2")).await;
    let job = client.wait_end(job).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
