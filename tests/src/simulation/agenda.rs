//! What will happen, and when. Whatever is due at the same moment happens in the order in which it was written down, so
//! a run depends on nothing but its seed.

use std::collections::BTreeMap;

use orbit_shared::words::AssignmentId;
use orbit_star::core::Event as StarEvent;

use super::network::LinkId;

/// One thing that will happen.
#[derive(Debug)]
pub enum Happening {
    /// What is due on a link, upwards or downwards, arrives.
    Delivery {
        /// The link.
        link: LinkId,
        /// From the Star to the coordinator.
        is_up: bool,
    },
    /// A link that has been silent for too long is given up by both ends.
    KeepaliveEnded {
        /// The link.
        link: LinkId,
    },
    /// The coordinator's driver takes what is in its inbox.
    CoordinatorTurn {
        /// Of which process.
        generation: u32,
    },
    /// The coordinator's core wanted to be woken.
    CoordinatorDeadline {
        /// Of which process.
        generation: u32,
        /// Which wish; a later one replaces it.
        wish: u64,
    },
    /// The coordinator starts.
    CoordinatorStart,
    /// A Star's core wanted to be woken.
    StarDeadline {
        /// The Star.
        star: usize,
        /// Of which process.
        process: u32,
        /// Which wish; a later one replaces it.
        wish: u64,
    },
    /// A Star's process starts.
    StarStart {
        /// The Star.
        star: usize,
    },
    /// Something arrives in a Star's inbox.
    StarInbox {
        /// The Star.
        star: usize,
        /// Of which process.
        process: u32,
        /// What.
        event: Box<StarEvent>,
    },
    /// A stopped Star goes on.
    Thaw {
        /// The Star.
        star: usize,
    },
    /// Work on an assignment goes one step on.
    WorkStep {
        /// The Star.
        star: usize,
        /// Of which process.
        process: u32,
        /// The assignment.
        assignment: AssignmentId,
    },
    /// A scan goes one step on.
    ScanStep {
        /// The Star.
        star: usize,
        /// Of which process.
        process: u32,
        /// The run.
        run: u64,
    },
    /// An operator does something.
    Operator,
    /// Something breaks.
    Trouble,
    /// A broken thing is mended.
    Mending(Mending),
    /// Everything is mended.
    Healing,
}

/// What is mended.
#[derive(Debug, Clone, Copy)]
pub enum Mending {
    /// A Star's disk.
    Disk {
        /// The Star.
        star: usize,
    },
    /// What a Star says arrives again, or what it is told.
    Session {
        /// The Star.
        star: usize,
        /// What it says.
        is_up: bool,
    },
    /// Two Stars reach each other.
    Data {
        /// One.
        star: usize,
        /// The other.
        other: usize,
    },
}

/// All that will happen.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<(u64, u64), Happening>,
    next: u64,
}

impl Agenda {
    /// Writes something down.
    pub fn add(&mut self, at_ms: u64, happening: Happening) {
        self.next += 1;
        self.entries.insert((at_ms, self.next), happening);
    }

    /// What happens next, and when.
    pub fn take_first(&mut self) -> Option<(u64, Happening)> {
        self.entries.pop_first().map(|((at_ms, _), happening)| (at_ms, happening))
    }
}
