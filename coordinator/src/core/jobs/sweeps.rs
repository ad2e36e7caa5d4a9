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

use orbit_shared::bulletin::Severity;
use orbit_shared::entry::display_path;
use orbit_shared::sweep::SweepInfo;
use orbit_shared::time::Monotonic;
use orbit_shared::vault_call::{Progress, VaultProblem, VaultReply, seal_pause};
use orbit_shared::words::{ItemId, JobId};

use super::Jobs;
use super::job::Job;
use super::lane::Queued;
use super::live::Sweep;
use crate::core::calls::{Purpose, SweepName};
use crate::core::records::SweepRecord;
use crate::core::records::{Location, destination_number};
use crate::core::seen::Seen;
use crate::core::stars::{Stars, star_gate};

/// Whether a mirror has come so far that a destination can be swept: all that goes there has ended, well or badly, but for
/// items in whose way something is. What could not be moved does not matter: the source is asked about each entry.
fn is_to_be_swept(job: &Job, destination: usize) -> bool {
    let Some(live) = &job.live else { return false };
    let is_due = job.record.spec.mirror.is_some() && job.record.pause.is_none() && job.record.scan.is_done;
    let Some(tally) = job.record.tallies.get(destination).filter(|_| is_due) else { return false };
    let index = destination_number(destination);
    let blocked = live.blocked.iter().filter(|(item, _)| item.destination == index);
    let (directories, files): (Vec<_>, Vec<_>) = blocked.partition(|(_, queued)| queued.is_directory());
    let (files, directories) = (files.len() as u64, directories.len() as u64);
    tally.open_files == files && (files > 0 || tally.open_directories == directories)
}

/// Items of one job in whose way something is. Beyond this they fail at once.
const BLOCKED_PER_JOB_MAX: usize = 10_000;

impl Jobs {
    /// Asks for the sweeps of all mirrors that are done but for them.
    pub(in crate::core) fn ask_for_sweeps(&mut self, turn: &mut Seen<'_>) {
        let ready: Vec<(JobId, usize)> = self
            .open_jobs()
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
        let job = self.job(item.job);
        let is_mirror = job.record.spec.mirror.is_some();
        let is_swept = job.record.swept(item.destination as usize).is_some();
        let has_place = job.live.as_ref().is_some_and(|live| live.blocked.len() < BLOCKED_PER_JOB_MAX);
        is_mirror && !is_swept && has_place
    }

    /// An item in whose way something is waits for the sweep of its destination.
    pub(super) fn wait_for_sweep(&mut self, item: ItemId, queued: Queued) {
        let live = self.live_mut(item.job);
        live.blocked.insert(item, queued);
    }

    fn ask_for_sweep(&mut self, turn: &mut Seen<'_>, id: JobId, destination: usize) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.record.swept(destination).is_none()) else {
            return;
        };
        let live = job.live.as_mut().expect("a job that is to be swept has not ended");
        let index = destination_number(destination);
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
        let is_asked = turn.asks.send_sweep(turn.turn, turn.stars, (&spec, mounts), name, purpose);
        let live = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut());
        if let Some(sweep) = live.and_then(|live| live.sweeps.get_mut(&index)) {
            sweep.is_asked = is_asked;
        }
    }

    /// A destination says how far its sweep is, or why it cannot be done.
    pub(in crate::core) fn sweep_answered(
        &mut self,
        turn: &mut Seen<'_>,
        (id, destination, operation): (JobId, u32, u64),
        answer: Option<Result<VaultReply, VaultProblem>>,
    ) {
        // Whatever the answer is worth, and also if none will come, the destination may be asked again.
        self.sweep_lost(id, destination, operation);
        let Some(answer) = answer else { return };
        self.count_voided(turn, (id, destination, operation), answer.as_ref().ok());
        let index = destination as usize;
        let Some(job) = self.jobs.get_mut(&id).filter(|job| {
            job.record.sweep_operation() == operation
                && (is_to_be_swept(job, index) || job.record.pause.is_some())
        }) else {
            turn.late += 1;
            return;
        };
        let place = job.record.spec.destinations[destination as usize].clone();
        let Some(sweep) = job.live.as_mut().and_then(|live| live.sweeps.get_mut(&destination)) else {
            turn.late += 1;
            return;
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
        turn.post((Severity::Warning, place.star_id.as_str(), "mirror"), Some(id), &message);
    }

    /// Counts what a sweep deleted that was made void while it ran, and says so.
    fn count_voided(
        &mut self,
        turn: &mut Seen<'_>,
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
            turn.post((Severity::Info, at.star_id.as_str(), "mirror"), Some(id), &message);
        }
    }

    fn swept(&mut self, turn: &mut Seen<'_>, id: JobId, destination: u32, info: &SweepInfo) {
        let spec = &self.job(id).record.spec;
        let place = spec.destinations[destination as usize].clone();
        let mirror = spec.mirror.as_ref().expect("only a mirror is swept");
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
            turn.post((severity, place.star_id.as_str(), "mirror"), Some(id), &message);
        }
    }

    /// Deletes nothing at a destination, and fails the job for it when everything else is done.
    fn refuse_sweep(&mut self, turn: &mut Seen<'_>, id: JobId, destination: usize, problem: &str) {
        let place = &self.job(id).record.spec.destinations[destination];
        let (star, problem) =
            (place.star_id.clone(), format!("nothing was deleted at {}: {problem}", shown(place)));
        let message = format!("job {id}: {problem}");
        let record = SweepRecord { problem, is_refused: true, ..SweepRecord::default() };
        self.end_sweep(turn, id, destination_number(destination), record);
        turn.post((Severity::Error, star.as_str(), "mirror"), Some(id), &message);
    }

    /// Keeps what came of a sweep. Items that waited for it move now; where something is still in the way of one, its next
    /// attempt says so.
    fn end_sweep(&mut self, turn: &mut Seen<'_>, id: JobId, destination: u32, record: SweepRecord) {
        let job = self.jobs.get_mut(&id).expect("a job that is swept is known");
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
    fn sweep_lost(&mut self, id: JobId, destination: u32, operation: u64) {
        let job = self.jobs.get_mut(&id).filter(|job| job.record.sweep_operation() == operation);
        let live = job.and_then(|job| job.live.as_mut());
        if let Some(sweep) = live.and_then(|live| live.sweeps.get_mut(&destination)) {
            sweep.is_asked = false;
        }
    }

    /// What the sweeps of a job wait for.
    pub(super) fn sweep_reasons(&self, stars: &Stars, job: &Job) -> Vec<String> {
        let places = job.record.spec.destinations.iter().enumerate();
        let open =
            places.filter(|(index, _)| job.record.swept(*index).is_none() && is_to_be_swept(job, *index));
        open.map(|(index, place)| {
            let sweeps = job.live.as_ref().map(|live| &live.sweeps);
            let sweep = u32::try_from(index).ok().and_then(|index| sweeps?.get(&index));
            let source = &job.record.spec.source.star_id;
            let held = star_gate(source, "the source", stars.get(source));
            let held =
                held.or_else(|| star_gate(&place.star_id, "the destination", stars.get(&place.star_id)));
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
        let due = self.open_jobs().filter_map(|job| job.live.as_ref().map(|live| (job, live)));
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

fn shown(place: &Location) -> String {
    format!("{}:{}", place.star_id, display_path(&place.path))
}
