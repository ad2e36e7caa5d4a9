//! Healing: damaged chunks of one vault are looked for in the others, one vault after the other, and fetched from the
//! first that has them whole.
//!
//! A vault says itself what is damaged in it, when it is asked: after its hello, after a scrub that found something, and
//! when a file could not be read from it. What no other vault has is a dead letter that names every snapshot and path it
//! hits; trying that again looks again.

use std::collections::BTreeSet;

use orbit_shared::bulletin::{Severity, truncate_visibly};
use orbit_shared::capability::Capability;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::dead_letter::{DeadLetterEntry, DeadLetterFilter, FailureReason};
use orbit_shared::entry::{Entry, EntryKind, display_path, join_path};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::session::{Failure, FailureCause};
use orbit_shared::time::{Now, WallTime};
use orbit_shared::vault_call::limits::DAMAGED_MAX;
use orbit_shared::vault_call::{DamagedInfo, HealRequest, VaultCall, VaultProblem, VaultReply};
use orbit_shared::words::{JobId, StarId};

use super::event::{Action, DeadItem};
use super::vaults::Purpose;
use super::{Change, Core, Effects};

/// Heals of one vault that go on at a time; further damage is looked at when those have ended.
const HEALS_PER_STAR_MAX: usize = DAMAGED_MAX;
/// Bytes of a dead letter's text; it may have many paths to name.
const TEXT_BYTES_MAX: usize = 4096;
/// How a dead letter of a vault begins that belongs to no item: `vault/STAR/HASH`.
const KEY_PREFIX: &str = "vault/";

/// One damaged chunk that is being healed.
#[derive(Debug)]
pub(super) struct Heal {
    info: DamagedInfo,
    /// Vaults that were not asked yet.
    candidates: Vec<StarId>,
}

/// The name of a dead letter that stands for a chunk.
fn key(star: &StarId, hash: &ChunkHash) -> String {
    format!("{KEY_PREFIX}{star}/{hash}")
}

/// The Star of such a name.
pub(super) fn star_of_key(key: &str) -> Option<StarId> {
    key.strip_prefix(KEY_PREFIX)?.split_once('/')?.0.parse().ok()
}

impl Core {
    /// Asks a vault what is damaged in it, if it can be asked and is not asked already.
    pub(super) fn look_for_damage(&mut self, now: Now, star: &StarId, fx: &mut Effects) {
        let Some(session) = self.stars.get(star).and_then(|star| star.session) else { return };
        if !self.is_asked(star, |purpose| matches!(purpose, Purpose::Damage)) {
            self.ask(now, session, star, VaultCall::ListDamaged, Purpose::Damage, fx);
        }
    }

    /// A file could not be read from a vault because what it has is damaged.
    pub(super) fn note_corruption(&mut self, now: Now, job: JobId, failure: &Failure, fx: &mut Effects) {
        let Some(job) = self.jobs.get(&job) else { return };
        if failure.cause == FailureCause::DataCorruption && job.record.spec.snapshot.is_some() {
            let star = job.record.spec.source.star_id.clone();
            self.look_for_damage(now, &star, fx);
        }
    }

    /// Damage that stands among the dead letters that are to be tried again is looked at again. Says how much that is.
    pub(super) fn retry_damage(&mut self, now: Now, filter: &DeadLetterFilter, fx: &mut Effects) -> u64 {
        let letters = self.dead_letters.query(filter, usize::MAX);
        let stars: Vec<StarId> =
            letters.into_iter().filter_map(|letter| star_of_key(&letter.item_key)).collect();
        for star in stars.iter().collect::<BTreeSet<_>>() {
            self.look_for_damage(now, star, fx);
        }
        stars.len() as u64
    }

    /// A vault has said what is damaged in it.
    pub(super) fn damage_listed(
        &mut self,
        now: Now,
        star: &StarId,
        answer: Result<VaultReply, VaultProblem>,
        fx: &mut Effects,
    ) {
        let damaged = match answer {
            Ok(VaultReply::Damaged(damaged)) => damaged,
            Ok(_) => return self.late_count += 1,
            Err(problem) => {
                let message =
                    format!("the vault of {star} does not say what is damaged: {}", problem.message);
                return self.post(now, fx, (Severity::Warning, star.as_str(), "vault"), None, &message);
            }
        };
        if !damaged.is_empty() {
            let message = format!("{} chunks in the vault of {star} are damaged", damaged.len());
            self.post(now, fx, (Severity::Error, star.as_str(), "vault"), None, &message);
        }
        let others: Vec<StarId> = self.connected_stars().into_iter().filter(|other| other != star).collect();
        for info in damaged {
            let place = (star.clone(), info.hash);
            let of_star = self.heals.range((star.clone(), ChunkHash::default())..);
            let under_way = of_star.take_while(|((of, _), _)| of == star).count();
            if under_way < HEALS_PER_STAR_MAX && !self.heals.contains_key(&place) {
                self.heals.insert(place.clone(), Heal { info, candidates: others.clone() });
                self.heal_on(now, &place, fx);
            }
        }
    }

    /// Asks the next vault for a chunk, or gives it up.
    fn heal_on(&mut self, now: Now, place: &(StarId, ChunkHash), fx: &mut Effects) {
        let Some(heal) = self.heals.get_mut(place) else { return };
        while let Some(candidate) = heal.candidates.pop() {
            let session = self.stars.get(&candidate).and_then(|star| star.session);
            if let Some(session) = session {
                let (star, hash) = place.clone();
                let purpose = Purpose::HealLocate { star, hash };
                self.ask(now, session, &candidate, VaultCall::LocateChunk(hash), purpose, fx);
                return;
            }
        }
        if let Some(heal) = self.heals.remove(place) {
            self.unhealable(now, &place.0, &heal.info, fx);
        }
    }

    /// A vault has said whether it has a chunk that another one lacks.
    pub(super) fn heal_located(
        &mut self,
        now: Now,
        candidate: &StarId,
        place: &(StarId, ChunkHash),
        answer: Result<VaultReply, VaultProblem>,
        fx: &mut Effects,
    ) {
        let has_it = matches!(answer, Ok(VaultReply::Located(Some(found))) if !found.is_damaged);
        let address = self.stars.get(candidate).map(|star| star.record.data_address.clone());
        let session = self.stars.get(&place.0).and_then(|star| star.session);
        let (true, Some(source_address), Some(session)) = (has_it, address, session) else {
            return self.heal_on(now, place, fx);
        };
        let (star, hash) = place.clone();
        let capability = Capability {
            job: JobId(0),
            source_star: candidate.clone(),
            source_path: b"/".to_vec(),
            destination_star: star.clone(),
            snapshot: None,
            is_for_chunks: true,
        };
        let heal = HealRequest { hash, source_star: candidate.clone(), source_address, token: String::new() };
        let purpose = Purpose::Heal { hash, source: candidate.clone() };
        let request = self.expect_answer(now, session, &star, purpose);
        fx.actions.push(Action::Heal { session, request, heal, capability });
    }

    /// A vault has fetched a good copy, or could not.
    pub(super) fn heal_ended(
        &mut self,
        now: Now,
        star: &StarId,
        (hash, source): (ChunkHash, StarId),
        answer: Result<VaultReply, VaultProblem>,
        fx: &mut Effects,
    ) {
        let place = (star.clone(), hash);
        if let Err(problem) = answer {
            let message = format!("chunk {hash} of {star} is not healed from {source}: {}", problem.message);
            self.post(now, fx, (Severity::Warning, star.as_str(), "vault"), None, &message);
            return self.heal_on(now, &place, fx);
        }
        let Some(heal) = self.heals.remove(&place) else { return };
        let event = ProvenanceEvent::new(ProvenanceType::ChunkHealed, self.job_of(&heal.info))
            .with_star(star.clone())
            .with_chunk_hash(hash)
            .with_source(source.to_string())
            .with_destination(star.to_string());
        self.record(now, fx, event);
        self.forget_letter(star, &hash, &heal.info, fx);
        // More may be damaged than was looked at.
        if !self.heals.keys().any(|(of, _)| of == star) {
            self.look_for_damage(now, star, fx);
        }
    }

    /// A heal will not go on: the session that it needed has ended. The next hello looks again.
    pub(super) fn heal_lost(&mut self, star: &StarId, hash: ChunkHash) {
        self.heals.remove(&(star.clone(), hash));
    }

    /// The job of the first snapshot that a chunk hits, as far as it is known.
    fn job_of(&self, info: &DamagedInfo) -> Option<JobId> {
        let (snapshot, _) = info.affected.first()?;
        Some(self.snapshot(*snapshot)?.info.job)
    }

    fn forget_letter(&mut self, star: &StarId, hash: &ChunkHash, info: &DamagedInfo, fx: &mut Effects) {
        let Some(job) = self.job_of(info) else { return };
        let of_chunk = DeadLetterFilter { item_key: Some(key(star, hash)), ..DeadLetterFilter::for_job(job) };
        for letter in self.dead_letters.take(&of_chunk) {
            self.dead_entries.remove(&letter.dead_letter_id);
            fx.changes.push(Change::RemoveDeadLetter(letter.dead_letter_id));
        }
    }

    /// Nobody has it: a dead letter says what is lost.
    fn unhealable(&mut self, now: Now, star: &StarId, info: &DamagedInfo, fx: &mut Effects) {
        let hits: BTreeSet<String> = info
            .affected
            .iter()
            .map(|(snapshot, path)| format!("snapshot {snapshot}: {}", display_path(path)))
            .collect();
        let hits = match hits.len() {
            0 => "no snapshot".to_owned(),
            _ => hits.into_iter().collect::<Vec<_>>().join(", "),
        };
        let text = format!(
            "chunk {} in the vault of {star} is damaged ({}) and no other vault that can be asked has it; it hits {hits}",
            info.hash, info.problem
        );
        let text = truncate_visibly(&text, TEXT_BYTES_MAX);
        self.post(now, fx, (Severity::Error, star.as_str(), "vault"), self.job_of(info), &text);
        let Some((job, (snapshot, path))) = self.job_of(info).zip(info.affected.first()) else { return };
        let name = key(star, &info.hash);
        let mut letter =
            DeadLetterEntry::new(job, name.clone(), FailureReason::DataCorruption, &text, now.wall);
        letter.star_id = Some(star.clone());
        letter.attempts = 1;
        letter.dest_path = Some(join_path(format!("snapshot {snapshot}").as_bytes(), path));
        let before = self.dead_letters.entry(job, &name).map(|old| old.dead_letter_id);
        // A full queue says so by its own bulletin; the damage is found again.
        let Ok(id) = self.dead_letters.push(letter) else { return };
        if let Some(old) = before {
            self.dead_entries.remove(&old);
            fx.changes.push(Change::RemoveDeadLetter(old));
        }
        let kind = EntryKind::File { size: 0 };
        let entry = Entry { path: path.clone(), kind, mode: 0, modified: WallTime::UNIX_EPOCH, rank: 0 };
        self.dead_entries.insert(id, entry.clone());
        if let Some(letter) = self.dead_letters.entry(job, &name) {
            let dead = DeadItem { letter: letter.clone(), entry, is_retrying: false };
            fx.changes.push(Change::PutDeadLetter(Box::new(dead)));
        }
        let event = ProvenanceEvent::new(ProvenanceType::ChunkDeadLettered, job)
            .with_star(star.clone())
            .with_chunk_hash(info.hash)
            .with_error(text);
        self.record(now, fx, event);
    }
}
