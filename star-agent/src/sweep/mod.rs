//! The last step of a mirror at its destination: deletes there what the source does not have.
//!
//! A sweep lists the destination ([`find`]). It records in an unnamed file what the source Star does not have
//! ([`extras`], [`source`]), and what is in the way of the source's entries: a directory in the place of another entry,
//! or another entry in the place of a directory. If that is not more than the job allows, it goes through that list
//! from its end, so that the content of a directory comes before it, asks the source once more, and deletes
//! ([`remove`]). So nothing is deleted that was not absent at the source both times, whatever happens meanwhile to the
//! source or to the connection.
//!
//! It goes on between the coordinator's calls: a call begins a sweep or joins it, and returns its progress. The
//! coordinator decides when a sweep may begin, and what its end means for the job.

mod extras;
mod find;
mod remove;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orbit_shared::sweep::{SweepInfo, SweepRequest};
use orbit_shared::vault_call::limits::STATUS_AFTER;
use orbit_shared::vault_call::{Progress, VaultFailure, VaultProblem};
use orbit_shared::words::{JobId, StarId};
use orbit_telemetry::Spans;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::extras::Extras;
use self::find::find;
use self::remove::Remover;
use self::source::Source;
use crate::grpc::transfer_client::Connections;
use crate::roots::Roots;
use orbit_identity::network::Network;

/// Maximum number of sweeps that run at a time.
const RUNNING_MAX: usize = 4;
/// Number of ended sweeps whose result is kept and returned again, because the answer may have been lost.
const REMEMBERED_MAX: usize = 64;
/// Number of entries that are looked up, and deleted, at a time.
const STEP: usize = 256;

/// Job, destination and operation.
type Name = (JobId, u32, u64);

/// All sweeps of a Star.
#[derive(Debug)]
pub(crate) struct Sweeps {
    star_id: StarId,
    roots: Arc<Roots>,
    network: Arc<dyn Network>,
    /// The directory for lists. It is never swept.
    vault: PathBuf,
    known: Mutex<BTreeMap<Name, Known>>,
}

/// A sweep that runs or has ended.
#[derive(Debug)]
struct Known {
    info: watch::Receiver<SweepInfo>,
    cancel: CancellationToken,
    /// Grows with each sweep: the oldest results are dropped first.
    age: u64,
}

/// Stops an earlier sweep of the same job and destination: the job has gone on since, and nobody asks for that one any more.
fn end_earlier(known: &mut BTreeMap<Name, Known>, (job, destination, operation): Name) {
    known.retain(|name, sweep| {
        let is_earlier = (name.0, name.1) == (job, destination) && name.2 != operation;
        if is_earlier {
            sweep.cancel.cancel();
        }
        !is_earlier
    });
}

impl Sweeps {
    pub(crate) fn new(
        star_id: StarId,
        roots: Arc<Roots>,
        network: Arc<dyn Network>,
        vault: &Path,
    ) -> Arc<Self> {
        let vault = std::path::absolute(vault).unwrap_or_else(|_| vault.to_owned());
        Arc::new(Self { star_id, roots, network, vault, known: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a sweep or joins it, waits a short time for its end, and returns its progress.
    pub(crate) async fn call(self: Arc<Self>, request: SweepRequest) -> Result<SweepInfo, VaultProblem> {
        let name = (request.scan.job, request.destination, request.operation);
        let mut info = self.join_or_begin(name, request)?;
        let ended = info.wait_for(|info| info.progress != Progress::Running);
        let is_gone = matches!(tokio::time::timeout(STATUS_AFTER, ended).await, Ok(Err(_)));
        let now = info.borrow().clone();
        if is_gone {
            self.lock().remove(&name);
            let message = "the sweep ended abnormally, which is a defect of this Star".to_owned();
            return Err(VaultProblem { failure: VaultFailure::Failed, message });
        }
        if now.progress == Progress::Failed {
            // Another call tries again.
            self.lock().remove(&name);
        }
        Ok(now)
    }

    fn join_or_begin(
        self: &Arc<Self>,
        name: Name,
        request: SweepRequest,
    ) -> Result<watch::Receiver<SweepInfo>, VaultProblem> {
        let mut known = self.lock();
        if let Some(sweep) = known.get(&name) {
            return Ok(sweep.info.clone());
        }
        if !request.is_plan {
            end_earlier(&mut known, name);
        }
        let is_running = |sweep: &Known| sweep.info.borrow().progress == Progress::Running;
        if known.values().filter(|sweep| is_running(sweep)).count() >= RUNNING_MAX {
            let message = format!("{RUNNING_MAX} other sweeps go on at this Star; it waits for one of them");
            return Err(VaultProblem { failure: VaultFailure::Busy, message });
        }
        let ended = known.iter().filter(|(_, sweep)| !is_running(sweep));
        let oldest = ended.min_by_key(|(_, sweep)| sweep.age).map(|(name, _)| *name);
        if known.len() >= REMEMBERED_MAX
            && let Some(oldest) = oldest
        {
            known.remove(&oldest);
        }
        let (note, info) = watch::channel(SweepInfo::BEGUN);
        let age = known.values().map(|sweep| sweep.age).max().unwrap_or(0) + 1;
        let cancel = CancellationToken::new();
        known.insert(name, Known { info: info.clone(), cancel: cancel.clone(), age });
        drop(known);
        let sweeps = Arc::clone(self);
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = sweeps.sweep(&request, &note) => ended,
                () = cancel.cancelled() => Err("its job has ended, or has begun another sweep".to_owned()),
            };
            note.send_modify(|info| match ended {
                Ok(()) => info.progress = Progress::Done,
                Err(problem) => {
                    info.progress = Progress::Failed;
                    info.problem = problem;
                }
            });
        });
        Ok(info)
    }

    /// Stops the sweeps of a job. A deletion that is under way is finished.
    pub(crate) fn cancel_job(&self, job: JobId) {
        let mut known = self.lock();
        known.iter().filter(|((of, _, _), _)| *of == job).for_each(|(_, sweep)| sweep.cancel.cancel());
        known.retain(|(of, _, _), _| *of != job);
    }

    async fn sweep(&self, request: &SweepRequest, note: &watch::Sender<SweepInfo>) -> Result<(), String> {
        let connections = Connections::new(Arc::clone(&self.network), Spans::default());
        let mut source = Source::new(connections, &self.star_id, request);
        let mut extras = Extras::new(&self.vault)
            .map_err(|error| format!("the list of what is to be deleted cannot be written: {error}"))?;
        let mounts = find(request, &self.roots, &self.vault, &mut source, &mut extras, note).await?;
        self.remove(request, source, extras, note).await?;
        note.send_modify(|info| {
            if info.problem.is_empty() {
                info.problem = mounts.words(&request.scan.path);
            }
        });
        Ok(())
    }

    /// Deletes the entries that were found, if they are not too many.
    async fn remove(
        &self,
        request: &SweepRequest,
        mut source: Source,
        mut extras: Extras,
        note: &watch::Sender<SweepInfo>,
    ) -> Result<(), String> {
        let is_above = note.borrow().is_above(request.max_delete_percent);
        note.send_modify(|info| info.is_refused = is_above);
        if is_above || request.is_plan || extras.is_empty() {
            return Ok(());
        }
        let mut remover = Remover::open(&self.roots, request)?;
        loop {
            let step = extras.take_last(STEP).map_err(|error| {
                format!("the list of what is to be deleted cannot be read again: {error}")
            })?;
            if step.is_empty() {
                return Ok(());
            }
            let found = source.look(step.iter().map(|extra| extra.path.clone()).collect()).await?;
            let step = step.into_iter().zip(found).filter(|(extra, presence)| presence.is_to_go(extra.kind));
            let done;
            (remover, done) = remover.remove(step.map(|(extra, _)| extra).collect()).await?;
            note.send_modify(|info| done.add_to(info));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_ends_the_earlier_one_of_its_job_and_destination_only() {
        let mut known = BTreeMap::new();
        for name in [(JobId(1), 0, 5), (JobId(1), 1, 5), (JobId(2), 0, 5), (JobId(1), 0, 6)] {
            let (_, info) = watch::channel(SweepInfo::BEGUN);
            known.insert(name, Known { info, cancel: CancellationToken::new(), age: 0 });
        }
        let earlier = known[&(JobId(1), 0, 5)].cancel.clone();
        end_earlier(&mut known, (JobId(1), 0, 6));
        let left: Vec<Name> = known.keys().copied().collect();
        assert_eq!(left, [(JobId(1), 0, 6), (JobId(1), 1, 5), (JobId(2), 0, 5)]);
        assert!(earlier.is_cancelled() && known.values().all(|sweep| !sweep.cancel.is_cancelled()));
    }
}
