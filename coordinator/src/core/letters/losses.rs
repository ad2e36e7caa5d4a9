//! What no vault and no source has any more: a dead letter for each lost chunk, which names every snapshot and path it
//! hits. It goes when the chunk is healed after all.

use std::collections::BTreeSet;

use orbit_shared::bulletin::{Severity, truncate_visibly};
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::dead_letter::{DeadLetterEntry, DeadLetterFilter, FailureReason};
use orbit_shared::entry::{Entry, EntryKind, display_path, join_path};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::WallTime;
use orbit_shared::words::{JobId, StarId};

use super::Letters;
use crate::core::fact::Loss;
use crate::core::turn::Turn;

/// Bytes of a dead letter's text; it may have many paths to name.
const TEXT_BYTES_MAX: usize = 4096;
/// How a dead letter of a vault begins that belongs to no item: `vault/STAR/HASH`.
const KEY_PREFIX: &str = "vault/";

/// The name of a dead letter that stands for a chunk.
fn key(star: &StarId, hash: &ChunkHash) -> String {
    format!("{KEY_PREFIX}{star}/{hash}")
}

/// The Star of such a name.
fn star_of_key(key: &str) -> Option<StarId> {
    key.strip_prefix(KEY_PREFIX)?.split_once('/')?.0.parse().ok()
}

/// What is said of one damaged chunk of a vault, behind its name.
pub(in crate::core) fn is_damaged(star: &StarId) -> String {
    format!(" in the vault of {star} is damaged")
}

impl Loss {
    /// What is lost, and where it was looked for.
    fn words(&self) -> String {
        let Self { star, info, failures, .. } = self;
        let hits: BTreeSet<String> = info
            .affected
            .iter()
            .map(|(snapshot, path)| format!("snapshot {snapshot}: {}", display_path(path)))
            .collect();
        let more = if info.is_partial { ", and perhaps more" } else { "" };
        let hits = match hits.len() {
            0 => format!("no snapshot that was looked at{more}"),
            _ => hits.into_iter().collect::<Vec<_>>().join(", ") + more,
        };
        let source = match &failures[..] {
            [] => String::new(),
            failures => format!(", and neither has its source ({})", failures.join("; ")),
        };
        let text = format!(
            "chunk {}{} ({}) and no other vault that can be asked has it{source}; it hits {hits}",
            info.hash,
            is_damaged(star),
            info.problem
        );
        truncate_visibly(&text, TEXT_BYTES_MAX)
    }
}

impl Letters {
    /// A chunk is healed: its dead letters go, whichever of these jobs they stand with.
    pub(in crate::core) fn forget_loss(
        &mut self,
        turn: &mut Turn,
        (star, hash): (&StarId, &ChunkHash),
        jobs: &BTreeSet<JobId>,
    ) {
        for &job in jobs {
            let item_key = Some(key(star, hash));
            self.discard(turn, &DeadLetterFilter { item_key, ..DeadLetterFilter::for_job(job) });
        }
    }

    /// Nothing in a vault is damaged any more: what was lost of it was stored again, by a job perhaps.
    pub(in crate::core) fn forget_losses(&mut self, turn: &mut Turn, star: &StarId) {
        let of_star = DeadLetterFilter { star_id: Some(star.clone()), ..DeadLetterFilter::default() };
        let lost: Vec<_> = self.queue.query(&of_star, usize::MAX).into_iter().cloned().collect();
        for letter in lost.into_iter().filter(|letter| star_of_key(&letter.item_key).as_ref() == Some(star)) {
            let item_key = Some(letter.item_key);
            self.discard(turn, &DeadLetterFilter { item_key, ..DeadLetterFilter::for_job(letter.job_id) });
        }
    }

    /// No vault has a chunk: a dead letter names what is lost.
    pub(in crate::core) fn lose(&mut self, turn: &mut Turn, loss: &Loss) {
        let text = loss.words();
        let Loss { star, info, hit, .. } = loss;
        let job = hit.as_ref().map(|(job, _, _)| *job);
        turn.post((Severity::Error, star.as_str(), "vault"), job, &text);
        // Without a snapshot that is known there is no job that a letter could stand with.
        let Some((job, snapshot, path)) = hit else { return };
        let name = key(star, &info.hash);
        if self.queue.entry(*job, &name).is_some_and(|letter| letter.last_error == text) {
            // It was looked for again, and nothing has changed.
            return;
        }
        let mut letter =
            DeadLetterEntry::new(*job, name, FailureReason::DataCorruption, &text, turn.now.wall);
        letter.star_id = Some(star.clone());
        letter.attempts = 1;
        letter.dest_path = Some(join_path(format!("snapshot {snapshot}").as_bytes(), path));
        let kind = EntryKind::File { size: 0 };
        let entry = Entry { path: path.clone(), kind, mode: 0, modified: WallTime::UNIX_EPOCH, rank: 0 };
        if self.put(turn, letter, entry).is_err() {
            // A full queue says so by its own bulletin; the damage is found again.
            return;
        }
        let event = ProvenanceEvent::new(ProvenanceType::ChunkDeadLettered, *job)
            .with_star(star.clone())
            .with_chunk_hash(info.hash)
            .with_error(text);
        turn.record(event);
    }

    /// The Stars whose damage stands among the dead letters that match, once for each letter.
    pub(in crate::core) fn damaged_stars(&self, filter: &DeadLetterFilter) -> Vec<StarId> {
        let letters = self.queue.query(filter, usize::MAX).into_iter();
        letters.filter_map(|letter| star_of_key(&letter.item_key)).collect()
    }
}
