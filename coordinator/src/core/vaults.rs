//! What is asked of vaults: calls on their way, and who wants to know.
//!
//! A call belongs to one session. Its answer counts only on that session. When the session ends without one, the caller gets
//! an error.

use orbit_shared::bulletin::Severity;
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::vault_call::limits::{CALL_PATIENCE, CALLS_PER_STAR_MAX};
use orbit_shared::vault_call::{VaultCall, VaultFailure, VaultProblem, VaultReply};
use orbit_shared::words::{JobId, SnapshotId, StarId};

use super::catalogue::Listing;
use super::comparing::COMPARISON_PATIENCE;
use super::event::{Action, Answer, ReplyId, SessionId};
use super::refusal::Refusal;
use super::stars::no_star;
use super::{CoordinatorMessage, Core, Turn};

/// A call that has no answer yet.
#[derive(Debug)]
pub(super) struct Ask {
    session: SessionId,
    star: StarId,
    purpose: Purpose,
    /// When it is given up; a seal takes as long as it takes.
    until: Option<Monotonic>,
}

/// Who wants to know.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Somebody who waits for the answer, and the snapshot that it deletes.
    Caller { reply: ReplyId, deletes: Option<SnapshotId> },
    /// A scan, of which a batch waits to become items.
    Comparison { job: JobId, destination: usize },
    /// A plan, which counts what is there.
    PlanComparison { scan: u64 },
    /// A job that is done but for this.
    Seal { job: JobId, destination: u32 },
    /// A mirror that is done but for this.
    Sweep { job: JobId, destination: u32, operation: u64 },
    /// A plan of a mirror, which counts what would be deleted.
    PlanSweep { scan: u64, destination: u32 },
    /// The catalogue. A list that was overtaken by a deletion is asked for again.
    Catalogue { after: Option<SnapshotId>, is_overtaken: bool },
    /// Nobody: it is made good by the next comparison if it fails.
    Abandon,
    /// The healer, who wants to know what is damaged.
    Damage,
    /// The same, who looks for a good copy of a chunk of this Star.
    HealLocate { star: StarId, hash: ChunkHash },
    /// The same, who has told the Star where one is: in the vault of another Star, or in a file there.
    Heal { hash: ChunkHash, from: String, is_file: bool },
}

impl Purpose {
    /// Whether it is a question about files, not about the vault.
    pub(super) fn is_comparison(&self) -> bool {
        matches!(self, Self::Comparison { .. } | Self::PlanComparison { .. })
    }
}

impl Core {
    /// The Stars whose vaults can be asked now.
    pub fn connected_stars(&self) -> Vec<StarId> {
        let connected = self.stars.values().filter(|star| star.session.is_some());
        connected.map(|star| star.record.star_id.clone()).collect()
    }

    /// Somebody asks a vault for something; the answer comes when the vault gives it.
    pub(super) fn vault_asked(&mut self, turn: &mut Turn, reply: ReplyId, star: &StarId, call: VaultCall) {
        match self.may_ask(star, &call) {
            Ok(session) => {
                let deletes = match &call {
                    VaultCall::DeleteSnapshot(id) => Some(*id),
                    _ => None,
                };
                self.ask(turn, session, star, call, Purpose::Caller { reply, deletes });
            }
            Err(refusal) => turn.actions.push(Action::Reply { reply, answer: Err(refusal) }),
        }
    }

    /// The session on which a vault can be asked, or why it cannot.
    fn may_ask(&self, name: &StarId, call: &VaultCall) -> Result<SessionId, Refusal> {
        let star = self.stars.get(name).ok_or_else(|| no_star(name))?;
        if let VaultCall::DeleteSnapshot(id) = call {
            let reads_it = |job: &&super::Job| job.live.is_some() && job.record.spec.snapshot == Some(*id);
            if let Some(job) = self.jobs.values().find(reads_it) {
                let id = job.record.id;
                let problem = format!("job {id} reads from it; wait for the job, or cancel it");
                return Err(Refusal::WrongState { problem });
            }
        }
        let Some(session) = star.session else {
            return Err(not_connected(name));
        };
        let of_vault = |purpose: &Purpose| !purpose.is_comparison();
        if self.asks_of(name, of_vault) >= CALLS_PER_STAR_MAX {
            let problem = format!("the vault of {name} has {CALLS_PER_STAR_MAX} calls to answer already");
            return Err(Refusal::Full { problem, retry_after: CALL_PATIENCE / 10 });
        }
        Ok(session)
    }

    /// Sends a call and remembers who wants to know. Gives the call's number.
    pub(super) fn ask(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        star: &StarId,
        call: VaultCall,
        purpose: Purpose,
    ) -> u64 {
        let request = self.expect_answer(turn.now, session, star, purpose);
        let message = CoordinatorMessage::CallVault { request, call };
        turn.actions.push(Action::Send { session, message });
        request
    }

    /// Numbers a call and remembers who wants to know.
    pub(super) fn expect_answer(
        &mut self,
        now: Now,
        session: SessionId,
        star: &StarId,
        purpose: Purpose,
    ) -> u64 {
        self.next_ask += 1;
        let until = match purpose {
            Purpose::Seal { .. } => None,
            Purpose::Comparison { .. } | Purpose::PlanComparison { .. } => {
                Some(now.monotonic + COMPARISON_PATIENCE.min(self.config.lease))
            }
            Purpose::Caller { .. }
            | Purpose::Catalogue { .. }
            | Purpose::Abandon
            | Purpose::Damage
            | Purpose::HealLocate { .. }
            | Purpose::Heal { .. }
            | Purpose::Sweep { .. }
            | Purpose::PlanSweep { .. } => Some(now.monotonic + CALL_PATIENCE),
        };
        self.asks.insert(self.next_ask, Ask { session, star: star.clone(), purpose, until });
        self.next_ask
    }

    /// How many calls for such a purpose a Star has to answer.
    pub(super) fn asks_of(&self, star: &StarId, is_it: impl Fn(&Purpose) -> bool) -> usize {
        self.asks.values().filter(|ask| ask.star == *star && is_it(&ask.purpose)).count()
    }

    /// Who wants to know of a comparison that is answered on this session; it waits no more.
    pub(super) fn take_comparison(&mut self, session: SessionId, request: u64) -> Option<Purpose> {
        self.asks.get(&request).filter(|ask| ask.session == session && ask.purpose.is_comparison())?;
        self.asks.remove(&request).map(|ask| ask.purpose)
    }

    /// Compares the catalogue with what a Star has that has just said hello.
    pub(super) fn ask_for_catalogue(&mut self, turn: &mut Turn, session: SessionId, star: &StarId) {
        let purpose = Purpose::Catalogue { after: None, is_overtaken: false };
        self.ask(turn, session, star, VaultCall::ListSnapshots { after: None }, purpose);
    }

    /// Compares the catalogue with all vaults that can be asked: one that was passed over for another may be the only one now.
    pub(super) fn ask_for_catalogues(&mut self, turn: &mut Turn) {
        for star in self.connected_stars() {
            if let Some(session) = self.stars.get(&star).and_then(|star| star.session) {
                self.ask_for_catalogue(turn, session, &star);
            }
        }
    }

    /// A vault has answered.
    pub(super) fn vault_answered(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        request: u64,
        answer: Result<VaultReply, VaultProblem>,
    ) {
        let is_expected = |ask: &Ask| ask.session == session && !ask.purpose.is_comparison();
        if !self.asks.get(&request).is_some_and(is_expected) {
            self.late_count += 1;
            return;
        }
        let Some(Ask { star, purpose, .. }) = self.asks.remove(&request) else { return };
        match purpose {
            Purpose::Comparison { .. } | Purpose::PlanComparison { .. } => {}
            Purpose::Caller { reply, deletes } => {
                if let (Ok(_), Some(id)) = (&answer, deletes) {
                    self.forget_snapshot(turn, id);
                    self.overtake_lists(&star);
                }
                // It was deleted, and is there again.
                if let Ok(VaultReply::Sealed(info, _)) = &answer
                    && self.catalogue(turn, &star, info.clone()) == Listing::Full
                {
                    self.tell_full_catalogue(turn, &star);
                }
                if matches!(&answer, Ok(VaultReply::Scrub(info)) if info.damaged_chunks > 0) {
                    self.look_for_damage(turn, &star);
                }
                if let Ok(VaultReply::Scrub(info)) = &answer {
                    self.record_scrub(turn, &star, info);
                }
                let answer = answer.map(|reply| Answer::Vault(Box::new(reply))).map_err(refusal);
                turn.actions.push(Action::Reply { reply, answer });
            }
            Purpose::Seal { job, destination } => match answer {
                Ok(VaultReply::Sealed(info, renames)) => {
                    if self.catalogue(turn, &star, info.clone()) == Listing::Full {
                        self.tell_full_catalogue(turn, &star);
                    }
                    if self.sealed(turn, job, destination, &info) {
                        self.record_renames(turn, (job, destination), &info, &renames);
                    }
                }
                Ok(_) => self.late_count += 1,
                Err(problem) => self.seal_failed(turn, job, destination, &star, &problem),
            },
            Purpose::Sweep { job, destination, operation } => {
                self.sweep_answered(turn, (job, destination, operation), answer);
            }
            Purpose::PlanSweep { scan, destination } => {
                self.plan_sweep_answered(turn.now, (scan, destination), answer.ok());
            }
            Purpose::Catalogue { after, is_overtaken } => match answer {
                Ok(VaultReply::Snapshots { snapshots, stages, is_end }) => {
                    if is_overtaken {
                        return self.ask_for_catalogue(turn, session, &star);
                    }
                    let last = snapshots.last().map(|info| info.id).filter(|_| !is_end);
                    self.compare(turn, request, &star, (after, last), snapshots);
                    self.abandon_stages(turn, session, &star, &stages);
                    if let Some(after) = last {
                        let call = VaultCall::ListSnapshots { after: Some(after) };
                        let purpose = Purpose::Catalogue { after: Some(after), is_overtaken: false };
                        self.ask(turn, session, &star, call, purpose);
                    }
                }
                Ok(_) => self.late_count += 1,
                Err(problem) => {
                    let message =
                        format!("the vault of {star} does not list its snapshots: {}", problem.message);
                    self.post(turn, (Severity::Warning, star.as_str(), "vault"), None, &message);
                }
            },
            Purpose::Abandon => {}
            Purpose::Damage => self.damage_listed(turn, &star, answer),
            Purpose::HealLocate { star: damaged, hash } => {
                self.heal_located(turn, (&star, request), (&damaged, hash), &answer);
            }
            Purpose::Heal { hash, from, is_file } => {
                self.heal_ended(turn, (&star, request), (hash, &from, is_file), answer);
            }
        }
    }

    /// A list that is on its way may still name what was deleted.
    fn overtake_lists(&mut self, star: &StarId) {
        for ask in self.asks.values_mut().filter(|ask| ask.star == *star) {
            if let Purpose::Catalogue { is_overtaken, .. } = &mut ask.purpose {
                *is_overtaken = true;
            }
        }
    }

    /// A session has ended, and with it every call and every plan on it.
    pub(super) fn end_asks(&mut self, turn: &mut Turn, session: SessionId) {
        self.end_plans_of(turn, session);
        let ended: Vec<u64> =
            self.asks.iter().filter(|(_, ask)| ask.session == session).map(|(&id, _)| id).collect();
        for id in ended {
            let Some(ask) = self.asks.remove(&id) else { continue };
            // The vault that was to fetch a chunk is away itself.
            if let Purpose::Heal { .. } = ask.purpose {
                self.healing_lost(&ask.star);
            }
            self.end_ask(turn, id, ask, "its session ended before its vault answered; try again");
        }
    }

    /// Gives up the calls that take too long.
    pub(super) fn expire_asks(&mut self, turn: &mut Turn) {
        let is_over = |ask: &Ask| ask.until.is_some_and(|until| until <= turn.now.monotonic);
        let over: Vec<u64> = self.asks.iter().filter(|(_, ask)| is_over(ask)).map(|(&id, _)| id).collect();
        for id in over {
            let Some(ask) = self.asks.remove(&id) else { continue };
            self.end_ask(turn, id, ask, "its vault did not answer in time; try again");
        }
    }

    fn end_ask(&mut self, turn: &mut Turn, request: u64, ask: Ask, why: &str) {
        match ask.purpose {
            Purpose::Caller { reply, deletes: _ } => {
                let refusal = Refusal::Unavailable { problem: format!("{}: {why}", ask.star) };
                turn.actions.push(Action::Reply { reply, answer: Err(refusal) });
            }
            Purpose::Comparison { job, destination } => {
                self.settle_comparison(job, destination, request, None);
            }
            Purpose::PlanComparison { scan } => self.settle_plan_comparison(turn, scan, request, None),
            Purpose::Seal { job, destination } => self.seal_lost(job, destination),
            Purpose::Sweep { job, destination, operation } => self.sweep_lost(job, destination, operation),
            // Nobody waits for it if the plan has ended; otherwise it counts as not known.
            Purpose::PlanSweep { scan, destination } => self.plan_sweep_lost(scan, destination),
            // The next hello asks again.
            Purpose::Catalogue { .. } | Purpose::Abandon => {}
            Purpose::Damage => self.healing_lost(&ask.star),
            Purpose::HealLocate { star, hash } => self.heal_lost(&star, &hash),
            Purpose::Heal { hash, .. } => self.heal_lost(&ask.star, &hash),
        }
    }

    /// When the next call takes too long.
    pub(super) fn next_ask_deadline(&self) -> Option<Monotonic> {
        self.asks.values().filter_map(|ask| ask.until).min()
    }
}

pub(super) fn not_connected(star: &StarId) -> Refusal {
    let problem = format!("{star} is not connected, so its vault cannot be asked; start its agent");
    Refusal::WrongState { problem }
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
