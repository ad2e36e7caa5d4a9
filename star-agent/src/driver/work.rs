//! The work on one assignment: it waits for a slot, is written to the vault's journal, executed, and removed from the
//! journal once all its outcomes are safe or it is withdrawn. So the journal lists what a process had begun when it
//! died: the next start cleans up after it, and the coordinator learns which items may have caused the death.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use orbit_shared::session::{Assignment, Failure, FailureCause, Fault, ItemOutcome, ItemResult};
use orbit_shared::words::{AssignmentId, Layout};
use orbit_telemetry::{Kind, Spans};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::OUTCOMES_READY_MAX;
use super::slots::Slots;
use crate::core::Event;
use crate::plane::DataPlane;
use crate::vault::Vault;

/// One assignment's work, from its entry in the journal until that is removed.
pub(super) struct Work {
    pub(super) plane: Arc<dyn DataPlane>,
    pub(super) vault: Arc<Vault>,
    pub(super) slots: Arc<Slots>,
    pub(super) inbox: mpsc::Sender<Event>,
    pub(super) progress: Arc<AtomicU64>,
    pub(super) cancel: CancellationToken,
    pub(super) safe: CancellationToken,
    pub(super) is_over: Arc<AtomicBool>,
    /// A grant that is newer than the one in the assignment.
    pub(super) token: Arc<Mutex<Option<String>>>,
    pub(super) spans: Spans,
}

impl Work {
    pub(super) async fn run(self, assignment: Assignment) {
        let id = assignment.id;
        // An assignment that was withdrawn must not wait for a slot, and one that cannot be journalled is not begun.
        let slot = self.cancel.run_until_cancelled(self.slots.take(&assignment)).await;
        if slot.is_some() && self.record(&assignment).await && !self.cancel.is_cancelled() {
            let mut assignment = assignment.clone();
            // It may have waited for its slot for longer than a grant is valid.
            let renewed = self.token.lock().unwrap_or_else(PoisonError::into_inner).take();
            assignment.token = renewed.unwrap_or(assignment.token);
            self.execute(assignment).await;
        }
        drop(slot);
        // If the inbox is gone, there is no receiver.
        let _ = self.inbox.send(Event::WorkEnded { assignment: id }).await;
        // It can also be withdrawn after its work has ended, if the coordinator never learnt of that.
        tokio::select! {
            () = self.safe.cancelled() => {}
            () = self.cancel.cancelled() => {}
        }
        let (plane, vault, is_withdrawn) = (self.plane, self.vault, self.cancel.is_cancelled());
        let is_over = self.is_over.load(Ordering::Acquire);
        let ending = tokio::task::spawn_blocking(move || {
            let is_clean = !is_withdrawn || plane.clean_temporaries(&assignment);
            if is_over {
                plane.end_job(assignment.job);
            }
            if is_clean {
                forget(&vault, id);
            }
        });
        if ending.await.is_err() {
            warn!(assignment = id.0, "cleaning up after an assignment panicked; the next start does it");
        }
    }

    /// Whether the work may begin. Work for the packed store leaves nothing that a start would have to look for, so it
    /// may begin without an entry.
    async fn record(&self, assignment: &Assignment) -> bool {
        let needs_cleaning = assignment.layout == Layout::Files;
        let id = assignment.id;
        let sequences: Vec<u64> = assignment.items.iter().map(|item| item.sequence).collect();
        let (vault, assignment) = (Arc::clone(&self.vault), assignment.clone());
        match tokio::task::spawn_blocking(move || vault.record(&assignment)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                warn!(assignment = id.0, %error, "an assignment cannot be written to the vault's journal");
                if !needs_cleaning {
                    return true;
                }
                let path = self.vault.path().display().to_string();
                let failure = Failure {
                    cause: FailureCause::DestinationError,
                    fault: Fault::Destination,
                    message: format!("cannot write down the work in the Star's vault {path}: {error}"),
                };
                let failed = |sequence| ItemOutcome { sequence, result: ItemResult::Failed(failure.clone()) };
                let outcomes = sequences.into_iter().map(failed).collect();
                let _ = self.inbox.send(Event::OutcomesProduced { assignment: id, outcomes }).await;
                false
            }
            Err(_) => !needs_cleaning,
        }
    }

    /// Executes in its own task, so that a panic ends this assignment only.
    async fn execute(&self, mut assignment: Assignment) {
        let (id, job) = (assignment.id, assignment.job.0);
        let mut span = self.spans.begin("work", Kind::Internal, assignment.trace);
        span.note("orbit.job", assignment.job.0);
        span.note("orbit.assignment", id.0);
        span.note("orbit.source", assignment.source_star.as_str());
        span.note("orbit.items", assignment.items.len() as u64);
        // The pulls of this work have this span as their parent.
        assignment.trace = span.context();
        let (sender, outcomes) = mpsc::channel(OUTCOMES_READY_MAX);
        let executing =
            self.plane.execute(assignment, sender, Arc::clone(&self.progress), self.cancel.clone());
        let task = tokio::spawn(executing);
        self.pass_on(id, outcomes).await;
        span.note("orbit.bytes", self.progress.load(Ordering::Relaxed));
        if task.await.is_err() {
            span.fail("the work panicked");
            warn!(assignment = id.0, job, "the work on an assignment panicked; its items are tried again");
        }
    }

    async fn pass_on(&self, assignment: AssignmentId, mut outcomes: mpsc::Receiver<Vec<ItemOutcome>>) {
        while let Some(outcomes) = outcomes.recv().await {
            // When the Star exits, outcomes have no receiver. They are drained so that the work can end.
            let _ = self.inbox.send(Event::OutcomesProduced { assignment, outcomes }).await;
        }
    }
}

fn forget(vault: &Vault, id: AssignmentId) {
    if let Err(error) = vault.forget(id) {
        warn!(assignment = id.0, %error, "an assignment stays in the vault's journal; the next start removes it");
    }
}
