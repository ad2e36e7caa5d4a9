//! Connections that send nothing do not keep others out of the ports with TLS.

use orbit_tests::idle;
use orbit_tests::secured::SecuredGrid;
use orbit_tests::tree::{differences, plant_files};

/// More connections than any port has places for.
const COUNT: usize = 600;

#[tokio::test]
async fn silent_connections_keep_no_other_out_of_a_port_with_tls() {
    let mut grid = SecuredGrid::start(&[]).await;
    let star = grid.add_star("star-1").await;
    let mut silent = vec![idle::open(grid.address(), COUNT, b"").await, idle::open(&star, COUNT, b"").await];
    // The first bytes of a handshake, and no more.
    silent.push(idle::open(grid.address(), COUNT, b"\x16\x03\x01").await);
    silent.push(idle::open(&star, COUNT, b"\x16\x03\x01").await);
    // An operator joins, a new Star connects, and pulls from the other one.
    let client = grid.client(&grid.join("operator", "ann").await);
    grid.add_star("star-2").await;
    for name in ["star-1", "star-2"] {
        grid.wait_ready(&client, name).await;
    }
    plant_files(&grid.root("star-1").join("tree"), 3, 1000, 1);
    let job = client.create(grid.copy_spec("tree", "star-1", "star-2")).await;
    client.wait_end(job).await;
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{found:?}");
    drop(silent);
}
