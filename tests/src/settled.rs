//! What must hold once a job has ended, whatever was done to the programs, the disks and the network meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use orbit_proto::v1;

use crate::client::Client;
use crate::deadline::eventually;
use crate::grid::Grid;
use crate::tree::differences;

/// Waits for the end of a job and asserts that it is complete: every item is counted once and reported once, the trees
/// are equal in names, bytes, modes and times, and nothing is left over.
pub async fn assert_settled(client: &Client, job_id: u64) -> v1::Job {
    let job = client.wait_end(job_id).await;
    if job.state() != v1::JobState::Completed {
        panic!("{job:#?}\n{:#?}", client.dead_letters_of(job_id).await);
    }
    let progress = job.progress.as_ref().expect("a job shows its progress");
    assert_eq!(progress.items_total, progress.items_stored + progress.items_skipped, "{progress:?}");
    let open = progress.items_penalized + progress.items_in_flight + progress.items_dead;
    assert_eq!(open, 0, "{progress:?}");
    assert_eq!(progress.bytes_stored, progress.bytes_total, "{progress:?}");

    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for (kind, count) in [
        (v1::ProvenanceType::FileCompleted, progress.items_stored),
        (v1::ProvenanceType::FileSkipped, progress.items_skipped),
    ] {
        let events = client.events_of(job_id, kind).await;
        assert_eq!(events.len() as u64, count, "job {job_id} tells another number of {kind:?}");
        for event in events {
            *ends.entry(event.item_key).or_default() += 1;
        }
    }
    let twice: Vec<_> = ends.iter().filter(|(_, count)| **count > 1).take(5).collect();
    assert!(twice.is_empty(), "job {job_id} tells the end of an item more than once: {twice:?}");

    let spec = job.spec.as_ref().expect("a job shows what was asked for");
    let source = spec.source.as_ref().expect("a job has a source");
    for destination in &spec.destinations {
        let found = differences(Path::new(&source.path), Path::new(&destination.path));
        assert!(found.is_empty(), "job {job_id} to {}:\n{}", destination.path, found.join("\n"));
    }
    job
}

/// Asserts that without jobs nothing is held: guards and journals are empty.
pub async fn assert_nothing_held(grid: &Grid, client: &Client, stars: &[&str]) {
    for star in stars {
        assert_holds_nothing(client, star, &grid.vault(star)).await;
    }
}

/// As [`assert_nothing_held`], for one Star with its vault.
pub async fn assert_holds_nothing(client: &Client, star: &str, vault: &Path) {
    eventually(&format!("the guard of {star} to be empty"), async || {
        let guard = client.guard(star).await;
        (guard.object_count == 0 && guard.byte_size == 0).then_some(())
    })
    .await;
    let journal = vault.join("assignments");
    eventually(&format!("{} to be empty", journal.display()), async || {
        let mut entries = std::fs::read_dir(&journal).expect("a vault has a journal");
        entries.next().is_none().then_some(())
    })
    .await;
}

/// Retries without limit, so that an outage of any length makes no dead letter, except if a test wants one.
pub fn patient() -> v1::PenaltyPolicy {
    let milliseconds = |count| Some(prost_types::Duration { seconds: 0, nanos: count * 1_000_000 });
    v1::PenaltyPolicy {
        initial_delay: milliseconds(200),
        max_delay: milliseconds(900),
        max_penalties: Some(10_000),
        ..v1::PenaltyPolicy::default()
    }
}
