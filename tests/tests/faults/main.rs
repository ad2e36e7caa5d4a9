//! The proof of reliability: whatever is killed, frozen, cut off or filled up, every job completes, and nothing is left
//! over.
//!
//! Real programs, and faults from outside only. Needs root, strace, iproute2 and iptables; without them it fails.

mod disk_errors;
mod durability;
mod file_size_limit;
mod freezes;
mod full_disk;
mod identity_full_disk;
mod kill_points;
mod kills;
mod lost_store;
mod partitions;
mod resume;
mod vault_full_disk;
mod vault_jobs;
mod vault_kills;

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::strace::Strace;
use orbit_tests::tree::plant_files;

/// A lease that is short enough for a test.
const SHORT_LEASE: [&str; 4] = ["--lease", "3s", "--heartbeat-interval", "500ms"];

/// A job from star-1 to star-2 in its middle: some items are stored, most are not, some are in flight.
async fn job_in_its_middle(grid: &Grid, client: &Client) -> u64 {
    plant_files(&grid.root("star-1").join("tree"), 200, 50_000, 9);
    client.limit_guard("star-2", 8).await;
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    // Eight seconds, so that it is still running when a fault is injected.
    spec.max_bytes_per_second = 5 << 18;
    let job_id = client.create(spec).await;
    client.wait_job(job_id, "in its middle", |job| stored(job) > 4).await;
    job_id
}

/// Restarts star-2 with slow writes, so that copying a large file takes time on any machine.
async fn slow_down_destination(grid: &mut Grid) {
    grid.star("star-2").kill().await;
    let strace = Strace::injecting("pwrite64", "delay_enter=40000");
    grid.launch_star("star-2", strace.wrap(&grid.star_command("star-2"))).await;
    grid.client().wait_star("star-2", "receives work", is_ready).await;
}

fn stored(job: &v1::Job) -> u64 {
    job.progress.as_ref().expect("a job shows its progress").items_stored
}
