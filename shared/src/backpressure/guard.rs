//! The guard of one destination and the permits it gives out.

use std::sync::Arc;

use super::load::Load;
use super::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use super::{BackpressureConfig, BackpressureState, PauseReason};
use crate::plant::{Bug, is_planted};

/// A scale of 1, in the millionths that the scale is kept in.
const SCALE_FULL: u32 = 1_000_000;

/// Decides how much may be on its way to one destination. Lock-free; shared by reference between threads.
///
/// Objects and bytes in use are one word, so admission is one compare-and-exchange over both and cannot be raced
/// between the check and the count. All orderings are relaxed: nothing but the counts themselves is communicated
/// through them, and one word has one order of changes that every thread agrees on.
///
/// Counts from [`Self::record_enqueue`] and [`Self::record_dequeue`] are kept apart from the permits. They add to the
/// load, but no mistake in them can make a permit count for less.
#[derive(Debug)]
pub struct BackpressureGuard {
    name: String,
    /// What permits hold. Never below zero and never beyond what a word holds, in either part.
    reserved: AtomicU64,
    /// What observers recorded; may be below zero while a dequeue is seen before its enqueue.
    observed: AtomicU64,
    /// The configured limits.
    limits: AtomicU64,
    /// The part of the limits that is in force, in millionths.
    scale: AtomicU32,
    /// One bit for each [`PauseReason`] in force.
    pauses: AtomicU8,
}

impl BackpressureGuard {
    /// An open guard with nothing on its way. A limit beyond what can be counted is cut to that.
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

    /// Reserves room for `count` objects of `bytes` bytes together, or refuses and changes nothing.
    ///
    /// Refuses while paused and unless both dimensions are under their limits. Of several objects at once it refuses
    /// those that would exceed the object limit, unless nothing is on its way: a batch beyond the limit would never pass
    /// otherwise. An amount beyond what can be counted is charged as the most that can be.
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

    /// Reserves room for what is on its way already, whatever the limits are and whoever pauses: an owner that has been
    /// restarted takes over what it had admitted before. An amount beyond what can be counted is charged as the most
    /// that can be.
    pub fn take_over(self: &Arc<Self>, count: u64, bytes: u64) -> Permit {
        let mut word = self.reserved.load(Ordering::Relaxed);
        loop {
            match self.charge(word, Load { count, bytes }) {
                Ok(permit) => return permit,
                Err(changed) => word = changed,
            }
        }
    }

    /// Adds an amount to what is reserved, unless that has changed from `word`; then it answers what it is now.
    fn charge(self: &Arc<Self>, word: u64, amount: Load) -> Result<Permit, u64> {
        let reserved = Load::from_word(word);
        let wanted = reserved.plus(amount);
        let after = Load::capped(wanted.count, wanted.bytes);
        self.reserved.compare_exchange_weak(word, after.to_word(), Ordering::Relaxed, Ordering::Relaxed)?;
        let charge = after.minus(reserved).unwrap_or_default();
        Ok(Permit { guard: Arc::clone(self), charge })
    }

    /// Whether a reservation of one object would be admitted at this moment. Only advice: another may be faster.
    pub fn can_accept(&self) -> bool {
        self.is_open(self.in_use(), self.limits())
    }

    /// Counts work that holds no permit, as an observer sees it start. Admission sees it too.
    pub fn record_enqueue(&self, count: u64, bytes: u64) {
        self.observed.fetch_add(Load::to_delta(count, bytes), Ordering::Relaxed);
    }

    /// Counts the end of work that [`Self::record_enqueue`] counted, before or after the start is seen.
    ///
    /// What is counted in and out in equal parts ends at nothing in any order. Until then a surplus of ends shows as
    /// nothing on its way.
    pub fn record_dequeue(&self, count: u64, bytes: u64) {
        self.observed.fetch_sub(Load::to_delta(count, bytes), Ordering::Relaxed);
    }

    /// The guard at this moment.
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

    /// Replaces both limits at once. What is on its way stays; beyond a lower limit nothing is admitted until enough
    /// of it has ended.
    pub fn set_limits(&self, config: BackpressureConfig) {
        let limits = Load::capped(config.max_object_count, config.max_byte_size);
        self.limits.store(limits.to_word(), Ordering::Relaxed);
    }

    /// Puts `fraction` of the limits in force, from 0 (nothing is admitted) to 1. A value outside is cut to that; one
    /// that is not a number changes nothing. Above 0 at least one object and one byte stay allowed.
    pub fn set_scale(&self, fraction: f64) {
        if !fraction.is_nan() {
            self.scale.store(to_millionths(fraction), Ordering::Relaxed);
        }
    }

    /// Takes one step back towards the full limits and returns the scale now in force.
    pub fn restore_scale(&self, step: f64) -> f64 {
        let step = if step.is_nan() { 0 } else { to_millionths(step) };
        let raise = |scale: u32| Some(scale.saturating_add(step).min(SCALE_FULL));
        let (Ok(before) | Err(before)) = self.scale.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise);
        from_millionths(before.saturating_add(step).min(SCALE_FULL))
    }

    /// The part of the limits that is in force, from 0 to 1.
    pub fn scale(&self) -> f64 {
        from_millionths(self.scale.load(Ordering::Relaxed))
    }

    /// Admits nothing more until the same reason is resumed. Pausing twice is pausing once.
    pub fn pause(&self, reason: PauseReason) {
        self.pauses.fetch_or(reason.bit(), Ordering::Relaxed);
    }

    /// Ends the pause for this reason; another reason's pause stays.
    pub fn resume(&self, reason: PauseReason) {
        self.pauses.fetch_and(!reason.bit(), Ordering::Relaxed);
    }

    /// Whether anybody pauses the guard.
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

    /// What admission sees: permits and observers together.
    pub(super) fn in_use(&self) -> Load {
        Load::from_word(self.reserved.load(Ordering::Relaxed)).plus(self.observed())
    }

    fn is_open(&self, in_use: Load, limits: Load) -> bool {
        !self.is_paused() && is_under(in_use, limits)
    }
}

/// Room that is reserved on a guard. Dropping it gives the room back.
#[derive(Debug)]
#[must_use = "dropping a permit gives its room back"]
pub struct Permit {
    guard: Arc<BackpressureGuard>,
    charge: Load,
}

impl Permit {
    /// Objects that it holds room for.
    pub fn object_count(&self) -> u64 {
        self.charge.count
    }

    /// Bytes that it holds room for.
    pub fn byte_size(&self) -> u64 {
        self.charge.bytes
    }

    /// The guard that gave it.
    pub fn guard(&self) -> &Arc<BackpressureGuard> {
        &self.guard
    }

    /// Moves a part into a permit of its own, to be given back apart: one item of a batch that is done.
    ///
    /// `None`, and nothing changes, for more than it holds. The guard's counts do not change either way.
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
        // A second panic while one unwinds would end the process before it has said why.
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
