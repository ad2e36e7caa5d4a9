//! What the faces may see of jobs and items, taken between turns, so that it shows only what is durable.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use orbit_shared::entry::Entry;
use orbit_shared::time::{Monotonic, Now, WallTime};
use orbit_shared::words::{ItemId, JobId, StarId};

use super::Jobs;
use super::assignment::LiveAssignment;
use super::job::{Job, Live, estimate};
use super::lane::queue_key;
use crate::core::held::{Gate, Held};
use crate::core::records::{JobRecord, JobState, Tally, destination_number};
use crate::core::stars::{Stars, star_gate};

/// A job at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its durable part.
    pub record: JobRecord,
    /// Its counts over all destinations.
    pub tally: Tally,
    /// Items that wait out a penalty.
    pub penalized: u64,
    /// Items that a Star works on.
    pub in_flight: u64,
    /// Bytes that those items have moved so far, as far as their Stars have said.
    pub bytes_in_flight: u64,
    /// Bytes a second lately.
    pub bytes_per_second: u64,
    /// Time to the end at that rate.
    pub remaining: Option<Duration>,
    /// Why it stands where it stands.
    pub reason: String,
}

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemPlace {
    /// A Star works on it.
    InFlight {
        /// The Star.
        star: StarId,
        /// Since when.
        since: Monotonic,
    },
    /// It waits out a penalty.
    Penalized {
        /// Failures so far.
        attempts: u32,
        /// When it may be tried again.
        retry_at: Monotonic,
        /// What the last failure said.
        last_error: String,
    },
    /// It waits for its turn; the store knows whether it has ended.
    Elsewhere {
        /// Failures so far.
        attempts: u32,
    },
}

/// A penalized item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PenaltyView {
    /// The item.
    pub item: ItemId,
    /// Failures so far.
    pub count: u32,
    /// When it may be tried again, by the wall clock.
    pub retry_time: WallTime,
    /// What the last failure said.
    pub last_error: String,
}

/// What the core knows of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemView {
    /// Where it is.
    pub place: ItemPlace,
    /// What holds it, if it waits.
    pub held: Option<Held>,
}

/// What the assignments of one job hold.
#[derive(Debug, Clone, Copy, Default)]
struct InFlightOfJob {
    items: u64,
    bytes: u64,
}

impl InFlightOfJob {
    fn add(&mut self, assignment: &LiveAssignment) {
        self.items += assignment.items.len() as u64;
        self.bytes = self.bytes.saturating_add(assignment.bytes_moved);
    }
}

impl Jobs {
    /// One job.
    pub(in crate::core) fn view(&self, stars: &Stars, id: JobId, now: Now) -> Option<JobView> {
        let job = self.jobs.get(&id)?;
        let mut flight = InFlightOfJob::default();
        self.assignments.values().filter(|live| live.job == id).for_each(|live| flight.add(live));
        Some(self.job_view(stars, job, flight, now))
    }

    /// Jobs with lower numbers than `before`, newest first, each looked at when it is asked for.
    pub(in crate::core) fn each_view(
        &self,
        stars: &Stars,
        before: Option<JobId>,
        states: &[JobState],
        now: Now,
    ) -> impl Iterator<Item = JobView> {
        let mut flights: BTreeMap<JobId, InFlightOfJob> = BTreeMap::new();
        for assignment in self.assignments.values() {
            flights.entry(assignment.job).or_default().add(assignment);
        }
        let end = before.unwrap_or(JobId(u64::MAX));
        let older = self.jobs.range(..end).rev().map(|(_, job)| job);
        let wanted = older.filter(|job| states.is_empty() || states.contains(&job.record.state()));
        wanted.map(move |job| {
            let flight = flights.get(&job.record.id).copied().unwrap_or_default();
            self.job_view(stars, job, flight, now)
        })
    }

    fn job_view(&self, stars: &Stars, job: &Job, flight: InFlightOfJob, now: Now) -> JobView {
        let tally = job.record.tally();
        let bytes_per_second = job.live.as_ref().map_or(0, |live| live.rate.bytes_per_second(now.monotonic));
        let InFlightOfJob { items: in_flight, bytes: bytes_in_flight } = flight;
        let left = tally.bytes_total.saturating_sub(tally.bytes_stored).saturating_sub(bytes_in_flight);
        JobView {
            tally,
            penalized: job.live.as_ref().map_or(0, |live| live.penalized.len() as u64),
            in_flight,
            bytes_in_flight,
            bytes_per_second,
            remaining: if job.record.scan.is_done { estimate(left, bytes_per_second) } else { None },
            reason: self.state_reason(stars, now, job),
            record: job.record.clone(),
        }
    }

    /// Why a job stands where it stands: its end, its pause, or what holds its lanes.
    fn state_reason(&self, stars: &Stars, now: Now, job: &Job) -> String {
        if let Some(end) = &job.record.end {
            return end.reason.clone();
        }
        if let Some(pause) = &job.record.pause {
            return pause.clone();
        }
        let mut reasons: Vec<String> = Vec::new();
        let source = &job.record.spec.source.star_id;
        if !job.record.scan.is_done && job.live.as_ref().is_some_and(|live| live.scan.is_none()) {
            let held = star_gate(source, "the source", stars.get(source));
            let is_pausing = job.live.as_ref().is_some_and(|live| live.scan_pause.is_some());
            reasons.push(match held {
                Some(held) => held.explanation,
                None if is_pausing => {
                    format!("listing the source on {source} broke off and will start again")
                }
                None => format!("waiting for {source} to list the source"),
            });
        }
        reasons.extend(self.seal_reasons(job));
        reasons.extend(self.sweep_reasons(stars, job));
        for (index, tally) in job.record.tallies.iter().enumerate() {
            let destination = destination_number(index);
            if tally.open() == 0 {
                continue;
            }
            if let Some(held) = self.standing_gate(stars, now.monotonic, job.record.id, destination)
                && matters(held.gate)
                && !reasons.contains(&held.explanation)
            {
                reasons.push(held.explanation);
            }
        }
        if let Some(live) = job.live.as_ref()
            && let Some(held) = live.parked.keys().next().and_then(|item| self.parked_gate(stars, *item))
        {
            reasons.push(format!("{} items wait for room: {}", live.parked.len(), held.explanation));
        }
        if reasons.is_empty() {
            reasons.push(match job.record.scan.is_done {
                true => "items are moving".to_owned(),
                false => "the source is being listed, and items are moving".to_owned(),
            });
        }
        reasons.extend(self.suspicion_reason(job));
        reasons.join("; ")
    }

    /// Where an item is and what holds it.
    pub(in crate::core) fn item(
        &self,
        stars: &Stars,
        now: Now,
        item: ItemId,
        entry: &Entry,
    ) -> Option<ItemView> {
        let job = self.jobs.get(&item.job)?;
        let live = job.live.as_ref();
        if let Some(assignment) = self.in_flight.get(&item).and_then(|id| self.assignments.get(id)) {
            let place = ItemPlace::InFlight { star: assignment.star.clone(), since: assignment.since };
            return Some(ItemView { place, held: None });
        }
        let parked = self.parked_gate(stars, item);
        let lane_gate = parked.or_else(|| self.lane_gate(stars, now, item.job, item.destination));
        let record = live.and_then(|live| live.penalties.record(&item));
        let is_penalized = live.is_some_and(|live| live.penalized.contains_key(&item));
        if let Some(record) = record.filter(|_| is_penalized) {
            let place = ItemPlace::Penalized {
                attempts: record.penalty_count,
                retry_at: record.retry_after,
                last_error: record.last_error.clone(),
            };
            let explanation =
                format!("waits after {} failed attempts: {}", record.penalty_count, record.last_error);
            let held = Held { opens_at: Some(record.retry_after), ..Held::new(Gate::Penalty, explanation) };
            return Some(ItemView { place, held: Some(held) });
        }
        let attempts = record.map_or(0, |record| record.penalty_count);
        let held = lane_gate
            .or_else(|| self.suspect_gate(now.monotonic, item))
            .or_else(|| self.order_of(item, entry, live?));
        Some(ItemView { place: ItemPlace::Elsewhere { attempts }, held })
    }

    fn order_of(&self, item: ItemId, entry: &Entry, live: &Live) -> Option<Held> {
        let key = queue_key(&live.order, item.sequence, entry, live.penalties.penalty_count(&item));
        let before = live.lanes.get(item.destination as usize)?.count_before(&key);
        let explanation = match before {
            0 => return None,
            count => format!("{count} items or more of the same destination go first"),
        };
        Some(Held::new(Gate::Order, explanation))
    }

    /// Penalized items with higher keys than `after`, by key.
    pub(in crate::core) fn each_penalty(
        &self,
        job: Option<JobId>,
        after: Option<ItemId>,
        now: Now,
    ) -> impl Iterator<Item = PenaltyView> {
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let jobs = self.jobs.range(after.map_or(JobId(0), |after| after.job)..).map(|(_, job)| job);
        let jobs = jobs.filter(move |candidate| job.is_none_or(|job| candidate.record.id == job));
        let lives = jobs.filter_map(|job| job.live.as_ref());
        let later = lives.flat_map(move |live| {
            live.penalized.range((first, Bound::Unbounded)).map(move |(item, _)| (live, *item))
        });
        later.filter_map(move |(live, item)| {
            let record = live.penalties.record(&item)?;
            Some(PenaltyView {
                item,
                count: record.penalty_count,
                retry_time: now.wall + record.retry_after.since(now.monotonic),
                last_error: record.last_error.clone(),
            })
        })
    }
}

/// Whether a gate is worth a job's state reason: full hands and order are the ordinary course of things.
fn matters(gate: Gate) -> bool {
    match gate {
        Gate::JobState | Gate::Lifecycle | Gate::Liveness | Gate::Cordon | Gate::Guard | Gate::Yield => true,
        Gate::Penalty | Gate::Bandwidth | Gate::Order => false,
    }
}
