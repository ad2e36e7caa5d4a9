//! Batches of a scan that wait for what the destinations say of them.

use std::sync::Arc;

use orbit_shared::comparison::Unchanged;
use orbit_shared::entry::Entry;
use orbit_shared::session::Failure;

/// Batches that are passed over at most before a destination that had nothing is asked again.
const PASSED_OVER_MAX: u32 = 64;

/// A batch of a scan that waits for what the destinations say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) number: u64,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) is_last: bool,
    pub(super) failure: Option<Failure>,
    pub(super) matched: Vec<u32>,
    pub(super) skipped_mounts: Vec<Vec<u8>>,
    /// What each destination says.
    pub(super) answers: Vec<Answered>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answered {
    /// Not yet; the question's number.
    Awaited(u64),
    /// This is there already.
    Known(Unchanged),
    /// It was not asked, or did not answer.
    Unknown,
}

impl Listed {
    pub(super) fn is_answered(&self) -> bool {
        !self.answers.iter().any(|answer| matches!(answer, Answered::Awaited(_)))
    }

    /// Whether a destination has an entry already.
    pub(super) fn is_unchanged(&self, destination: usize, index: usize) -> bool {
        match self.answers.get(destination) {
            Some(Answered::Known(unchanged)) => unchanged.contains(index),
            Some(Answered::Awaited(_) | Answered::Unknown) | None => false,
        }
    }
}

/// Whether it is worth the while to ask a destination. One that has nothing, as before a first copy, is asked ever more
/// seldom.
#[derive(Debug, Clone, Default)]
pub(super) struct Attention {
    /// Batches still to be passed over.
    left: u32,
    /// As many were passed over last.
    before: u32,
}

impl Attention {
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_due
    }

    pub(super) fn note(&mut self, has_found: bool) {
        self.before = if has_found { 0 } else { (self.before * 2).clamp(1, PASSED_OVER_MAX) };
        self.left = self.before;
    }
}
