//! Healing: damaged chunks of one vault are looked for in the others, one vault after the other, and fetched from the
//! first that has them whole. What no vault has is fetched from the file that it was, if that still has it.
//!
//! A vault says itself what is damaged in it, page by page, when it is asked: after its hello, when it or somebody else
//! has found something, and when a file could not be read from it. A vault that does not answer is passed over; one that
//! is away itself is asked again after its next hello. What nobody has is lost for the time being (`losses.rs`), and is
//! looked for again when another Star comes, and when it is tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use orbit_shared::bulletin::Severity;
use orbit_shared::capability::Capability;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::entry::{display_path, join_path};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::session::{Failure, FailureCause};
use orbit_shared::vault_call::limits::DAMAGED_MAX;
use orbit_shared::vault_call::{DamagedInfo, HealOrigin, HealRequest, VaultCall, VaultProblem, VaultReply};
use orbit_shared::words::{JobId, StarId};

use super::event::Action;
use super::losses::{is_damaged, star_of_key};
use super::vaults::Purpose;
use super::{Core, Turn};

/// Chunks of one vault that are healed at a time. Each is a pull, of which a Star serves only so many.
const HEALS_AT_ONCE: usize = 4;

/// The healing of one vault, from its first list of what is damaged to the end of the last.
#[derive(Debug, Default)]
pub(super) struct Healing {
    /// The vault is asked for a list.
    is_listing: bool,
    /// What the list at hand has that is not begun.
    waiting: VecDeque<DamagedInfo>,
    open: BTreeMap<ChunkHash, Heal>,
    /// The last chunk of the list at hand, if there may be more behind it.
    after: Option<ChunkHash>,
    /// More may be damaged, or more may be healed, than when it began.
    is_again: bool,
    /// Something could not be healed.
    has_lost: bool,
    /// Chunks that were healed since it began.
    healed_count: u64,
}

/// One damaged chunk that is being healed.
#[derive(Debug)]
struct Heal {
    info: DamagedInfo,
    /// Where it was not looked for yet; the last one is next.
    places: Vec<Place>,
    /// The call whose answer it waits for; without one it is to go on with its next place.
    asked: Option<u64>,
    /// Why files that it came from could not give it.
    failures: Vec<String>,
}

/// Where a good copy may be.
#[derive(Debug)]
enum Place {
    Vault(StarId),
    /// The file that it was: which of its origins.
    Origin(usize),
}

/// What is said of a vault that has damaged chunks, behind their number.
fn are_damaged(star: &StarId) -> String {
    format!(" in the vault of {star} are damaged")
}

impl Core {
    /// Asks a vault what is damaged in it, if it can be asked. One that is being healed is asked again afterwards.
    pub(super) fn look_for_damage(&mut self, turn: &mut Turn, star: &StarId) {
        if self.stars.get(star).is_none_or(|star| star.session.is_none()) {
            return;
        }
        match self.heals.get_mut(star) {
            Some(healing) => healing.is_again = true,
            None => self.list_damage(turn, star, Healing::default()),
        }
    }

    /// Another Star has come: it may have what others lack.
    pub(super) fn look_for_damage_again(&mut self, turn: &mut Turn, come: &StarId) {
        for star in self.unhealed.clone().iter().filter(|star| *star != come) {
            self.look_for_damage(turn, star);
        }
    }

    /// A vault has found damage without having been asked to look.
    pub(super) fn damage_found(&mut self, turn: &mut Turn, star: &StarId, (chunks, problem): (u64, &str)) {
        if !problem.is_empty() {
            let message =
                format!("a check of the vault of {star} has found more than damaged chunks: {problem}");
            self.post(turn, (Severity::Error, star.as_str(), "vault"), None, &message);
        }
        if chunks > 0 {
            self.look_for_damage(turn, star);
        }
    }

    /// A file could not be read from a vault because what it has is damaged.
    pub(super) fn note_corruption(&mut self, turn: &mut Turn, job: JobId, failure: &Failure) {
        let Some(job) = self.jobs.get(&job) else { return };
        if failure.cause == FailureCause::DataCorruption && job.record.spec.snapshot.is_some() {
            let star = job.record.spec.source.star_id.clone();
            self.look_for_damage(turn, &star);
        }
    }

    /// Damage that stands among the dead letters that are to be tried again is looked at again. Says how much that is.
    pub(super) fn retry_damage(&mut self, turn: &mut Turn, filter: &DeadLetterFilter) -> u64 {
        let letters = self.dead_letters.query(filter, usize::MAX);
        let stars: Vec<StarId> =
            letters.into_iter().filter_map(|letter| star_of_key(&letter.item_key)).collect();
        for star in stars.iter().collect::<BTreeSet<_>>() {
            self.look_for_damage(turn, star);
        }
        stars.len() as u64
    }

    /// Asks for a list: the one behind the list at hand, or the first one.
    fn list_damage(&mut self, turn: &mut Turn, star: &StarId, healing: Healing) {
        let Some(session) = self.stars.get(star).and_then(|star| star.session) else { return };
        let call = VaultCall::ListDamaged { after: healing.after };
        self.ask(turn, session, star, call, Purpose::Damage);
        self.heals.insert(star.clone(), Healing { is_listing: true, ..healing });
    }

    /// A vault has said what is damaged in it.
    pub(super) fn damage_listed(
        &mut self,
        turn: &mut Turn,
        star: &StarId,
        answer: Result<VaultReply, VaultProblem>,
    ) {
        let Some(healing) = self.heals.get_mut(star) else { return self.late_count += 1 };
        let problem = match answer {
            Ok(VaultReply::Damaged(damaged)) => {
                healing.is_listing = false;
                let last = damaged.last().map(|info| info.hash).filter(|_| damaged.len() >= DAMAGED_MAX);
                // A list that does not go on behind the one before would never end.
                healing.after = last.filter(|last| healing.after.is_none_or(|before| *last > before));
                let count = damaged.len();
                healing.waiting.extend(damaged);
                if count > 0 {
                    let message = format!("{count} chunks{}", are_damaged(star));
                    self.post(turn, (Severity::Error, star.as_str(), "vault"), None, &message);
                }
                return;
            }
            Ok(_) => {
                self.late_count += 1;
                "it answers something else".to_owned()
            }
            Err(problem) => problem.message,
        };
        self.heals.remove(star);
        let message = format!("the vault of {star} does not say what is damaged: {problem}");
        self.post(turn, (Severity::Warning, star.as_str(), "vault"), None, &message);
    }

    /// Goes on wherever nothing is waited for.
    pub(super) fn go_on_healing(&mut self, turn: &mut Turn) {
        let stars: Vec<StarId> = self.heals.keys().cloned().collect();
        for star in stars {
            if self.stars.get(&star).is_none_or(|star| star.session.is_none()) {
                // Its next hello begins again.
                self.heals.remove(&star);
                continue;
            }
            while let Some(hash) = self.next_to_heal(&star) {
                self.heal_on(turn, &star, hash);
            }
            self.end_list(turn, &star);
        }
    }

    /// A chunk that waits for nothing: one that is begun, or the next that may begin.
    fn next_to_heal(&mut self, star: &StarId) -> Option<ChunkHash> {
        let vaults: Vec<Place> =
            self.connected_stars().into_iter().filter(|other| other != star).map(Place::Vault).collect();
        let healing = self.heals.get_mut(star)?;
        if let Some((hash, _)) = healing.open.iter().find(|(_, heal)| heal.asked.is_none()) {
            return Some(*hash);
        }
        if healing.open.len() >= HEALS_AT_ONCE {
            return None;
        }
        let info = healing.waiting.pop_front()?;
        let hash = info.hash;
        // Files come last, so they are first in the list.
        let places = (0..info.origins.len()).rev().map(Place::Origin).chain(vaults).collect();
        healing.open.insert(hash, Heal { info, places, asked: None, failures: Vec::new() });
        Some(hash)
    }

    /// Where all of a list is done, the next one is asked for, if there is any.
    fn end_list(&mut self, turn: &mut Turn, star: &StarId) {
        let is_done =
            |healing: &Healing| !healing.is_listing && healing.open.is_empty() && healing.waiting.is_empty();
        if !self.heals.get(star).is_some_and(is_done) {
            return;
        }
        let Some(healing) = self.heals.remove(star) else { return };
        if healing.after.is_some() {
            self.list_damage(turn, star, healing);
        } else if healing.is_again {
            let again = Healing { healed_count: healing.healed_count, ..Healing::default() };
            self.list_damage(turn, star, again);
        } else if healing.has_lost {
            self.unhealed.insert(star.clone());
        } else {
            self.unhealed.remove(star);
            self.all_healed(turn, star, healing.healed_count);
        }
    }

    /// Nothing in a vault is damaged any more: that is said, and what was said before does not hold.
    fn all_healed(&mut self, turn: &mut Turn, star: &StarId, count: u64) {
        if count > 0 {
            let message = format!(
                "{count} damaged chunks in the vault of {star} are healed, and nothing in it is damaged now"
            );
            self.post(turn, (Severity::Info, star.as_str(), "vault"), None, &message);
        }
        let (many, one) = (are_damaged(star), is_damaged(star));
        self.resolve(turn, (Severity::Error, star.as_str(), "vault"), |message| {
            message.ends_with(&many) || message.contains(&one)
        });
        self.forget_losses(turn, star);
    }

    /// Looks for a chunk at its next place, or gives it up.
    fn heal_on(&mut self, turn: &mut Turn, star: &StarId, hash: ChunkHash) {
        while let Some(place) = self.heal_mut(star, &hash).and_then(|heal| heal.places.pop()) {
            let asked = match place {
                Place::Vault(candidate) => {
                    let session = self.stars.get(&candidate).and_then(|star| star.session);
                    let purpose = Purpose::HealLocate { star: star.clone(), hash };
                    let call = VaultCall::LocateChunk(hash);
                    session.map(|session| self.ask(turn, session, &candidate, call, purpose))
                }
                Place::Origin(index) => self.fetch_from_file(turn, star, hash, index),
            };
            if asked.is_some()
                && let Some(heal) = self.heal_mut(star, &hash)
            {
                heal.asked = asked;
                return;
            }
        }
        let Some(healing) = self.heals.get_mut(star) else { return };
        if let Some(heal) = healing.open.remove(&hash) {
            healing.has_lost = true;
            self.unhealable(turn, star, &heal.info, &heal.failures);
        }
    }

    fn heal_mut(&mut self, star: &StarId, hash: &ChunkHash) -> Option<&mut Heal> {
        self.heals.get_mut(star)?.open.get_mut(hash)
    }

    /// A vault has said whether it has a chunk that another one lacks.
    pub(super) fn heal_located(
        &mut self,
        turn: &mut Turn,
        (candidate, request): (&StarId, u64),
        (star, hash): (&StarId, ChunkHash),
        answer: &Result<VaultReply, VaultProblem>,
    ) {
        let heal = self.heal_mut(star, &hash).filter(|heal| heal.asked == Some(request));
        let Some(heal) = heal else { return self.late_count += 1 };
        heal.asked = None;
        if matches!(answer, Ok(VaultReply::Located(Some(found))) if !found.is_damaged) {
            let asked = self.fetch(turn, (star, hash), candidate, None);
            if let Some(heal) = self.heal_mut(star, &hash) {
                heal.asked = asked;
            }
        }
    }

    /// Tells a vault to read a chunk from the file that it was. Nothing if that file is out of reach.
    fn fetch_from_file(
        &mut self,
        turn: &mut Turn,
        star: &StarId,
        hash: ChunkHash,
        index: usize,
    ) -> Option<u64> {
        let origin = self.heal_mut(star, &hash)?.info.origins.get(index)?.clone();
        let of = self.snapshot(origin.snapshot)?;
        let (source, source_path) = (of.info.source_star.clone(), of.info.source_path.clone());
        if self.stars.get(&source).is_none_or(|star| star.session.is_none()) {
            let path = join_path(&source_path, &origin.part.path);
            let text = format!("{source}:{}: {source} is not connected", display_path(&path));
            self.heal_mut(star, &hash)?.failures.push(text);
            return None;
        }
        let origin = HealOrigin { source_path, part: origin.part };
        self.fetch(turn, (star, hash), &source, Some(origin))
    }

    /// Tells a vault where to fetch a chunk: from the vault of a Star, or from a file there.
    fn fetch(
        &mut self,
        turn: &mut Turn,
        (star, hash): (&StarId, ChunkHash),
        source: &StarId,
        origin: Option<HealOrigin>,
    ) -> Option<u64> {
        let source_address = self.stars.get(source)?.record.data_address.clone();
        let session = self.stars.get(star)?.session?;
        let capability = Capability {
            job: JobId(0),
            source_star: source.clone(),
            source_path: origin.as_ref().map_or_else(|| b"/".to_vec(), |origin| origin.source_path.clone()),
            destination_star: star.clone(),
            snapshot: None,
            is_for_chunks: origin.is_none(),
            max_bytes_per_second: 0,
            filter: None,
        };
        let from = match &origin {
            None => source.to_string(),
            Some(origin) => {
                let path = join_path(&origin.source_path, &origin.part.path);
                format!("{source}:{}", display_path(&path))
            }
        };
        let purpose = Purpose::Heal { hash, from, is_file: origin.is_some() };
        let request = self.expect_answer(turn.now, session, star, purpose);
        let (source_star, token) = (source.clone(), String::new());
        let heal = HealRequest { hash, source_star, source_address, token, origin };
        let call = VaultCall::Heal(heal);
        turn.actions.push(Action::SignedCall { session, request, call, capability });
        Some(request)
    }

    /// A vault has fetched a good copy, or could not.
    pub(super) fn heal_ended(
        &mut self,
        turn: &mut Turn,
        (star, request): (&StarId, u64),
        (hash, from, is_file): (ChunkHash, &str, bool),
        answer: Result<VaultReply, VaultProblem>,
    ) {
        let heal = self.heal_mut(star, &hash).filter(|heal| heal.asked == Some(request));
        let Some(heal) = heal else { return self.late_count += 1 };
        if let Err(problem) = answer {
            heal.asked = None;
            if is_file {
                heal.failures.push(problem.message);
                return;
            }
            let message = format!("chunk {hash} of {star} is not healed from {from}: {}", problem.message);
            return self.post(turn, (Severity::Warning, star.as_str(), "vault"), None, &message);
        }
        let Some(healing) = self.heals.get_mut(star) else { return };
        let Some(Heal { info, .. }) = healing.open.remove(&hash) else { return };
        healing.healed_count += 1;
        let event = ProvenanceEvent::new(ProvenanceType::ChunkHealed, self.job_of(&info))
            .with_star(star.clone())
            .with_chunk_hash(hash)
            .with_source(from.to_owned())
            .with_destination(star.to_string());
        self.record(turn, event);
        self.forget_loss(turn, star, &info);
    }

    /// The answer to a call for a chunk will not come: it is looked for elsewhere.
    pub(super) fn heal_lost(&mut self, star: &StarId, hash: &ChunkHash) {
        if let Some(heal) = self.heal_mut(star, hash) {
            heal.asked = None;
        }
    }

    /// The vault that is being healed cannot be asked any more: its next hello, or its next find, begins again.
    pub(super) fn healing_lost(&mut self, star: &StarId) {
        self.heals.remove(star);
    }
}
