//! The network fails between two live processes: both ways, one way, repeatedly; between a Star and the coordinator,
//! and between two Stars. After it is repaired, everything continues by itself.

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::grid::{COORDINATOR, Grid};
use orbit_tests::settled::{assert_nothing_held, assert_settled};

use super::{SHORT_LEASE, job_in_its_middle};

const STARS: [&str; 2] = ["star-1", "star-2"];

async fn grid_with_job() -> (Grid, Client, u64) {
    let grid = Grid::start_in_network(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    let job_id = job_in_its_middle(&grid, &client).await;
    (grid, client, job_id)
}

async fn assert_whole(grid: &Grid, client: &Client, job_id: u64) {
    assert_settled(client, job_id).await;
    assert_nothing_held(grid, client, &STARS).await;
}

/// Both Stars are connected to their coordinator, so the connection between them yields, and no item is penalized.
async fn wait_yield(client: &Client, job_id: u64) {
    let is_told = |job: &v1::Job| job.state_reason.contains("the way from star-1 to star-2 yields");
    let job = client.wait_job(job_id, "held by a way that yields", is_told).await;
    assert_eq!(job.progress.map_or(0, |progress| progress.items_dead), 0);
}

async fn wait_liveness(client: &Client, star: &str, liveness: v1::Liveness) {
    client.wait_star(star, liveness.as_str_name(), |star| star.liveness() == liveness).await;
}

#[tokio::test]
async fn a_destination_that_cannot_reach_the_coordinator_is_lost_and_comes_back() {
    let (mut grid, client, job_id) = grid_with_job().await;
    grid.network().cut("star-2", COORDINATOR);
    wait_liveness(&client, "star-2", v1::Liveness::Lost).await;
    assert_eq!(client.guard("star-2").await.object_count, 0, "what a lost Star held is given back");
    // Long enough for the Star to notice as well, and to drop work that was given to another Star.
    grid.star("star-2").says("no session within the lease").await;
    grid.network().heal();
    wait_liveness(&client, "star-2", v1::Liveness::Alive).await;
    assert_whole(&grid, &client, job_id).await;
}

#[tokio::test]
async fn messages_of_a_star_are_lost_and_those_of_the_coordinator_arrive() {
    let (grid, client, job_id) = grid_with_job().await;
    grid.network().cut_one_way("star-2", COORDINATOR);
    wait_liveness(&client, "star-2", v1::Liveness::Lost).await;
    grid.network().heal();
    wait_liveness(&client, "star-2", v1::Liveness::Alive).await;
    assert_whole(&grid, &client, job_id).await;
}

#[tokio::test]
async fn messages_of_the_coordinator_are_lost_and_those_of_a_star_arrive() {
    let (grid, client, job_id) = grid_with_job().await;
    grid.network().cut_one_way(COORDINATOR, "star-2");
    // Its packets arrive until so many are unacknowledged that its system sends no more.
    wait_liveness(&client, "star-2", v1::Liveness::Lost).await;
    grid.network().heal();
    wait_liveness(&client, "star-2", v1::Liveness::Alive).await;
    assert_whole(&grid, &client, job_id).await;
}

#[tokio::test]
async fn a_link_that_flaps_holds_a_job_up_and_breaks_nothing() {
    let (grid, client, job_id) = grid_with_job().await;
    for star in ["star-2", "star-1", "star-2", "star-1"] {
        grid.network().set_link(star, false);
        client.wait_star(star, "is suspect", |star| star.liveness() != v1::Liveness::Alive).await;
        grid.network().set_link(star, true);
        wait_liveness(&client, star, v1::Liveness::Alive).await;
    }
    assert_whole(&grid, &client, job_id).await;
}

#[tokio::test]
async fn stars_that_cannot_reach_each_other_give_items_back_and_finish_when_they_can() {
    let (grid, client, job_id) = grid_with_job().await;
    grid.network().cut("star-1", "star-2");
    wait_yield(&client, job_id).await;
    for star in STARS {
        assert_eq!(client.star(star).await.liveness(), v1::Liveness::Alive, "{star} was never cut off");
    }
    grid.network().heal();
    assert_whole(&grid, &client, job_id).await;
}

#[tokio::test]
async fn requests_to_a_source_whose_answers_are_lost_block_nothing_for_ever() {
    let (grid, client, job_id) = grid_with_job().await;
    grid.network().cut_one_way("star-1", "star-2");
    wait_yield(&client, job_id).await;
    grid.network().heal();
    assert_whole(&grid, &client, job_id).await;
}
