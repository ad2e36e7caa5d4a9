//! Listing again what could not be listed: the retried dead letter of a directory that the scan could not read, or of an
//! entry that it could not look at, makes the source list that place once more. The entry takes the place of the dead item,
//! and what is found below it joins the job.

use std::sync::Arc;

use orbit_shared::dead_letter::{DeadLetterEntry, FailureReason};
use orbit_shared::entry::{Entry, EntryKind, REST_MODE};
use orbit_shared::session::limits::SCAN_GLOBS_MAX;
use orbit_shared::time::WallTime;
use orbit_shared::words::{ItemId, JobId};

use super::Jobs;
use super::lane::{Queued, queue_key};
use super::scans::{NO_ENTRY, uncarried};
use crate::core::change::Change;
use crate::core::records::{JobRecord, ListedAgain, destination_number};
use crate::core::seen::Seen;

/// Whether a retry has to list an entry again. Of one that stands for the rest of a directory, the first part is in the job
/// already.
fn is_to_be_listed(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Unreadable { errno } if errno != NO_ENTRY) && entry.mode != REST_MODE
}

fn is_at_or_below(base: &[u8], path: &[u8]) -> bool {
    base.is_empty() || path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

impl JobRecord {
    /// The paths that the next scan is for, beside what the globs include. To list a part again, only that part is listed
    /// where no globs or paths have chosen; otherwise all is, so that these mean the same, and the rest is passed over.
    pub(super) fn paths_to_scan(&self) -> Vec<Vec<u8>> {
        let (listed, again) = (self.spec.listed_paths(), &self.scan.again);
        let is_whole = again.iter().any(|one| one.path.is_empty()) || again.len() > SCAN_GLOBS_MAX;
        if again.is_empty() || is_whole || !listed.is_empty() || !self.spec.include.is_empty() {
            return listed;
        }
        again.iter().map(|one| one.path.to_vec()).collect()
    }
}

impl Jobs {
    /// Puts a dead item down to be listed again, if that is what its retry needs: how many were, or `None`. Its letter counts
    /// as retried until then. While a listing is under way there is none: the letter stays as it was.
    pub(super) fn list_again(
        &mut self,
        turn: &mut Seen<'_>,
        item: ItemId,
        letter: &DeadLetterEntry,
        entry: &Entry,
    ) -> Option<u64> {
        let job = self.jobs.get_mut(&item.job)?;
        let scan = &job.record.scan;
        if !is_to_be_listed(entry) || job.record.spec.snapshot.is_some() {
            return None;
        }
        if !scan.is_done && (scan.again.is_empty() || scan.cursor.is_some()) {
            turn.letters.put_back(letter.clone());
            return Some(0);
        }
        job.revive(turn.now.monotonic, turn.config.seed);
        self.open.insert(item.job);
        job.is_dirty = true;
        let scan = &mut job.record.scan;
        if scan.again.iter().all(|one| one.sequence != Some(item.sequence)) {
            let path = serde_bytes::ByteBuf::from(entry.path.clone());
            scan.again.push(ListedAgain { path, sequence: Some(item.sequence) });
            scan.is_done = false;
            scan.cursor = None;
        }
        turn.letters.keep_retried(turn.turn, letter.clone(), entry.clone());
        // A scan that has begun and found nothing yet begins again, with this place.
        self.stop_scan(turn, item.job);
        Some(1)
    }

    /// Takes an entry of a listing that is for some places only.
    pub(super) fn add_listed_again(
        &mut self,
        turn: &mut Seen<'_>,
        id: JobId,
        entry: &Arc<Entry>,
        is_unchanged: impl Fn(usize) -> bool,
    ) {
        let job = self.job_mut(id);
        let scan = &mut job.record.scan;
        if let Some(place) = scan.again.iter_mut().find(|one| *one.path == entry.path) {
            let sequence = place.sequence.take();
            scan.cursor = Some(serde_bytes::ByteBuf::from(entry.path.clone()));
            if let Some(sequence) = sequence {
                self.replace_dead(turn, id, sequence, entry);
            }
        } else if scan.again.iter().any(|one| is_at_or_below(&one.path, &entry.path)) {
            self.add_entry(turn, id, entry, is_unchanged);
        }
    }

    /// A listing of some places has come to its end: what it has not found is not there any more.
    pub(super) fn end_listing_again(&mut self, turn: &mut Seen<'_>, id: JobId) {
        let job = self.job_mut(id);
        for ListedAgain { path, sequence } in std::mem::take(&mut job.record.scan.again) {
            let Some(sequence) = sequence else { continue };
            let kind = EntryKind::Unreadable { errno: NO_ENTRY };
            let entry =
                Entry { path: path.into_vec(), kind, mode: 0, modified: WallTime::UNIX_EPOCH, rank: 0 };
            self.replace_dead(turn, id, sequence, &Arc::new(entry));
        }
    }

    /// Gives a dead item the entry that is there now, and queues it where its dead letter is retried.
    fn replace_dead(&mut self, turn: &mut Seen<'_>, id: JobId, sequence: u64, entry: &Arc<Entry>) {
        let job = self.jobs.get_mut(&id).expect("a job that is listed again is known");
        let source_path = job.record.spec.source.path.clone();
        turn.changes.push(Change::PutEntry { job: id, sequence, entry: Arc::clone(entry) });
        let mut given_up = Vec::new();
        for destination in 0..job.record.tallies.len() {
            let item = ItemId { job: id, destination: destination_number(destination), sequence };
            let key = item.to_string();
            if !turn.letters.queue().is_retrying(id, &key) {
                continue;
            }
            let letter = turn.letters.queue().entry(id, &key);
            let was_vanished =
                letter.is_some_and(|letter| letter.failure_reason == FailureReason::SourceMissing);
            let live = job.live.as_mut().expect("a job that is listed again has not ended");
            let tally = &mut job.record.tallies[destination];
            tally.dead -= 1;
            tally.vanished -= u64::from(was_vanished);
            tally.bytes_total += entry.size();
            *tally.open_mut(entry.kind == EntryKind::Directory) += 1;
            job.is_dirty = true;
            turn.changes.push(Change::RemoveEnd(item));
            if !entry.kind.is_carried() {
                given_up.push(item);
                continue;
            }
            let key = queue_key(&live.order, sequence, entry, 0);
            turn.changes.push(Change::Enqueue { item, key: key.clone() });
            live.lanes[destination].insert(key, Queued::new(sequence, Arc::clone(entry), turn.now.monotonic));
        }
        for item in given_up {
            let failure = uncarried(&source_path, entry);
            self.give_up(turn, item, Entry::clone(entry), &failure, 1);
        }
    }
}
