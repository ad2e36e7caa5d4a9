//! Finds the entries of a listing that are already at the destination, so that they need no attempt.
//!
//! An entry is unchanged if an attempt would skip it. If that cannot be determined, the entry is not reported as
//! present, and the following attempt finds out the reason.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::words::JobId;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType};

use crate::limits::SEGMENT_BYTES;
use crate::roots::{Place, Roots, split_parent};
use crate::sink::Sink;
use crate::sink::grain::Grains;
use crate::sink::plan::{is_link_to, is_unchanged};
use crate::sink::spelling::Spellings;

impl Sink {
    /// Compares a listing with the destination. Waits for a permit, because the number of threads for this is limited.
    pub async fn compare(&self, comparison: Comparison) -> Unchanged {
        // It is never closed.
        let Ok(turn) = Arc::clone(&self.comparing).acquire_owned().await else { return Unchanged::default() };
        let (roots, grains) = (Arc::clone(&self.roots), Arc::clone(&self.grains));
        let spellings = Arc::clone(&self.spellings);
        let looking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let known = Known { grains: &grains, spellings: &spellings, ways: Mutex::default() };
            look(&roots, &known, &comparison)
        });
        let unchanged = looking.await.unwrap_or_default();
        // An attempt whose sync failed may have written what is there.
        if unchanged.is_empty() || self.syncers.settle_doubts().await.is_err() {
            return Unchanged::default();
        }
        unchanged
    }
}

/// What is known of the file systems during a comparison.
struct Known<'sink> {
    grains: &'sink Grains,
    spellings: &'sink Spellings,
    /// Directories that exist under exactly this spelling.
    ways: Mutex<BTreeSet<Vec<u8>>>,
}

impl Known<'_> {
    /// Whether a path exists under this spelling, and not under another one that its file system takes for the same.
    fn is_spelled(&self, place: &Place, parent: &OwnedFd, path: &[u8]) -> bool {
        let name = split_parent(path).1;
        self.spellings.check_way(&place.tree, path, &self.ways, &<[u8]>::to_vec).is_ok()
            && self.spellings.check(parent, name, path).is_ok()
    }
}

fn look(roots: &Roots, known: &Known<'_>, comparison: &Comparison) -> Unchanged {
    let mut unchanged = Unchanged::default();
    let Ok(place) = roots.open_destination(&comparison.path, JobId(0), false, false) else {
        return unchanged;
    };
    for (index, entry) in comparison.entries.iter().enumerate() {
        if is_there(&place, known, entry) {
            unchanged.insert(index);
        }
    }
    unchanged
}

fn is_there(place: &Place, known: &Known<'_>, entry: &Entry) -> bool {
    // The target of a single-file source is the destination path itself, and large files may have an unfinished
    // temporary. Both are left to the attempt.
    let is_for_attempt = entry.path.is_empty() || entry.size() > SEGMENT_BYTES;
    let is_comparable = matches!(entry.kind, EntryKind::File { .. } | EntryKind::Symlink { .. });
    if is_for_attempt || !is_comparable {
        return false;
    }
    let Ok((parent, name)) = place.tree.open_parent(&entry.path) else { return false };
    let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let is_same = match &entry.kind {
        EntryKind::File { size } => is_unchanged(known.grains, &parent, &stat, *size, entry),
        EntryKind::Symlink { target } => {
            FileType::from_raw_mode(stat.st_mode) == FileType::Symlink && is_link_to(&parent, name, target)
        }
        _ => false,
    };
    is_same && known.is_spelled(place, &parent, &entry.path)
}
