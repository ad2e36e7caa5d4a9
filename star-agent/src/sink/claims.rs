//! Keeps two attempts at one item apart. Temporary names belong to items, so that those of a killed process can be
//! found. A withdrawn attempt may still be ending when the next one at the same item begins, and must not publish or
//! remove what that one writes.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use orbit_shared::session::Assignment;
use orbit_shared::words::ItemId;
use tokio::sync::Notify;

use crate::sink::work::item_id;

/// The items that are being worked on.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<BTreeSet<ItemId>>,
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
        self.try_take(&[item]).then(|| Claim { claims: self, items: vec![item] })
    }

    fn try_take(&self, items: &[ItemId]) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = items.iter().all(|item| !held.contains(item));
        if is_free {
            held.extend(items);
        }
        is_free
    }
}

fn items_of(assignment: &Assignment) -> Vec<ItemId> {
    assignment.items.iter().map(|assigned| item_id(assignment, assigned)).collect()
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut held = self.claims.held.lock().unwrap_or_else(PoisonError::into_inner);
        for item in &self.items {
            held.remove(item);
        }
        drop(held);
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
