//! Injected bugs: faults that a test activates in the cores, to show that the suite would find them.
//!
//! A fault is one line at the place of the mistake, behind [`is_planted`]. Without the feature `planted-bugs` that is a
//! constant `false`, and a program contains no trace of it. Only the `tests` crate is built with the feature, and no
//! fault is active until a test holds a `Planted` on the thread that steps the core. A program that was built with the
//! feature contains a marker; a test looks for it in the package and in the image.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// Coordinator: a report of an assignment that was taken back still counts.
    StaleReportAccepted,
    /// Coordinator: messages of a superseded session still count.
    StaleSessionHeard,
    /// Coordinator: a stored item keeps its place in the guard.
    PermitLeaked,
    /// Guard: a permit is given back twice.
    PermitReleasedTwice,
    /// Coordinator: a lost Star keeps what it held.
    LostStarKeepsWork,
    /// Coordinator: an item that was taken back is not queued again.
    ReleasedItemNotQueued,
    /// Coordinator: an item that ended stays in the store's queue.
    DequeueForgotten,
    /// Coordinator: a report is acknowledged and its end is not made durable.
    EndForgotten,
    /// Coordinator: a draining Star is given work.
    DrainIgnored,
    /// Coordinator: a cordoned Star is given work.
    CordonIgnored,
    /// Coordinator: penalties are forgotten by a restart.
    PenaltyForgottenAtRestart,
    /// Coordinator: a paused guard is open after a restart.
    PauseForgottenAtRestart,
    /// Coordinator: the position of a scan is not stored, so entries are found twice.
    CursorForgotten,
    /// Coordinator: the failure of an unreachable source counts against the item.
    RefundForgotten,
    /// Coordinator: a dead letter that is retried keeps its end.
    RetryKeepsEnd,
    /// Coordinator: assignment numbers start from the beginning after a restart.
    CounterForgotten,
    /// Coordinator: directories do not wait for the files in them.
    DirectoriesTooEarly,
    /// Coordinator: a cancelled job's work is not withdrawn.
    WithdrawForgotten,
    /// Coordinator: a packed job ends when one of its vaults has its snapshot.
    SealedByOne,
    /// Coordinator: a seal whose answer was lost is not requested again.
    SealNotAskedAgain,
    /// Coordinator: dead letters are retried while their snapshot is made.
    RetriedWhileSealed,
    /// Coordinator: stages of ended jobs are left in a vault.
    StagesNotAbandoned,
    /// Star: unacknowledged reports are not sent again after a reconnect.
    ReportsNotSentAgain,
    /// Star: work that the coordinator did not keep continues.
    DroppedWorkGoesOn,
    /// Star: work is accepted while draining.
    WorkAcceptedWhileDraining,
    /// Star: work continues after its lease has ended.
    LeaseIgnored,
    /// Driver: changes are reported before the commit.
    ToldBeforeCommit,
    /// Driver: a view sees changes that are not committed.
    ViewOfUncommitted,
    /// Driver: the provenance log is not truncated at a start.
    LogNotCutBack,
    /// Sink: an item is reported before its content is synced.
    ContentNotSynced,
    /// Sink: an item is reported before its directory is synced.
    DirectoryNotSynced,
    /// Sink: an existing file is taken to be durable.
    SkipNotSynced,
    /// Sink: withdrawn work leaves its temporaries.
    TemporariesLeft,
    /// Sink: withdrawn work removes the temporaries of the next attempt.
    TemporariesOfOthersRemoved,
}

impl Bug {
    /// All faults.
    pub const ALL: [Self; 34] = [
        Self::StaleReportAccepted,
        Self::StaleSessionHeard,
        Self::PermitLeaked,
        Self::PermitReleasedTwice,
        Self::LostStarKeepsWork,
        Self::ReleasedItemNotQueued,
        Self::DequeueForgotten,
        Self::EndForgotten,
        Self::DrainIgnored,
        Self::CordonIgnored,
        Self::PenaltyForgottenAtRestart,
        Self::PauseForgottenAtRestart,
        Self::CursorForgotten,
        Self::RefundForgotten,
        Self::RetryKeepsEnd,
        Self::CounterForgotten,
        Self::DirectoriesTooEarly,
        Self::WithdrawForgotten,
        Self::SealedByOne,
        Self::SealNotAskedAgain,
        Self::RetriedWhileSealed,
        Self::StagesNotAbandoned,
        Self::ReportsNotSentAgain,
        Self::DroppedWorkGoesOn,
        Self::WorkAcceptedWhileDraining,
        Self::LeaseIgnored,
        Self::ToldBeforeCommit,
        Self::ViewOfUncommitted,
        Self::LogNotCutBack,
        Self::ContentNotSynced,
        Self::DirectoryNotSynced,
        Self::SkipNotSynced,
        Self::TemporariesLeft,
        Self::TemporariesOfOthersRemoved,
    ];
}

#[cfg(feature = "planted-bugs")]
mod planted {
    use std::cell::Cell;

    use super::Bug;

    /// Marks a program with injected faults in its bytes. `tests/tests/cluster` looks for it.
    #[used]
    static MARKER: [u8; 40] = *b"orbit grid: built with planted mistakes\0";

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this thread has this fault.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// The fault is active on this thread for as long as this exists.
    #[derive(Debug)]
    pub struct Planted(());

    impl Planted {
        /// Activates a fault. Only one at a time.
        pub fn new(bug: Bug) -> Self {
            let before = PLANTED.replace(Some(bug));
            assert_eq!(before, None, "one mistake at a time");
            Self(())
        }
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
}

#[cfg(feature = "planted-bugs")]
pub use planted::{Planted, is_planted};

/// Whether this thread has this fault: never.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}
