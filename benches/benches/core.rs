//! The cost of the coordinator's core without any I/O, part by part.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use orbit_benches::core_alone::{CoreAlone, measure};
use orbit_benches::tree;
use orbit_coordinator::core::limits::LANE_WINDOW_MAX;
use orbit_shared::backpressure::{BackpressureConfig, BackpressureGuard};
use orbit_shared::prioritizer::{ComposablePrioritizer, PrioritizerKind, Priority, TransferItem};
use orbit_shared::session::{ScanBatch, StarMessage};

const ITEMS: u64 = 10_000;

fn dispatch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dispatch");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("plan, dispatch and settle", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| measure(ITEMS)).sum());
    });
    group.finish();
}

/// The lane is private to the core, so its operations are measured through events that consist mainly of them.
fn lane(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane");
    group.throughput(Throughput::Elements(LANE_WINDOW_MAX as u64));
    group.bench_function("insert into the window", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| fill().1).sum());
    });
    group.bench_function("leave to the store what is behind the window", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| overfill()).sum());
    });
    group.bench_function("take out of the window into assignments", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| empty()).sum());
    });
    group.finish();
}

/// A core with as many waiting items as a lane keeps in memory, and how long adding them took.
fn fill() -> (CoreAlone, Duration) {
    let mut core = CoreAlone::new();
    core.pause();
    let batches = batches(&core, LANE_WINDOW_MAX);
    let spent = say(&mut core, batches);
    (core, spent)
}

/// How long the core takes for as many again.
fn overfill() -> Duration {
    let mut core = CoreAlone::new();
    core.pause();
    let mut batches = batches(&core, 2 * LANE_WINDOW_MAX);
    let rest = batches.split_off(batches.len() / 2);
    say(&mut core, batches);
    say(&mut core, rest)
}

/// How long the core takes to dispatch all waiting items.
fn empty() -> Duration {
    let (mut core, _) = fill();
    let spent = time(|| core.resume());
    assert_eq!(core.assigned_count(), LANE_WINDOW_MAX, "one Star takes what a window holds");
    spent
}

fn batches(core: &CoreAlone, entries: usize) -> Vec<ScanBatch> {
    let mut scan = core.scan(entries as u64);
    std::iter::from_fn(|| scan.batch()).collect()
}

fn say(core: &mut CoreAlone, batches: Vec<ScanBatch>) -> Duration {
    let say = |batch| time(|| drop(core.say(StarMessage::ScanBatch(batch))));
    batches.into_iter().map(say).sum()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn keys(criterion: &mut Criterion) {
    let entry = tree::entry(1);
    let item = TransferItem::new(entry.path, Priority::Normal, tree::FILE_BYTES, entry.modified);
    let chains = [("default chain", &PrioritizerKind::DEFAULT_CHAIN[..]), ("all", &PrioritizerKind::ALL[..])];
    let mut group = criterion.benchmark_group("prioritizer keys");
    for (name, kinds) in chains {
        let chain = ComposablePrioritizer::from_kinds(kinds);
        group.bench_function(name, |bencher| bencher.iter(|| chain.key(black_box(&item))));
    }
    group.finish();
}

fn guard(criterion: &mut Criterion) {
    let guard = Arc::new(BackpressureGuard::new("star-1", BackpressureConfig::default()));
    let mut group = criterion.benchmark_group("guard");
    group.bench_function("reserve and release", |bencher| {
        bencher.iter(|| drop(black_box(guard.try_reserve(1, tree::FILE_BYTES))));
    });
    let mut batch = guard.take_over(1 << 20, 1 << 30);
    group.bench_function("split one item off and release it", |bencher| {
        bencher.iter(|| {
            if batch.object_count() == 0 {
                batch = guard.take_over(1 << 20, 1 << 30);
            }
            drop(black_box(batch.split(1, 1)));
        });
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = quick(); targets = dispatch, lane, keys, guard }
criterion_main!(benches);
