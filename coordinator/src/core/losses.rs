//! What no vault and no source has any more: a dead letter for each lost chunk, which names every snapshot and path it
//! hits. It goes when the chunk is healed after all.

use std::collections::BTreeSet;

use orbit_shared::bulletin::{Severity, truncate_visibly};
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::dead_letter::{DeadLetterEntry, DeadLetterFilter, FailureReason};
use orbit_shared::entry::{Entry, EntryKind, display_path, join_path};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::WallTime;
use orbit_shared::vault_call::DamagedInfo;
use orbit_shared::words::{JobId, StarId};

use super::event::DeadItem;
use super::{Change, Core, Turn};

/// Bytes of a dead letter's text; it may have many paths to name.
const TEXT_BYTES_MAX: usize = 4096;
/// How a dead letter of a vault begins that belongs to no item: `vault/STAR/HASH`.
const KEY_PREFIX: &str = "vault/";

/// The name of a dead letter that stands for a chunk.
fn key(star: &StarId, hash: &ChunkHash) -> String {
    format!("{KEY_PREFIX}{star}/{hash}")
}

/// The Star of such a name.
pub(super) fn star_of_key(key: &str) -> Option<StarId> {
    key.strip_prefix(KEY_PREFIX)?.split_once('/')?.0.parse().ok()
}

/// What is said of one damaged chunk of a vault, behind its name.
pub(super) fn is_damaged(star: &StarId) -> String {
    format!(" in the vault of {star} is damaged")
}

/// What is lost with a chunk, and where it was looked for.
fn loss(star: &StarId, info: &DamagedInfo, failures: &[String]) -> String {
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
    let source = match failures {
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

impl Core {
    /// The job of the first snapshot that a chunk hits, as far as it is known.
    pub(super) fn job_of(&self, info: &DamagedInfo) -> Option<JobId> {
        info.affected.iter().find_map(|(snapshot, _)| Some(self.snapshot(*snapshot)?.info.job))
    }

    /// A chunk is healed: its dead letters go, whichever job they stand with.
    pub(super) fn forget_loss(&mut self, turn: &mut Turn, star: &StarId, info: &DamagedInfo) {
        let jobs: BTreeSet<JobId> =
            info.affected.iter().filter_map(|(id, _)| Some(self.snapshot(*id)?.info.job)).collect();
        for job in jobs {
            let item_key = Some(key(star, &info.hash));
            let of_chunk = DeadLetterFilter { item_key, ..DeadLetterFilter::for_job(job) };
            for letter in self.dead_letters.take(&of_chunk) {
                self.dead_entries.remove(&letter.dead_letter_id);
                turn.changes.push(Change::RemoveDeadLetter(letter.dead_letter_id));
            }
        }
    }

    /// Nothing in a vault is damaged any more: what was lost of it was stored again, by a job perhaps.
    pub(super) fn forget_losses(&mut self, turn: &mut Turn, star: &StarId) {
        let of_star = DeadLetterFilter { star_id: Some(star.clone()), ..DeadLetterFilter::default() };
        let lost: Vec<_> = self.dead_letters.query(&of_star, usize::MAX).into_iter().cloned().collect();
        for letter in lost.into_iter().filter(|letter| star_of_key(&letter.item_key).as_ref() == Some(star)) {
            let item_key = Some(letter.item_key);
            let of_chunk = DeadLetterFilter { item_key, ..DeadLetterFilter::for_job(letter.job_id) };
            for gone in self.dead_letters.take(&of_chunk) {
                self.dead_entries.remove(&gone.dead_letter_id);
                turn.changes.push(Change::RemoveDeadLetter(gone.dead_letter_id));
            }
        }
    }

    /// Nobody has it: a dead letter says what is lost.
    pub(super) fn unhealable(
        &mut self,
        turn: &mut Turn,
        star: &StarId,
        info: &DamagedInfo,
        failures: &[String],
    ) {
        let text = loss(star, info, failures);
        self.post(turn, (Severity::Error, star.as_str(), "vault"), self.job_of(info), &text);
        let first = info.affected.iter().find(|(snapshot, _)| self.snapshot(*snapshot).is_some());
        let Some((job, (snapshot, path))) = self.job_of(info).zip(first) else { return };
        let name = key(star, &info.hash);
        let before = self.dead_letters.entry(job, &name);
        if before.is_some_and(|letter| letter.last_error == text) {
            // It was looked for again, and nothing has changed.
            return;
        }
        let before = before.map(|letter| letter.dead_letter_id);
        let mut letter =
            DeadLetterEntry::new(job, name.clone(), FailureReason::DataCorruption, &text, turn.now.wall);
        letter.star_id = Some(star.clone());
        letter.attempts = 1;
        letter.dest_path = Some(join_path(format!("snapshot {snapshot}").as_bytes(), path));
        // A full queue says so by its own bulletin; the damage is found again.
        let Ok(id) = self.dead_letters.push(letter) else { return };
        if let Some(old) = before {
            self.dead_entries.remove(&old);
            turn.changes.push(Change::RemoveDeadLetter(old));
        }
        let kind = EntryKind::File { size: 0 };
        let entry = Entry { path: path.clone(), kind, mode: 0, modified: WallTime::UNIX_EPOCH, rank: 0 };
        self.dead_entries.insert(id, entry.clone());
        if let Some(letter) = self.dead_letters.entry(job, &name) {
            let dead = DeadItem { letter: letter.clone(), entry, is_retrying: false };
            turn.changes.push(Change::PutDeadLetter(Box::new(dead)));
        }
        let event = ProvenanceEvent::new(ProvenanceType::ChunkDeadLettered, job)
            .with_star(star.clone())
            .with_chunk_hash(info.hash)
            .with_error(text);
        self.record(turn, event);
    }
}
