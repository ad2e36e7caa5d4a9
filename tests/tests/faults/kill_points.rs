//! Kills at successive system calls: the program dies when it is about to make its n-th write, sync, rename or removal,
//! so that after all runs it has died between any two steps of making data durable.

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::grid::Grid;
use orbit_tests::settled::{assert_nothing_held, assert_settled, patient};
use orbit_tests::strace::Strace;
use orbit_tests::tree::plant_files;

use super::SHORT_LEASE;

/// Environment variable with the number of points at which each program is killed.
const POINTS_VARIABLE: &str = "ORBIT_TEST_KILL_POINTS";
const POINTS: usize = 25;

/// The calls of a Star that change its files, and how often at most one of its threads makes them in a job, since
/// strace counts for each thread.
const STAR_CALLS: [(&str, usize); 7] = [
    ("fsync", 3),
    ("pwrite64", 12),
    ("renameat", 14),
    ("rename", 1),
    ("syncfs", 2),
    ("unlink,unlinkat", 1),
    ("mkdirat", 2),
];
/// The calls of the coordinator: its store and its log.
const COORDINATOR_CALLS: [(&str, usize); 2] = [("fdatasync,fsync", 12), ("pwrite64", 80)];

const STARS: [&str; 2] = ["star-1", "star-2"];

/// The first call of each kind, then the second of each, and so on.
fn points(kinds: &[(&'static str, usize)]) -> Vec<(&'static str, usize)> {
    let count =
        std::env::var(POINTS_VARIABLE).map_or(POINTS, |text| text.parse().expect("a number of points"));
    let most = kinds.iter().map(|(_, most)| *most).max().unwrap_or_default();
    let of_number =
        |number| kinds.iter().filter(move |(_, most)| number <= *most).map(move |(kind, _)| (*kind, number));
    (1..=most).flat_map(of_number).take(count).collect()
}

fn plant(grid: &Grid) {
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree.join("small"), 12, 3000, 1);
    plant_files(&tree.join("large"), 1, 3 << 20, 2);
    std::os::unix::fs::symlink("small", tree.join("link")).expect("a link can be made");
}

/// The same tree to a new place.
fn spec_to(grid: &Grid, place: &str) -> v1::JobSpec {
    let destinations = vec![grid.place("star-2", place)];
    v1::JobSpec { destinations, penalty: Some(patient()), ..grid.copy_spec("tree", "star-1", &[]) }
}

/// Creates a job and waits for its end, whichever process dies meanwhile.
async fn copy(client: &Client, spec: v1::JobSpec, place: &str) -> u64 {
    let job_id = client.create_surely(spec, place).await;
    client.wait_end(job_id).await;
    job_id
}

/// Prints the points that were not reached, and asserts that most were.
fn assert_died(unreached: &[String], points: usize) {
    #[expect(clippy::print_stdout, reason = "shown with --nocapture, to who widens the range")]
    {
        println!("{} of {points} points were not reached: {unreached:?}", unreached.len());
    }
    assert!(
        unreached.len() * 2 < points,
        "most points were not reached, so this proves little: {unreached:?}"
    );
}

#[tokio::test]
async fn a_star_killed_before_any_step_continues_where_it_was() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    plant(&grid);
    let points = points(&STAR_CALLS);
    let (mut jobs, mut unreached) = (Vec::new(), Vec::new());
    for (index, (calls, number)) in points.iter().enumerate() {
        grid.star("star-2").kill().await;
        let strace = Strace::injecting(calls, &format!("signal=KILL:when={number}"));
        grid.try_launch_star("star-2", strace.wrap(&grid.star_command("star-2"))).await;
        let place = format!("at-{index}");
        let copy = copy(&client, spec_to(&grid, &place), &place);
        tokio::pin!(copy);
        let ended = tokio::select! {
            job_id = &mut copy => Some(job_id),
            _ = grid.star("star-2").ended() => None,
        };
        jobs.push(match ended {
            Some(job_id) => {
                unreached.push(format!("{calls} {number}"));
                job_id
            }
            None => {
                grid.launch_star("star-2", grid.star_command("star-2")).await;
                copy.await
            }
        });
    }
    for job_id in jobs {
        assert_settled(&client, job_id).await;
    }
    assert_nothing_held(&grid, &client, &STARS).await;
    assert_died(&unreached, points.len());
}

#[tokio::test]
async fn a_coordinator_killed_before_any_step_continues_where_it_was() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    plant(&grid);
    let points = points(&COORDINATOR_CALLS);
    let (mut jobs, mut unreached) = (Vec::new(), Vec::new());
    for (index, (calls, number)) in points.iter().enumerate() {
        grid.coordinator().kill().await;
        let strace = Strace::injecting(calls, &format!("signal=KILL:when={number}"));
        grid.try_restart_coordinator(|command| strace.wrap(&command)).await;
        let place = format!("at-{index}");
        let copy = copy(&client, spec_to(&grid, &place), &place);
        tokio::pin!(copy);
        let ended = tokio::select! {
            job_id = &mut copy => Some(job_id),
            _ = grid.coordinator().ended() => None,
        };
        jobs.push(match ended {
            Some(job_id) => {
                unreached.push(format!("{calls} {number}"));
                job_id
            }
            None => {
                grid.restart_coordinator().await;
                copy.await
            }
        });
    }
    if !grid.coordinator().is_running() {
        grid.restart_coordinator().await;
    }
    for job_id in jobs {
        assert_settled(&client, job_id).await;
    }
    assert_nothing_held(&grid, &client, &STARS).await;
    assert_eq!(client.all_jobs().await.len(), points.len(), "a job was made twice");
    assert_died(&unreached, points.len());
}
