//! The future events, by time. Events with the same time happen in the order in which they were added, so a run depends
//! on its seed only.

use std::collections::BTreeMap;

use orbit_shared::words::AssignmentId;
use orbit_star::core::Event as StarEvent;

use super::network::LinkId;

/// A future event.
#[derive(Debug)]
pub enum Happening {
    /// The due messages on a link arrive, in one direction.
    Delivery {
        /// The link.
        link: LinkId,
        /// From the Star to the coordinator.
        is_up: bool,
    },
    /// Both ends give up a link that has been silent for too long.
    KeepaliveEnded {
        /// The link.
        link: LinkId,
    },
    /// The coordinator's driver takes what is in its inbox.
    CoordinatorTurn {
        /// The process.
        generation: u32,
    },
    /// The commit of a turn ends.
    CommitEnded {
        /// The process.
        generation: u32,
    },
    /// A deadline of the coordinator's core.
    CoordinatorDeadline {
        /// The process.
        generation: u32,
        /// The number of the deadline; a later one replaces it.
        wish: u64,
    },
    /// The coordinator starts.
    CoordinatorStart,
    /// A deadline of a Star's core.
    StarDeadline {
        /// The Star.
        star: usize,
        /// The process.
        process: u32,
        /// The number of the deadline; a later one replaces it.
        wish: u64,
    },
    /// A Star's process starts.
    StarStart {
        /// The Star.
        star: usize,
    },
    /// An event arrives in a Star's inbox.
    StarInbox {
        /// The Star.
        star: usize,
        /// The process.
        process: u32,
        /// The event.
        event: Box<StarEvent>,
    },
    /// A stopped Star continues.
    Thaw {
        /// The Star.
        star: usize,
    },
    /// An assignment advances by one step.
    WorkStep {
        /// The Star.
        star: usize,
        /// The process.
        process: u32,
        /// The assignment.
        assignment: AssignmentId,
    },
    /// A scan advances by one step.
    ScanStep {
        /// The Star.
        star: usize,
        /// The process.
        process: u32,
        /// The run.
        run: u64,
    },
    /// An operator acts.
    Operator,
    /// Something breaks.
    Trouble,
    /// Something is repaired.
    Mending(Mending),
    /// Everything is repaired.
    Healing,
}

/// What is repaired.
#[derive(Debug, Clone, Copy)]
pub enum Mending {
    /// A Star's disk.
    Disk {
        /// The Star.
        star: usize,
    },
    /// One direction of a Star's session works again.
    Session {
        /// The Star.
        star: usize,
        /// Whether it is the direction from the Star.
        is_up: bool,
    },
    /// Two Stars can reach each other again.
    Data {
        /// One.
        star: usize,
        /// The other.
        other: usize,
    },
}

/// All future events.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<(u64, u64), Happening>,
    next: u64,
}

impl Agenda {
    /// Adds an event.
    pub fn add(&mut self, at_ms: u64, happening: Happening) {
        self.next += 1;
        self.entries.insert((at_ms, self.next), happening);
    }

    /// Removes and returns the next event, with its time.
    pub fn take_first(&mut self) -> Option<(u64, Happening)> {
        self.entries.pop_first().map(|((at_ms, _), happening)| (at_ms, happening))
    }
}
