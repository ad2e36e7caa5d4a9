//! Metrics of what a coordinator keeps on its disk.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Page;
use crate::backup::{self, STORE_FILE};
use crate::grpc::Faces;

/// What its directories held. What could not be read is absent.
#[derive(Default)]
pub(super) struct Kept {
    store_bytes: Option<u64>,
    event_bytes: Option<u64>,
    /// Number of backups, and when the newest was made.
    backups: Option<(usize, Option<SystemTime>)>,
}

impl Kept {
    /// Looks at the disk, apart from the runtime.
    pub(super) async fn read(faces: &Faces) -> Self {
        let (provenance, backups) = (faces.provenance.clone(), faces.backups.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let store = provenance.directory().parent().map(|directory| directory.join(STORE_FILE));
            let listed = backup::list(&backups.directory).ok();
            Self {
                store_bytes: store.as_deref().and_then(length),
                event_bytes: provenance.size_bytes().ok(),
                backups: listed.map(|listed| (listed.len(), listed.last().map(|(time, _)| *time))),
            }
        });
        // A look that was interrupted saw nothing.
        reading.await.unwrap_or_default()
    }
}

impl Page {
    pub(super) fn kept(&mut self, kept: &Kept) {
        let one = |value: Option<f64>| value.map(|value| (vec![], value));
        self.gauge(
            "orbit_store_bytes",
            "Size of the store.",
            one(kept.store_bytes.map(|bytes| bytes as f64)),
        );
        self.gauge(
            "orbit_event_log_bytes",
            "Bytes of the provenance events that are kept.",
            one(kept.event_bytes.map(|bytes| bytes as f64)),
        );
        self.gauge(
            "orbit_backups",
            "Complete backups in the backup directory.",
            one(kept.backups.map(|(count, _)| count as f64)),
        );
        let newest = kept.backups.and_then(|(_, newest)| newest?.duration_since(UNIX_EPOCH).ok());
        self.gauge(
            "orbit_backup_newest_time_seconds",
            "When the newest backup was made, in seconds since 1970; without a line before the first.",
            one(newest.map(|newest| newest.as_secs_f64())),
        );
    }
}

fn length(path: &Path) -> Option<u64> {
    Some(path.metadata().ok()?.len())
}
