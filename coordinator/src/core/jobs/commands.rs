//! Commands on jobs, and how jobs end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::{DeadLetterFilter, FailureReason};
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{ItemId, JobId, Layout};

use super::Jobs;
use super::job::Job;
use super::lane::{Lane, Queued, queue_key};
use super::seals::is_to_be_sealed;
use crate::core::board::changed_words;
use crate::core::change::Change;
use crate::core::fact::Fact;
use crate::core::limits::ACTIVE_JOBS_MAX;
use crate::core::notices::{COORDINATOR, Noted};
use crate::core::records::{JobEnd, JobRecord, JobSpec, JobState, ScanRecord, Tally};
use crate::core::refusal::Refusal;
use crate::core::saying::Saying;
use crate::core::seen::Seen;
use crate::core::turn::Turn;

/// A job that waits for bandwidth looks at least this often whether the time of the day allows it more.
const BANDWIDTH_LOOK: Duration = Duration::from_secs(30);

impl Jobs {
    /// The job that a request of this name has made before, if it has. `is_whole` is whether the request could be read.
    ///
    /// # Errors
    /// It was another request.
    pub(in crate::core) fn made_by(
        &self,
        request_id: &str,
        spec: &JobSpec,
        is_whole: bool,
    ) -> Result<Option<JobId>, Refusal> {
        let Some(job) = self.requests.get(request_id).and_then(|id| self.jobs.get(id)) else {
            return Ok(None);
        };
        let id = job.record.id;
        match job.record.spec.is_same_request(spec) && is_whole {
            true => Ok(Some(id)),
            false => Err(Refusal::name_used(request_id, "job", &format!(": job {id}"))),
        }
    }

    /// The job that was made of a schedule by hand under this name, and the schedule.
    pub(in crate::core) fn run_by(&self, request_id: &str) -> Option<(JobId, u64)> {
        let job = self.requests.get(request_id).and_then(|id| self.jobs.get(id))?;
        Some((job.record.id, job.record.run_of?))
    }

    /// A job was made of a schedule by hand.
    pub(in crate::core) fn note_run_of(&mut self, id: JobId, schedule: u64) {
        let job = self.jobs.get_mut(&id).expect("it was made just now");
        job.record.run_of = Some(schedule);
        job.is_dirty = true;
    }

    /// Starts a job of a specification that was checked.
    pub(in crate::core) fn create(
        &mut self,
        turn: &mut Seen<'_>,
        spec: JobSpec,
        request_id: String,
    ) -> Result<JobId, Refusal> {
        if self.open.len() >= ACTIVE_JOBS_MAX {
            return Err(Refusal::Full {
                problem: format!("{ACTIVE_JOBS_MAX} jobs have not ended yet; wait for one, or cancel one"),
                retry_after: Duration::from_secs(10),
            });
        }
        let id = JobId(turn.counters.job);
        turn.counters.job += 1;
        let record = JobRecord {
            id,
            tallies: vec![Tally::default(); spec.destinations.len()],
            spec,
            request_id: request_id.clone(),
            create_time: turn.now.wall,
            pause: None,
            scan: ScanRecord::default(),
            end: None,
            snapshots: Vec::new(),
            seal_failures: BTreeMap::new(),
            sweeps: Vec::new(),
            created_by: turn.actor.clone().unwrap_or_default(),
            removed_before: None,
            is_forgotten: false,
            sweeps_voided: 0,
            run_of: None,
            deleted_before: 0,
        };
        let mut job = Job::new(record, turn.now.monotonic, turn.config.seed);
        job.is_dirty = true;
        if let Some(live) = &mut job.live {
            live.lanes.fill_with(Lane::new_empty);
        }
        self.jobs.insert(id, job);
        self.open.insert(id);
        if !request_id.is_empty() {
            self.requests.insert(request_id, id);
        }
        turn.record(ProvenanceEvent::new(ProvenanceType::JobCreated, id));
        self.forget_surplus_jobs(turn);
        Ok(id)
    }

    /// A job that has not ended, or why there is none.
    fn unfinished(&mut self, id: JobId) -> Result<&mut Job, Refusal> {
        let job = self.jobs.get_mut(&id).ok_or_else(|| no_job(id))?;
        match &job.record.end {
            None => Ok(job),
            Some(end) => {
                Err(Refusal::WrongState { problem: format!("job {id} has ended already: {}", end.reason) })
            }
        }
    }

    /// Stops dispatching, and takes back what is in flight, so that others have its place. The scan stops as well, and goes
    /// on from where it was.
    pub(in crate::core) fn pause(
        &mut self,
        turn: &mut Seen<'_>,
        id: JobId,
        reason: &str,
    ) -> Result<JobId, Refusal> {
        let by_whom = turn.done_by_actor("paused");
        let job = self.unfinished(id)?;
        let reason = if reason.is_empty() { &by_whom } else { reason };
        job.record.pause = Some(reason.to_owned());
        job.is_dirty = true;
        self.stop_scan(turn, id);
        self.recall_job(turn, id);
        Ok(id)
    }

    /// Dispatches again.
    pub(in crate::core) fn resume(&mut self, turn: &mut Seen<'_>, id: JobId) -> Result<JobId, Refusal> {
        let job = self.unfinished(id)?;
        if job.record.pause.take().is_some() {
            job.is_dirty = true;
            turn.record(ProvenanceEvent::new(ProvenanceType::JobResumed, id));
        }
        Ok(id)
    }

    /// Ends a job by an operator's wish.
    pub(in crate::core) fn cancel(
        &mut self,
        turn: &mut Seen<'_>,
        id: JobId,
        reason: &str,
    ) -> Result<JobId, Refusal> {
        if self.jobs.get(&id).is_some_and(|job| job.record.state() == JobState::Cancelled) {
            return Ok(id);
        }
        self.unfinished(id)?;
        let by_whom = turn.done_by_actor("cancelled");
        let reason = if reason.is_empty() { &by_whom } else { reason };
        let kept = self.jobs.get(&id).map(|job| job.record.kept_snapshots()).unwrap_or_default();
        self.end_job(turn, id, JobState::Cancelled, &format!("{reason}{kept}"));
        self.begin_removal(id);
        Ok(id)
    }

    /// Ends every job that has nothing left to do.
    pub(in crate::core) fn end_finished(&mut self, turn: &mut Seen<'_>) {
        let is_finished = |job: &&Job| {
            job.live.is_some()
                && job.record.scan.is_done
                && job.record.tally().open() == 0
                && job.record.is_sealed()
                && job.record.is_swept()
        };
        let finished: Vec<JobId> = self.open_jobs().filter(is_finished).map(|job| job.record.id).collect();
        for id in finished {
            let tally = self.jobs.get(&id).map(|job| job.record.tally()).unwrap_or_default();
            assert_eq!(
                tally.total,
                tally.stored + tally.skipped + tally.dead,
                "job {id} ends with items that are nowhere: {tally:?}"
            );
            let (state, reason) = self.end_of(id, tally);
            self.end_job(turn, id, state, &reason);
        }
    }

    /// How a job ends that has nothing left to do.
    fn end_of(&self, id: JobId, tally: Tally) -> (JobState, String) {
        let record = self.jobs.get(&id).map(|job| &job.record);
        if let Some(problem) = record.and_then(JobRecord::seal_end) {
            return (JobState::Failed, problem);
        }
        let swept = record.and_then(|record| record.sweep_end());
        let (state, mut rest) = swept.unwrap_or((JobState::Completed, String::new()));
        rest.push_str(&record.map(|record| record.unmatched_words()).unwrap_or_default());
        let mounts = record.map(|record| record.scan.skipped_mounts.words()).unwrap_or_default();
        if !mounts.is_empty() {
            rest.push_str(&format!("; {mounts}"));
        }
        let Tally { dead, total, vanished, changed, .. } = tally;
        if changed > 0 {
            rest.insert_str(0, &format!("; {}", changed_words(changed)));
        }
        if dead == 0 {
            return (state, format!("every item is at its destination{rest}"));
        }
        let gone = match vanished {
            0 => String::new(),
            count => format!(", {count} of them because they vanished from the source"),
        };
        let state = if state == JobState::Completed { JobState::PartiallyCompleted } else { state };
        let letters = format!("see the dead letters of job {id}");
        (state, format!("{dead} of {total} items could not be moved{gone}; {letters}{rest}"))
    }

    /// Ends a job: withdraws what is in flight, and keeps its record.
    pub(super) fn end_job(&mut self, turn: &mut Seen<'_>, id: JobId, state: JobState, reason: &str) {
        assert!(state.is_end(), "{state:?} is no end");
        self.stop_scan(turn, id);
        self.withdraw_job(turn, id);
        self.announce_end(turn, id);
        let job = self.jobs.get_mut(&id).expect("a job that ends is known");
        let live = job.live.take().expect("a job ends once");
        self.open.remove(&id);
        self.closed.insert(id);
        turn.sayings.push(Saying::EndCounts(id));
        for (&item, _) in live.penalties.iter() {
            turn.changes.push(Change::RemovePenalty(item));
        }
        if job.record.tally().open() > 0 {
            turn.changes.push(Change::ClearQueue(id));
        }
        job.record.end = Some(JobEnd { state, time: turn.now.wall, reason: reason.to_owned() });
        job.record.pause = None;
        job.is_dirty = true;
        let tally = job.record.tally();
        let (event_type, severity) = match state {
            JobState::Completed => (ProvenanceType::JobCompleted, Severity::Info),
            JobState::PartiallyCompleted => (ProvenanceType::JobCompleted, Severity::Warning),
            JobState::Failed => (ProvenanceType::JobFailed, Severity::Error),
            JobState::Cancelled | JobState::Scanning | JobState::Running | JobState::Paused => {
                (ProvenanceType::JobFailed, Severity::Info)
            }
        };
        let mut event =
            ProvenanceEvent::new(event_type, id).with_time(turn.now.wall).with_bytes(tally.bytes_transferred);
        match state {
            JobState::Completed => turn.facts.push(Fact::JobCompleted(id)),
            JobState::PartiallyCompleted
            | JobState::Failed
            | JobState::Cancelled
            | JobState::Scanning
            | JobState::Running
            | JobState::Paused => event = event.with_error(reason),
        }
        // Not through `record`: a job's end has a bulletin of its own, whose severity tells a cancelled job from a
        // failed one.
        turn.notes.push(Noted::Event(Box::new(event)));
        if state == JobState::Completed {
            self.clear_vanished(turn, id);
        }
        let message = format!("job {id} has ended: {reason}");
        turn.post((severity, COORDINATOR, "job"), Some(id), &message);
    }

    /// Lets the penalties that are over take effect.
    pub(in crate::core) fn release_penalties(&mut self, now: Now) {
        for id in self.open_ids() {
            let live = self.live_mut(id);
            for item in live.penalties.take_eligible(now) {
                // One that is in flight since before a restart keeps its record, and waits for nothing.
                let Some(queued) = live.penalized.remove(&item) else { continue };
                live.wait(item, queued);
            }
        }
    }

    /// When the next penalty ends or the next bandwidth limit opens.
    pub(super) fn next_job_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let lives = self.open_jobs().filter_map(|job| job.live.as_ref());
        lives
            .filter_map(|live| {
                let is_waiting = live.lanes.iter().any(|lane| !lane.is_empty());
                let bandwidth = is_waiting.then(|| live.budget.opens_at(now)).flatten();
                // Another time of the day may bring another limit, also to what is on its way.
                let has_windows = !live.has_one_rate;
                let look = has_windows.then(|| now + BANDWIDTH_LOOK);
                let bandwidth = bandwidth.into_iter().chain(look).min();
                let scan = live.scan_pause.map(|(until, _)| until).filter(|until| *until > now);
                [live.penalties.next_eligible(), bandwidth, scan].into_iter().flatten().min()
            })
            .min()
    }

    /// Gives every job the bandwidth that it may have at this time of the day. What is on its way at another rate is taken
    /// back and goes on at the new one; of large files that are received, what is recorded stays.
    pub(in crate::core) fn follow_bandwidth_windows(&mut self, turn: &mut Seen<'_>) {
        let mut changed = Vec::new();
        for id in self.open_ids() {
            let job = self.jobs.get_mut(&id).expect("a job that is open is known");
            if job.record.spec.bandwidth_windows.is_empty() {
                continue;
            }
            let rate = job.record.spec.bandwidth_at(turn.now.wall);
            if let Some(live) = job.live.as_mut().filter(|live| live.budget.bytes_per_second() != rate) {
                live.budget.set_rate(rate, turn.now.monotonic);
                changed.push(job.record.id);
            }
        }
        for job in changed {
            self.recall_job(turn, job);
        }
    }

    /// Forgives items: they wait no longer and their failures are forgotten.
    pub(in crate::core) fn clear_penalties(
        &mut self,
        turn: &mut Turn,
        job: Option<JobId>,
        item: Option<ItemId>,
    ) -> Result<u64, Refusal> {
        if job.is_none() && item.is_none() {
            return Err(Refusal::invalid("job_id", "give a job_id, an item_key, or both"));
        }
        let is_chosen =
            |id: &ItemId| job.is_none_or(|job| id.job == job) && item.is_none_or(|item| *id == item);
        let mut count = 0;
        for id in self.open_ids() {
            let live = self.live_mut(id);
            let chosen: Vec<ItemId> = live.penalized.keys().copied().filter(|id| is_chosen(id)).collect();
            for id in chosen {
                let mut queued = live.penalized.remove(&id).expect("it was found there just now");
                live.penalties.clear(&id);
                let key = queue_key(&live.order, queued.sequence, &queued.entry, 0);
                turn.changes.push(Change::RemovePenalty(id));
                turn.changes.push(Change::Enqueue { item: id, key: key.clone() });
                queued.is_penalty = false;
                queued.queued_at = turn.now.monotonic;
                live.lanes[id.destination as usize].insert(key, queued);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Queues dead letters again. A job that had ended runs again.
    pub(in crate::core) fn retry_dead_letters(
        &mut self,
        turn: &mut Seen<'_>,
        filter: &DeadLetterFilter,
    ) -> Result<u64, Refusal> {
        refuse_unfiltered(filter)?;
        // Damage that stands among them is looked at again.
        let damaged = turn.letters.damaged_stars(filter);
        let mut count = damaged.len() as u64;
        let seen = damaged.into_iter().collect::<BTreeSet<_>>().into_iter().map(Fact::DamageSeen);
        turn.facts.extend(seen);
        let mut letters = Vec::new();
        for id in turn.letters.jobs(filter) {
            let job = self.jobs.get(&id);
            let end = job.and_then(|job| job.record.end.as_ref()).map(|end| end.state);
            // A vault may have made the snapshot already when it is still to be sealed; what comes later is not in it.
            let is_sealed = |job: &Job| {
                job.record.spec.layout == Layout::Packed
                    && (end.is_some() || is_to_be_sealed(job) && !is_planted(Bug::RetriedWhileSealed))
            };
            if job.is_some_and(is_sealed) {
                if filter.job_id == Some(id) && count == 0 {
                    return Err(Refusal::WrongState {
                        problem: format!(
                            "the snapshot of job {id} is made and stays as it is; create the job again, only what is missing in the vault moves"
                        ),
                    });
                }
                continue;
            }
            // The rest of such a job was given up with it, so there is no whole that its dead letters could complete.
            if matches!(end, Some(JobState::Cancelled | JobState::Failed)) {
                if filter.job_id == Some(id) {
                    return Err(Refusal::WrongState {
                        problem: format!(
                            "job {id} was cancelled or has failed; create it again, it copies what is missing"
                        ),
                    });
                }
                continue;
            }
            if job.is_none() {
                continue;
            }
            let of_job = DeadLetterFilter { job_id: Some(id), ..filter.clone() };
            letters.extend(turn.letters.redrive(&of_job));
        }
        let mut revived = Vec::new();
        for (letter, entry) in letters {
            // What is lost of a vault belongs to no item; it is looked at again already.
            let Ok(item) = letter.item_key.parse::<ItemId>() else { continue };
            let has_ended = self.jobs.get(&item.job).is_some_and(|job| job.record.end.is_some());
            if let Some(listed) = self.list_again(turn, item, &letter, &entry) {
                if has_ended && listed > 0 && !revived.contains(&item.job) {
                    revived.push(item.job);
                }
                count += listed;
                continue;
            }
            let entry = as_mended(entry);
            let Some(job) = self.jobs.get_mut(&item.job) else { continue };
            if job.record.end.is_some() && !revived.contains(&item.job) {
                revived.push(item.job);
            }
            job.revive(turn.now.monotonic, turn.config.seed);
            self.open.insert(item.job);
            job.is_dirty = true;
            let live = job.live.as_mut().expect("it was revived just now");
            let tally = &mut job.record.tallies[item.destination as usize];
            tally.dead -= 1;
            tally.vanished -= u64::from(letter.failure_reason == FailureReason::SourceMissing);
            let queued = Queued::new(item.sequence, Arc::new(entry), turn.now.monotonic);
            *tally.open_mut(queued.is_directory()) += 1;
            let key = queue_key(&live.order, item.sequence, &queued.entry, 0);
            if !is_planted(Bug::RetryKeepsEnd) {
                turn.changes.push(Change::RemoveEnd(item));
            }
            let entry = queued.entry.clone();
            turn.changes.push(Change::PutEntry { job: item.job, sequence: item.sequence, entry });
            turn.changes.push(Change::Enqueue { item, key: key.clone() });
            turn.letters.keep_retried(turn.turn, letter, Entry::clone(&queued.entry));
            live.lanes[item.destination as usize].insert(key, queued);
            count += 1;
        }
        for id in revived {
            turn.record(ProvenanceEvent::new(ProvenanceType::JobResumed, id));
        }
        Ok(count)
    }
}

/// Refuses a filter that chooses everything.
pub(in crate::core) fn refuse_unfiltered(filter: &DeadLetterFilter) -> Result<(), Refusal> {
    if *filter == DeadLetterFilter::default() {
        return Err(Refusal::invalid(
            "job_id",
            "give at least one of job_id, failure_reason, star_id and item_key",
        ));
    }
    Ok(())
}

/// What the scan could not carry is taken for a file when it is tried again: somebody may have put one in its place, and
/// the source Star looks at what is there now. If nothing has changed, it says so.
fn as_mended(entry: Entry) -> Entry {
    if entry.kind.is_carried() { entry } else { Entry { kind: EntryKind::File { size: 0 }, ..entry } }
}

/// There is no such job.
pub(in crate::core) fn no_job(id: JobId) -> Refusal {
    Refusal::NotFound { what: format!("job {id}; ListJobs shows those there are") }
}
