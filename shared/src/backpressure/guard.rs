//! The guard of one destination and the permits it gives out.

use std::sync::Arc;

use super::load::Load;
use super::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use super::{BackpressureConfig, BackpressureState, PauseReason};
use crate::plant::{Bug, is_planted};

/// The scale 1.0 in millionths, the unit in which the scale is stored.
const SCALE_FULL: u32 = 1_000_000;

/// Decides how much may be in flight to one destination. Lock-free; shared by reference between threads.
///
/// Objects and bytes in use are one word, so admission is one compare-and-exchange over both, without a race between
/// the check and the count. All orderings are relaxed: no other data is published through these counts, and all threads
/// agree on the order of changes of a single word.
///
/// The counts of [`Self::record_enqueue`] and [`Self::record_dequeue`] are separate from the permits. They add to the
/// load, but an error in them cannot make a permit count for less.
#[derive(Debug)]
pub struct BackpressureGuard {
    name: String,
    /// The sum of all permits. Each part stays between zero and the maximum of a word.
    reserved: AtomicU64,
    /// The sum of what observers recorded. It can be below zero while a dequeue is seen before its enqueue.
    observed: AtomicU64,
    /// The configured limits.
    limits: AtomicU64,
    /// The share of the limits in force, in millionths.
    scale: AtomicU32,
    /// One bit for each [`PauseReason`] in force.
    pauses: AtomicU8,
}

impl BackpressureGuard {
    /// An open guard with nothing in flight. A limit above the maximum that can be counted is reduced to that.
    pub fn new(name: impl Into<String>, config: BackpressureConfig) -> Self {
        let limits = Load::capped(config.max_object_count, config.max_byte_size);
        Self {
            name: name.into(),
            reserved: AtomicU64::new(0),
            observed: AtomicU64::new(0),
            limits: AtomicU64::new(limits.to_word()),
            scale: AtomicU32::new(SCALE_FULL),
            pauses: AtomicU8::new(0),
        }
    }

    /// Reserves room for `count` objects of `bytes` bytes together. If that is refused, nothing changes.
    ///
    /// Refuses while paused, and unless both dimensions are under their limits. A batch that would exceed the object
    /// limit is refused, unless nothing is in flight: otherwise a batch larger than the limit would never pass. An
    /// amount above the maximum that can be counted is charged as that maximum.
    pub fn try_reserve(self: &Arc<Self>, count: u64, bytes: u64) -> Option<Permit> {
        let mut word = self.reserved.load(Ordering::Relaxed);
        loop {
            let reserved = Load::from_word(word);
            let in_use = reserved.plus(self.observed());
            let limits = self.limits();
            let is_beyond = in_use.count > 0 && in_use.count.saturating_add(count) > limits.count;
            if is_beyond || !self.is_open(in_use, limits) {
                return None;
            }
            match self.charge(word, Load { count, bytes }) {
                Ok(permit) => return Some(permit),
                Err(changed) => word = changed,
            }
        }
    }

    /// Reserves room for what is already in flight, regardless of limits and pauses: a restarted owner takes over what
    /// it had admitted before. An amount above the maximum that can be counted is charged as that maximum.
    pub fn take_over(self: &Arc<Self>, count: u64, bytes: u64) -> Permit {
        let mut word = self.reserved.load(Ordering::Relaxed);
        loop {
            match self.charge(word, Load { count, bytes }) {
                Ok(permit) => return permit,
                Err(changed) => word = changed,
            }
        }
    }

    /// Adds an amount to the reserved word, unless that has changed from `word`; then returns its current value.
    fn charge(self: &Arc<Self>, word: u64, amount: Load) -> Result<Permit, u64> {
        let reserved = Load::from_word(word);
        let wanted = reserved.plus(amount);
        let after = Load::capped(wanted.count, wanted.bytes);
        self.reserved.compare_exchange_weak(word, after.to_word(), Ordering::Relaxed, Ordering::Relaxed)?;
        let charge = after.minus(reserved).unwrap_or_default();
        Ok(Permit { guard: Arc::clone(self), charge })
    }

    /// Whether a reservation of one object would be admitted now. This is only advice: another thread may be faster.
    pub fn can_accept(&self) -> bool {
        self.is_open(self.in_use(), self.limits())
    }

    /// Counts the start of work without a permit, as an observer sees it. It also counts for admission.
    pub fn record_enqueue(&self, count: u64, bytes: u64) {
        self.observed.fetch_add(Load::to_delta(count, bytes), Ordering::Relaxed);
    }

    /// Counts the end of work that [`Self::record_enqueue`] counted, before or after the start is seen.
    ///
    /// Equal starts and ends add up to zero in any order. Until then a surplus of ends counts as nothing in flight.
    pub fn record_dequeue(&self, count: u64, bytes: u64) {
        self.observed.fetch_sub(Load::to_delta(count, bytes), Ordering::Relaxed);
    }

    /// The current state of the guard.
    pub fn state(&self) -> BackpressureState {
        let (in_use, limits) = (self.in_use(), self.limits());
        let pauses = self.pauses.load(Ordering::Relaxed);
        BackpressureState {
            object_count: in_use.count,
            byte_size: in_use.bytes,
            max_object_count: limits.count,
            max_byte_size: limits.bytes,
            is_backpressured: pauses != 0 || !is_under(in_use, limits),
            object_utilization: utilization(in_use.count, limits.count),
            byte_utilization: utilization(in_use.bytes, limits.bytes),
            scale: self.scale(),
            paused_by: PauseReason::ALL.into_iter().filter(|reason| pauses & reason.bit() != 0).collect(),
        }
    }

    /// Replaces both limits at once. What is in flight stays. If it exceeds a lower limit, nothing is admitted until
    /// enough of it has ended.
    pub fn set_limits(&self, config: BackpressureConfig) {
        let limits = Load::capped(config.max_object_count, config.max_byte_size);
        self.limits.store(limits.to_word(), Ordering::Relaxed);
    }

    /// Sets the share of the limits in force, from 0 (nothing is admitted) to 1. A value outside is clamped; NaN
    /// changes nothing. Above 0, at least one object and one byte are allowed.
    pub fn set_scale(&self, fraction: f64) {
        if !fraction.is_nan() {
            self.scale.store(to_millionths(fraction), Ordering::Relaxed);
        }
    }

    /// Takes one step back towards the full limits. Returns the new scale.
    pub fn restore_scale(&self, step: f64) -> f64 {
        let step = if step.is_nan() { 0 } else { to_millionths(step) };
        let raise = |scale: u32| Some(scale.saturating_add(step).min(SCALE_FULL));
        let (Ok(before) | Err(before)) = self.scale.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise);
        from_millionths(before.saturating_add(step).min(SCALE_FULL))
    }

    /// The share of the limits in force, from 0 to 1.
    pub fn scale(&self) -> f64 {
        from_millionths(self.scale.load(Ordering::Relaxed))
    }

    /// Admits nothing until the same reason is resumed. A second pause for one reason has no effect.
    pub fn pause(&self, reason: PauseReason) {
        self.pauses.fetch_or(reason.bit(), Ordering::Relaxed);
    }

    /// Ends the pause for this reason. Pauses for other reasons stay.
    pub fn resume(&self, reason: PauseReason) {
        self.pauses.fetch_and(!reason.bit(), Ordering::Relaxed);
    }

    /// Whether the guard is paused for any reason.
    pub fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Relaxed) != 0
    }

    /// The name given to [`Self::new`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configured limits, before scaling.
    pub fn config(&self) -> BackpressureConfig {
        let limits = Load::from_word(self.limits.load(Ordering::Relaxed));
        BackpressureConfig { max_object_count: limits.count, max_byte_size: limits.bytes }
    }

    /// The limits in force.
    fn limits(&self) -> Load {
        let limits = Load::from_word(self.limits.load(Ordering::Relaxed));
        let scale = self.scale.load(Ordering::Relaxed);
        Load { count: scaled(limits.count, scale), bytes: scaled(limits.bytes, scale) }
    }

    fn observed(&self) -> Load {
        Load::from_signed_word(self.observed.load(Ordering::Relaxed))
    }

    /// The load that counts for admission: permits and observers.
    pub(super) fn in_use(&self) -> Load {
        Load::from_word(self.reserved.load(Ordering::Relaxed)).plus(self.observed())
    }

    fn is_open(&self, in_use: Load, limits: Load) -> bool {
        !self.is_paused() && is_under(in_use, limits)
    }
}

/// Room reserved on a guard. Dropping it gives the room back.
#[derive(Debug)]
#[must_use = "dropping a permit gives its room back"]
pub struct Permit {
    guard: Arc<BackpressureGuard>,
    charge: Load,
}

impl Permit {
    /// Number of objects that it holds room for.
    pub fn object_count(&self) -> u64 {
        self.charge.count
    }

    /// Number of bytes that it holds room for.
    pub fn byte_size(&self) -> u64 {
        self.charge.bytes
    }

    /// The guard that issued it.
    pub fn guard(&self) -> &Arc<BackpressureGuard> {
        &self.guard
    }

    /// Moves a part into a separate permit, which can be given back separately: for one finished item of a batch.
    ///
    /// `None`, without a change, if that is more than the permit holds. The guard's counts do not change in either
    /// case.
    pub fn split(&mut self, count: u64, bytes: u64) -> Option<Self> {
        let part = Load { count, bytes };
        self.charge = self.charge.minus(part)?;
        Some(Self { guard: Arc::clone(&self.guard), charge: part })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.guard.reserved.fetch_sub(self.charge.to_word(), Ordering::Relaxed);
        if is_planted(Bug::PermitReleasedTwice) {
            self.guard.reserved.fetch_sub(self.charge.to_word(), Ordering::Relaxed);
        }
        // A second panic during unwinding would abort the process before the first one is reported.
        debug_assert!(
            std::thread::panicking() || Load::from_word(before).minus(self.charge).is_some(),
            "{:?} held less than its permit {:?}",
            Load::from_word(before),
            self.charge
        );
    }
}

fn is_under(in_use: Load, limits: Load) -> bool {
    in_use.count < limits.count && in_use.bytes < limits.bytes
}

/// `scale` millionths of `limit`. The product fits: a limit has 40 bits and a scale 20.
fn scaled(limit: u64, scale: u32) -> u64 {
    if limit == 0 || scale == 0 {
        return 0;
    }
    (limit * u64::from(scale) / u64::from(SCALE_FULL)).max(1)
}

fn utilization(used: u64, limit: u64) -> f64 {
    if limit == 0 { 1.0 } else { used as f64 / limit as f64 }
}

fn to_millionths(fraction: f64) -> u32 {
    (fraction.clamp(0.0, 1.0) * f64::from(SCALE_FULL)).round() as u32
}

fn from_millionths(scale: u32) -> f64 {
    f64::from(scale) / f64::from(SCALE_FULL)
}
