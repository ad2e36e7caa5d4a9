//! Sweeps: the last step of a mirror. When every item has ended, well or badly, each destination is asked to delete what the
//! source does not have; the job ends when all of them have.
//!
//! Deletions are judged one by one: the destination asks the source about each entry, so an item that could not be moved
//! keeps nothing else from being deleted. Items in whose way something of another kind is (a directory where a file shall go,
//! or the other way round) wait for the sweep, which clears it under the same bound, and move afterwards.
//!
//! A destination that stops on the way, or whose answer is lost, is asked again: what is deleted stays deleted, and the
//! rest is found again.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::capability::Capability;
use orbit_shared::entry::display_path;
use orbit_shared::session::ScanRequest;
use orbit_shared::sweep::{SweepInfo, SweepRequest};
use orbit_shared::time::Monotonic;
use orbit_shared::vault_call::{Progress, VaultCall, VaultProblem, VaultReply, seal_pause};
use orbit_shared::words::{ItemId, JobId};
use serde::{Deserialize, Serialize};

use super::event::{Action, SessionId};
use super::gate::star_gate;
use super::job::Job;
use super::job_record::{JobSpec, Location};
use super::lane::Queued;
pub use super::sweep_results::SweepRecord;
use super::vaults::Purpose;
use super::{Core, Turn};

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

impl Sweep {
    /// Entries that it has deleted, as far as the destination has said.
    pub(super) fn deleted_so_far(&self) -> u64 {
        self.info.as_ref().map_or(0, |info| info.deleted)
    }
}

/// Whether a mirror has come so far that a destination can be swept: all that goes there has ended, well or badly, but for
/// items in whose way something is. What could not be moved does not matter: the source is asked about each entry.
fn is_to_be_swept(job: &Job, destination: usize) -> bool {
    let Some(live) = &job.live else { return false };
    let is_due = job.record.spec.mirror.is_some() && job.record.pause.is_none() && job.record.scan.is_done;
    let Some(tally) = job.record.tallies.get(destination).filter(|_| is_due) else { return false };
    let index = u32::try_from(destination).unwrap_or(u32::MAX);
    let blocked = live.blocked.iter().filter(|(item, _)| item.destination == index);
    let (directories, files): (Vec<_>, Vec<_>) = blocked.partition(|(_, queued)| queued.is_directory());
    let (files, directories) = (files.len() as u64, directories.len() as u64);
    tally.open_files == files && (files > 0 || tally.open_directories == directories)
}

/// Items of one job in whose way something is. Beyond this they fail at once.
const BLOCKED_PER_JOB_MAX: usize = 10_000;

impl JobSpec {
    /// The listed paths, as a scan takes them.
    pub(super) fn listed_paths(&self) -> Vec<Vec<u8>> {
        self.paths.iter().map(|path| path.to_vec()).collect()
    }

    /// The globs to leave out, and with them the trash of a mirror: it is neither mirrored nor swept.
    pub(super) fn all_excluded(&self) -> Vec<String> {
        let trash = self.mirror.iter().filter_map(|mirror| mirror.trash.as_ref());
        self.exclude.iter().cloned().chain(trash.map(|name| format!("/{name}"))).collect()
    }
}

impl Core {
    /// Asks for the sweeps of all mirrors that are done but for them.
    pub(super) fn ask_for_sweeps(&mut self, turn: &mut Turn) {
        let ready: Vec<(JobId, usize)> = self
            .jobs
            .values()
            .flat_map(|job| {
                let due = (0..job.record.tallies.len()).filter(|index| is_to_be_swept(job, *index));
                due.map(|index| (job.record.id, index))
            })
            .collect();
        for (id, destination) in ready {
            self.ask_for_sweep(turn, id, destination);
        }
    }

    /// Whether an item in whose way something is can wait for the sweep of its destination.
    pub(super) fn may_wait_for_sweep(&self, item: ItemId) -> bool {
        let Some(job) = self.jobs.get(&item.job) else { return false };
        let is_mirror = job.record.spec.mirror.is_some();
        let is_swept = job.record.swept(item.destination as usize).is_some();
        let has_place = job.live.as_ref().is_some_and(|live| live.blocked.len() < BLOCKED_PER_JOB_MAX);
        is_mirror && !is_swept && has_place
    }

    /// An item in whose way something is waits for the sweep of its destination.
    pub(super) fn wait_for_sweep(&mut self, item: ItemId, queued: Queued) {
        let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) else { return };
        live.blocked.insert(item, queued);
    }

    fn ask_for_sweep(&mut self, turn: &mut Turn, id: JobId, destination: usize) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.record.swept(destination).is_none()) else {
            return;
        };
        let Some(live) = &mut job.live else { return };
        let index = u32::try_from(destination).unwrap_or(u32::MAX);
        let sweep = live.sweeps.entry(index).or_default();
        if sweep.is_asked || sweep.pause.is_some_and(|(until, _)| turn.now.monotonic < until) {
            return;
        }
        let Some(mounts) = job.record.scan.skipped_mounts.paths() else {
            let problem = job.record.scan.skipped_mounts.sweep_problem();
            return self.refuse_sweep(turn, id, destination, &problem);
        };
        let (spec, operation) = (job.record.spec.clone(), job.record.sweep_operation());
        let name = SweepName { job: id, destination: index, operation, is_plan: false };
        let purpose = Purpose::Sweep { job: id, destination: index, operation };
        let is_asked = self.send_sweep(turn, (&spec, mounts), name, purpose);
        let live = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut());
        if let Some(sweep) = live.and_then(|live| live.sweeps.get_mut(&index)) {
            sweep.is_asked = is_asked;
        }
    }

    /// Asks a destination to sweep, if it and the source are there. Whether it was asked. `skipped_mounts` are the mount points of
    /// the source that were not entered.
    pub(super) fn send_sweep(
        &mut self,
        turn: &mut Turn,
        (spec, skipped_mounts): (&JobSpec, Vec<Vec<u8>>),
        name: SweepName,
        purpose: Purpose,
    ) -> bool {
        let place = spec.destinations.get(name.destination as usize);
        let (Some(mirror), Some(place)) = (&spec.mirror, place) else { return false };
        let Some((session, source_address)) = self.may_sweep(&spec.source, place) else { return false };
        let request = self.expect_answer(turn.now, session, &place.star_id, purpose);
        let sweep = SweepRequest {
            scan: ScanRequest {
                scan: 0,
                job: name.job,
                path: place.path.clone(),
                include: spec.include.clone(),
                exclude: spec.all_excluded(),
                paths: spec.listed_paths(),
                resume_after: None,
                snapshot: None,
                limits: spec.limits,
                is_one_file_system: spec.is_one_file_system,
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
            skipped_mounts,
        };
        let capability = Capability {
            job: name.job,
            source_star: spec.source.star_id.clone(),
            source_path: spec.source.path.clone(),
            destination_star: place.star_id.clone(),
            snapshot: None,
            is_for_chunks: false,
            max_bytes_per_second: 0,
            // It asks what there is, and reads nothing.
            filter: spec.read_filter(),
        };
        let call = VaultCall::Sweep(Box::new(sweep));
        turn.actions.push(Action::SignedCall { session, request, call, capability });
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
        turn: &mut Turn,
        (id, destination, operation): (JobId, u32, u64),
        answer: Result<VaultReply, VaultProblem>,
    ) {
        // Whatever the answer is worth, the destination may be asked again.
        self.sweep_lost(id, destination, operation);
        self.count_voided(turn, (id, destination, operation), answer.as_ref().ok());
        let index = destination as usize;
        let Some(job) = self.jobs.get_mut(&id).filter(|job| {
            job.record.sweep_operation() == operation
                && (is_to_be_swept(job, index) || job.record.pause.is_some())
        }) else {
            return self.late_count += 1;
        };
        let place = job.record.spec.destinations[destination as usize].clone();
        let Some(sweep) = job.live.as_mut().and_then(|live| live.sweeps.get_mut(&destination)) else {
            return self.late_count += 1;
        };
        let problem = match answer {
            Ok(VaultReply::Swept(info)) => match info.progress {
                Progress::Running => return sweep.info = Some(info),
                Progress::Done => return self.swept(turn, id, destination, &info),
                Progress::Failed => info.problem,
            },
            Ok(_) => "it answers something else".to_owned(),
            Err(problem) => problem.message,
        };
        let wait = seal_pause(sweep.pause.map(|(_, before)| before));
        sweep.pause = Some((turn.now.monotonic + wait, wait));
        sweep.problem.clone_from(&problem);
        let message =
            format!("{} cannot delete what the source of job {id} has not: {problem}", shown(&place));
        self.post(turn, (Severity::Warning, place.star_id.as_str(), "mirror"), Some(id), &message);
    }

    /// Counts what a sweep deleted that was made void while it ran, and says so.
    fn count_voided(
        &mut self,
        turn: &mut Turn,
        (id, destination, operation): (JobId, u32, u64),
        answer: Option<&VaultReply>,
    ) {
        let (Some(VaultReply::Swept(info)), Some(job)) = (answer, self.jobs.get_mut(&id)) else { return };
        let voided = job.live.as_mut().map(|live| &mut live.voided_sweeps);
        let Some(counted) = voided.and_then(|voided| voided.get_mut(&(destination, operation))) else {
            return;
        };
        let more = info.deleted.saturating_sub(*counted);
        *counted = info.deleted.max(*counted);
        let (total, at) = (*counted, job.record.spec.destinations[destination as usize].clone());
        job.record.deleted_before = job.record.deleted_before.saturating_add(more);
        job.is_dirty = true;
        if total > 0 {
            let message = format!(
                "job {id}: {total} entries at {} that are not at the source were removed before a dead letter was retried; it is compared once more",
                shown(&at)
            );
            self.post(turn, (Severity::Info, at.star_id.as_str(), "mirror"), Some(id), &message);
        }
    }

    fn swept(&mut self, turn: &mut Turn, id: JobId, destination: u32, info: &SweepInfo) {
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
            let text = format!("{} entries at {at} that are not at the source were {how}", info.deleted);
            match info.failed {
                0 if info.problem.is_empty() => (Severity::Info, text),
                0 => (Severity::Info, format!("{text}; {}", info.problem)),
                failed => (Severity::Warning, format!("{text}; {failed} could not be: {}", info.problem)),
            }
        };
        let is_silent = (info.extra, info.failed) == (0, 0) && info.problem.is_empty();
        self.end_sweep(turn, id, destination, record);
        if !is_silent {
            let message = format!("job {id}: {message}");
            self.post(turn, (severity, place.star_id.as_str(), "mirror"), Some(id), &message);
        }
    }

    /// Deletes nothing at a destination, and fails the job for it when everything else is done.
    fn refuse_sweep(&mut self, turn: &mut Turn, id: JobId, destination: usize, problem: &str) {
        let job = self.jobs.get(&id);
        let Some(place) = job.and_then(|job| job.record.spec.destinations.get(destination)) else { return };
        let (star, problem) =
            (place.star_id.clone(), format!("nothing was deleted at {}: {problem}", shown(place)));
        let message = format!("job {id}: {problem}");
        let record = SweepRecord { problem, is_refused: true, ..SweepRecord::default() };
        self.end_sweep(turn, id, u32::try_from(destination).unwrap_or(u32::MAX), record);
        self.post(turn, (Severity::Error, star.as_str(), "mirror"), Some(id), &message);
    }

    /// Keeps what came of a sweep. Items that waited for it move now; where something is still in the way of one, its next
    /// attempt says so.
    fn end_sweep(&mut self, turn: &mut Turn, id: JobId, destination: u32, record: SweepRecord) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let sweeps = &mut job.record.sweeps;
        sweeps.resize(sweeps.len().max(destination as usize + 1), None);
        sweeps[destination as usize] = Some(record);
        job.is_dirty = true;
        if let Some(live) = &mut job.live {
            let (ready, blocked): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut live.blocked)
                .into_iter()
                .partition(|(item, _)| item.destination == destination);
            live.blocked = blocked;
            for (item, mut queued) in ready {
                queued.queued_at = turn.now.monotonic;
                live.wait(item, queued);
            }
        }
    }

    /// No answer to a sweep is awaited any more: it may be asked for again.
    pub(super) fn sweep_lost(&mut self, id: JobId, destination: u32, operation: u64) {
        let job = self.jobs.get_mut(&id).filter(|job| job.record.sweep_operation() == operation);
        let live = job.and_then(|job| job.live.as_mut());
        if let Some(sweep) = live.and_then(|live| live.sweeps.get_mut(&destination)) {
            sweep.is_asked = false;
        }
    }

    /// What the sweeps of a job wait for.
    pub(super) fn sweep_reasons(&self, job: &Job) -> Vec<String> {
        let places = job.record.spec.destinations.iter().enumerate();
        let open =
            places.filter(|(index, _)| job.record.swept(*index).is_none() && is_to_be_swept(job, *index));
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
        let due = self.jobs.values().filter_map(|job| job.live.as_ref().map(|live| (job, live)));
        let sweeps = due.flat_map(|(job, live)| {
            live.sweeps
                .iter()
                .filter(|(index, _)| is_to_be_swept(job, **index as usize))
                .map(|(_, sweep)| sweep)
        });
        let pauses = sweeps.filter(|sweep| !sweep.is_asked).filter_map(|sweep| sweep.pause);
        pauses.map(|(until, _)| until).filter(|until| *until > now).min()
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
