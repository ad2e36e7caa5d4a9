//! Snapshots of which only one Star has a copy. The operator is warned before such a Star leaves, because nothing of them can be
//! restored while it is away.
//!
//! Every vault gives its snapshots ids of its own, so a copy has another id. What copies have in common is the root of their tree: it
//! is the hash of all paths, contents and metadata, and equal in every vault. Vaults of Stars of earlier versions do not report it;
//! then two snapshots count as copies if one job stored both, of the same size. A copy at a Star that leaves as well, or has left, does
//! not count. If one vault is a copy of another on the level of files, the catalogue lists its snapshots once, under one of both Stars;
//! the other copy is not known here.

use std::collections::BTreeSet;

use orbit_shared::bulletin::Severity;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::display_path;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::time::WallTime;
use orbit_shared::words::{JobId, StarId};

use super::Catalogue;
use crate::core::records::SnapshotRecord;
use crate::core::saying::Wording;
use crate::core::stars::Stars;
use crate::core::turn::Turn;

/// The category of the bulletins.
pub(in crate::core) const CATEGORY: &str = "last-copy";
/// How a Star leaves that is removed.
pub(in crate::core) const REMOVED: &str = "was removed from the grid";
/// Snapshots that one warning names.
const NAMED_MAX: usize = 5;

/// Identifies what one job has stored, in whichever vault.
type Stored<'a> = (JobId, WallTime, &'a StarId, &'a [u8], u64, u64);

fn stored(record: &SnapshotRecord) -> Stored<'_> {
    let info = &record.info;
    (info.job, info.create_time, &info.source_star, &info.source_path, info.entry_count, info.total_bytes)
}

impl Catalogue {
    /// The snapshots of which only this Star has a copy, newest first.
    fn last_copies(&self, stars: &Stars, name: &StarId) -> Vec<&SnapshotRecord> {
        let all = || self.all();
        let own: Vec<&SnapshotRecord> = all().filter(|record| record.star == *name).collect();
        if own.is_empty() {
            return own;
        }
        let trees: BTreeSet<ChunkHash> = own.iter().filter_map(|record| record.info.tree_hash).collect();
        let stores: BTreeSet<Stored<'_>> = own.iter().map(|record| stored(record)).collect();
        let (mut tree_copies, mut stored_copies) = (BTreeSet::new(), BTreeSet::new());
        for record in all().filter(|record| record.star != *name && stays(stars, &record.star)) {
            if let Some(hash) = record.info.tree_hash.filter(|hash| trees.contains(hash)) {
                tree_copies.insert(hash);
            }
            let stored = stored(record);
            if stores.contains(&stored) {
                stored_copies.insert((stored, record.info.tree_hash.is_some()));
            }
        }
        let has_copy = |record: &SnapshotRecord| match record.info.tree_hash {
            Some(hash) => tree_copies.contains(&hash) || stored_copies.contains(&(stored(record), false)),
            None => [false, true].iter().any(|is_known| stored_copies.contains(&(stored(record), *is_known))),
        };
        let mut last: Vec<&SnapshotRecord> = own.into_iter().filter(|record| !has_copy(record)).collect();
        last.sort_by_key(|record| std::cmp::Reverse((record.info.create_time, record.info.id)));
        last
    }

    /// What would be lost to the grid with a Star, in words: the number of snapshots that only it has, and the newest of them.
    pub(in crate::core) fn last_copy_warning(&self, stars: &Stars, name: &StarId) -> Option<String> {
        let last = self.last_copies(stars, name);
        let named = last.iter().take(NAMED_MAX).map(|record| {
            let info = &record.info;
            format!(
                "{} (job {}, {}:{})",
                info.id,
                info.job,
                info.source_star,
                display_path(&info.source_path)
            )
        });
        let named: Vec<String> = named.collect();
        let more = match last.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!last.is_empty()).then(|| {
            format!(
                "it has the only copy of {}: {}{more}. They cannot be restored while it is away. To keep them, restore them to \
                 another Star with `orbit snapshot restore`, or run the job again with another vault as destination",
                if last.len() == 1 { "1 snapshot".to_owned() } else { format!("{} snapshots", last.len()) },
                named.join(", ")
            )
        })
    }

    /// Posts a warning if a Star that leaves has the only copy of a snapshot. `what` says how it leaves.
    pub(in crate::core) fn warn_of_last_copies(
        &self,
        turn: &mut Turn,
        stars: &Stars,
        name: &StarId,
        what: &str,
    ) {
        if let Some(warning) = self.last_copy_warning(stars, name) {
            let message = format!("{name} {what}, and {warning}");
            turn.post((Severity::Warning, name.as_str(), CATEGORY), None, &message);
        }
    }
}

fn stays(stars: &Stars, name: &StarId) -> bool {
    stars.get(name).is_some_and(|star| match star.state() {
        LifecycleState::Registered | LifecycleState::Scheduled => true,
        LifecycleState::Draining | LifecycleState::Shutdown => false,
    })
}

/// The Star is back, with what it has.
pub(in crate::core) fn resolve_last_copies(turn: &mut Turn, name: &StarId) {
    let any = vec![Wording::Begins(String::new())];
    turn.resolve((Severity::Warning, name.as_str(), CATEGORY), any);
}
