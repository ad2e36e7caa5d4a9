//! The open container, and how much of its content is durable.

use orbit_shared::container::{ContainerWriter, PendingSync};

use super::error::Result;
use super::universe::Location;

/// The state of appending. Everything up to `durable` is safe.
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
    /// Index of the chunk in its container, from 0.
    pub(super) ordinal: u32,
    pub(super) sequence: u64,
}

/// A sync that has begun, and the last sequence number that it covers.
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
    /// The open container, and how many bytes of its file were written.
    pub(super) fn active_end(&self) -> Option<(u32, u64)> {
        self.active.as_ref().map(|(number, writer)| (*number, writer.flushed_end()))
    }

    /// Gives up the open container: its file is gone, or is not the one that was written.
    pub(super) fn drop_active(&mut self) -> (u64, u64) {
        self.active = None;
        self.give_up()
    }

    /// All that is not durable is lost. Returns its first and last sequence number. It counts as settled from now on.
    pub(super) fn give_up(&mut self) -> (u64, u64) {
        let lost = (self.durable + 1, self.sequence);
        self.durable = self.sequence;
        lost
    }

    /// Whether the last appended chunk is in a container that is gone.
    pub(super) fn has_lost(&self) -> bool {
        self.active.is_none() && self.durable < self.sequence
    }
}
