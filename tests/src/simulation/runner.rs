//! Runs seeds on all processor cores, and collects the panics of failed ones.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use crate::simulation;

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A seed and its failure.
pub type Failure = (u64, String);

/// Seeds that no earlier run has had.
pub fn random_seeds(count: u64) -> impl Iterator<Item = u64> {
    // A new version-4 UUID is the only source of randomness that the crates here share.
    let start = (uuid::Uuid::new_v4().as_u128() as u64) >> 1;
    (0..count).map(move |offset| start + offset)
}

/// Runs one seed. A failure is returned, not thrown.
pub fn run_one(seed: u64) -> Result<simulation::Outcome, Failure> {
    caught(seed, || simulation::run(seed, false))
}

/// As [`run_one`], for any function of a seed.
pub fn caught<T>(seed: u64, run: impl FnOnce() -> T) -> Result<T, Failure> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_seed = std::thread::current().name() == Some(SEED_THREAD);
            LAST_PANIC.with_borrow_mut(|text| *text = info.to_string());
            if !is_seed {
                usual(info);
            }
        }));
    });
    LAST_PANIC.with_borrow_mut(String::clear);
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    // Includes a panic that was caught in a task of the product.
    let panic = LAST_PANIC.with_borrow(Clone::clone);
    outcome.ok().filter(|_| panic.is_empty()).ok_or((seed, panic))
}

/// Maximum number of failures that are shown in full.
const FAILURES_SHOWN: usize = 40;
const SEED_THREAD: &str = "seeds";

/// Runs seeds. Returns the failures, the lowest seed first.
pub fn run_all(seeds: &[u64]) -> Vec<Failure> {
    on_all_cores(seeds, |&seed| run_one(seed).err()).into_iter().flatten().collect()
}

/// Calls a function for each element, on all processor cores. Returns the results in order.
pub fn on_all_cores<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let work = || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = all.get(index) else { return };
                    let result = work(one);
                    results.lock().expect("no thread panics here").push((index, result));
                }
            };
            std::thread::Builder::new()
                .name(SEED_THREAD.to_owned())
                .spawn_scoped(scope, work)
                .expect("a thread can be started");
        }
    });
    let mut results = results.into_inner().expect("no thread panics here");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A text about the failures, each with the command that replays it.
pub fn report(failures: &[Failure]) -> String {
    report_of("simulation", failures)
}

/// As [`report`], for the seeds of another suite.
pub fn report_of(suite: &str, failures: &[Failure]) -> String {
    let lines = failures.iter().take(FAILURES_SHOWN).map(|(seed, why)| {
        format!("SEED={seed} cargo test --workspace --test {suite} -- --nocapture\n    {why}\n")
    });
    format!("{} seeds failed\n{}", failures.len(), lines.collect::<String>())
}
