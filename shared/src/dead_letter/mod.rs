//! The dead-letter queue: items that were given up, kept so that the rest of the job succeeds and nothing is forgotten.
//!
//! The queue is bounded and never makes room by itself. A full one refuses and hands the entry back, and its owner
//! pauses the job: an overwritten entry would be a file that nobody knows is missing.
//!
//! Reading does not remove. A consumer peeks, stores what it read, and acknowledges the ids; what it did not get to is
//! still there. An id names one death, so an acknowledgement never covers a death that came after the peek.
//!
//! A redriven entry leaves the dead but keeps its place and its history until [`DeadLetterQueue::settle`] says that
//! the item made it. If it dies again it therefore always finds room, and its entry tells of both deaths.

mod entry;
mod queue;
mod reason;
#[cfg(test)]
mod tests;

pub use entry::{DeadLetterEntry, DeadLetterFilter, ERROR_BYTES_MAX, HISTORY_MAX, PastDeath};
pub use queue::{DeadLetterQueue, DeadLetterStats, Drain, QueueFull};
pub use reason::{FailureKind, FailureReason};
