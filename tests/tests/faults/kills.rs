//! Kills at random times: every few hundred milliseconds one process of the grid is killed and restarted, while job
//! follows job.

use std::time::Duration;

use orbit_tests::client::Client;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::random::Random;
use orbit_tests::settled::{assert_nothing_held, assert_settled, patient};
use orbit_tests::tree::plant_files;

use super::SHORT_LEASE;

/// Environment variable with the number of kills.
const KILLS_VARIABLE: &str = "ORBIT_TEST_KILLS";
const KILLS: u64 = 100;
/// Maximum time between a start and the next kill; the job must make progress in between.
const MOMENT_MAX_MS: u64 = 800;

const STARS: [&str; 3] = ["star-1", "star-2", "star-3"];

fn kill_count() -> u64 {
    std::env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().expect("a number of kills"))
}

/// Many small files and two that need several messages, from one Star to one or both others, slow enough to be
/// interrupted.
async fn start_job(grid: &Grid, client: &Client, random: &mut Random, number: usize) -> u64 {
    let first = random.below(3) as usize;
    let source = STARS[first];
    let destinations: Vec<&str> =
        (1..=1 + random.below(2) as usize).map(|n| STARS[(first + n) % 3]).collect();
    let tree = format!("tree-{number}");
    let root = grid.root(source).join(&tree);
    plant_files(&root.join("small"), 200, 3000, random.number());
    plant_files(&root.join("large"), 2, 3 << 20, random.number());
    let mut spec = grid.copy_spec(&tree, source, &destinations);
    spec.max_bytes_per_second = 3 << 20;
    spec.penalty = Some(patient());
    client.create_surely(spec, &tree).await
}

/// Environment variable with the number of files in a storm of kills, and of the kills.
const STORM_VARIABLE: &str = "ORBIT_TEST_STORM";
/// Maximum size of a file, in bytes; half of it on average.
const FILE_BYTES: usize = 3000;

struct Storm {
    files: usize,
    kills: u64,
    /// Between kills, in milliseconds.
    pause_ms: u64,
    /// 0 for no limit.
    max_bytes_per_second: u64,
}

impl Storm {
    /// The long form is paced, so that its job lasts longer than the kills do, however fast the disk is.
    fn wanted() -> Self {
        let Ok(text) = std::env::var(STORM_VARIABLE) else {
            return Self { files: 8_000, kills: 8, pause_ms: 150, max_bytes_per_second: 0 };
        };
        let (files, kills) = text.split_once('x').expect("files and kills, as 60000x20");
        let (files, kills): (usize, u64) =
            (files.parse().expect("a number of files"), kills.parse().expect("a number of kills"));
        let bytes = (files * FILE_BYTES / 2 * 2) as u64;
        Self { files, kills, pause_ms: 1000, max_bytes_per_second: bytes / (2 * kills) }
    }
}

/// Items that processes held when they were killed are not given up, and are stored like all others.
async fn assert_no_innocent_given_up(client: &Client, job_id: u64) {
    let job = client.wait_end(job_id).await;
    let letters = client.dead_letters_of(job_id).await;
    assert!(letters.is_empty(), "{job:#?}\n{letters:#?}");
}

#[tokio::test]
async fn processes_killed_at_random_lose_nothing_and_repeat_nothing() {
    let mut random = Random::announced("kills at random");
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    let mut jobs = Vec::new();
    let mut kills = [0; STARS.len() + 1];
    for _ in 0..kill_count() {
        let is_over = match jobs.last() {
            Some(&job_id) => client.has_ended(job_id).await,
            None => true,
        };
        if is_over {
            jobs.push(start_job(&grid, &client, &mut random, jobs.len()).await);
        }
        tokio::time::sleep(Duration::from_millis(random.below(MOMENT_MAX_MS))).await;
        let victim = random.below(kills.len() as u64) as usize;
        kills[victim] += 1;
        match STARS.get(victim) {
            Some(star) => {
                grid.star(star).kill().await;
                grid.launch_star(star, grid.star_command(star)).await;
            }
            None => {
                grid.coordinator().kill().await;
                grid.restart_coordinator().await;
            }
        }
    }
    for star in STARS {
        client.wait_star(star, "receives work", is_ready).await;
    }
    for &job_id in &jobs {
        assert_no_innocent_given_up(&client, job_id).await;
        assert_settled(&client, job_id).await;
    }
    assert_nothing_held(&grid, &client, &STARS).await;
    assert_eq!(client.all_jobs().await.len(), jobs.len(), "a job was made twice");
    println!("{} jobs survived {kills:?} kills of {STARS:?} and the coordinator", jobs.len());
}

/// One job of many small files while a random Star dies again and again. `ORBIT_TEST_STORM=60000x20` is the long form.
#[tokio::test]
async fn a_storm_of_kills_makes_no_dead_letter() {
    let Storm { files, kills, pause_ms, max_bytes_per_second } = Storm::wanted();
    let mut random = Random::announced("storm of kills");
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), files, FILE_BYTES, 11);
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2", "star-3"]);
    spec.penalty = Some(patient());
    spec.max_bytes_per_second = max_bytes_per_second.cast_signed();
    let job_id = client.create(spec).await;
    let stored = async || client.job(job_id).await.progress.unwrap_or_default().items_stored;
    let mut rates = Vec::new();
    for _ in 0..kills {
        let before = stored().await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        rates.push(stored().await.saturating_sub(before));
        let star = STARS[random.below(3) as usize];
        grid.star(star).kill().await;
        grid.launch_star(star, grid.star_command(star)).await;
    }
    let mut after = Vec::new();
    while !client.has_ended(job_id).await {
        let before = stored().await;
        tokio::time::sleep(Duration::from_millis(1000)).await;
        after.push(stored().await.saturating_sub(before));
    }
    assert_no_innocent_given_up(&client, job_id).await;
    assert_settled(&client, job_id).await;
    println!(
        "items in {pause_ms} ms while Stars were killed: {rates:?}; items a second afterwards: {after:?}"
    );
}
