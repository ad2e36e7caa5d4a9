//! Says which entries of a listing are at the destination already, so that they need no attempt at all.
//!
//! What counts as unchanged is what an attempt would skip. Where that cannot be told, an entry is not said to be there,
//! and the attempt that follows finds out why.

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
    /// Compares a listing with what is there. It waits for its turn: the number of threads for this is bounded.
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
        // What is there may be the work of an attempt whose sync failed.
        if unchanged.is_empty() || self.syncers.settle_doubts().await.is_err() {
            return Unchanged::default();
        }
        unchanged
    }
}

/// What is known of the file systems that are looked at.
struct Known<'sink> {
    grains: &'sink Grains,
    spellings: &'sink Spellings,
    /// Directories that are there under the spelling that is meant.
    ways: Mutex<BTreeSet<Vec<u8>>>,
}

impl Known<'_> {
    /// Whether a path is there under this spelling, and no other that its file system takes for it.
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
    // A source that is one file has the destination path itself as its target, and large files may have an unfinished
    // temporary that goes with them: both are left to the attempt.
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
