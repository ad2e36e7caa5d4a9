//! The dead-letter queue: items that were given up, kept so that the rest of the job succeeds and nothing is forgotten.
//!
//! The queue is bounded and never evicts an entry. A full queue refuses and returns the entry, and its owner pauses the
//! job: a lost entry would be a missing file without a record.
//!
//! Reading does not remove. A consumer peeks, stores what it read, and acknowledges the ids; the rest stays in the
//! queue. An id names one death, so an acknowledgement never covers a death that came after the peek.
//!
//! A redriven entry is no longer dead, but keeps its place and its history until [`DeadLetterQueue::settle`] reports
//! that the item succeeded. If it dies again it therefore always finds room, and its entry has both deaths.

mod entry;
mod queue;
mod reason;
#[cfg(test)]
mod tests;

pub use entry::{DeadLetterEntry, DeadLetterFilter, ERROR_BYTES_MAX, HISTORY_MAX, PastDeath};
pub use queue::{DeadLetterQueue, DeadLetterStats, Drain, QueueFull};
pub use reason::{FailureKind, FailureReason};
