//! An item that cannot be moved becomes a dead letter with a reason, the others are moved, and a repair completes the
//! job.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use orbit_proto::v1;
use orbit_tests::client::Client;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::tree::{differences, plant_files};

/// Three faults in the tree of star-1: the job that meets them, after its end.
struct Faulty {
    grid: Grid,
    client: Client,
    job: v1::Job,
}

/// Number of faults that can be repaired without changing the kind of an entry.
const MENDABLE: u64 = 2;

impl Faulty {
    async fn start() -> Self {
        Self::start_with(true).await
    }

    async fn start_with(has_fifo: bool) -> Self {
        let mut grid = Grid::start(&["star-2"]).await;
        // A Star that can read all files would not meet an unreadable one.
        grid.launch_star("star-1", grid.powerless_star_command("star-1")).await;
        let client = grid.client();
        client.wait_star("star-1", "receives work", is_ready).await;
        let tree = grid.root("star-1").join("tree");
        plant_files(&tree, 20, 5000, 3);
        std::fs::write(tree.join("gone"), "here when it was listed").expect("a file can be written");
        std::fs::write(tree.join("secret"), "not to be read").expect("a file can be written");
        std::fs::set_permissions(tree.join("secret"), Permissions::from_mode(0o000))
            .expect("a mode can be set");
        if has_fifo {
            make_fifo(&tree.join("fifo"));
        }

        client.pause_guard("star-2", "until the tree is listed").await;
        let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
        client.wait_job(job_id, "listed", |job| job.state() == v1::JobState::Running).await;
        std::fs::remove_file(tree.join("gone")).expect("a file can be removed");
        client.resume_guard("star-2").await;
        let job = client.wait_end(job_id).await;
        Self { grid, client, job }
    }
}

fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO can be made");
}

#[tokio::test]
async fn three_faults_make_three_typed_dead_letters_and_the_rest_arrives() {
    let Faulty { grid, client, job } = Faulty::start().await;
    assert_eq!(job.state(), v1::JobState::PartiallyCompleted, "{job:#?}");
    let progress = job.progress.expect("a job shows its progress");
    assert_eq!(progress.items_dead, 3, "{progress:?}");
    assert_eq!(progress.items_total, progress.items_stored + progress.items_skipped + 3, "{progress:?}");

    let letters = client.dead_letters_of(job.job_id).await;
    assert_eq!(letters.len(), 3, "{letters:#?}");
    for (name, reason, error) in [
        ("gone", v1::FailureReason::SourceMissing, ""),
        ("secret", v1::FailureReason::PermanentError, "denied"),
        ("fifo", v1::FailureReason::PermanentError, "FIFO"),
    ] {
        let of_name = |letter: &&v1::DeadLetter| letter.source_path.ends_with(&format!("/tree/{name}"));
        let letter = letters.iter().find(of_name).unwrap_or_else(|| panic!("no {name} in {letters:#?}"));
        assert_eq!(letter.failure_reason(), reason, "{letter:#?}");
        assert!(letter.last_error.contains(error), "{letter:#?}");
        assert!(letter.source_path.starts_with("star-1:/"), "{letter:#?}");
        assert!(letter.dest_path.starts_with("star-2:/") && letter.dest_path.ends_with(name), "{letter:#?}");
        assert!(letter.attempts >= 1 && letter.last_fail_time.is_some(), "{letter:#?}");
    }
    let all = v1::ListBulletinsRequest { job_id: Some(job.job_id), ..v1::ListBulletinsRequest::default() };
    let bulletins = client.bulletins_like(all).await;
    for name in ["gone", "secret", "fifo"] {
        let about = bulletins.iter().filter(|bulletin| bulletin.message.contains(name));
        assert_eq!(about.count(), 1, "{name}: {bulletins:#?}");
    }

    let (from, to) = (grid.root("star-1").join("tree"), grid.root("star-2").join("tree"));
    std::fs::remove_file(from.join("secret")).expect("a file can be removed");
    std::fs::remove_file(from.join("fifo")).expect("a FIFO can be removed");
    let found: Vec<String> =
        differences(&from, &to).into_iter().filter(|line| !line.starts_with(':')).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_retry_after_the_repair_completes_the_job() {
    let faulty = Faulty::start_with(false).await;
    mend_files(&faulty);
    assert_retry_completes(&faulty, MENDABLE).await;
}

#[tokio::test]
async fn a_retry_completes_although_the_entry_became_a_file() {
    let faulty = Faulty::start().await;
    mend_files(&faulty);
    let fifo = faulty.grid.root("star-1").join("tree/fifo");
    std::fs::remove_file(&fifo).expect("a FIFO can be removed");
    std::fs::write(&fifo, "a regular file now").expect("a file can be written");
    assert_retry_completes(&faulty, MENDABLE + 1).await;
}

fn mend_files(faulty: &Faulty) {
    let tree = faulty.grid.root("star-1").join("tree");
    std::fs::write(tree.join("gone"), "back, and longer than it was when it was listed")
        .expect("a file can be written");
    std::fs::set_permissions(tree.join("secret"), Permissions::from_mode(0o644)).expect("a mode can be set");
}

async fn assert_retry_completes(faulty: &Faulty, count: u64) {
    let Faulty { grid, client, job } = faulty;
    let request =
        v1::RetryDeadLettersRequest { job_id: Some(job.job_id), ..v1::RetryDeadLettersRequest::default() };
    let retried =
        client.dead_letters().retry_dead_letters(request).await.expect("dead letters can be retried");
    assert_eq!(retried.into_inner().retried_count, count);
    let ended = client.wait_end(job.job_id).await;
    let left = client.dead_letters_of(job.job_id).await;
    assert_eq!(ended.state(), v1::JobState::Completed, "{}\n{left:#?}", ended.state_reason);
    let progress = ended.progress.expect("a job shows its progress");
    assert_eq!(
        (progress.items_dead, progress.items_total),
        (0, progress.items_stored + progress.items_skipped)
    );
    assert!(left.is_empty(), "{left:#?}");
    let (from, to) = (grid.root("star-1").join("tree"), grid.root("star-2").join("tree"));
    // The directory's own time changed with the repair, after it was listed.
    let found: Vec<String> =
        differences(&from, &to).into_iter().filter(|line| !line.starts_with(':')).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_retry_of_one_reason_leaves_the_others() {
    let Faulty { grid, client, job } = Faulty::start().await;
    std::fs::write(grid.root("star-1").join("tree/gone"), "back").expect("a file can be written");
    let mut request =
        v1::RetryDeadLettersRequest { job_id: Some(job.job_id), ..v1::RetryDeadLettersRequest::default() };
    request.set_failure_reason(v1::FailureReason::SourceMissing);
    let retried =
        client.dead_letters().retry_dead_letters(request).await.expect("dead letters can be retried");
    assert_eq!(retried.into_inner().retried_count, 1);
    let ended = client.wait_end(job.job_id).await;
    assert_eq!(ended.state(), v1::JobState::PartiallyCompleted, "{ended:#?}");
    assert_eq!(client.dead_letters_of(job.job_id).await.len(), 2);
}
