//! Counters of a Star's data plane, for heartbeats and metrics.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use orbit_shared::bulletin::truncate_visibly;
use orbit_shared::session::{Failure, FailureCause};

/// Maximum number of failures whose causes are remembered.
const FAILURES_KEPT_MAX: usize = 1000;
/// Maximum length of the newest failure's message, in bytes.
const EXAMPLE_BYTES_MAX: usize = 512;

/// Counters since the process started. They are shared by reference and independent of each other.
#[derive(Debug, Default)]
pub struct Meters {
    bytes_moved: AtomicU64,
    operations: AtomicU64,
    errors: AtomicU64,
    served_pulls: AtomicU64,
    failures: Mutex<RecentFailures>,
}

/// The newest failures.
#[derive(Debug, Default)]
struct RecentFailures {
    /// Oldest first.
    causes: VecDeque<FailureCause>,
    newest_message: String,
}

impl Meters {
    /// Bytes of content that this Star received from or sent to other Stars.
    pub fn bytes_moved(&self) -> u64 {
        self.bytes_moved.load(Ordering::Relaxed)
    }

    /// Number of items that this Star attempted as a destination, and of fetches that it answered as a source.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Number of those operations that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Pull streams that this Star serves at this moment.
    pub fn served_pulls(&self) -> u64 {
        self.served_pulls.load(Ordering::Relaxed)
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes_moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Describes the kinds of the newest `count` failures, the most frequent first, with an example. `None` before the
    /// first failure.
    pub fn describe_failures(&self, count: u64) -> Option<String> {
        let recent = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut by_cause: BTreeMap<&'static str, usize> = BTreeMap::new();
        for cause in recent.causes.iter().rev().take(count) {
            *by_cause.entry(cause.as_str()).or_default() += 1;
        }
        let mut kinds: Vec<_> = by_cause.into_iter().collect();
        kinds.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let kinds: Vec<_> = kinds.into_iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        (!kinds.is_empty()).then(|| format!("{}; the newest: {}", kinds.join(", "), recent.newest_message))
    }

    pub(crate) fn add_success(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_failure(&self, failure: &Failure) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut recent = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.causes.len() == FAILURES_KEPT_MAX {
            recent.causes.pop_front();
        }
        recent.causes.push_back(failure.cause);
        recent.newest_message = truncate_visibly(&failure.message, EXAMPLE_BYTES_MAX);
    }

    /// Counts one served pull for as long as the guard lives.
    pub(crate) fn begin_pull(self: &Arc<Self>) -> ServedPull {
        self.served_pulls.fetch_add(1, Ordering::Relaxed);
        ServedPull { meters: Arc::clone(self) }
    }
}

/// One pull that is being served.
#[derive(Debug)]
pub(crate) struct ServedPull {
    meters: Arc<Meters>,
}

impl Drop for ServedPull {
    fn drop(&mut self) {
        self.meters.served_pulls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::session::Fault;

    use super::*;

    #[test]
    fn the_newest_failures_are_described_by_kind_with_an_example() {
        let meters = Meters::default();
        assert_eq!(meters.describe_failures(9), None);
        let fail = |cause, message: &str| {
            meters.add_failure(&Failure { cause, fault: Fault::Item, message: message.to_owned() });
        };
        fail(FailureCause::DestinationError, "old");
        fail(FailureCause::SourceMissing, "cannot open a");
        fail(FailureCause::Permanent, "cannot open b");
        fail(FailureCause::Permanent, "cannot open c");
        let said = meters.describe_failures(3).unwrap();
        assert_eq!(said, "2 permanent, 1 source missing; the newest: cannot open c");
        for _ in 0..FAILURES_KEPT_MAX {
            meters.add_failure(&Failure {
                cause: FailureCause::Transient,
                fault: Fault::Item,
                message: "x".repeat(10_000),
            });
        }
        let said = meters.describe_failures(u64::MAX).unwrap();
        assert!(said.starts_with("1000 transient; ") && said.len() < 600, "{said}");
    }

    #[test]
    fn a_served_pull_is_counted_while_it_lives() {
        let meters = Arc::new(Meters::default());
        let first = meters.begin_pull();
        assert_eq!(meters.served_pulls(), 1);
        drop(first);
        assert_eq!(meters.served_pulls(), 0);
    }
}
