//! A Star that may not write large files (`ulimit -f`): only a file that is too large fails, with the system's error,
//! and the agent lives.

use orbit_proto::v1;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::tree::plant_files;
use tokio::process::Command;

use super::SHORT_LEASE;

/// Maximum size of a file that the Star may write, in bytes.
const LIMIT_BYTES: usize = 8 << 20;

fn limited(command: &Command) -> Command {
    let command = command.as_std();
    let mut limited = Command::new("prlimit");
    limited
        .arg(format!("--fsize={LIMIT_BYTES}"))
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    limited
}

#[tokio::test]
async fn a_file_that_is_too_large_for_a_star_fails_alone_and_in_a_vault_it_is_stored() {
    let mut grid = Grid::start_with(&["star-1"], &SHORT_LEASE).await;
    grid.launch_star("star-2", limited(&grid.star_command("star-2"))).await;
    let client = grid.client();
    client.wait_star("star-2", "receives work", is_ready).await;
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree.join("small"), 20, 30_000, 31);
    plant_files(&tree.join("large"), 1, 2 * LIMIT_BYTES, 32);
    let impatient = || Some(v1::PenaltyPolicy { max_penalties: Some(1), ..v1::PenaltyPolicy::default() });

    let spec = v1::JobSpec { penalty: impatient(), ..grid.copy_spec("tree", "star-1", &["star-2"]) };
    let job_id = client.create(spec).await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::PartiallyCompleted, "{job:#?}");
    let letters = client.dead_letters_of(job_id).await;
    let [letter] = &letters[..] else { panic!("{letters:#?}") };
    assert!(letter.source_path.contains("large"), "{letter:#?}");
    assert!(letter.last_error.contains("File too large"), "{letter:#?}");

    // The containers of a vault are smaller than the limit, so everything fits.
    let spec = v1::JobSpec { penalty: impatient(), ..grid.packed_spec("tree", "star-1", &["star-2"]) };
    let packed = client.create(spec).await;
    let job = client.wait_end(packed).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let request = v1::RestoreSnapshotRequest {
        snapshot_id: job.snapshot_ids[0].clone(),
        destination: Some(grid.place("star-1", "back")),
        ..v1::RestoreSnapshotRequest::default()
    };
    assert_eq!(client.restore(request).await.state(), v1::JobState::Completed);
    let deaths = v1::ListBulletinsRequest { category: "poison".to_owned(), ..Default::default() };
    assert!(client.bulletins_like(deaths).await.is_empty(), "the agent died");
}
