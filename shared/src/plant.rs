//! Planted bugs: mistakes that a test puts into the cores, to show that the suite would find them.
//!
//! A mistake is one line at the place where it would be made, behind [`is_planted`]. Without the feature `planted-bugs`
//! that is a constant `false` and nothing of it is left in a program. Only the tests of the crate of tests are built with
//! the feature, and nothing is planted until a test holds a `Planted` on the thread that steps the core. A program that
//! was built with the feature contains a marker; a test looks for it in the package and in the image.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// Coordinator: a report of an assignment that was given back still counts.
    StaleReportAccepted,
    /// Coordinator: a superseded session is still heard.
    StaleSessionHeard,
    /// Coordinator: a stored item keeps its place in the guard.
    PermitLeaked,
    /// Guard: a permit is given back twice.
    PermitReleasedTwice,
    /// Coordinator: a lost Star keeps what it held.
    LostStarKeepsWork,
    /// Coordinator: what is given back does not wait again.
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
    /// Coordinator: the place of a scan is not remembered, so entries are found twice.
    CursorForgotten,
    /// Coordinator: the failure of a source that is away counts against the item.
    RefundForgotten,
    /// Coordinator: a dead letter that is tried again keeps its end.
    RetryKeepsEnd,
    /// Coordinator: assignment numbers begin anew after a restart.
    CounterForgotten,
    /// Coordinator: directories do not wait for the files in them.
    DirectoriesTooEarly,
    /// Coordinator: a cancelled job's work is not withdrawn.
    WithdrawForgotten,
    /// Coordinator: a packed job ends when one of its vaults has its snapshot.
    SealedByOne,
    /// Coordinator: a seal whose answer was lost is not asked for again.
    SealNotAskedAgain,
    /// Coordinator: dead letters are tried again while their snapshot is made.
    RetriedWhileSealed,
    /// Coordinator: what a vault has of jobs that have ended is left there.
    StagesNotAbandoned,
    /// Star: unacknowledged reports are not sent again after a reconnect.
    ReportsNotSentAgain,
    /// Star: work that the coordinator did not keep goes on.
    DroppedWorkGoesOn,
    /// Star: work is accepted while draining.
    WorkAcceptedWhileDraining,
    /// Star: work goes on after its lease is over.
    LeaseIgnored,
    /// Driver: the world is told before the commit.
    ToldBeforeCommit,
    /// Driver: the provenance log is not cut back by a start.
    LogNotCutBack,
    /// Sink: an item is reported before its content is synced.
    ContentNotSynced,
    /// Sink: an item is reported before its directory is synced.
    DirectoryNotSynced,
    /// Sink: what is there already is taken to be durable.
    SkipNotSynced,
    /// Sink: withdrawn work leaves its temporaries.
    TemporariesLeft,
    /// Sink: withdrawn work removes the temporaries of the attempt that came after it.
    TemporariesOfOthersRemoved,
}

impl Bug {
    /// Every mistake.
    pub const ALL: [Self; 33] = [
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

    /// Tells a program with planted mistakes from one without, by its bytes. `tests/tests/cluster` looks for it.
    #[used]
    static MARKER: [u8; 40] = *b"orbit grid: built with planted mistakes\0";

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this thread is to make a mistake.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// This thread makes one mistake for as long as this lives.
    #[derive(Debug)]
    pub struct Planted(());

    impl Planted {
        /// Plants a mistake. One at a time.
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

/// Whether this thread is to make a mistake: never.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}
