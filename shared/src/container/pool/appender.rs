//! The open container of a pool, and how much of its content is durable.

use super::super::{ContainerEntry, ContainerError, ContainerWriter, PendingSync};

/// The state of appending. Each appended chunk has a sequence number; everything up to `durable` is safe.
#[derive(Debug, Default)]
pub struct Appender {
    pub(super) active: Option<(u32, ContainerWriter)>,
    pub(super) next_number: u32,
    pub(super) sequence: u64,
    pub(super) durable: u64,
}

/// Where a chunk was appended.
#[derive(Debug, Clone, Copy)]
pub struct AppendedChunk {
    /// The number of the container.
    pub container: u32,
    /// Its place in the file.
    pub entry: ContainerEntry,
    /// Index of the chunk in its container, from 0.
    pub ordinal: u32,
    /// The chunk is durable when the sequence number of the last durable one is not smaller.
    pub sequence: u64,
}

/// A sync that has begun, and the last sequence number that it covers.
#[derive(Debug)]
pub struct Syncing {
    pub(super) number: u32,
    pub(super) pending: PendingSync,
    pub(super) upto: u64,
}

impl Syncing {
    /// Does the work, for which no lock is needed.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn run(&self) -> Result<(), ContainerError> {
        self.pending.run()
    }
}

impl Appender {
    /// The sequence number of the last appended chunk.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The sequence number of the last chunk that is durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The open container, and how many bytes of its file were written.
    pub fn active_end(&self) -> Option<(u32, u64)> {
        self.active.as_ref().map(|(number, writer)| (*number, writer.flushed_end()))
    }

    /// Gives up the open container: its file is gone, or is not the one that was written. Returns the sequence numbers
    /// that are lost, first and last.
    pub fn drop_active(&mut self) -> (u64, u64) {
        self.active = None;
        self.give_up()
    }

    /// All that is not durable is lost. Returns its first and last sequence number. It counts as settled from now on.
    pub fn give_up(&mut self) -> (u64, u64) {
        let lost = (self.durable + 1, self.sequence);
        self.durable = self.sequence;
        lost
    }

    /// Whether the last appended chunk is in a container that is gone.
    pub fn has_lost(&self) -> bool {
        self.active.is_none() && self.durable < self.sequence
    }
}
