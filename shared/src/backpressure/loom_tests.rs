//! The guard under every interleaving, and with every value that a relaxed load can return.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p orbit-shared --release --lib backpressure::loom`.

use std::sync::Arc;

use loom::thread;

use super::*;

fn guard(max_object_count: u64, max_byte_size: u64) -> Arc<BackpressureGuard> {
    Arc::new(BackpressureGuard::new("star-1", BackpressureConfig { max_object_count, max_byte_size }))
}

/// The objects and bytes in flight, with as few reads as possible: each read is one more point of interleaving.
fn load(guard: &BackpressureGuard) -> (u64, u64) {
    let in_use = guard.in_use();
    (in_use.count, in_use.bytes)
}

#[test]
fn exactly_one_of_three_threads_gets_the_last_place() {
    loom::model(|| {
        let guard = guard(1, 100);
        let threads = [1, 2].map(|bytes| {
            let guard = Arc::clone(&guard);
            thread::spawn(move || guard.try_reserve(1, bytes))
        });
        let mine = guard.try_reserve(1, 3);
        let theirs = threads.map(|thread| thread.join().unwrap());
        let held: Vec<Permit> = theirs.into_iter().chain([mine]).flatten().collect();
        assert_eq!(held.len(), 1);
        assert_eq!(load(&guard), (1, held[0].byte_size()));
        drop(held);
        assert_eq!(load(&guard), (0, 0));
    });
}

#[test]
fn the_byte_limit_is_exceeded_by_at_most_one_reservation() {
    loom::model(|| {
        let guard = guard(100, 10);
        let threads = [(); 2].map(|()| {
            let guard = Arc::clone(&guard);
            thread::spawn(move || guard.try_reserve(1, 7))
        });
        let mine = guard.try_reserve(1, 7);
        let theirs = threads.map(|thread| thread.join().unwrap());
        let held = theirs.into_iter().chain([mine]).flatten().collect::<Vec<_>>();
        assert_eq!((held.len(), load(&guard)), (2, (2, 14)));
    });
}

#[test]
fn permits_given_back_while_others_are_taken_leave_nothing_behind() {
    loom::model(|| {
        let guard = guard(2, 20);
        let reserve_and_look = |guard: Arc<BackpressureGuard>| {
            let permit = guard.try_reserve(1, 6);
            let (count, bytes) = load(&guard);
            assert!(count <= 2 && bytes == count * 6, "{count} objects of {bytes} bytes");
            drop(permit);
        };
        let other = Arc::clone(&guard);
        let other = thread::spawn(move || reserve_and_look(other));
        reserve_and_look(Arc::clone(&guard));
        other.join().unwrap();
        assert_eq!(load(&guard), (0, 0));
    });
}

#[test]
fn a_split_permit_comes_back_once_from_two_threads() {
    loom::model(|| {
        let guard = guard(4, 40);
        let mut permit = guard.try_reserve(3, 30).unwrap();
        let part = permit.split(1, 10).unwrap();
        let elsewhere = thread::spawn(move || drop(part));
        drop(permit);
        elsewhere.join().unwrap();
        assert_eq!(load(&guard), (0, 0));
    });
}

#[test]
fn observers_in_any_order_end_at_nothing() {
    loom::model(|| {
        let guard = guard(10, 100);
        let observers = [true, false].map(|is_start| {
            let guard = Arc::clone(&guard);
            thread::spawn(move || {
                if is_start {
                    guard.record_enqueue(1, 9);
                } else {
                    guard.record_dequeue(1, 9);
                }
            })
        });
        let permit = guard.try_reserve(1, 5);
        let (count, bytes) = load(&guard);
        assert!((count, bytes) == (1, 5) || (count, bytes) == (2, 14), "{count} objects of {bytes} bytes");
        observers.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(load(&guard), (1, 5));
        drop(permit);
        assert_eq!(load(&guard), (0, 0));
    });
}

#[test]
fn two_reasons_to_pause_do_not_undo_one_another() {
    loom::model(|| {
        let guard = guard(1, 1);
        guard.pause(PauseReason::Operator);
        let health = Arc::clone(&guard);
        let health = thread::spawn(move || {
            health.pause(PauseReason::Health);
            assert!(health.try_reserve(1, 1).is_none());
            health.resume(PauseReason::Health);
        });
        guard.pause(PauseReason::Operator);
        assert!(guard.try_reserve(1, 1).is_none());
        health.join().unwrap();
        assert_eq!(guard.state().paused_by, [PauseReason::Operator]);
    });
}

#[test]
fn steps_back_to_the_full_limits_are_all_taken() {
    loom::model(|| {
        let guard = guard(100, 100);
        guard.set_scale(0.5);
        let other = Arc::clone(&guard);
        let other = thread::spawn(move || other.restore_scale(0.1));
        guard.restore_scale(0.1);
        other.join().unwrap();
        assert_eq!(guard.state().max_object_count, 70);
    });
}
