//! Backpressure: a Star never gets more than its guard admits, and nothing while it is paused.

use orbit_proto::v1;
use orbit_tests::grid::Grid;
use orbit_tests::tree::{differences, plant_files};

#[tokio::test]
async fn a_star_never_holds_more_than_its_guard_admits() {
    const LIMIT: u64 = 3;
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 300, 20_000, 5);
    client.limit_guard("star-2", LIMIT as i64).await;
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    let sampling = async {
        let (mut samples, mut highest) = (0_u32, 0);
        loop {
            let guard = client.guard("star-2").await;
            assert_eq!(guard.max_object_count, LIMIT);
            assert!(guard.object_count <= LIMIT, "{guard:?}");
            (samples, highest) = (samples + 1, highest.max(guard.object_count));
            if client.job(job_id).await.end_time.is_some() {
                return (samples, highest);
            }
        }
    };
    let (samples, highest) = orbit_tests::deadline::within("a throttled job to end", sampling).await;
    assert!(samples > 10 && highest > 0, "{samples} samples, {highest} at most");
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(client.guard("star-2").await.object_count, 0, "what is held is given back");
}

#[tokio::test]
async fn a_paused_guard_stops_dispatch_until_it_is_resumed() {
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 50, 1000, 6);
    client.pause_guard("star-2", "maintenance window").await;
    let guard = client.guard("star-2").await;
    assert!(
        guard.is_paused && !guard.is_accepting && guard.pause_reason.contains("maintenance window"),
        "{guard:?}"
    );

    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2", "star-3"])).await;
    let half = client
        .wait_job(job_id, "done but for star-2", |job| {
            let progress = job.progress.as_ref().expect("a job shows its progress");
            job.state() == v1::JobState::Running && progress.items_stored * 2 == progress.items_total
        })
        .await;
    assert!(
        half.state_reason.contains("star-2") && half.state_reason.contains("maintenance window"),
        "{half:#?}"
    );
    assert_eq!(client.guard("star-2").await.object_count, 0);
    assert!(!grid.root("star-2").join("tree").exists(), "nothing was dispatched to star-2");

    client.resume_guard("star-2").await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Concurrently with a file that is larger than the guard, with several such jobs, and from another source.
#[tokio::test]
async fn small_files_arrive_while_large_ones_are_in_flight() {
    const LARGE_BYTES: u64 = 2 << 30;
    let grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let client = grid.client();
    let plant = |star: &str, name: &str| {
        let directory = grid.root(star).join(name);
        std::fs::create_dir_all(&directory).expect("a root is writable");
        // Its holes are moved like other content.
        let file = std::fs::File::create(directory.join("image")).expect("a root is writable");
        file.set_len(LARGE_BYTES).expect("a file can be made longer");
    };
    let mut large = Vec::new();
    for number in 0..3 {
        let name = format!("large-{number}");
        plant("star-1", &name);
        large.push(client.create(grid.copy_spec(&name, "star-1", &["star-2"])).await);
        client
            .wait_job(large[0], "moving", |job| {
                job.progress.as_ref().is_some_and(|progress| progress.items_in_flight > 0)
            })
            .await;
        for source in ["star-1", "star-3"] {
            let name = format!("small-{number}-{source}");
            plant_files(&grid.root(source).join(&name), 3, 1000, 7);
            let small = client.create(grid.copy_spec(&name, source, &["star-2"])).await;
            let job = client.wait_end(small).await;
            assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
            for id in &large {
                let job = client.job(*id).await;
                assert!(job.end_time.is_none(), "a large file was there before three small ones: {job:#?}");
            }
        }
    }
    for id in large {
        let request = v1::CancelJobRequest { job_id: id, ..v1::CancelJobRequest::default() };
        client.jobs().cancel_job(request).await.expect("a job can be cancelled");
    }
}

/// A single file cannot exceed its job's rate: at any time no more was sent than the rate allows.
#[tokio::test]
async fn one_large_file_keeps_to_the_bandwidth_limit_of_its_job() {
    const RATE: u64 = 4 << 20;
    const FILE_BYTES: u64 = 16 << 20;
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    plant_files(&grid.root("star-1").join("tree"), 1, FILE_BYTES as usize, 5);
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    spec.max_bytes_per_second = RATE as i64;
    let began = tokio::time::Instant::now();
    let job_id = client.create(spec).await;
    let job = client.wait_end(job_id).await;
    // It must not be faster on any machine; how much slower it is does not matter.
    let least = std::time::Duration::from_millis(FILE_BYTES * 1000 / RATE * 9 / 10);
    assert!(began.elapsed() >= least, "{:?} for {FILE_BYTES} bytes at {RATE} a second", began.elapsed());
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let found = differences(&grid.root("star-1").join("tree"), &grid.root("star-2").join("tree"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
