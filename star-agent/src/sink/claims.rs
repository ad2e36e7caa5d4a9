//! Keeps two attempts at one item apart. Temporary names belong to items, so that those of a killed process can be
//! found. A withdrawn attempt may still be ending when the next one at the same item begins, and must not publish or
//! remove what that one writes.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use orbit_shared::entry::EntryKind;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::{AssignedItem, Assignment};
use orbit_shared::words::ItemId;
use tokio::sync::Notify;

/// The items that are being worked on, one attempt at a time. Pure: a sink waits for them.
#[derive(Debug, Default)]
pub struct ClaimSet(BTreeSet<ItemId>);

impl ClaimSet {
    /// Claims all of these items, or none if an attempt at one of them is under way.
    pub fn try_take(&mut self, items: &[ItemId]) -> bool {
        let is_free = items.iter().all(|item| !self.0.contains(item));
        if is_free {
            self.0.extend(items);
        }
        is_free
    }

    /// Whether what is left of an ended attempt at an item may be removed: what is there may belong to an attempt that is
    /// under way.
    pub fn may_clean(&self, item: ItemId) -> bool {
        !self.0.contains(&item) || is_planted(Bug::TemporariesOfOthersRemoved)
    }

    /// Releases claims.
    pub fn release(&mut self, items: &[ItemId]) {
        for item in items {
            let was_claimed = self.0.remove(item);
            assert!(was_claimed, "what is released was claimed: {item}");
        }
    }
}

/// The id of an item in the grid.
pub fn item_id(assignment: &Assignment, item: &AssignedItem) -> ItemId {
    ItemId { job: assignment.job, destination: assignment.destination, sequence: item.sequence }
}

/// The ids of all items of an assignment, in order.
pub fn items_of(assignment: &Assignment) -> Vec<ItemId> {
    assignment.items.iter().map(|assigned| item_id(assignment, assigned)).collect()
}

/// The items whose temporaries an ended attempt may have left, and which are to be removed. Directories have none, and
/// those are kept of which the next attempt needs the progress.
pub fn leftovers(assignment: &Assignment, is_kept: impl Fn(ItemId) -> bool) -> BTreeSet<usize> {
    if is_planted(Bug::TemporariesLeft) {
        return BTreeSet::new();
    }
    let items = assignment.items.iter().enumerate();
    let left = items
        .filter(|(_, item)| item.entry.kind != EntryKind::Directory && !is_kept(item_id(assignment, item)));
    left.map(|(index, _)| index).collect()
}

/// Lets attempts wait for the end of others at the same items.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<ClaimSet>,
    released: Notify,
}

/// The claim on all items of one assignment, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim<'claims> {
    claims: &'claims Claims,
    items: Vec<ItemId>,
}

impl Claims {
    /// Waits until no other attempt at any of the items is under way. Claims all of them at once, so that two
    /// assignments never wait for each other.
    pub(super) async fn claim(&self, assignment: &Assignment) -> Claim<'_> {
        let items = items_of(assignment);
        loop {
            // Registered before the check, so that a release in between is not missed.
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            if self.try_take(&items) {
                return Claim { claims: self, items };
            }
            released.await;
        }
    }

    /// Claims one item if no attempt at it is under way.
    pub(super) fn try_claim(&self, item: ItemId) -> Option<Claim<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = held.may_clean(item) && held.try_take(&[item]);
        is_taken.then(|| Claim { claims: self, items: vec![item] })
    }

    fn try_take(&self, items: &[ItemId]) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).try_take(items)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.held.lock().unwrap_or_else(PoisonError::into_inner).release(&self.items);
        self.claims.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::words::JobId;

    use super::*;

    #[test]
    fn an_item_is_claimed_once_at_a_time() {
        let claims = Claims::default();
        let item = |sequence| ItemId { job: JobId(1), destination: 0, sequence };
        let held = claims.try_claim(item(1));
        assert!(held.is_some() && claims.try_claim(item(1)).is_none());
        assert!(claims.try_claim(item(2)).is_some());
        drop(held);
        assert!(claims.try_claim(item(1)).is_some());
    }
}
