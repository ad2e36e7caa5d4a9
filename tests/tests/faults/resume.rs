//! A destination that dies in the middle of a large file continues from what was durable: little is sent again.

use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::settled::{assert_nothing_held, assert_settled, patient};
use orbit_tests::strace::Strace;
use rustix::process::Signal;

use super::{SHORT_LEASE, slow_down_destination};

const STARS: [&str; 2] = ["star-1", "star-2"];
const MIB: u64 = 1 << 20;
/// Size of the file in bytes. It has holes, which are made quickly and moved like other content.
const LARGE_BYTES: u64 = 320 * MIB;
/// Maximum number of bytes of one file that may be sent again.
const AGAIN_BYTES_MAX: u64 = 64 * MIB;
/// Maximum number of bytes in flight: received and not written, in the window of the stream and with the writers.
const IN_FLIGHT_BYTES_MAX: u64 = 24 * MIB;

/// Bytes in the only temporary below a directory, without holes.
fn written(directory: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let mut temporaries =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".orbit-tmp"));
    Some(temporaries.next()?.metadata().ok()?.blocks() * 512)
}

fn spec(grid: &Grid) -> orbit_proto::v1::JobSpec {
    let tree = grid.root("star-1").join("tree");
    std::fs::create_dir_all(&tree).expect("a directory can be made");
    let file = std::fs::File::create(tree.join("large")).expect("a file can be made");
    file.set_len(LARGE_BYTES).expect("a file can be made longer");
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    spec.penalty = Some(patient());
    spec
}

#[tokio::test]
async fn a_destination_killed_in_a_large_file_fetches_only_what_was_not_durable() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    slow_down_destination(&mut grid).await;
    let job_id = client.create(spec(&grid)).await;
    let place = grid.root("star-2").join("tree");
    eventually("more than half of the file to be there", async || {
        written(&place).filter(|&bytes| bytes > LARGE_BYTES / 2)
    })
    .await;
    grid.star("star-2").kill().await;
    let before = written(&place).expect("it was killed in the middle");
    grid.add_star("star-2").await;
    let job = assert_settled(&client, job_id).await;
    let progress = job.progress.expect("a job shows its progress");
    let again = (progress.bytes_transferred + before).saturating_sub(LARGE_BYTES);
    println!("{} MiB were there, {} MiB were sent again", before / MIB, again / MIB);
    assert!(again <= AGAIN_BYTES_MAX + IN_FLIGHT_BYTES_MAX, "{before} bytes were there, {progress:?}");
    assert_nothing_held(&grid, &client, &STARS).await;
}

/// Killed at checkpoints: in the sync of the content, and in the write of the record.
#[tokio::test]
async fn a_destination_killed_in_a_checkpoint_ends_with_the_same_file() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    for (index, (calls, number)) in
        [("fdatasync", 1), ("fdatasync", 2), ("rename", 2), ("rename", 3)].into_iter().enumerate()
    {
        grid.star("star-2").kill().await;
        let strace = Strace::injecting(calls, &format!("signal=KILL:when={number}"));
        grid.try_launch_star("star-2", strace.wrap(&grid.star_command("star-2"))).await;
        let mut spec = spec(&grid);
        spec.destinations = vec![grid.place("star-2", &format!("at-{index}"))];
        let job_id = client.create(spec).await;
        tokio::select! {
            _ = client.wait_end(job_id) => {}
            _ = grid.star("star-2").ended() => grid.launch_star("star-2", grid.star_command("star-2")).await,
        }
        assert_settled(&client, job_id).await;
    }
    assert_nothing_held(&grid, &client, &STARS).await;
}

#[tokio::test]
async fn a_cancelled_job_leaves_nothing_of_a_large_file() {
    let mut grid = Grid::start_with(&STARS, &SHORT_LEASE).await;
    let client = grid.client();
    slow_down_destination(&mut grid).await;
    let job_id = client.create(spec(&grid)).await;
    let place = grid.root("star-2").join("tree");
    let checkpoints = grid.vault("star-2").join("checkpoints");
    let count = || std::fs::read_dir(&checkpoints).map_or(0, Iterator::count);
    eventually("a checkpoint", async || (count() > 0).then_some(())).await;
    // Stopped, so that the file is not completed meanwhile.
    grid.star("star-1").signal(Signal::STOP);
    let request = orbit_proto::v1::CancelJobRequest { job_id, ..Default::default() };
    client.jobs().cancel_job(request).await.expect("a job can be cancelled");
    eventually("nothing to be left", async || (count() == 0 && written(&place).is_none()).then_some(()))
        .await;
    grid.star("star-1").signal(Signal::CONT);
    client.wait_star("star-1", "is back", is_ready).await;
    assert_nothing_held(&grid, &client, &STARS).await;
}
