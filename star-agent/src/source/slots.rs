//! Places for the pulls that a Star serves: a limit for all, and a share for each peer.
//!
//! A peer is the Star that the grant names. If it holds its whole share, it gets another place only in exchange for one
//! of its own idle pulls. When all places are taken, the pull that has been idle for the longest time ends for a new
//! one, if it was idle for long enough.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orbit_shared::words::StarId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{PULL_IDLE_SPARED, PULLS_SERVED_MAX, PULLS_SERVED_PER_PEER_MAX};

/// The places. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct PullSlots(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    next: u64,
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    peer: StarId,
    /// Cancelled when the place is given to another pull.
    ended: CancellationToken,
    idle_since: Option<Instant>,
}

/// One place. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct PullSlot {
    slots: PullSlots,
    number: u64,
}

/// Why a pull gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSlot {
    /// All places are taken.
    #[error("serves {PULLS_SERVED_MAX} pulls already")]
    All,
    /// The peer holds its whole share.
    #[error("serves {PULLS_SERVED_PER_PEER_MAX} pulls of this Star already")]
    Share,
}

impl PullSlots {
    /// Takes a place for a pull of this peer, which ends when `ended` is cancelled.
    pub(crate) fn enter(&self, peer: &StarId, ended: CancellationToken) -> Result<PullSlot, NoSlot> {
        let mut slots = self.slots();
        if slots.held.values().filter(|held| held.peer == *peer).count() >= PULLS_SERVED_PER_PEER_MAX {
            let idle = slots.longest_idle(|held| held.peer == *peer);
            slots.end(idle.ok_or(NoSlot::Share)?);
        }
        if slots.held.len() >= PULLS_SERVED_MAX {
            let now = Instant::now();
            let is_spared = |since: Instant| now.duration_since(since) < PULL_IDLE_SPARED;
            let idle = slots.longest_idle(|held| held.idle_since.is_some_and(|since| !is_spared(since)));
            slots.end(idle.ok_or(NoSlot::All)?);
        }
        let number = slots.next;
        slots.next += 1;
        // A pull is idle until its first request.
        let held = Held { peer: peer.clone(), ended, idle_since: Some(Instant::now()) };
        slots.held.insert(number, held);
        Ok(PullSlot { slots: self.clone(), number })
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn longest_idle(&self, may_end: impl Fn(&Held) -> bool) -> Option<u64> {
        let idle = self.held.iter().filter(|(_, held)| may_end(held));
        let idle = idle.filter_map(|(number, held)| Some((held.idle_since?, *number)));
        idle.min().map(|(_, number)| number)
    }

    fn end(&mut self, number: u64) {
        if let Some(held) = self.held.remove(&number) {
            held.ended.cancel();
        }
    }
}

impl PullSlot {
    /// Sets whether the pull has nothing to answer.
    pub(crate) fn set_idle(&self, is_idle: bool) {
        let mut slots = self.slots.slots();
        if let Some(held) = slots.held.get_mut(&self.number) {
            match (is_idle, held.idle_since) {
                (true, None) => held.idle_since = Some(Instant::now()),
                (true, Some(_)) => {}
                (false, _) => held.idle_since = None,
            }
        }
    }
}

impl Drop for PullSlot {
    fn drop(&mut self) {
        self.slots.slots().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn star(name: &str) -> StarId {
        StarId::new(name).expect("a name")
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_gets_no_more_than_its_share_and_gives_up_its_own_idle_pulls_first() {
        let slots = PullSlots::default();
        let (greedy, other) = (star("greedy"), star("other"));
        let ended = CancellationToken::new();
        let first = slots.enter(&greedy, ended.clone()).expect("all are free");
        let mut held = Vec::new();
        for _ in 1..PULLS_SERVED_PER_PEER_MAX {
            held.push(slots.enter(&greedy, CancellationToken::new()).expect("it is within the share"));
        }
        held.iter().chain([&first]).for_each(|slot| slot.set_idle(false));
        assert_eq!(slots.enter(&greedy, CancellationToken::new()).err(), Some(NoSlot::Share));
        assert!(slots.enter(&other, CancellationToken::new()).is_ok());
        first.set_idle(true);
        assert!(slots.enter(&greedy, CancellationToken::new()).is_ok() && ended.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_pulls_end_when_all_places_are_taken() {
        let slots = PullSlots::default();
        let ended: Vec<_> = (0..PULLS_SERVED_MAX).map(|_| CancellationToken::new()).collect();
        let held: Vec<_> = ended
            .iter()
            .enumerate()
            .map(|(index, ended)| slots.enter(&star(&format!("star-{}", index % 8)), ended.clone()))
            .collect::<Result<_, _>>()
            .expect("there are as many places");
        let late = star("late");
        assert_eq!(slots.enter(&late, CancellationToken::new()).err(), Some(NoSlot::All), "they are new");
        held[0].set_idle(false);
        tokio::time::advance(PULL_IDLE_SPARED).await;
        assert!(slots.enter(&late, CancellationToken::new()).is_ok());
        assert!(!ended[0].is_cancelled() && ended[1].is_cancelled() && !ended[2].is_cancelled());
        drop(held);
        assert_eq!(slots.slots().held.len(), 0);
    }
}
