//! The rolling scrub: reads the content of a vault again and again, within a byte rate, and reports damage to the
//! coordinator, which heals it.
//!
//! It is the scrub that an operator can request, at a slow rate: first the containers that were not checked for the
//! longest time, from the position of the last process on. It rests while others use the vault, and stops for a
//! requested scrub. Damage that it could not report, because no session was open, is reported after the next hello.
//! Damage that could not be healed is reported again when its container is checked again.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::upkeep::damaged_files;
use crate::core::Event;
use crate::packed::{PackedError, PackedStore, ScrubOptions, ScrubProgress};
use orbit_program::clock;

/// Maximum pause between two searches for containers that are due.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Minimum pause between two searches.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Between these limits, the number of searches in one check interval.
const LOOKS_PER_INTERVAL: u32 = 24;
/// Pause after it has given way to another scrub.
const GIVE_WAY_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(10 * 60);
/// Minimum time between two reports, since much damage is reported in parts.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Sentinel {
    store: Arc<PackedStore>,
    bytes_per_second: u64,
    interval: Duration,
}

/// Damage that one pass has found, and how much of it was reported.
#[derive(Default)]
struct Findings {
    found: Cell<u64>,
    told: Cell<u64>,
    told_at: Cell<Option<Instant>>,
}

impl Findings {
    fn may_tell(&self) -> bool {
        self.found.get() > self.told.get()
            && self.told_at.get().is_none_or(|at| at.elapsed() >= TELL_INTERVAL)
    }
}

impl Sentinel {
    /// Reads at most `bytes_per_second`, and each container once in `interval`.
    pub(crate) fn new(store: Arc<PackedStore>, bytes_per_second: u64, interval: Duration) -> Self {
        Self { store, bytes_per_second, interval }
    }

    /// Runs until it is stopped. It has released the vault then.
    pub(crate) async fn run(self, inbox: mpsc::Sender<Event>, stop: CancellationToken) {
        let sentinel = Arc::new(self);
        while !stop.is_cancelled() {
            let (this, inbox, stopping) = (Arc::clone(&sentinel), inbox.clone(), stop.clone());
            let pass = tokio::task::spawn_blocking(move || this.pass(&inbox, &|| stopping.is_cancelled()));
            let pause = match pass.await {
                Ok(Ok(())) => {
                    (sentinel.interval / LOOKS_PER_INTERVAL).clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX)
                }
                Ok(Err(PackedError::Cancelled)) => GIVE_WAY_PAUSE,
                Ok(Err(error)) => {
                    warn!("the vault's rolling check broke off; it goes on in {FAILURE_PAUSE:?}: {error}");
                    FAILURE_PAUSE
                }
                Err(error) => {
                    warn!(
                        "the vault's rolling check ended abnormally, which is a defect of this Star: {error}"
                    );
                    FAILURE_PAUSE
                }
            };
            // If it is stopped, only the rest of the pause is lost.
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// Checks every container that is due. Blocks.
    fn pass(&self, inbox: &mpsc::Sender<Event>, is_cancelled: &dyn Fn() -> bool) -> Result<(), PackedError> {
        if !self.store.is_scrub_due(self.interval)? {
            return Ok(());
        }
        let options = ScrubOptions {
            bytes_per_second: Some(self.bytes_per_second),
            unchecked_for: Some(self.interval),
            gives_way: true,
            ..ScrubOptions::default()
        };
        let findings = Findings::default();
        let progress = |so_far: &ScrubProgress| {
            findings.found.set(so_far.damaged_count);
            if findings.may_tell() {
                tell(inbox, &findings, String::new());
            }
        };
        let result = self.store.scrub(&options, &progress, is_cancelled);
        let problem = match &result {
            Ok(report) => {
                findings.found.set(report.damaged_chunks.len() as u64);
                info!("the vault's rolling check has read {} bytes", report.bytes_checked);
                damaged_files(report)
            }
            Err(PackedError::Cancelled) => String::new(),
            Err(error) => error.to_string(),
        };
        if findings.found.get() > findings.told.get() || !problem.is_empty() {
            tell(inbox, &findings, problem);
        }
        result.map(drop)
    }
}

fn tell(inbox: &mpsc::Sender<Event>, findings: &Findings, problem: String) {
    let chunks = findings.found.get();
    warn!("the vault's rolling check has found {chunks} damaged chunks; {problem}");
    findings.told.set(chunks);
    findings.told_at.set(Some(clock::now()));
    // If the inbox is gone, there is no receiver.
    let _ = inbox.blocking_send(Event::DamageFound { chunks, problem });
}

#[cfg(test)]
mod tests {
    use orbit_shared::chunk_hash::ChunkHash;
    use orbit_shared::entry::{Entry, EntryKind};
    use orbit_shared::time::WallTime;
    use orbit_shared::words::JobId;

    use super::*;
    use crate::packed::{ChunkRef, PackedConfig, StageId, TreeEntry};

    fn store(dir: &std::path::Path) -> Arc<PackedStore> {
        PackedStore::open(dir, PackedConfig { reserve_bytes: 0, ..PackedConfig::default() }).unwrap()
    }

    fn plant(store: &PackedStore) -> ChunkHash {
        let bytes = b"content ".repeat(1000);
        let hash = ChunkHash::of(&bytes);
        let stage = StageId { job: JobId(1), destination: 0 };
        store.put(stage, hash, &bytes).unwrap();
        let entry = Entry {
            path: b"f".to_vec(),
            kind: EntryKind::File { size: 8000 },
            mode: 0o644,
            modified: WallTime::UNIX_EPOCH,
            rank: 0,
        };
        store.commit(stage, &[TreeEntry { entry, chunks: vec![ChunkRef { hash, length: 8000 }] }]).unwrap();
        hash
    }

    #[tokio::test]
    async fn damage_is_reported_once_a_turn_and_nothing_is_read_before_the_next_turn() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let hash = plant(&store);
        let place = store.locate(&hash).unwrap().unwrap();
        let file = dir.path().join("containers").join(format!("{}.orbitpak", place.container_id));
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[place.offset as usize + 3] ^= 4;
        std::fs::write(&file, bytes).unwrap();
        let (sender, mut inbox) = mpsc::channel(4);
        let pass = |interval: Duration| {
            let (store, sender) = (Arc::clone(&store), sender.clone());
            let sentinel = Sentinel::new(store, u64::MAX, interval);
            tokio::task::spawn_blocking(move || sentinel.pass(&sender, &|| false))
        };
        pass(Duration::from_secs(3600)).await.unwrap().unwrap();
        let told = Event::DamageFound { chunks: 1, problem: String::new() };
        assert_eq!(inbox.try_recv().unwrap(), told);
        pass(Duration::from_secs(3600)).await.unwrap().unwrap();
        assert!(inbox.try_recv().is_err(), "its turn is in an hour");
        pass(Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(inbox.try_recv().unwrap(), told, "it was not healed");
    }

    #[tokio::test]
    async fn it_stops_when_it_is_cancelled_and_releases_the_vault() {
        let dir = tempfile::tempdir().unwrap();
        let held = store(dir.path());
        plant(&held);
        let (sender, _inbox) = mpsc::channel(4);
        let stop = CancellationToken::new();
        // One byte per second, so that it is in the middle of its pass.
        let sentinel = Sentinel::new(Arc::clone(&held), 1, Duration::ZERO);
        let running = tokio::spawn(sentinel.run(sender, stop.clone()));
        let other = ScrubOptions { gives_way: true, ..ScrubOptions::default() };
        while held.scrub(&other, &|_| {}, &|| false).is_ok() {
            // No event shows that it has begun, and it gives way to a check of its state, so the vault is left alone in
            // between.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.cancel();
        running.await.unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
