//! Calls that are on their way to Stars, and who wants to know.
//!
//! A call belongs to one session. Its answer counts only on that session.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::session::CoordinatorMessage;
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::vault_call::VaultCall;
use orbit_shared::vault_call::limits::CALL_PATIENCE;
use orbit_shared::words::{JobId, SnapshotId, StarId};

use crate::core::event::{Action, ReplyId, SessionId};
use crate::core::turn::Turn;

/// How long an answer to a comparison is waited for; never longer than the lease.
const COMPARISON_PATIENCE: Duration = Duration::from_secs(5);

/// A call that has no answer yet.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) session: SessionId,
    pub(super) star: StarId,
    pub(super) purpose: Purpose,
    /// When it is given up; a seal takes as long as it takes.
    until: Option<Monotonic>,
}

/// Who wants to know.
#[derive(Debug)]
pub(in crate::core) enum Purpose {
    /// A caller that waits for the answer, and the snapshot that the call deletes.
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
    /// No caller: if the call fails, the next comparison makes up for it.
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
    pub(in crate::core) fn is_comparison(&self) -> bool {
        matches!(self, Self::Comparison { .. } | Self::PlanComparison { .. })
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::core) struct Asks {
    open: BTreeMap<u64, Ask>,
    /// When they are given up.
    untils: std::collections::BTreeSet<(Monotonic, u64)>,
    /// The number of the last one.
    last: u64,
    comparison_patience: Duration,
}

impl Asks {
    /// No calls; a Star that is silent is lost after the lease.
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            open: BTreeMap::new(),
            untils: std::collections::BTreeSet::new(),
            last: 0,
            comparison_patience: COMPARISON_PATIENCE.min(lease),
        }
    }

    /// Sends a call and remembers who wants to know. Gives the call's number.
    pub(in crate::core) fn send(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        star: &StarId,
        call: VaultCall,
        purpose: Purpose,
    ) -> u64 {
        let request = self.expect(turn.now, session, star, purpose);
        let message = CoordinatorMessage::CallVault { request, call };
        turn.actions.push(Action::Send { session, message });
        request
    }

    /// Numbers a call and remembers who wants to know.
    pub(in crate::core) fn expect(
        &mut self,
        now: Now,
        session: SessionId,
        star: &StarId,
        purpose: Purpose,
    ) -> u64 {
        self.last += 1;
        let patience = match purpose {
            Purpose::Seal { .. } => None,
            Purpose::Comparison { .. } | Purpose::PlanComparison { .. } => Some(self.comparison_patience),
            Purpose::Caller { .. }
            | Purpose::Catalogue { .. }
            | Purpose::Abandon
            | Purpose::Damage
            | Purpose::HealLocate { .. }
            | Purpose::Heal { .. }
            | Purpose::Sweep { .. }
            | Purpose::PlanSweep { .. } => Some(CALL_PATIENCE),
        };
        let until = patience.map(|patience| now.monotonic + patience);
        self.untils.extend(until.map(|until| (until, self.last)));
        let before = self.open.insert(self.last, Ask { session, star: star.clone(), purpose, until });
        assert!(before.is_none(), "call {} is on its way already", self.last);
        self.last
    }

    /// The number of the last call.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// How many calls for such a purpose a Star has to answer.
    pub(in crate::core) fn count(&self, star: &StarId, is_it: impl Fn(&Purpose) -> bool) -> usize {
        self.open.values().filter(|ask| ask.star == *star && is_it(&ask.purpose)).count()
    }

    /// The call that is answered on this session, if it is expected there; it waits no more.
    pub(super) fn take(&mut self, session: SessionId, request: u64, is_comparison: bool) -> Option<Ask> {
        let is_expected = |ask: &&Ask| ask.session == session && ask.purpose.is_comparison() == is_comparison;
        self.open.get(&request).filter(is_expected)?;
        self.remove(request)
    }

    fn remove(&mut self, request: u64) -> Option<Ask> {
        let ask = self.open.remove(&request)?;
        if let Some(until) = ask.until {
            let was_there = self.untils.remove(&(until, request));
            assert!(was_there, "call {request} was not to be given up at {until:?}");
        }
        Some(ask)
    }

    /// Takes out the calls on a session, by number.
    pub(super) fn end_session(&mut self, session: SessionId) -> Vec<(u64, Ask)> {
        let of_session = self.open.iter().filter(|(_, ask)| ask.session == session);
        let ended: Vec<u64> = of_session.map(|(&request, _)| request).collect();
        ended.into_iter().filter_map(|request| Some((request, self.remove(request)?))).collect()
    }

    /// Takes out the calls that take too long, by number.
    pub(super) fn expire(&mut self, now: Now) -> Vec<(u64, Ask)> {
        let over = self.untils.iter().take_while(|(until, _)| *until <= now.monotonic);
        let mut over: Vec<u64> = over.map(|(_, request)| *request).collect();
        over.sort_unstable();
        over.into_iter().filter_map(|request| Some((request, self.remove(request)?))).collect()
    }

    /// A list that is on its way may still name what was deleted.
    pub(super) fn overtake_lists(&mut self, star: &StarId) {
        for ask in self.open.values_mut().filter(|ask| ask.star == *star) {
            if let Purpose::Catalogue { is_overtaken, .. } = &mut ask.purpose {
                *is_overtaken = true;
            }
        }
    }

    /// When the next call takes too long.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.untils.first().map(|(until, _)| *until)
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let last = self.open.last_key_value().map_or(0, |(request, _)| *request);
        assert!(last <= self.last, "call {last} is on its way and {} was the last", self.last);
        let (open, untils) = (self.open.len(), self.untils.len());
        assert!(untils <= open, "{untils} of {open} calls are to be given up");
    }
}
