//! Limits how many assignments are worked on at a time. The others wait. They are not begun, so the journal does not
//! have them.
//!
//! Large files have their own slots, because one of them may take hours. One source cannot take every slot of either
//! kind, because a source may be slow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use orbit_shared::session::{Assignment, limits};
use orbit_shared::words::StarId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{LARGE_PULLS_MAX, LARGE_PULLS_PER_SOURCE_MAX, PULLS_MAX, PULLS_PER_SOURCE_MAX};

/// The slots of one Star.
#[derive(Debug)]
pub(super) struct Slots {
    ordinary: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// The sources with an assignment that runs or waits.
    of_sources: Mutex<BTreeMap<(StarId, bool), Arc<Semaphore>>>,
}

/// The right to work on one assignment.
#[derive(Debug)]
pub(super) struct Slot {
    _of_source: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            ordinary: Arc::new(Semaphore::new(PULLS_MAX)),
            large: Arc::new(Semaphore::new(LARGE_PULLS_MAX)),
            of_sources: Mutex::default(),
        }
    }
}

impl Slots {
    /// Waits for a slot.
    pub(super) async fn take(&self, assignment: &Assignment) -> Slot {
        let is_large = assignment.items.iter().any(|item| item.entry.size() > limits::ASSIGNMENT_BYTES_MAX);
        let of_source = self.of_source(&assignment.source_star, is_large);
        let all = if is_large { &self.large } else { &self.ordinary };
        let open = "slots are never closed";
        let of_source = of_source.acquire_owned().await.expect(open);
        Slot { _of_source: of_source, _of_all: Arc::clone(all).acquire_owned().await.expect(open) }
    }

    fn of_source(&self, source: &StarId, is_large: bool) -> Arc<Semaphore> {
        let mut known = self.of_sources.lock().unwrap_or_else(PoisonError::into_inner);
        // A holder of a permit also holds the semaphore, and so does a task that waits for one.
        known.retain(|_, slots| Arc::strong_count(slots) > 1);
        let count = if is_large { LARGE_PULLS_PER_SOURCE_MAX } else { PULLS_PER_SOURCE_MAX };
        let new = || Arc::new(Semaphore::new(count));
        Arc::clone(known.entry((source.clone(), is_large)).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use orbit_shared::entry::EntryKind;
    use orbit_shared::words::Layout;

    use super::*;
    use crate::core::test_assignment;

    fn assignment(source: &str, size: u64) -> Assignment {
        let mut assignment = test_assignment(1, 1);
        assignment.source_star = StarId::new(source).unwrap();
        assignment.items[0].entry.kind = EntryKind::File { size };
        assignment
    }

    fn try_take(slots: &Slots, source: &str, size: u64) -> Option<Slot> {
        let assignment = assignment(source, size);
        match pin!(slots.take(&assignment)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(slot) => Some(slot),
            Poll::Pending => None,
        }
    }

    const LARGE: u64 = limits::ASSIGNMENT_BYTES_MAX + 1;

    #[test]
    fn large_files_and_slow_sources_leave_slots_for_the_others() {
        let slots = Slots::default();
        let large: Vec<Slot> = std::iter::from_fn(|| try_take(&slots, "star-1", LARGE)).collect();
        assert_eq!(large.len(), LARGE_PULLS_PER_SOURCE_MAX);
        let mut small: Vec<Slot> = std::iter::from_fn(|| try_take(&slots, "star-1", 1)).collect();
        assert_eq!(small.len(), PULLS_PER_SOURCE_MAX);
        assert!(try_take(&slots, "star-2", 1).is_some() && try_take(&slots, "star-2", LARGE).is_some());
        small.pop();
        assert!(try_take(&slots, "star-1", 1).is_some(), "a slot that is given back is there again");
    }

    #[test]
    fn files_and_vaults_share_the_slots() {
        let slots = Slots::default();
        let mut held = Vec::new();
        for number in 0..2 * PULLS_MAX {
            let layout = if number % 2 == 0 { Layout::Files } else { Layout::Packed };
            let assignment = Assignment { layout, ..assignment(&format!("star-{number}"), 1) };
            match pin!(slots.take(&assignment)).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(slot) => held.push(slot),
                Poll::Pending => assert_eq!(held.len(), PULLS_MAX, "{layout:?} waits"),
            }
        }
        assert_eq!(held.len(), PULLS_MAX);
    }

    #[test]
    fn sources_that_have_nothing_to_do_are_forgotten() {
        let slots = Slots::default();
        for number in 0..100 {
            drop(try_take(&slots, &format!("star-{number}"), 1));
        }
        assert!(slots.of_sources.lock().unwrap().len() <= 1);
    }
}
