//! Large files that are interrupted continue from what is durable, and no part of them stays for ever.
#![allow(clippy::unwrap_used, reason = "this is test code, also outside of test functions")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use orbit_shared::session::{Assignment, ItemResult};
use orbit_shared::words::{ItemId, JobId};
use orbit_star::limits::{CHECKPOINT_BYTES, UNRECORDED_BYTES_MAX};
use support::{JOB, Pair, noise, roots, scan, temporaries, transferred};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SIZE: usize = 200 << 20;
/// The directory itself is the first item that a scan finds, the file the second.
const ITEM: ItemId = ItemId { job: JOB, destination: 0, sequence: 1 };

/// A copy of one large file that was cut off after its first checkpoint.
async fn cut_off() -> (Pair, Assignment) {
    let pair = Pair::new().await;
    std::fs::write(pair.from().join("large"), noise(SIZE, 1)).unwrap();
    let entries = scan(roots(&pair.from(), true), &pair.from()).await.0;
    assert_eq!(entries[1].path, b"large");
    let assignment = pair.assignment(&pair.from(), &pair.to(), entries);
    let (outcomes, mut received) = mpsc::channel(16);
    let (progress, cancel) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let (sink, stop, whole) = (Arc::clone(&pair.sink), cancel.clone(), assignment.clone());
    let task = tokio::spawn(async move { sink.execute(whole, outcomes, progress, cancel).await });
    while !pair.checkpoints.has(ITEM) {
        assert!(!task.is_finished(), "the file is too small to be cut off");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
    while received.recv().await.is_some() {}
    assert!(!pair.to().join("large").exists(), "cut off in the middle");
    assert_eq!(temporaries(&pair.to()).len(), 1);
    (pair, assignment)
}

fn assert_whole(pair: &Pair) {
    let (from, to) = (pair.from().join("large"), pair.to().join("large"));
    assert!(std::fs::read(from).unwrap() == std::fs::read(to).unwrap(), "the bytes differ");
    assert!(temporaries(&pair.to()).is_empty() && !pair.checkpoints.has(ITEM));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_continues_from_its_last_checkpoint() {
    let (pair, assignment) = cut_off().await;
    let synced: u64 =
        pair.checkpoints.load(ITEM).unwrap().synced.iter().map(|(start, end)| end - start).sum();
    assert!(synced >= CHECKPOINT_BYTES, "{synced}");
    let sent_before = pair.source_meters.bytes_moved();
    // As a new process does, before it connects.
    pair.sink.clean_temporaries(&assignment);
    let results = pair.execute(assignment).await;
    let result = &results[&b"large"[..]];
    let ItemResult::Stored { size, bytes_deduplicated, .. } = result else { panic!("{result:?}") };
    assert_eq!(transferred(result) + bytes_deduplicated, *size);
    // Something is always requested, even of a file that is complete.
    assert!(transferred(result) <= SIZE as u64 - synced + (1 << 20), "{result:?}, {synced} were synced");
    assert!(pair.source_meters.bytes_moved() - sent_before <= SIZE as u64 - synced + (1 << 20));
    assert!(SIZE as u64 > UNRECORDED_BYTES_MAX, "the file has more than one checkpoint");
    assert_whole(&pair);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_begins_again() {
    let (pair, _) = cut_off().await;
    std::fs::write(pair.from().join("large"), noise(SIZE, 2)).unwrap();
    let results = pair.copy(&pair.from(), &pair.to()).await;
    assert_eq!(transferred(&results[&b"large"[..]]), SIZE as u64);
    assert_whole(&pair);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_only_the_source_can_distinguish_begins_again_at_once() {
    let (pair, assignment) = cut_off().await;
    // Only the ctime shows the difference.
    std::fs::set_permissions(pair.from().join("large"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let results = pair.execute(assignment).await;
    assert_eq!(transferred(&results[&b"large"[..]]), SIZE as u64);
    assert!(matches!(results[&b"large"[..]], ItemResult::Stored { is_changed: false, .. }), "{results:?}");
    assert_whole(&pair);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_that_was_replaced_is_not_trusted() {
    let (pair, assignment) = cut_off().await;
    let temporary = pair.to().join(&temporaries(&pair.to())[0]);
    // The old one is kept under another name, so that its inode is not reused.
    std::fs::rename(&temporary, pair.destination.path().join("elsewhere")).unwrap();
    std::fs::write(&temporary, vec![0; SIZE]).unwrap();
    let results = pair.execute(assignment).await;
    assert_eq!(transferred(&results[&b"large"[..]]), SIZE as u64);
    assert_whole(&pair);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_job_removes_what_is_kept_of_its_files() {
    let (pair, _) = cut_off().await;
    pair.sink.clean_checkpoints(None);
    pair.sink.clean_checkpoints(Some(JobId(JOB.0 + 1)));
    assert_eq!(temporaries(&pair.to()).len(), 1, "another job's end, and one look, change nothing");
    pair.sink.clean_checkpoints(Some(JOB));
    assert!(temporaries(&pair.to()).is_empty() && !pair.checkpoints.has(ITEM));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_job_has_used_for_long_is_removed() {
    let (pair, _) = cut_off().await;
    let record = std::fs::read_dir(pair.vault.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::File::options().write(true).open(record).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    pair.sink.clean_checkpoints(None);
    assert!(temporaries(&pair.to()).is_empty() && !pair.checkpoints.has(ITEM));
}
