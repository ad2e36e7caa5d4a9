//! Limits the rate of one job to one destination: all pulls of the two share it, and each sends a small piece when its
//! turn comes. So any quarter of a second carries little more than a quarter of the rate, however large a file is.
//!
//! The coordinator sets the rate in the capability with which a pull is opened. The newest one applies to all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use orbit_shared::words::{JobId, StarId};
use tokio::time::Instant;

/// A piece has at most the bytes of a second divided by this.
const PIECES_PER_SECOND: u64 = 32;
/// Minimum size of a piece, in bytes. With a very low rate, smaller pieces would cost more in frames than in content.
const PIECE_BYTES_MIN: u64 = 1024;
/// Maximum size of a piece, in bytes: a frame.
const PIECE_BYTES_MAX: u64 = 1024 * 1024;

/// The current rates.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    by_way: Mutex<BTreeMap<(JobId, StarId), Weak<Pace>>>,
}

impl Paces {
    /// The limiter of a pull; `None` for a job without a limit.
    pub(crate) fn of(&self, job: JobId, destination: &StarId, bytes_per_second: u64) -> Option<Arc<Pace>> {
        let mut by_way = self.by_way.lock().unwrap_or_else(PoisonError::into_inner);
        by_way.retain(|_, pace| pace.strong_count() > 0);
        let way = (job, destination.clone());
        let known = by_way.get(&way).and_then(Weak::upgrade);
        if let Some(pace) = &known {
            pace.lock().bytes_per_second = bytes_per_second;
        }
        if bytes_per_second == 0 {
            return None;
        }
        let pace = known.unwrap_or_else(|| Arc::new(Pace::new(bytes_per_second)));
        by_way.insert(way, Arc::downgrade(&pace));
        Some(pace)
    }
}

/// One rate, shared by the pulls of one job to one destination.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    /// 0 if the limit was removed meanwhile.
    bytes_per_second: u64,
    /// When all pieces that have their turn were sent.
    free_at: Option<Instant>,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Self {
        Self(Mutex::new(State { bytes_per_second, free_at: None }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maximum number of bytes of a piece.
    pub(crate) fn piece_max(&self) -> usize {
        let rate = self.lock().bytes_per_second;
        let piece = if rate == 0 { PIECE_BYTES_MAX } else { rate / PIECES_PER_SECOND };
        usize::try_from(piece.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)).unwrap_or(usize::MAX)
    }

    /// Takes a turn for a piece. Returns when it may be sent. Time without pieces is not made up for.
    pub(crate) fn take_turn(&self, now: Instant, bytes: usize) -> Instant {
        let mut state = self.lock();
        let at = state.free_at.map_or(now, |free_at| free_at.max(now));
        let nanos = match state.bytes_per_second {
            0 => 0,
            rate => (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate)),
        };
        state.free_at = Some(at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn star() -> StarId {
        StarId::new("star-2").unwrap()
    }

    /// The largest number of bytes that are sent in any quarter of a second within ten seconds, with `pulls` pulls that
    /// always have data.
    fn busiest_quarter(rate: u64, pulls: usize) -> u64 {
        let paces = Paces::default();
        let pulls: Vec<_> = (0..pulls).map(|_| paces.of(JobId(1), &star(), rate).unwrap()).collect();
        let start = orbit_program::clock::now();
        let mut sent: Vec<(Duration, u64)> = Vec::new();
        let mut next: Vec<Instant> = vec![start; pulls.len()];
        while next.iter().any(|at| *at < start + Duration::from_secs(10)) {
            let index = (0..next.len()).min_by_key(|index| next[*index]).unwrap();
            let bytes = pulls[index].piece_max();
            let at = pulls[index].take_turn(next[index], bytes);
            sent.push((at - start, bytes as u64));
            next[index] = at + Duration::from_nanos(1);
        }
        let quarter = Duration::from_millis(250);
        let of = |from: Duration| {
            sent.iter()
                .filter(|(at, _)| (from..from + quarter).contains(at))
                .map(|(_, bytes)| bytes)
                .sum::<u64>()
        };
        let total: u64 =
            sent.iter().filter(|(at, _)| *at < Duration::from_secs(10)).map(|(_, bytes)| bytes).sum();
        assert!(total * 100 >= rate * 10 * 95, "{total} bytes in ten seconds at {rate} a second");
        sent.iter().map(|(at, _)| of(*at)).max().unwrap()
    }

    #[test]
    fn no_quarter_of_a_second_exceeds_its_share_by_a_quarter() {
        for rate in [64 << 10, 1_000_000, 10 << 20, 60_000_000] {
            for pulls in [1, 5] {
                let busiest = busiest_quarter(rate, pulls);
                assert!(busiest * 100 <= rate / 4 * 125, "{busiest} bytes in 250 ms at {rate} a second");
            }
        }
    }

    #[test]
    fn idle_time_is_not_made_up_for_and_a_new_rate_applies_to_all() {
        let paces = Paces::default();
        let pace = paces.of(JobId(1), &star(), 1000).unwrap();
        let start = orbit_program::clock::now();
        assert_eq!(pace.take_turn(start, 1000), start);
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.take_turn(later, 1000), later);
        assert_eq!(pace.take_turn(later, 1000), later + Duration::from_secs(1));
        let same = paces.of(JobId(1), &star(), 10_000).unwrap();
        assert_eq!(same.take_turn(later, 10_000), later + Duration::from_secs(2));
        assert_eq!(pace.take_turn(later, 1), later + Duration::from_secs(3));
        let other = paces.of(JobId(2), &star(), 1000).unwrap();
        assert_eq!(other.take_turn(start, 1), start, "another job has a pace apart");
        assert!(paces.of(JobId(3), &star(), 0).is_none());
    }
}
