//! Collects garbage without being asked while the disk of the vault has less space than it should have.
//!
//! It is the collection that an operator can request, and as there content that could still be undeleted is collected
//! early, oldest first, and no more of it than is needed. What it freed is a message for the operator.

use std::sync::Arc;
use std::time::Duration;

use orbit_program::clock;
use orbit_shared::bulletin::Severity;
use orbit_shared::session::Notice;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::core::Event;
use crate::packed::{CollectOptions, CollectReport, PackedError, PackedStore};

/// Pause between two looks at the free space.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after a collection that has freed something.
const FREED_PAUSE: Duration = Duration::from_secs(30);
/// Pause after a collection that has freed nothing, unless there is new garbage: it reads the whole index.
const FUTILE_PAUSE: Duration = Duration::from_secs(60 * 60);
/// A container is rewritten when at least this percentage of it is garbage. Space counts more than the work then.
const GARBAGE_PERCENT_MIN: u8 = 5;

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Arc<PackedStore>,
}

impl Keeper {
    /// Keeps space free on the disk of this vault.
    pub(crate) fn new(store: Arc<PackedStore>) -> Self {
        Self { store }
    }

    /// Runs until it is stopped. It has released the vault then.
    pub(crate) async fn run(self, inbox: mpsc::Sender<Event>, stop: CancellationToken) {
        let mut futile: Option<Futile> = None;
        while !stop.is_cancelled() {
            let deletions = self.store.deletions();
            let is_worth_it = futile.as_ref().is_none_or(|futile| futile.is_over(deletions));
            let (store, stopping) = (Arc::clone(&self.store), stop.clone());
            let pass = tokio::task::spawn_blocking(move || match store.missing_space() {
                Some(lack) if is_worth_it => Pass::Ended(collect(&store, lack, &|| stopping.is_cancelled())),
                Some(_) => Pass::Waits,
                None => Pass::NotNeeded,
            });
            let said = match pass.await {
                Ok(Pass::NotNeeded) => {
                    futile = None;
                    None
                }
                Ok(Pass::Waits) => None,
                Ok(Pass::Ended(Ok(freed))) if freed.bytes > 0 => {
                    futile = None;
                    Some((Severity::Info, freed.text))
                }
                Ok(Pass::Ended(Err(PackedError::Cancelled))) => None,
                Ok(Pass::Ended(ended)) => {
                    let text = ended.map_or_else(|error| error.to_string(), |nothing| nothing.text);
                    let last = futile.replace(Futile { since: clock::now(), deletions, text: text.clone() });
                    let is_told = last.is_some_and(|last| last.text == text);
                    (!is_told).then_some((Severity::Warning, text))
                }
                Err(error) => {
                    warn!("a collection ended abnormally, which is a defect of this Star: {error}");
                    futile = Some(Futile { since: clock::now(), deletions, text: String::new() });
                    None
                }
            };
            let has_freed = said.as_ref().is_some_and(|(severity, _)| *severity == Severity::Info);
            if let Some((severity, text)) = said {
                info!("{text}");
                let notice = Notice { severity, category: "vault".to_owned(), text };
                // If the inbox is gone, there is no receiver.
                let _ = inbox.send(Event::Noticed(notice)).await;
            }
            let pause = if has_freed { FREED_PAUSE } else { LOOK_INTERVAL };
            // If it is stopped, only the rest of the pause is lost.
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }
}

/// The last collection has freed nothing.
struct Futile {
    since: Instant,
    /// What had made garbage until then.
    deletions: u64,
    /// What was said of it.
    text: String,
}

impl Futile {
    fn is_over(&self, deletions: u64) -> bool {
        deletions != self.deletions || self.since.elapsed() >= FUTILE_PAUSE
    }
}

/// One look at the free space.
enum Pass {
    /// There is enough.
    NotNeeded,
    /// There is too little, and nothing to collect.
    Waits,
    Ended(Result<Freed, PackedError>),
}

/// What a collection has freed.
struct Freed {
    bytes: u64,
    text: String,
}

/// Collects because the disk has only some bytes free and should have more. Blocks.
fn collect(
    store: &PackedStore,
    (before, min): (u64, u64),
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Freed, PackedError> {
    let options = CollectOptions {
        free_bytes_min: Some(min),
        garbage_percent_min: GARBAGE_PERCENT_MIN,
        ..CollectOptions::default()
    };
    let report = store.collect(&options, &|_| {}, is_cancelled)?;
    Ok(Freed { bytes: report.bytes_freed, text: describe(&report, before, min) })
}

fn describe(report: &CollectReport, before: u64, min: u64) -> String {
    let lack = format!("vault: its disk had {before} bytes free, fewer than {min} (--free-bytes-min)");
    if report.bytes_freed == 0 && !report.containers_kept.is_empty() {
        return format!(
            "{lack}, and {} containers with garbage cannot be rewritten in the space that is left; make room on the disk",
            report.containers_kept.len()
        );
    }
    if report.bytes_freed == 0 {
        return format!(
            "{lack}, and there is no garbage to collect; make room on the disk, or delete snapshots (`orbit snapshot prune`)"
        );
    }
    format!(
        "{lack}; garbage was collected: {} bytes were freed, {} chunks can no longer be undeleted",
        report.bytes_freed, report.chunks_removed
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::PackedConfig;

    #[tokio::test]
    async fn a_full_disk_without_garbage_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            PackedConfig { reserve_bytes: 0, free_bytes_min: Some(u64::MAX), ..PackedConfig::default() };
        let store = PackedStore::open(dir.path(), config).unwrap();
        let (sender, mut inbox) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let running = tokio::spawn(Keeper::new(Arc::clone(&store)).run(sender, stop.clone()));
        let Some(Event::Noticed(notice)) = inbox.recv().await else { panic!("it says what is wrong") };
        assert_eq!(notice.severity, Severity::Warning);
        assert!(notice.text.contains("no garbage to collect"), "{}", notice.text);
        stop.cancel();
        running.await.unwrap();
        assert_eq!(Arc::strong_count(&store), 1);
    }

    #[test]
    fn nothing_is_collected_while_the_disk_has_space_or_the_setting_is_off() {
        for free_bytes_min in [0, 1] {
            let dir = tempfile::tempdir().unwrap();
            let config = PackedConfig { free_bytes_min: Some(free_bytes_min), ..PackedConfig::default() };
            let store = PackedStore::open(dir.path(), config).unwrap();
            assert_eq!(store.missing_space(), None);
        }
    }
}
