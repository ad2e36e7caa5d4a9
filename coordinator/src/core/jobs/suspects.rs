//! What is held against items, and what Stars had in their hands when their agents died. `poison.rs` judges by it.

use std::collections::{BTreeMap, VecDeque};

use orbit_shared::time::Monotonic;
use orbit_shared::words::{AssignmentId, ItemId, StarId};

use super::suspicion::Suspicion;

/// What is held against an item.
#[derive(Debug)]
pub(super) struct Suspect {
    /// How closely it is watched.
    pub(super) suspicion: Suspicion,
    /// The Star that died last with it in its hands.
    pub(super) star: StarId,
    /// Since when it is under suspicion. Earlier deaths do not count against it.
    pub(super) since: Monotonic,
    /// When the agents of Stars died while it was among others in their hands, the last few times for each: an item is received
    /// by one Star and read from another. Deaths while it was alone are kept with their Star.
    pub(super) in_company: BTreeMap<StarId, VecDeque<Monotonic>>,
}

impl Suspect {
    /// How closely it is watched.
    pub(super) fn suspicion(&self) -> Suspicion {
        self.suspicion
    }
}

/// What was in a Star's hands when its last session ended.
#[derive(Debug, Default)]
pub(super) struct HeldAtEnd {
    /// Items that may have to do with it; those that the Star was receiving with their assignments.
    pub(super) items: BTreeMap<ItemId, Option<AssignmentId>>,
    /// Whether it was doing anything else.
    pub(super) is_busy_otherwise: bool,
    /// Whether it has left on request, so that nothing is to blame.
    pub(super) has_left: bool,
}

impl HeldAtEnd {
    /// An item has ended; nothing that happens later is its doing.
    pub(super) fn forget(&mut self, item: ItemId) {
        if self.items.remove(&item).is_some() {
            self.is_busy_otherwise = true;
        }
    }
}

/// An item that is alone in a Star's hands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    /// Its assignment.
    pub(super) assignment: AssignmentId,
    /// Until when the Star is given nothing else.
    pub(super) until: Monotonic,
}
