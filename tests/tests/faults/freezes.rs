//! Processes that stop without ending, as on a machine that swaps, hangs in a driver or is suspended: their connections
//! stay open and are silent. The others must notice, and none may wait for ever.

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::Grid;
use orbit_tests::settled::{assert_nothing_held, assert_settled, patient};
use rustix::process::Signal;

use super::{SHORT_LEASE, job_in_its_middle, slow_down_destination};

const STARS: [&str; 2] = ["star-1", "star-2"];

/// Size of a file that takes a while, in bytes. It has holes, which are made quickly.
const LARGE_BYTES: u64 = 192 << 20;

/// A job that moves one large file, part of which has arrived.
async fn large_file_in_its_middle(grid: &mut Grid, client: &Client) -> u64 {
    slow_down_destination(grid).await;
    let tree = grid.root("star-1").join("tree");
    std::fs::create_dir_all(&tree).expect("a directory can be made");
    let file = std::fs::File::create(tree.join("large")).expect("a file can be made");
    file.set_len(LARGE_BYTES).expect("a file can be made longer");
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    spec.penalty = Some(patient());
    let job_id = client.create(spec).await;
    let place = grid.root("star-2").join("tree");
    eventually("some of the large file to arrive", async || {
        let mut entries = std::fs::read_dir(&place).ok()?.flatten();
        entries.find(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 0)).map(drop)
    })
    .await;
    job_id
}

async fn assert_in_flight(client: &Client, job_id: u64) {
    let job = client.job(job_id).await;
    assert!(job.end_time.is_none(), "the file is too small to be caught in its middle: {job:#?}");
}

#[tokio::test]
async fn a_frozen_source_is_noticed_by_its_destination_and_nothing_stays_in_flight() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    let job_id = large_file_in_its_middle(&mut grid, &client).await;
    grid.star("star-1").signal(Signal::STOP);
    assert_in_flight(&client, job_id).await;
    // The end comes by itself, while the source still hangs.
    client
        .wait_job(job_id, "given back", |job| {
            job.progress.as_ref().is_some_and(|progress| progress.items_in_flight == 0)
        })
        .await;
    assert_nothing_held(&grid, &client, &["star-2"]).await;
    grid.star("star-1").signal(Signal::CONT);
    assert_settled(&client, job_id).await;
    assert_nothing_held(&grid, &client, &STARS).await;
}

#[tokio::test]
async fn a_destination_frozen_in_a_pull_loses_its_work_and_resumes_it() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    let job_id = large_file_in_its_middle(&mut grid, &client).await;
    grid.star("star-2").signal(Signal::STOP);
    assert_in_flight(&client, job_id).await;
    client.wait_star("star-2", "is lost", |star| star.liveness() == v1::Liveness::Lost).await;
    assert_eq!(client.guard("star-2").await.object_count, 0, "what a lost Star held is given back");
    grid.star("star-2").signal(Signal::CONT);
    assert_settled(&client, job_id).await;
    assert_nothing_held(&grid, &client, &STARS).await;
}

#[tokio::test]
async fn stars_give_up_on_a_frozen_coordinator_and_come_back_to_it() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    let job_id = job_in_its_middle(&grid, &client).await;
    grid.coordinator().signal(Signal::STOP);
    for star in STARS {
        grid.star(star).says("no session within the lease").await;
    }
    grid.coordinator().signal(Signal::CONT);
    assert_settled(&client, job_id).await;
    assert_nothing_held(&grid, &client, &STARS).await;
}

#[tokio::test]
async fn a_star_that_freezes_again_and_again_finishes_its_work() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    let job_id = job_in_its_middle(&grid, &client).await;
    for star in ["star-2", "star-1", "star-2"] {
        grid.star(star).signal(Signal::STOP);
        client.wait_star(star, "is suspect", |star| star.liveness() != v1::Liveness::Alive).await;
        grid.star(star).signal(Signal::CONT);
        client.wait_star(star, "is back", |star| star.liveness() == v1::Liveness::Alive).await;
    }
    assert_settled(&client, job_id).await;
    assert_nothing_held(&grid, &client, &STARS).await;
}
