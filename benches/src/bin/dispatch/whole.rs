//! The coordinator as a program, with Stars that are simulated in this process.

use std::time::{Duration, Instant};

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};

use crate::Cost;
use crate::star::{ROOT, SimulatedStar, name};

/// Time between two checks of whether Stars have registered or jobs have ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum number of Stars that connect at a time. A real Star without an answer gives up and retries; simulated ones
/// do not.
const CONNECTING_MAX: u64 = 100;

/// Time from the creation of the first job to the end of the last one: one job for each Star, with `items` in total.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) async fn measure(stars: u64, items: u64) -> (Duration, Cost) {
    let mut grid = Grid::start_with(&[], &[]).await;
    connect(&grid, stars, items / stars).await;
    let client = grid.client();
    let before = cost(&mut grid);
    let start = Instant::now();
    let mut jobs = Vec::new();
    for number in 0..stars {
        let place = |path: &str| v1::Location {
            star_id: name(number),
            path: format!("{ROOT}{path}"),
            ..v1::Location::default()
        };
        let spec = v1::JobSpec {
            source: Some(place("source")),
            destinations: vec![place("destination")],
            ..v1::JobSpec::default()
        };
        jobs.push(client.create(spec).await);
    }
    for job_id in jobs {
        while !client.has_ended(job_id).await {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
    let wall = start.elapsed();
    let after = cost(&mut grid);
    (wall, Cost { processor: after.processor - before.processor, ..after })
}

/// The cost of Stars that only send heartbeats.
pub(crate) async fn watch_idle(stars: u64, time: Duration) -> Cost {
    let mut grid = Grid::start_with(&[], &["--heartbeat-interval", "5s"]).await;
    connect(&grid, stars, 0).await;
    let before = cost(&mut grid);
    tokio::time::sleep(time).await;
    let after = cost(&mut grid);
    Cost { processor: after.processor - before.processor, ..after }
}

/// Connects Stars and waits until all of them are ready for work.
async fn connect(grid: &Grid, stars: u64, entries: u64) {
    let client = grid.client();
    let mut connected = 0;
    while connected < stars {
        let group = connected..stars.min(connected + CONNECTING_MAX);
        for number in group.clone() {
            tokio::spawn(SimulatedStar::connect(grid.address(), number, entries).run());
        }
        for number in group.clone() {
            wait_ready(&client, name(number)).await;
        }
        connected = group.end;
    }
}

/// Reads one Star at a time: a watch sends all of them to each new reader, which takes minutes for thousands.
async fn wait_ready(client: &Client, star_id: String) {
    let what = format!("{star_id} to receive work");
    eventually(&what, async || {
        let asked = client.stars().get_star(v1::GetStarRequest { star_id: star_id.clone() }).await;
        let star = asked.ok()?.into_inner().star?;
        is_ready(&star).then_some(())
    })
    .await;
}

fn cost(grid: &mut Grid) -> Cost {
    let coordinator = grid.coordinator();
    Cost { processor: coordinator.processor_time(), peak_mebibytes: coordinator.memory_peak_kib() / 1024 }
}
