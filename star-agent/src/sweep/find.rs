//! Lists the destination as a scan lists a source, with the same globs and limits, and finds entries that the source
//! does not have. If the job stays in one file system, mount points at the destination are neither entered nor deleted,
//! and neither is what is below a mount point that the scan of the source did not enter.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use orbit_shared::entry::{Entry, EntryKind, display_path, join_path};
use orbit_shared::session::{FailureCause, ScanBatch};
use orbit_shared::sweep::{SWEEP_EXAMPLES_MAX, SweepInfo, SweepRequest};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::extras::{Extra, Extras};
use super::source::Source;
use crate::roots::Roots;
use crate::scan::{self, Classifier};

/// Number of batches that are listed ahead.
const BATCHES_AHEAD: usize = 2;

/// Maximum number of mount points that a message names.
const MOUNTS_SHOWN_MAX: usize = 5;

/// Mount points at the destination that were not entered.
#[derive(Debug, Default)]
pub(super) struct Mounts(BTreeSet<Vec<u8>>);

impl Mounts {
    /// A message that nothing was deleted in them; empty if there are none.
    pub(super) fn words(&self, destination: &[u8]) -> String {
        let shown: Vec<String> =
            self.0.iter().take(MOUNTS_SHOWN_MAX).map(|path| display_path(path)).collect();
        let more = match self.0.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let destination = display_path(destination);
        match self.0.len() {
            0 => String::new(),
            1 => format!("nothing is deleted in the mount point {} below {destination}", shown.join("")),
            count => format!(
                "nothing is deleted in {count} mount points below {destination}: {}{more}",
                shown.join(", ")
            ),
        }
    }
}

/// Finds the entries to delete and counts them. A destination that does not exist has none. Returns the mount points
/// that were not entered.
pub(super) async fn find(
    request: &SweepRequest,
    roots: &Arc<Roots>,
    vault: &Path,
    source: &mut Source,
    extras: &mut Extras,
    note: &watch::Sender<SweepInfo>,
) -> Result<Mounts, String> {
    let (out, mut batches) = mpsc::channel(1);
    let credits = Arc::new(Semaphore::new(BATCHES_AHEAD));
    // The order of deletions does not matter.
    let classifier = Classifier::unordered();
    let scanning = scan::run(
        request.scan.clone(),
        Arc::clone(roots),
        classifier,
        out,
        Arc::clone(&credits),
        CancellationToken::new(),
    );
    // It owns the receiver, so that a walk ends if its batches are not taken any more.
    let taking = async move {
        let mounts = Mounts::default();
        let mut finder = Finder { request, vault, source, extras, note, mounts };
        while let Some(batch) = batches.recv().await {
            if let Err(problem) = finder.take(batch).await {
                credits.close();
                return Err(problem);
            }
            credits.add_permits(1);
        }
        Ok(finder.mounts)
    };
    let ((), taken) = tokio::join!(scanning, taking);
    taken
}

struct Finder<'sweep> {
    request: &'sweep SweepRequest,
    vault: &'sweep Path,
    source: &'sweep mut Source,
    extras: &'sweep mut Extras,
    note: &'sweep watch::Sender<SweepInfo>,
    mounts: Mounts,
}

impl Finder<'_> {
    async fn take(&mut self, batch: ScanBatch) -> Result<(), String> {
        match batch.failure {
            Some(failure) if failure.cause == FailureCause::SourceMissing => return Ok(()),
            Some(failure) => return Err(failure.message),
            None => {}
        }
        self.mounts.0.extend(batch.skipped_mounts);
        let entries: Vec<Entry> = batch.entries.into_iter().filter(|entry| self.is_swept(entry)).collect();
        let found = self.source.look(entries.iter().map(|entry| entry.path.clone()).collect()).await?;
        for (entry, presence) in entries.iter().zip(found) {
            self.note.send_modify(|info| info.found += 1);
            let is_mount = self.mounts.0.contains(&entry.path);
            let extra = Extra::of(entry).filter(|extra| !is_mount && presence.is_to_go(extra.kind));
            let Some(extra) = extra else {
                continue;
            };
            self.extras
                .push(&extra)
                .map_err(|error| format!("the list of what is to be deleted cannot be written: {error}"))?;
            self.note.send_modify(|info| {
                info.extra += 1;
                info.extra_bytes += extra.size;
                if info.examples.len() < SWEEP_EXAMPLES_MAX {
                    info.examples.push(extra.path);
                }
            });
        }
        Ok(())
    }

    /// Excludes the destination itself, what is kept for a mount point of the source, and this Star's own vault if it
    /// is there.
    fn is_swept(&self, entry: &Entry) -> bool {
        let path = display_path(&join_path(&self.request.scan.path, &entry.path));
        let is_of_vault = Path::new(&path).starts_with(self.vault) || self.vault.starts_with(&path);
        let is_kept = self.request.is_kept(&entry.path, entry.kind == EntryKind::Directory);
        !entry.path.is_empty() && !is_kept && !is_of_vault
    }
}
