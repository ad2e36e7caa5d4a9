//! Sealing: the last step of a packed job. When every item of a destination has ended, it is asked to make a snapshot of
//! what it has, whatever other destinations wait for; the job ends when all of them are durable. A vault that has lost what
//! it had stored makes none, which fails the job when the others have ended.
//!
//! A vault knows a job by its number and the moment of its creation, so a seal that is asked for again is the same one.
//! It is asked for again whenever its answer can be lost: after the session has ended, on either side's account. A vault
//! that cannot seal for now is asked again after a pause.

use orbit_shared::bulletin::Severity;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::time::Monotonic;
use orbit_shared::vault_call::{
    Renames, SealRequest, SnapshotInfo, VaultCall, VaultFailure, VaultProblem, seal_pause,
};
use orbit_shared::words::{JobId, Layout, SnapshotId, StarId};

use super::Jobs;
use super::job::Job;
use super::live::Seal;
use crate::core::calls::Purpose;
use crate::core::fact::Fact;
use crate::core::records::{JobRecord, destination_number};
use crate::core::seen::Seen;

/// Whether everything of a job is done at one destination but for its snapshot.
fn is_done_at(job: &Job, destination: u32) -> bool {
    let tally = job.record.tallies.get(destination as usize);
    job.live.is_some()
        && job.record.spec.layout == Layout::Packed
        && job.record.scan.is_done
        && tally.is_some_and(|tally| tally.open() == 0)
}

/// Whether anything of a job is to be sealed. From here on vaults may have made snapshots already.
pub(super) fn is_to_be_sealed(job: &Job) -> bool {
    (0..destination_count(job)).any(|destination| is_done_at(job, destination))
}

fn destination_count(job: &Job) -> u32 {
    destination_number(job.record.spec.destinations.len())
}

impl JobRecord {
    /// Whether nothing is left to be sealed.
    pub(super) fn is_sealed(&self) -> bool {
        match self.spec.layout {
            Layout::Files => true,
            Layout::Packed if is_planted(Bug::SealedByOne) => self.snapshots.iter().any(Option::is_some),
            Layout::Packed => (0..self.spec.destinations.len()).all(|index| self.is_sealed_at(index)),
        }
    }

    /// Whether nothing is left to be sealed at one destination: its snapshot is made, or cannot be.
    pub(super) fn is_sealed_at(&self, index: usize) -> bool {
        let is_failed = u32::try_from(index).is_ok_and(|index| self.seal_failures.contains_key(&index));
        self.snapshot_at(index).is_some() || is_failed
    }

    /// Why a job that has nothing left to do failed, if a snapshot could not be made.
    pub(super) fn seal_end(&self) -> Option<String> {
        let failed: Vec<&str> = self.seal_failures.values().map(String::as_str).collect();
        (!failed.is_empty()).then(|| format!("{}{}", failed.join("; "), self.kept_snapshots()))
    }

    /// What a packed job that did not go well has made nevertheless; empty if nothing.
    pub(super) fn kept_snapshots(&self) -> String {
        let kept: Vec<String> = (self.spec.destinations.iter().zip(&self.snapshots))
            .filter_map(|(place, snapshot)| {
                Some(format!("{} in the vault of {}", snapshot.as_ref()?, place.star_id))
            })
            .collect();
        if kept.is_empty() { String::new() } else { format!("; it has made snapshot {}", kept.join(", ")) }
    }

    fn snapshot_at(&self, index: usize) -> Option<SnapshotId> {
        self.snapshots.get(index).copied().flatten()
    }
}

impl Jobs {
    /// Asks for the snapshots of all jobs that are done but for them.
    pub(in crate::core) fn ask_for_seals(&mut self, turn: &mut Seen<'_>) {
        let ready: Vec<JobId> =
            self.open_jobs().filter(|job| is_to_be_sealed(job)).map(|job| job.record.id).collect();
        for id in ready {
            for destination in 0..self.jobs.get(&id).map_or(0, destination_count) {
                self.ask_for_seal(turn, id, destination);
            }
        }
    }

    fn ask_for_seal(&mut self, turn: &mut Seen<'_>, id: JobId, destination: u32) {
        let is_open =
            |job: &&mut Job| is_done_at(job, destination) && !job.record.is_sealed_at(destination as usize);
        let Some(job) = self.jobs.get_mut(&id).filter(is_open) else { return };
        let live = job.live.as_mut().expect("a job with a snapshot to be made has not ended");
        let star = job.record.spec.destinations[destination as usize].star_id.clone();
        let Some(session) = turn.stars.session_of(&star) else { return };
        let seal = live.seals.entry(destination).or_default();
        if seal.is_asked || seal.pause.is_some_and(|(until, _)| turn.now.monotonic < until) {
            return;
        }
        seal.is_asked = true;
        let tally = job.record.tallies[destination as usize];
        let request = SealRequest {
            job: id,
            destination,
            source_star: job.record.spec.source.star_id.clone(),
            source_path: job.record.spec.source.path.clone(),
            create_time: job.record.create_time,
            tags: job.record.spec.tags.clone(),
            is_partial: tally.dead > 0,
            entry_count: tally.stored + tally.skipped,
            changed_count: tally.changed,
        };
        turn.asks.send(
            turn.turn,
            session,
            &star,
            VaultCall::Seal(request),
            Purpose::Seal { job: id, destination },
        );
    }

    /// A vault has made the snapshot of a job, or has not, or its answer will not come.
    pub(in crate::core) fn seal_answered(
        &mut self,
        turn: &mut Seen<'_>,
        (id, destination, star): (JobId, u32, &StarId),
        answer: Option<Result<Box<(SnapshotInfo, Renames)>, VaultProblem>>,
    ) {
        match answer {
            Some(Ok(sealed)) => {
                let (info, renames) = *sealed;
                if self.sealed(turn, id, destination, &info) {
                    self.record_renames(turn, (id, destination), &info, &renames);
                }
            }
            Some(Err(problem)) => self.seal_failed(turn, id, destination, star, &problem),
            None => self.seal_lost(id, destination),
        }
    }

    /// A snapshot of a job is durable. Returns whether that was not known yet.
    fn sealed(&mut self, turn: &mut Seen<'_>, id: JobId, destination: u32, info: &SnapshotInfo) -> bool {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| is_done_at(job, destination)) else {
            turn.late += 1;
            return false;
        };
        let snapshots = &mut job.record.snapshots;
        snapshots.resize(snapshots.len().max(destination as usize + 1), None);
        snapshots[destination as usize] = Some(info.id);
        job.is_dirty = true;
        let star = job.record.spec.destinations[destination as usize].star_id.clone();
        let message = format!(
            "snapshot {} of job {id} is in the vault of {star}: {} entries, {} bytes, of which {} are new there",
            info.id, info.entry_count, info.total_bytes, info.added_bytes
        );
        turn.post((Severity::Info, star.as_str(), "vault"), Some(id), &message);
        turn.facts.push(Fact::SnapshotMade(star));
        true
    }

    /// A vault could not seal: it is asked again later, unless it has not got what was stored.
    fn seal_failed(
        &mut self,
        turn: &mut Seen<'_>,
        id: JobId,
        destination: u32,
        star: &StarId,
        problem: &VaultProblem,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(live) = &mut job.live else { return };
        let message = format!("the vault of {star} cannot seal job {id}: {}", problem.message);
        match problem.failure {
            VaultFailure::NotFound | VaultFailure::Damaged => {
                let message = format!("{message}; run the job again, only what is missing there moves");
                live.seals.remove(&destination);
                job.record.seal_failures.insert(destination, message.clone());
                job.is_dirty = true;
                turn.post((Severity::Error, star.as_str(), "vault"), Some(id), &message);
            }
            VaultFailure::Busy | VaultFailure::Full | VaultFailure::Failed => {
                let seal = live.seals.entry(destination).or_default();
                let wait = seal_pause(seal.pause.map(|(_, before)| before));
                *seal = Seal {
                    is_asked: false,
                    pause: Some((turn.now.monotonic + wait, wait)),
                    problem: problem.message.clone(),
                };
                turn.post((Severity::Warning, star.as_str(), "vault"), Some(id), &message);
            }
        }
    }

    /// The answer to a seal will not come: it is asked for again.
    fn seal_lost(&mut self, id: JobId, destination: u32) {
        let live = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut());
        if let Some(seal) = live.and_then(|live| live.seals.get_mut(&destination)) {
            seal.is_asked = is_planted(Bug::SealNotAskedAgain);
        }
    }

    /// What the snapshots of a job wait for.
    pub(super) fn seal_reasons(&self, job: &Job) -> Vec<String> {
        let places = job.record.spec.destinations.iter().enumerate();
        let open = places.filter(|(index, _)| {
            let is_done = u32::try_from(*index).is_ok_and(|index| is_done_at(job, index));
            is_done && !job.record.is_sealed_at(*index)
        });
        let reasons = open.map(|(index, place)| {
            let star = &place.star_id;
            let seals = job.live.as_ref().map(|live| &live.seals);
            let seal = u32::try_from(index).ok().and_then(|index| seals?.get(&index));
            match seal {
                Some(seal) if seal.is_asked => format!("{star} makes the snapshot"),
                Some(seal) if !seal.problem.is_empty() => {
                    format!("{star} cannot make the snapshot yet, and is asked again: {}", seal.problem)
                }
                Some(_) | None => format!("{star} is to make the snapshot and is not connected"),
            }
        });
        reasons.collect()
    }

    /// When a vault is asked for a seal again.
    pub(super) fn next_seal_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let lives = self.open_jobs().filter(|job| is_to_be_sealed(job)).filter_map(|job| job.live.as_ref());
        let seals = lives.flat_map(|live| live.seals.values()).filter(|seal| !seal.is_asked);
        seals.filter_map(|seal| seal.pause.map(|(until, _)| until)).filter(|until| *until > now).min()
    }
}
