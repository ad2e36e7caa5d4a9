//! What a Star counts about its data plane, for heartbeats and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the process started. Shared by reference; every count is independent of the others.
#[derive(Debug, Default)]
pub struct Meters {
    bytes_moved: AtomicU64,
    operations: AtomicU64,
    errors: AtomicU64,
    served_pulls: AtomicU64,
}

impl Meters {
    /// Bytes of content that this Star received from or sent to other Stars.
    pub fn bytes_moved(&self) -> u64 {
        self.bytes_moved.load(Ordering::Relaxed)
    }

    /// Items that this Star attempted as a destination, and fetches that it answered as a source.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Those of the operations that failed.
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

    pub(crate) fn add_operation(&self, is_failed: bool) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        if is_failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one served pull for as long as the guard lives, unless `max` are being served already.
    pub(crate) fn begin_pull(self: &Arc<Self>, max: u64) -> Option<ServedPull> {
        self.served_pulls
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |served| (served < max).then_some(served + 1))
            .ok()
            .map(|_| ServedPull { meters: Arc::clone(self) })
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
    use super::*;

    #[test]
    fn a_served_pull_is_counted_while_it_lives_and_refused_over_the_bound() {
        let meters = Arc::new(Meters::default());
        let first = meters.begin_pull(1);
        assert!(first.is_some() && meters.begin_pull(1).is_none());
        assert_eq!(meters.served_pulls(), 1);
        drop(first);
        assert_eq!(meters.served_pulls(), 0);
    }
}
