//! What is asked of vaults, and what is known of them by that: calls on their way (`asks.rs`), the catalogue of snapshots, and
//! what is being healed.
//!
//! Jobs and plans send calls here too, and get the answer as a [`Fact`].

mod asks;
mod catalogue;
mod heals;
mod last_copies;
mod questions;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::comparison::Unchanged;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::Monotonic;
use orbit_shared::vault_call::limits::{CALL_PATIENCE, CALLS_PER_STAR_MAX};
use orbit_shared::vault_call::{Progress, ScrubInfo, VaultCall, VaultFailure, VaultProblem, VaultReply};
use orbit_shared::words::{JobId, StarId};

use super::event::{Action, ReplyId, SessionId};
use super::fact::Fact;
use super::records::SnapshotRecord;
use super::refusal::Refusal;
use super::stars::Stars;
use super::turn::Turn;
use asks::Ask;
pub(super) use asks::{Asks, Purpose};
pub(super) use catalogue::{Catalogue, not_connected};
use catalogue::{Listing, tell_full};
use heals::Healing;
pub(super) use last_copies::{CATEGORY as LAST_COPY, REMOVED, resolve_last_copies};
pub(super) use questions::SweepName;

/// See the module.
#[derive(Debug)]
pub(super) struct Calls {
    asks: Asks,
    catalogue: Catalogue,
    /// Vaults that are being healed.
    heals: BTreeMap<StarId, Healing>,
    /// Vaults with damage that no other vault could heal at the last attempt.
    unhealed: BTreeSet<StarId>,
}

impl Calls {
    /// Nothing is asked; the catalogue is as it is in the store.
    pub(super) fn recover(snapshots: Vec<SnapshotRecord>, lease: Duration) -> Self {
        Self {
            asks: Asks::new(lease),
            catalogue: Catalogue::recover(snapshots),
            heals: BTreeMap::new(),
            unhealed: BTreeSet::new(),
        }
    }

    /// Where others ask.
    pub(super) fn asks(&mut self) -> &mut Asks {
        &mut self.asks
    }

    /// The catalogue of snapshots.
    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Sends a call of a caller to a vault; the reply follows when the vault answers. `reader` is a job that reads the
    /// snapshot which is to be deleted, if there is one.
    pub(super) fn vault_asked(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        (reply, reader): (ReplyId, Option<JobId>),
        star: &StarId,
        call: VaultCall,
    ) {
        match self.may_ask(stars, star, reader) {
            Ok(session) => {
                let deletes = match &call {
                    VaultCall::DeleteSnapshot(id) => Some(*id),
                    _ => None,
                };
                self.asks.send(turn, session, star, call, Purpose::Caller { reply, deletes });
            }
            Err(refusal) => turn.actions.push(Action::ReplyVault { reply, answer: Err(refusal) }),
        }
    }

    /// The session on which a vault can be asked, or why it cannot.
    fn may_ask(&self, stars: &Stars, name: &StarId, reader: Option<JobId>) -> Result<SessionId, Refusal> {
        let star = stars.known(name)?;
        if let Some(id) = reader {
            let problem = format!("job {id} reads from it; wait for the job, or cancel it");
            return Err(Refusal::WrongState { problem });
        }
        let session = star.session.ok_or_else(|| not_connected(name))?;
        let of_vault = |purpose: &Purpose| !purpose.is_comparison();
        if self.asks.count(name, of_vault) >= CALLS_PER_STAR_MAX {
            let problem = format!("the vault of {name} has {CALLS_PER_STAR_MAX} calls to answer already");
            return Err(Refusal::Full { problem, retry_after: CALL_PATIENCE / 10 });
        }
        Ok(session)
    }

    /// Compares the catalogue with what a Star has that has just said hello.
    pub(super) fn ask_for_catalogue(&mut self, turn: &mut Turn, session: SessionId, star: &StarId) {
        let purpose = Purpose::Catalogue { after: None, is_overtaken: false };
        self.asks.send(turn, session, star, VaultCall::ListSnapshots { after: None }, purpose);
    }

    /// A Star is removed from the grid. One that was passed over for it may be the only one with a snapshot now, so all vaults
    /// that can be asked are compared.
    pub(super) fn forget_star(&mut self, turn: &mut Turn, stars: &Stars, star: &StarId) {
        self.catalogue.forget_star(turn, star);
        self.unhealed.remove(star);
        for name in stars.connected() {
            let session = stars.session_of(&name).expect("it is connected");
            self.ask_for_catalogue(turn, session, &name);
        }
    }

    /// A destination says what it has already.
    pub(super) fn compared(
        &mut self,
        turn: &mut Turn,
        (session, request): (SessionId, u64),
        unchanged: Unchanged,
    ) {
        let Some(ask) = self.asks.take(session, request, true) else {
            turn.late += 1;
            return;
        };
        tell_compared(turn, request, &ask.purpose, Some(unchanged));
    }

    /// A vault has answered. `is_open` tells whether a destination's stage belongs to a job that goes on.
    pub(super) fn vault_answered(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        (session, request): (SessionId, u64),
        answer: Result<VaultReply, VaultProblem>,
        is_open: impl Fn(&StarId, JobId, u32) -> bool,
    ) {
        let Some(Ask { star, purpose, .. }) = self.asks.take(session, request, false) else {
            turn.late += 1;
            return;
        };
        match purpose {
            Purpose::Comparison { .. } | Purpose::PlanComparison { .. } => {
                panic!("the answer to a comparison is taken for a vault's: {purpose:?}");
            }
            Purpose::Caller { reply, deletes } => {
                if let (Ok(_), Some(id)) = (&answer, deletes) {
                    self.catalogue.forget(turn, id);
                    self.asks.overtake_lists(&star);
                }
                // It was deleted, and is there again.
                if let Ok(VaultReply::Sealed(info, _)) = &answer {
                    let last = self.asks.last();
                    if self.catalogue.list(turn, stars, &star, info.clone(), last) == Listing::Full {
                        tell_full(turn, &star);
                    }
                }
                if matches!(&answer, Ok(VaultReply::Scrub(info)) if info.damaged_chunks > 0) {
                    self.look_for_damage(turn, stars, &star);
                }
                if let Ok(VaultReply::Scrub(info)) = &answer {
                    record_scrub(turn, &star, info);
                }
                let answer = answer.map(Box::new).map_err(refusal);
                turn.actions.push(Action::ReplyVault { reply, answer });
            }
            Purpose::Seal { job, destination } => {
                let answer = match answer {
                    Ok(VaultReply::Sealed(info, renames)) => {
                        let last = self.asks.last();
                        if self.catalogue.list(turn, stars, &star, info.clone(), last) == Listing::Full {
                            tell_full(turn, &star);
                        }
                        Ok(Box::new((info, renames)))
                    }
                    Ok(_) => {
                        turn.late += 1;
                        return;
                    }
                    Err(problem) => Err(problem),
                };
                turn.facts.push(Fact::SealAnswered { job, destination, star, answer: Some(answer) });
            }
            Purpose::Sweep { job, destination, operation } => {
                turn.facts.push(Fact::SweepAnswered { job, destination, operation, answer: Some(answer) });
            }
            Purpose::PlanSweep { scan, destination } => {
                turn.facts.push(Fact::PlanSweepAnswered { scan, destination, answer: Some(answer) });
            }
            Purpose::Catalogue { after, is_overtaken } => match answer {
                Ok(VaultReply::Snapshots { .. }) if is_overtaken => {
                    self.ask_for_catalogue(turn, session, &star);
                }
                Ok(VaultReply::Snapshots { snapshots, stages, is_end }) => {
                    let last = snapshots.last().map(|info| info.id).filter(|_| !is_end);
                    let calls = (request, self.asks.last());
                    self.catalogue.compare(turn, stars, calls, &star, (after, last), snapshots);
                    for (job, destination) in stages {
                        if !is_open(&star, job, destination) && !is_planted(Bug::StagesNotAbandoned) {
                            let call = VaultCall::Abandon { job, destination };
                            self.asks.send(turn, session, &star, call, Purpose::Abandon);
                        }
                    }
                    if let Some(after) = last {
                        let call = VaultCall::ListSnapshots { after: Some(after) };
                        let purpose = Purpose::Catalogue { after: Some(after), is_overtaken: false };
                        self.asks.send(turn, session, &star, call, purpose);
                    }
                }
                Ok(_) => turn.late += 1,
                Err(problem) => {
                    let message =
                        format!("the vault of {star} does not list its snapshots: {}", problem.message);
                    turn.post((Severity::Warning, star.as_str(), "vault"), None, &message);
                }
            },
            Purpose::Abandon => {}
            Purpose::Damage => self.damage_listed(turn, &star, answer),
            Purpose::HealLocate { star: damaged, hash } => {
                self.heal_located(turn, stars, (&star, request), (&damaged, hash), &answer);
            }
            Purpose::Heal { hash, from, is_file } => {
                self.heal_ended(turn, (&star, request), (hash, &from, is_file), answer);
            }
        }
    }

    /// A session has ended, and with it every call on it.
    pub(super) fn end_session(&mut self, turn: &mut Turn, session: SessionId) {
        for (request, ask) in self.asks.end_session(session) {
            // The vault that was to fetch a chunk is away itself.
            if let Purpose::Heal { .. } = ask.purpose {
                self.healing_lost(&ask.star);
            }
            self.end_ask(turn, request, ask, "its session ended before its vault answered; try again");
        }
    }

    /// Gives up the calls that take too long.
    pub(super) fn expire(&mut self, turn: &mut Turn) {
        for (request, ask) in self.asks.expire(turn.now) {
            self.end_ask(turn, request, ask, "its vault did not answer in time; try again");
        }
    }

    fn end_ask(&mut self, turn: &mut Turn, request: u64, ask: Ask, why: &str) {
        let Ask { star, purpose, .. } = ask;
        match purpose {
            Purpose::Caller { reply, deletes: _ } => {
                let refusal = Refusal::Unavailable { problem: format!("{star}: {why}") };
                turn.actions.push(Action::ReplyVault { reply, answer: Err(refusal) });
            }
            Purpose::Comparison { .. } | Purpose::PlanComparison { .. } => {
                tell_compared(turn, request, &purpose, None);
            }
            Purpose::Seal { job, destination } => {
                turn.facts.push(Fact::SealAnswered { job, destination, star, answer: None });
            }
            Purpose::Sweep { job, destination, operation } => {
                turn.facts.push(Fact::SweepAnswered { job, destination, operation, answer: None });
            }
            Purpose::PlanSweep { scan, destination } => {
                turn.facts.push(Fact::PlanSweepAnswered { scan, destination, answer: None });
            }
            // The next hello asks again.
            Purpose::Catalogue { .. } | Purpose::Abandon => {}
            Purpose::Damage => self.healing_lost(&star),
            Purpose::HealLocate { star, hash } => self.heal_lost(&star, &hash),
            Purpose::Heal { hash, .. } => self.heal_lost(&star, &hash),
        }
    }

    /// When the next call takes too long.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.asks.next_deadline()
    }

    /// A vault has made a snapshot: what it stored for that may be what was lost.
    pub(super) fn snapshot_made(&mut self, turn: &mut Turn, stars: &Stars, star: &StarId) {
        if self.unhealed.contains(star) {
            self.look_for_damage(turn, stars, star);
        }
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        self.asks.check();
        self.catalogue.check();
    }

    /// The same for what would take a pass over everything.
    pub(super) fn check_all(&self) {
        self.check();
        self.catalogue.check_all();
    }
}

/// Records that a scrub has ended, with the chunks that were as they should be.
fn record_scrub(turn: &mut Turn, star: &StarId, info: &ScrubInfo) {
    if info.progress != Progress::Done || info.checked_chunks == 0 {
        return;
    }
    let event = ProvenanceEvent::new(ProvenanceType::ChunkVerified, None)
        .with_star(star.clone())
        .with_bytes(info.checked_bytes)
        .with_context("chunks", info.checked_chunks.to_string())
        .with_context("damaged_chunks", info.damaged_chunks.to_string());
    turn.record(event);
}

fn tell_compared(turn: &mut Turn, request: u64, purpose: &Purpose, unchanged: Option<Unchanged>) {
    turn.facts.push(match *purpose {
        Purpose::Comparison { job, destination } => Fact::Compared { job, destination, request, unchanged },
        Purpose::PlanComparison { scan } => Fact::PlanCompared { scan, request, unchanged },
        _ => panic!("{purpose:?} compares nothing"),
    });
}

/// A vault's refusal as the caller's.
fn refusal(problem: VaultProblem) -> Refusal {
    let VaultProblem { failure, message } = problem;
    match failure {
        VaultFailure::NotFound => Refusal::NotFound { what: message },
        VaultFailure::Busy => Refusal::WrongState { problem: message },
        VaultFailure::Full => Refusal::Full { problem: message, retry_after: CALL_PATIENCE },
        VaultFailure::Damaged => Refusal::Damaged { problem: message },
        VaultFailure::Failed => Refusal::Unavailable { problem: message },
    }
}
