//! Every RPC of the programs is called: with good input, checking the answer, with bad input, and in a wrong state. The
//! list of RPCs is read by reflection from the running programs, so an RPC without its cases fails here.
//!
//! One grid is used for all cases in order, since most of them need the results of others: jobs before dead letters,
//! dead letters before retries, Stars last, because they leave. Other targets test RPCs beyond a single call.

mod book;
mod call;
mod common;
mod identities;
mod jobs;
mod letters;
mod reflection;
mod schedules;
mod sessions;
mod stars;
mod transfers;
mod vaults;
mod watches;

use book::Book;
use orbit_tests::grid::Grid;
use orbit_tests::tree::plant_files;
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// The grid and the record of calls.
struct World {
    grid: Grid,
    coordinator: Book,
}

#[tokio::test]
async fn every_rpc_answers_good_input_and_refuses_bad_input_and_wrong_states() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let data = grid.root("star-1");
    plant_files(&data.join("tree"), 20, 5000, 3);
    mknodat(CWD, data.join("tree/fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .expect("makes a FIFO");
    plant_files(&data.join("whole"), 12, 9000, 4);
    plant_files(&data.join("slow"), 40, 20_000, 5);
    let coordinator = Book::open(grid.address()).await;
    let mut world = World { grid, coordinator };

    jobs::call_all(&mut world).await;
    letters::call_all(&mut world).await;
    vaults::call_all(&mut world).await;
    schedules::call_all(&mut world).await;
    identities::call_all(&mut world).await;
    sessions::call_all(&mut world).await;
    transfers::call_all(&mut world).await;
    common::call_all(&mut world.coordinator, "orbit.v1.JobService").await;
    stars::call_all(&mut world).await;
    world.coordinator.assert_complete();
    assert!(world.grid.coordinator().is_running());
    world.grid.coordinator().kill().await;
    world.grid.restart_coordinator().await;
    stars::call_after_restart(&mut world).await;
}
