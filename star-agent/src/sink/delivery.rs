//! Runs the machine of an assignment's items ([`PullCore`]): executes its effects and returns their results to it. The sinks
//! for files and for vaults say how an effect is executed.

use std::collections::VecDeque;

use orbit_shared::session::ItemOutcome;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pull_core::{Effect, Event, PullCore, WrittenItem};
use super::{Cancelled, Reporter};

/// A destination that executes effects.
pub(super) trait Destination {
    /// What is written and not durable.
    type Written: WrittenItem + Send + 'static;

    /// Begins an effect other than `Report`, `Pull`, `Clean` and `Finish`. Its result is its answer.
    fn begin(&self, effect: Effect<Self::Written>, jobs: &mut JoinSet<Event<Self::Written>>);
}

/// Items to pull.
pub(super) struct PullOrder {
    /// Indices into the assignment's items.
    pub(super) items: Vec<usize>,
    /// Whether files are accepted although they change while they are read.
    pub(super) accepts_changes: bool,
}

/// See the module.
pub(super) struct Delivery<'run, D: Destination> {
    core: PullCore<D::Written>,
    destination: D,
    reporter: &'run Reporter,
    effects: Vec<Effect<D::Written>>,
    /// Outcomes that were not sent.
    reports: VecDeque<Vec<ItemOutcome>>,
    pull: Option<PullOrder>,
    must_clean: bool,
    /// Effects under way.
    jobs: JoinSet<Event<D::Written>>,
}

impl<'run, D: Destination> Delivery<'run, D> {
    pub(super) fn new(core: PullCore<D::Written>, destination: D, reporter: &'run Reporter) -> Self {
        Self {
            core,
            destination,
            reporter,
            effects: Vec::new(),
            reports: VecDeque::new(),
            pull: None,
            must_clean: false,
            jobs: JoinSet::new(),
        }
    }

    /// Takes what happened. What follows is done by [`Self::execute`].
    pub(super) fn step(&mut self, event: Event<D::Written>) {
        self.core.step(event, &mut self.effects);
    }

    /// Begins everything, and then reports. A report that has to wait holds up no round.
    pub(super) async fn execute(&mut self) -> Result<(), Cancelled> {
        self.begin_all();
        let reporter = self.reporter;
        while let Some(outcomes) = self.reports.pop_front() {
            self.beside(&reporter.cancel, reporter.send(outcomes)).await??;
        }
        Ok(())
    }

    /// Waits for something else, and lets rounds go on meanwhile: other assignments wait for a publication that has begun.
    pub(super) async fn beside<T>(
        &mut self,
        cancel: &CancellationToken,
        something: impl Future<Output = T>,
    ) -> Result<T, Cancelled> {
        let mut something = std::pin::pin!(something);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Err(Cancelled),
                done = &mut something => return Ok(done),
                answered = self.answer() => answered?,
            }
        }
    }

    fn begin_all(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                // Outcomes that wait are sent as one report: a pull that breaks fails many items one by one.
                Effect::Report(outcomes) => match self.reports.back_mut() {
                    Some(last) => last.extend(outcomes),
                    None => self.reports.push_back(outcomes),
                },
                other => self.begin(other),
            }
        }
    }

    fn begin(&mut self, effect: Effect<D::Written>) {
        match effect {
            Effect::Pull { items, accepts_changes } => {
                self.pull = Some(PullOrder { items, accepts_changes });
            }
            Effect::Clean => self.must_clean = true,
            Effect::Report(_) | Effect::Finish => {}
            other @ (Effect::SettleDoubts(_)
            | Effect::SyncContent(_)
            | Effect::Rename(_)
            | Effect::SyncDirectories(_)
            | Effect::Commit { .. }
            | Effect::Discard(_)
            | Effect::MakeDirectories(_)
            | Effect::SyncMade { .. }) => self.destination.begin(other, &mut self.jobs),
        }
    }

    /// Whether an effect is being executed.
    pub(super) fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Waits for the end of an effect, and begins what follows. Without an effect this never completes.
    pub(super) async fn answer(&mut self) -> Result<(), Cancelled> {
        match self.jobs.join_next().await {
            Some(answer) => {
                // A panic in a job is a bug: the assignment is given up instead of reporting half of it.
                self.step(answer.map_err(|_| Cancelled)?);
                self.begin_all();
                Ok(())
            }
            None => std::future::pending().await,
        }
    }

    /// Executes effects until there is something to pull; `None` when every item has its outcome.
    pub(super) async fn next_pull(
        &mut self,
        cancel: &CancellationToken,
    ) -> Result<Option<PullOrder>, Cancelled> {
        loop {
            self.execute().await?;
            if let Some(pull) = self.pull.take() {
                return Ok(Some(pull));
            }
            if self.core.is_over() {
                return Ok(None);
            }
            assert!(self.is_busy(), "an assignment that is not over waits for something");
            tokio::select! {
                () = cancel.cancelled() => return Err(Cancelled),
                answered = self.answer() => answered?,
            }
        }
    }

    /// Ends a cancelled assignment: a round that has begun is finished, without a report. Returns whether temporaries must be
    /// removed.
    pub(super) async fn cancel(&mut self) -> bool {
        self.step(Event::Cancelled);
        self.begin_all();
        while self.is_busy() {
            // A job that panicked has no answer.
            let _ = self.answer().await;
        }
        self.must_clean || !self.core.is_over()
    }
}
