//! Work on the vault that goes on between calls: a call begins it or joins it, waits a short time, and returns its
//! progress.
//!
//! It runs on its own thread, so that a process that exits does not wait for it. Both kinds of upkeep continue at their
//! position when they are requested again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orbit_shared::vault_call::limits::STATUS_AFTER;
use orbit_shared::vault_call::{CollectionInfo, Progress, ScrubInfo, VaultFailure, VaultProblem};
use tokio::time::Instant;

use crate::packed::{CollectOptions, CollectReport, PackedError, PackedStore, ScrubOptions, ScrubReport};
use orbit_program::clock;

/// How long a result is returned to callers. A later call begins again.
const END_REMEMBERED: Duration = Duration::from_secs(20);

const _: () = assert!(END_REMEMBERED.as_secs() > 2 * STATUS_AFTER.as_secs());

/// One kind of upkeep, with options `O` and progress `I`.
#[derive(Debug)]
pub(super) struct Upkeep<O, I> {
    state: Mutex<State<O, I>>,
    ended: Condvar,
}

#[derive(Debug)]
enum State<O, I> {
    Idle,
    Running { options: O, info: I },
    Ended { options: O, info: I, at: Instant },
}

impl<O, I> Default for Upkeep<O, I> {
    fn default() -> Self {
        Self { state: Mutex::new(State::Idle), ended: Condvar::new() }
    }
}

impl<O: Clone + PartialEq + Send + 'static, I: Clone + Send + 'static> Upkeep<O, I> {
    fn lock(&self) -> MutexGuard<'_, State<O, I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins or joins, and waits a short time for the end. `work` returns the final result.
    pub(super) fn call(
        self: &Arc<Self>,
        options: &O,
        begun: I,
        work: impl FnOnce(&Self) -> I + Send + 'static,
    ) -> Result<I, VaultProblem> {
        let mut state = self.lock();
        if let State::Ended { at, .. } = &*state
            && at.elapsed() > END_REMEMBERED
        {
            *state = State::Idle;
        }
        match &*state {
            State::Idle => {
                *state = State::Running { options: options.clone(), info: begun };
                self.begin(work)?;
            }
            State::Running { options: under_way, .. } | State::Ended { options: under_way, .. }
                if under_way != options =>
            {
                let message = "the same goes on with other options; wait for its end".to_owned();
                return Err(VaultProblem { failure: VaultFailure::Busy, message });
            }
            State::Running { .. } | State::Ended { .. } => {}
        }
        let is_running = |state: &mut State<O, I>| matches!(state, State::Running { .. });
        let (mut state, _) = self
            .ended
            .wait_timeout_while(state, STATUS_AFTER, is_running)
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Idle) {
            // The next call begins again.
            State::Ended { info, .. } => Ok(info),
            State::Running { options, info } => {
                *state = State::Running { options, info: info.clone() };
                Ok(info)
            }
            State::Idle => {
                let message = "it ended and another caller got the result; ask again".to_owned();
                Err(VaultProblem { failure: VaultFailure::Busy, message })
            }
        }
    }

    fn begin(self: &Arc<Self>, work: impl FnOnce(&Self) -> I + Send + 'static) -> Result<(), VaultProblem> {
        let upkeep = Arc::clone(self);
        let thread = std::thread::Builder::new().name("vault-upkeep".to_owned()).spawn(move || {
            let info = work(&upkeep);
            let mut state = upkeep.lock();
            if let State::Running { options, .. } = std::mem::replace(&mut *state, State::Idle) {
                *state = State::Ended { options, info, at: clock::now() };
            }
            drop(state);
            upkeep.ended.notify_all();
        });
        thread.map(drop).map_err(|error| {
            *self.lock() = State::Idle;
            let message = format!("no thread can be started for it: {error}");
            VaultProblem { failure: VaultFailure::Failed, message }
        })
    }

    /// Updates the progress.
    fn note(&self, change: impl FnOnce(&mut I)) {
        if let State::Running { info, .. } = &mut *self.lock() {
            change(info);
        }
    }
}

/// Begins a collection, or returns the progress of the running one.
pub(super) fn collect(
    upkeep: &Arc<Upkeep<(bool, bool), CollectionInfo>>,
    store: &Arc<PackedStore>,
    is_plan: bool,
    ignores_undo_window: bool,
) -> Result<CollectionInfo, VaultProblem> {
    let store = Arc::clone(store);
    let options = CollectOptions {
        plan_only: is_plan,
        ignore_undo_window: ignores_undo_window,
        free_bytes_min: Some(store.free_bytes_min()),
        ..CollectOptions::default()
    };
    let begun = collection(Progress::Running, is_plan, &CollectReport::default(), String::new());
    upkeep.call(&(is_plan, ignores_undo_window), begun, move |_| {
        match store.collect(&options, &|_| {}, &|| false) {
            Ok(report) => collection(Progress::Done, is_plan, &report, kept(&report)),
            Err(error) => collection(Progress::Failed, is_plan, &CollectReport::default(), error.to_string()),
        }
    })
}

/// What a successful collection could not do.
fn kept(report: &CollectReport) -> String {
    let kept: Vec<String> = report
        .containers_kept
        .iter()
        .map(|(id, why)| format!("container {id} stays as it is: {why}"))
        .collect();
    kept.join("; ")
}

fn collection(progress: Progress, is_plan: bool, report: &CollectReport, problem: String) -> CollectionInfo {
    CollectionInfo {
        progress,
        is_plan,
        dead_chunks: report.chunks_reclaimable,
        dead_bytes: report.bytes_reclaimable,
        waiting_chunks: report.chunks_waiting,
        waiting_bytes: report.bytes_waiting,
        removed_containers: report.containers_removed,
        moved_bytes: report.bytes_copied,
        freed_bytes: report.bytes_freed,
        problem,
    }
}

/// Begins a scrub, or returns the progress of the running one.
pub(super) fn scrub(
    upkeep: &Arc<Upkeep<(u64, bool), ScrubInfo>>,
    store: &Arc<PackedStore>,
    bytes_per_second: u64,
    is_everything: bool,
) -> Result<ScrubInfo, VaultProblem> {
    let store = Arc::clone(store);
    let options = ScrubOptions {
        everything: is_everything,
        bytes_max: None,
        bytes_per_second: (bytes_per_second > 0).then_some(bytes_per_second),
        ..ScrubOptions::default()
    };
    let begun = ScrubInfo {
        progress: Progress::Running,
        checked_chunks: 0,
        checked_bytes: 0,
        damaged_chunks: 0,
        problem: String::new(),
    };
    upkeep.call(&(bytes_per_second, is_everything), begun, move |upkeep| {
        let progress = |so_far: &crate::packed::ScrubProgress| {
            upkeep.note(|info| {
                info.checked_bytes = so_far.bytes_checked;
                info.damaged_chunks = so_far.damaged_count;
            });
        };
        scrubbed(store.scrub(&options, &progress, &|| false))
    })
}

fn scrubbed(result: Result<ScrubReport, PackedError>) -> ScrubInfo {
    match result {
        Ok(report) => ScrubInfo {
            progress: Progress::Done,
            checked_chunks: report.chunks_checked,
            checked_bytes: report.bytes_checked,
            damaged_chunks: report.damaged_chunks.len() as u64,
            problem: damaged_files(&report),
        },
        Err(error) => ScrubInfo {
            progress: Progress::Failed,
            checked_chunks: 0,
            checked_bytes: 0,
            damaged_chunks: 0,
            problem: error.to_string(),
        },
    }
}

/// Other damage than that of chunks.
pub(super) fn damaged_files(report: &ScrubReport) -> String {
    let containers =
        report.damaged_containers.iter().map(|id| format!("the list of container {id} is damaged"));
    let files = report.damaged_files.iter().map(|file| format!("{file} is damaged"));
    let repaired = report.repaired_files.iter().map(|file| format!("{file} was put right"));
    containers.chain(files).chain(repaired).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_call_joins_running_upkeep_gets_its_end_once_and_then_begins_again() {
        let upkeep: Arc<Upkeep<u32, u32>> = Arc::default();
        let (go, wait) = sync_channel::<()>(1);
        let first = Arc::clone(&upkeep);
        let begin = std::thread::spawn(move || {
            first.call(&1, 0, move |upkeep| {
                upkeep.note(|info| *info = 5);
                wait.recv().unwrap();
                7
            })
        });
        while !matches!(&*upkeep.lock(), State::Running { info: 5, .. }) {
            std::thread::yield_now();
        }
        let other = upkeep.call(&2, 0, |_| unreachable!("one at a time"));
        assert_eq!(other.unwrap_err().failure, VaultFailure::Busy);
        go.send(()).unwrap();
        assert_eq!(begin.join().unwrap(), Ok(7));
        assert_eq!(upkeep.call(&2, 0, |_| 9), Ok(9));
    }
}
