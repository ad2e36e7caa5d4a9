//! A coordinator whose store was removed or replaced under it: it promises nothing any more, and says so for as long as it is
//! asked. What it knew can still be looked at.

use orbit_shared::bulletin::Severity;
use orbit_shared::time::Now;
use tokio_util::sync::CancellationToken;

use super::inbox::{Outgoing, Request};
use super::{Callers, Driver, DriverError};
use crate::core::{COORDINATOR, CloseReason, Refusal};
use crate::store::StoreError;

impl Driver {
    /// Goes on without a store until it is stopped. Every other failure to make a change durable ends the driver.
    pub(super) async fn serve_without_store(
        mut self,
        error: DriverError,
        stop: CancellationToken,
    ) -> Result<(), DriverError> {
        let problem = match &error {
            DriverError::Store(lost @ StoreError::Lost { .. }) => lost.to_string(),
            DriverError::Store(_) | DriverError::Provenance(_) => return Err(error),
        };
        tracing::error!("{problem}");
        let now = self.clock.now();
        let views = self.turns.lose_store(now, &problem);
        // No turn will be durable any more, so this is said to readers alone.
        self.told.board().post(now, Severity::Error, COORDINATOR, "store", None, &problem);
        self.ended_turns.send_modify(|turn| *turn += 1);
        for outbox in std::mem::take(&mut self.outboxes).into_values() {
            // One that is full ends with its sender.
            let _ = outbox.try_send(Outgoing::Close(CloseReason::StoreLost { problem: problem.clone() }));
        }
        refuse_all(&mut self.answers, &problem);
        refuse_all(&mut self.plan_answers, &problem);
        refuse_all(&mut self.vault_answers, &problem);
        let now = self.clock.now();
        views.into_iter().for_each(|view| view(self.turns.core(), now));
        while let Some(Some(request)) = stop.run_until_cancelled(self.requests.recv()).await {
            let now = self.clock.now();
            self.refuse(request, &problem, now);
        }
        Err(error)
    }

    /// Lets a request look, and refuses it everything else. Callers that have gone away want no answer.
    fn refuse(&self, request: Request, problem: &str, now: Now) {
        match request {
            // Without its answer a caller hears that the coordinator stops.
            Request::Event(_) | Request::TurnKey { .. } => {}
            Request::OpenSession { outbox, .. } => {
                let problem = problem.to_owned();
                let _ = outbox.try_send(Outgoing::Close(CloseReason::StoreLost { problem }));
            }
            Request::Command { answer, .. } => drop(answer.send(Err(refusal(problem)))),
            Request::Plan { answer, .. } => drop(answer.send(Err(refusal(problem)))),
            Request::Vault { answer, .. } => drop(answer.send(Err(refusal(problem)))),
            Request::ReadGrant { snapshot, answer } => {
                let _ = answer.send(self.grant(snapshot));
            }
            Request::View(view) => view(self.turns.core(), now),
        }
    }
}

/// Refuses everybody who waits. Callers that have gone away want no answer.
fn refuse_all<T>(callers: &mut Callers<T>, problem: &str) {
    for (_, caller) in std::mem::take(callers) {
        let _ = caller.send(Err(refusal(problem)));
    }
}

fn refusal(problem: &str) -> Refusal {
    Refusal::Unavailable { problem: problem.to_owned() }
}
