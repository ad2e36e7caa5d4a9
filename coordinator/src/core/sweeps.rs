//! Sweeps: the last step of a mirror. When every item has ended and none is missing, each destination is asked to delete
//! what the source has not; the job ends when all of them have.
//!
//! A destination that stops on the way, or whose answer is lost, is asked again: what is deleted stays deleted, and the
//! rest is found again. While items are missing nothing is deleted: what is in the way of one of them, or was to be
//! replaced by it, may be the last that there is.

use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::capability::Capability;
use orbit_shared::entry::display_path;
use orbit_shared::session::ScanRequest;
use orbit_shared::sweep::{SweepInfo, SweepRequest};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::vault_call::{Progress, VaultCall, VaultProblem, VaultReply, seal_pause};
use orbit_shared::words::JobId;
use serde::{Deserialize, Serialize};

use super::event::{Action, SessionId};
use super::gate::star_gate;
use super::job::{Job, JobRecord, JobSpec, JobState, Location};
use super::vaults::Purpose;
use super::{Core, Effects};

/// What a mirror may delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorPolicy {
    /// Nothing is deleted if more than this share of what a destination has would be.
    pub max_delete_percent: u32,
    /// Name of the directory below each destination that takes what would be deleted; without one it is deleted.
    pub trash: Option<String>,
}

impl MirrorPolicy {
    /// What is used where nothing is given.
    pub const DEFAULT_MAX_DELETE_PERCENT: u32 = 25;
}

/// What a sweep came to, durably.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRecord {
    /// Entries that were deleted, or moved to the trash.
    pub deleted: u64,
    /// Entries that could not be deleted.
    pub failed: u64,
    /// Why nothing was deleted, or why the first of those that failed did; empty if all went well.
    pub problem: String,
    /// Whether too many would have gone, so that none did.
    pub is_refused: bool,
}

/// How far the sweep of one destination is.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Whether the destination is about it.
    is_asked: bool,
    /// When it may be asked again, and how long the wait was.
    pause: Option<(Monotonic, Duration)>,
    /// Why the last attempt failed.
    problem: String,
    /// What it said last.
    info: Option<SweepInfo>,
}

/// Whether everything of a mirror is done but for its sweeps.
fn is_to_be_swept(job: &Job) -> bool {
    let tally = job.record.tally();
    job.live.is_some()
        && job.record.spec.mirror.is_some()
        && job.record.pause.is_none()
        && job.record.scan.is_done
        && (tally.open(), tally.dead) == (0, 0)
}

impl JobSpec {
    /// The globs to leave out, and with them the trash of a mirror: it is neither mirrored nor swept.
    pub(super) fn all_excluded(&self) -> Vec<String> {
        let trash = self.mirror.iter().filter_map(|mirror| mirror.trash.as_ref());
        self.exclude.iter().cloned().chain(trash.map(|name| format!("/{name}"))).collect()
    }
}

impl JobRecord {
    /// Whether nothing is left to be swept.
    pub(super) fn is_swept(&self) -> bool {
        self.spec.mirror.is_none()
            || self.tally().dead > 0
            || (0..self.tallies.len()).all(|i| self.swept(i).is_some())
    }

    fn swept(&self, index: usize) -> Option<&SweepRecord> {
        self.sweeps.get(index)?.as_ref()
    }

    /// How a job that is done ends, as far as its sweeps go; nothing if it was no mirror.
    pub(super) fn sweep_end(&self) -> Option<(JobState, String)> {
        self.spec.mirror.as_ref()?;
        let swept: Vec<&SweepRecord> = self.sweeps.iter().flatten().collect();
        let deleted: u64 = swept.iter().map(|sweep| sweep.deleted).sum();
        let failed: u64 = swept.iter().map(|sweep| sweep.failed).sum();
        let problems = || {
            let problems = swept.iter().map(|sweep| sweep.problem.as_str()).filter(|text| !text.is_empty());
            problems.collect::<Vec<_>>().join("; ")
        };
        Some(if swept.iter().any(|sweep| sweep.is_refused) {
            (JobState::Failed, format!("every item is at its destination, but {}", problems()))
        } else if failed > 0 {
            let text = format!(
                "every item is at its destination; {deleted} entries that the source has not were deleted, {failed} could not be: {}",
                problems()
            );
            (JobState::PartiallyCompleted, text)
        } else {
            let text = match deleted {
                0 => "every item is at its destination, and nothing else is".to_owned(),
                _ => format!(
                    "every item is at its destination; {deleted} entries that the source has not were deleted"
                ),
            };
            (JobState::Completed, text)
        })
    }

    /// Entries that were deleted at all destinations.
    pub fn deleted(&self) -> u64 {
        self.sweeps.iter().flatten().map(|sweep| sweep.deleted).sum()
    }
}

impl Core {
    /// Asks for the sweeps of all mirrors that are done but for them.
    pub(super) fn ask_for_sweeps(&mut self, now: Now, fx: &mut Effects) {
        let ready: Vec<JobId> =
            self.jobs.values().filter(|job| is_to_be_swept(job)).map(|job| job.record.id).collect();
        for id in ready {
            let count = self.jobs.get(&id).map_or(0, |job| job.record.tallies.len());
            for destination in 0..count {
                self.ask_for_sweep(now, id, destination, fx);
            }
        }
    }

    fn ask_for_sweep(&mut self, now: Now, id: JobId, destination: usize, fx: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.record.swept(destination).is_none()) else {
            return;
        };
        let Some(live) = &mut job.live else { return };
        let index = u32::try_from(destination).unwrap_or(u32::MAX);
        let sweep = live.sweeps.entry(index).or_default();
        if sweep.is_asked || sweep.pause.is_some_and(|(until, _)| now.monotonic < until) {
            return;
        }
        let (spec, operation) = (job.record.spec.clone(), job.record.create_time.as_nanos());
        let name = SweepName { job: id, destination: index, operation: operation as u64, is_plan: false };
        let is_asked = self.send_sweep(now, &spec, name, Purpose::Sweep { job: id, destination: index }, fx);
        let live = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut());
        if let Some(sweep) = live.and_then(|live| live.sweeps.get_mut(&index)) {
            sweep.is_asked = is_asked;
        }
    }

    /// Asks a destination to sweep, if it and the source are there. Whether it was asked.
    pub(super) fn send_sweep(
        &mut self,
        now: Now,
        spec: &JobSpec,
        name: SweepName,
        purpose: Purpose,
        fx: &mut Effects,
    ) -> bool {
        let place = spec.destinations.get(name.destination as usize);
        let (Some(mirror), Some(place)) = (&spec.mirror, place) else { return false };
        let Some((session, source_address)) = self.may_sweep(&spec.source, place) else { return false };
        let request = self.expect_answer(now, session, &place.star_id, purpose);
        let sweep = SweepRequest {
            scan: ScanRequest {
                scan: 0,
                job: name.job,
                path: place.path.clone(),
                include: spec.include.clone(),
                exclude: spec.all_excluded(),
                resume_after: None,
                snapshot: None,
                limits: spec.limits,
                trace: None,
            },
            destination: name.destination,
            operation: name.operation,
            is_plan: name.is_plan,
            trash: mirror.trash.clone(),
            max_delete_percent: mirror.max_delete_percent,
            source_star: spec.source.star_id.clone(),
            source_address,
            source_path: spec.source.path.clone(),
            token: String::new(),
        };
        let capability = Capability {
            job: name.job,
            source_star: spec.source.star_id.clone(),
            source_path: spec.source.path.clone(),
            destination_star: place.star_id.clone(),
            snapshot: None,
            is_for_chunks: false,
        };
        let call = VaultCall::Sweep(Box::new(sweep));
        fx.actions.push(Action::SignedCall { session, request, call, capability });
        true
    }

    /// The destination's session and the source's data plane, if both can take part in a sweep now.
    fn may_sweep(&self, source: &Location, place: &Location) -> Option<(SessionId, String)> {
        let (source, destination) = (self.stars.get(&source.star_id)?, self.stars.get(&place.star_id)?);
        source.session.filter(|_| destination.lifecycle.accepts_work())?;
        Some((destination.session?, source.record.data_address.clone()))
    }

    /// A destination says how far its sweep is, or why it cannot be done.
    pub(super) fn sweep_answered(
        &mut self,
        now: Now,
        (id, destination): (JobId, u32),
        answer: Result<VaultReply, VaultProblem>,
        fx: &mut Effects,
    ) {
        let Some(job) =
            self.jobs.get_mut(&id).filter(|job| is_to_be_swept(job) || job.record.pause.is_some())
        else {
            return self.late_count += 1;
        };
        let place = job.record.spec.destinations[destination as usize].clone();
        let Some(sweep) = job.live.as_mut().and_then(|live| live.sweeps.get_mut(&destination)) else {
            return self.late_count += 1;
        };
        sweep.is_asked = false;
        let problem = match answer {
            Ok(VaultReply::Swept(info)) => match info.progress {
                Progress::Running => return sweep.info = Some(info),
                Progress::Done => return self.swept(now, id, destination, &info, fx),
                Progress::Failed => info.problem,
            },
            Ok(_) => "it answers something else".to_owned(),
            Err(problem) => problem.message,
        };
        let wait = seal_pause(sweep.pause.map(|(_, before)| before));
        sweep.pause = Some((now.monotonic + wait, wait));
        sweep.problem.clone_from(&problem);
        let message =
            format!("{} cannot delete what the source of job {id} has not: {problem}", shown(&place));
        self.post(now, fx, (Severity::Warning, place.star_id.as_str(), "mirror"), Some(id), &message);
    }

    fn swept(&mut self, now: Now, id: JobId, destination: u32, info: &SweepInfo, fx: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let spec = &job.record.spec;
        let (Some(place), Some(mirror)) =
            (spec.destinations.get(destination as usize).cloned(), &spec.mirror)
        else {
            return;
        };
        let (at, extra, found) = (shown(&place), info.extra, info.found);
        let mut record = SweepRecord {
            deleted: info.deleted,
            failed: info.failed,
            problem: info.problem.clone(),
            is_refused: info.is_refused,
        };
        let (severity, message) = if info.is_refused {
            let percent = mirror.max_delete_percent;
            record.problem = format!(
                "nothing was deleted at {at}: {extra} of the {found} entries there are not at the source, which is more than {percent} %; see whether the source is whole, and create the job again with a higher max_delete_percent if it is"
            );
            (Severity::Error, record.problem.clone())
        } else {
            let how = match &mirror.trash {
                Some(name) => format!("moved to {name}/job-{id} there"),
                None => "deleted".to_owned(),
            };
            let text = format!("{} entries at {at} that the source has not were {how}", info.deleted);
            match info.failed {
                0 => (Severity::Info, text),
                failed => (Severity::Warning, format!("{text}; {failed} could not be: {}", info.problem)),
            }
        };
        let sweeps = &mut job.record.sweeps;
        sweeps.resize(sweeps.len().max(destination as usize + 1), None);
        sweeps[destination as usize] = Some(record);
        job.is_dirty = true;
        if (info.extra, info.failed) == (0, 0) {
            return;
        }
        let message = format!("job {id}: {message}");
        self.post(now, fx, (severity, place.star_id.as_str(), "mirror"), Some(id), &message);
    }

    /// The answer to a sweep will not come: it is asked for again.
    pub(super) fn sweep_lost(&mut self, id: JobId, destination: u32) {
        let live = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut());
        if let Some(sweep) = live.and_then(|live| live.sweeps.get_mut(&destination)) {
            sweep.is_asked = false;
        }
    }

    /// What the sweeps of a job wait for.
    pub(super) fn sweep_reasons(&self, job: &Job) -> Vec<String> {
        if !is_to_be_swept(job) {
            return Vec::new();
        }
        let places = job.record.spec.destinations.iter().enumerate();
        let open = places.filter(|(index, _)| job.record.swept(*index).is_none());
        open.map(|(index, place)| {
            let sweeps = job.live.as_ref().map(|live| &live.sweeps);
            let sweep = u32::try_from(index).ok().and_then(|index| sweeps?.get(&index));
            let source = &job.record.spec.source.star_id;
            let held = star_gate(source, "the source", self.stars.get(source));
            let held =
                held.or_else(|| star_gate(&place.star_id, "the destination", self.stars.get(&place.star_id)));
            match (sweep, held) {
                (Some(Sweep { is_asked: true, info: Some(info), .. }), _) => format!(
                    "{} deletes what the source has not: {} entries looked at, {} of {} deleted",
                    place.star_id, info.found, info.deleted, info.extra
                ),
                (Some(sweep), _) if sweep.is_asked => {
                    format!("{} looks for what the source has not", place.star_id)
                }
                (_, Some(held)) => held.explanation,
                (Some(sweep), None) if !sweep.problem.is_empty() => format!(
                    "{} cannot delete what the source has not, and is asked again: {}",
                    place.star_id, sweep.problem
                ),
                (Some(_) | None, None) => {
                    format!("{} is to delete what the source has not", place.star_id)
                }
            }
        })
        .collect()
    }

    /// When a destination is asked for a sweep again.
    pub(super) fn next_sweep_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let lives = self.jobs.values().filter(|job| is_to_be_swept(job)).filter_map(|job| job.live.as_ref());
        let sweeps = lives.flat_map(|live| live.sweeps.values()).filter(|sweep| !sweep.is_asked);
        sweeps.filter_map(|sweep| sweep.pause.map(|(until, _)| until)).filter(|until| *until > now).min()
    }
}

/// Which sweep it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct SweepName {
    pub(super) job: JobId,
    pub(super) destination: u32,
    pub(super) operation: u64,
    pub(super) is_plan: bool,
}

fn shown(place: &Location) -> String {
    format!("{}:{}", place.star_id, display_path(&place.path))
}
