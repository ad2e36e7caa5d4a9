//! Healing: damaged chunks of one vault are looked for in the others, one vault after the other, and fetched from the
//! first that has them whole. What no vault has is fetched from the file that it was, if that still has it.
//!
//! A vault says itself what is damaged in it, page by page, when it is asked: after its hello, when it or somebody else
//! has found something, and when a file could not be read from it. A vault that does not answer is passed over; one that
//! is away itself is asked again after its next hello. A chunk that no vault has is lost for the time being (`letters/losses.rs`), and is
//! looked for again when another Star comes, and when it is tried again.

use std::collections::{BTreeMap, VecDeque};

use orbit_shared::bulletin::Severity;
use orbit_shared::capability::Capability;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{display_path, join_path};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::vault_call::limits::DAMAGED_MAX;
use orbit_shared::vault_call::{DamagedInfo, HealOrigin, HealRequest, VaultCall, VaultProblem, VaultReply};
use orbit_shared::words::{JobId, SnapshotId, StarId};

use super::Calls;
use super::asks::Purpose;
use crate::core::event::Action;
use crate::core::fact::{Fact, Loss};
use crate::core::letters::is_damaged;
use crate::core::saying::Wording;
use crate::core::stars::Stars;
use crate::core::turn::Turn;

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

impl Calls {
    /// Asks a vault what is damaged in it, if it can be asked. One that is being healed is asked again afterwards.
    pub(in crate::core) fn look_for_damage(&mut self, turn: &mut Turn, stars: &Stars, star: &StarId) {
        if stars.session_of(star).is_none() {
            return;
        }
        match self.heals.get_mut(star) {
            Some(healing) => healing.is_again = true,
            None => self.list_damage(turn, stars, star, Healing::default()),
        }
    }

    /// Another Star has come: it may have what others lack.
    pub(in crate::core) fn look_for_damage_again(&mut self, turn: &mut Turn, stars: &Stars, come: &StarId) {
        for star in self.unhealed.clone().iter().filter(|star| *star != come) {
            self.look_for_damage(turn, stars, star);
        }
    }

    /// A vault has found damage without having been asked to look.
    pub(in crate::core) fn damage_found(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        star: &StarId,
        (chunks, problem): (u64, &str),
    ) {
        if !problem.is_empty() {
            let message =
                format!("a check of the vault of {star} has found more than damaged chunks: {problem}");
            turn.post((Severity::Error, star.as_str(), "vault"), None, &message);
        }
        if chunks > 0 {
            self.look_for_damage(turn, stars, star);
        }
    }

    /// Asks for a list: the one behind the list at hand, or the first one.
    fn list_damage(&mut self, turn: &mut Turn, stars: &Stars, star: &StarId, healing: Healing) {
        let Some(session) = stars.session_of(star) else { return };
        let call = VaultCall::ListDamaged { after: healing.after };
        self.asks.send(turn, session, star, call, Purpose::Damage);
        self.heals.insert(star.clone(), Healing { is_listing: true, ..healing });
    }

    /// A vault has said what is damaged in it.
    pub(in crate::core) fn damage_listed(
        &mut self,
        turn: &mut Turn,
        star: &StarId,
        answer: Result<VaultReply, VaultProblem>,
    ) {
        let Some(healing) = self.heals.get_mut(star) else { return turn.late += 1 };
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
                    turn.post((Severity::Error, star.as_str(), "vault"), None, &message);
                }
                return;
            }
            Ok(_) => {
                turn.late += 1;
                "it answers something else".to_owned()
            }
            Err(problem) => problem.message,
        };
        self.heals.remove(star);
        let message = format!("the vault of {star} does not say what is damaged: {problem}");
        turn.post((Severity::Warning, star.as_str(), "vault"), None, &message);
    }

    /// Goes on wherever nothing is waited for.
    pub(in crate::core) fn go_on_healing(&mut self, turn: &mut Turn, stars: &Stars) {
        let healed: Vec<StarId> = self.heals.keys().cloned().collect();
        for star in healed {
            if stars.session_of(&star).is_none() {
                // Its next hello begins again.
                self.heals.remove(&star);
                continue;
            }
            while let Some(hash) = self.next_to_heal(stars, &star) {
                self.heal_on(turn, stars, &star, hash);
            }
            self.end_list(turn, stars, &star);
        }
    }

    /// A chunk that waits for nothing: one that is begun, or the next that may begin.
    fn next_to_heal(&mut self, stars: &Stars, star: &StarId) -> Option<ChunkHash> {
        let vaults: Vec<Place> =
            stars.connected().into_iter().filter(|other| other != star).map(Place::Vault).collect();
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
    fn end_list(&mut self, turn: &mut Turn, stars: &Stars, star: &StarId) {
        let is_done =
            |healing: &Healing| !healing.is_listing && healing.open.is_empty() && healing.waiting.is_empty();
        if !self.heals.get(star).is_some_and(is_done) {
            return;
        }
        let healing = self.heals.remove(star).expect("it was found there just now");
        if healing.after.is_some() {
            self.list_damage(turn, stars, star, healing);
        } else if healing.is_again {
            let again = Healing { healed_count: healing.healed_count, ..Healing::default() };
            self.list_damage(turn, stars, star, again);
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
            turn.post((Severity::Info, star.as_str(), "vault"), None, &message);
        }
        let (many, one) = (are_damaged(star), is_damaged(star));
        let damaged = vec![Wording::Ends(many), Wording::Has(one)];
        turn.resolve((Severity::Error, star.as_str(), "vault"), damaged);
        turn.facts.push(Fact::VaultHealed(star.clone()));
    }

    /// Looks for a chunk at its next place, or gives it up.
    fn heal_on(&mut self, turn: &mut Turn, stars: &Stars, star: &StarId, hash: ChunkHash) {
        while let Some(place) = self.heal_mut(star, &hash).and_then(|heal| heal.places.pop()) {
            let asked = match place {
                Place::Vault(candidate) => {
                    let session = stars.session_of(&candidate);
                    let purpose = Purpose::HealLocate { star: star.clone(), hash };
                    let call = VaultCall::LocateChunk(hash);
                    session.map(|session| self.asks.send(turn, session, &candidate, call, purpose))
                }
                Place::Origin(index) => self.fetch_from_file(turn, stars, star, hash, index),
            };
            if asked.is_some()
                && let Some(heal) = self.heal_mut(star, &hash)
            {
                heal.asked = asked;
                return;
            }
        }
        let Some(healing) = self.heals.get_mut(star) else { return };
        if let Some(Heal { info, failures, .. }) = healing.open.remove(&hash) {
            healing.has_lost = true;
            let loss = Loss { hit: self.hit_of(&info), star: star.clone(), info, failures };
            turn.facts.push(Fact::ChunkLost(Box::new(loss)));
        }
    }

    fn heal_mut(&mut self, star: &StarId, hash: &ChunkHash) -> Option<&mut Heal> {
        self.heals.get_mut(star)?.open.get_mut(hash)
    }

    /// A vault has said whether it has a chunk that another one lacks.
    pub(in crate::core) fn heal_located(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        (candidate, request): (&StarId, u64),
        (star, hash): (&StarId, ChunkHash),
        answer: &Result<VaultReply, VaultProblem>,
    ) {
        let heal = self.heal_mut(star, &hash).filter(|heal| heal.asked == Some(request));
        let Some(heal) = heal else { return turn.late += 1 };
        heal.asked = None;
        if matches!(answer, Ok(VaultReply::Located(Some(found))) if !found.is_damaged) {
            let asked = self.fetch(turn, stars, (star, hash), candidate, None);
            if let Some(heal) = self.heal_mut(star, &hash) {
                heal.asked = asked;
            }
        }
    }

    /// Tells a vault to read a chunk from the file that it was. Nothing if that file is out of reach.
    fn fetch_from_file(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        star: &StarId,
        hash: ChunkHash,
        index: usize,
    ) -> Option<u64> {
        let origin = self.heal_mut(star, &hash)?.info.origins.get(index)?.clone();
        let of = self.catalogue.get(origin.snapshot)?;
        let (source, source_path) = (of.info.source_star.clone(), of.info.source_path.clone());
        if stars.session_of(&source).is_none() {
            let path = join_path(&source_path, &origin.part.path);
            let text = format!("{source}:{}: {source} is not connected", display_path(&path));
            self.heal_mut(star, &hash)?.failures.push(text);
            return None;
        }
        let origin = HealOrigin { source_path, part: origin.part };
        self.fetch(turn, stars, (star, hash), &source, Some(origin))
    }

    /// Tells a vault where to fetch a chunk: from the vault of a Star, or from a file there.
    fn fetch(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        (star, hash): (&StarId, ChunkHash),
        source: &StarId,
        origin: Option<HealOrigin>,
    ) -> Option<u64> {
        let source_address = stars.get(source)?.record.data_address.clone();
        let session = stars.session_of(star)?;
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
        let request = self.asks.expect(turn.now, session, star, purpose);
        let (source_star, token) = (source.clone(), String::new());
        let heal = HealRequest { hash, source_star, source_address, token, origin };
        let call = VaultCall::Heal(heal);
        turn.actions.push(Action::SignedCall { session, request, call, capability });
        Some(request)
    }

    /// A vault has fetched a good copy, or could not.
    pub(in crate::core) fn heal_ended(
        &mut self,
        turn: &mut Turn,
        (star, request): (&StarId, u64),
        (hash, from, is_file): (ChunkHash, &str, bool),
        answer: Result<VaultReply, VaultProblem>,
    ) {
        let heal = self.heal_mut(star, &hash).filter(|heal| heal.asked == Some(request));
        let Some(heal) = heal else { return turn.late += 1 };
        if let Err(problem) = answer {
            heal.asked = None;
            if is_file {
                heal.failures.push(problem.message);
                return;
            }
            let message = format!("chunk {hash} of {star} is not healed from {from}: {}", problem.message);
            return turn.post((Severity::Warning, star.as_str(), "vault"), None, &message);
        }
        let Some(healing) = self.heals.get_mut(star) else { return };
        let Some(Heal { info, .. }) = healing.open.remove(&hash) else { return };
        healing.healed_count += 1;
        let event =
            ProvenanceEvent::new(ProvenanceType::ChunkHealed, self.hit_of(&info).map(|(job, ..)| job))
                .with_star(star.clone())
                .with_chunk_hash(hash)
                .with_source(from.to_owned())
                .with_destination(star.to_string());
        turn.record(event);
        let jobs =
            info.affected.iter().filter_map(|(id, _)| Some(self.catalogue.get(*id)?.info.job)).collect();
        turn.facts.push(Fact::ChunkHealed { star: star.clone(), hash, jobs });
    }

    /// The first snapshot that a chunk hits of those that are known: its job, its number and the path.
    fn hit_of(&self, info: &DamagedInfo) -> Option<(JobId, SnapshotId, Vec<u8>)> {
        info.affected
            .iter()
            .find_map(|(id, path)| Some((self.catalogue.get(*id)?.info.job, *id, path.clone())))
    }

    /// The answer to a call for a chunk will not come: it is looked for elsewhere.
    pub(in crate::core) fn heal_lost(&mut self, star: &StarId, hash: &ChunkHash) {
        if let Some(heal) = self.heal_mut(star, hash) {
            heal.asked = None;
        }
    }

    /// The vault that is being healed cannot be asked any more: its next hello, or its next find, begins again.
    pub(in crate::core) fn healing_lost(&mut self, star: &StarId) {
        self.heals.remove(star);
    }
}
