//! The container that grows, and how far of what was appended to it is durable.

use orbit_shared::container::{ContainerWriter, PendingSync};

use super::error::Result;
use super::universe::Location;

/// What is appended to. Everything up to `durable` is safe.
#[derive(Debug, Default)]
pub(super) struct Appender {
    pub(super) active: Option<(u32, ContainerWriter)>,
    pub(super) next_number: u32,
    pub(super) sequence: u64,
    pub(super) durable: u64,
}

/// Where a chunk was appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appended {
    pub(super) location: Location,
    /// Which of the container's chunks it is, from 0.
    pub(super) ordinal: u32,
    pub(super) sequence: u64,
}

/// A sync that has begun, and the sequence that it covers.
pub(super) struct Syncing {
    pub(super) number: u32,
    pub(super) pending: PendingSync,
    pub(super) upto: u64,
}

impl Syncing {
    pub(super) fn run(&self) -> Result<()> {
        Ok(self.pending.run()?)
    }
}
impl Appender {
    /// The container that grows, and how many bytes of its file were written.
    pub(super) fn active_end(&self) -> Option<(u32, u64)> {
        self.active.as_ref().map(|(number, writer)| (*number, writer.flushed_end()))
    }

    /// Lets go of the container that grows: its file is not there any more, or not the one that was written.
    pub(super) fn drop_active(&mut self) -> (u64, u64) {
        self.active = None;
        self.give_up()
    }

    /// What is not durable is lost: its first and last sequence. It counts as settled from now on.
    pub(super) fn give_up(&mut self) -> (u64, u64) {
        let lost = (self.durable + 1, self.sequence);
        self.durable = self.sequence;
        lost
    }

    /// Whether what was appended last is in a container that is gone.
    pub(super) fn has_lost(&self) -> bool {
        self.active.is_none() && self.durable < self.sequence
    }
}
