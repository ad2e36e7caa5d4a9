//! Tests of the queue, and of its bookkeeping against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::time::WallTime;
use crate::words::{JobId, StarId};

const JOB: JobId = JobId(1);
const OTHER_JOB: JobId = JobId(2);

fn star(name: &str) -> StarId {
    StarId::new(name).unwrap()
}

fn dead(job: JobId, key: &str, reason: FailureReason) -> DeadLetterEntry {
    DeadLetterEntry::new(job, key, reason, "went wrong", WallTime::from_unix_ms(5))
}

fn exhausted(key: &str) -> DeadLetterEntry {
    dead(JOB, key, FailureReason::RetriesExhausted { attempts: 5 })
}

/// Ids 1 to 4: job 1 has `a` (exhausted at star-1), `b` (source missing) and `d` (checksum at star-2), job 2 has `c`
/// (exhausted at star-2).
fn mixed_queue() -> DeadLetterQueue {
    let mut queue = DeadLetterQueue::new(10);
    let retries = FailureReason::RetriesExhausted { attempts: 5 };
    for (job, key, reason, star_id) in [
        (JOB, "a", retries, Some(star("star-1"))),
        (JOB, "b", FailureReason::SourceMissing, None),
        (OTHER_JOB, "c", retries, Some(star("star-2"))),
        (JOB, "d", FailureReason::ChecksumMismatch, Some(star("star-2"))),
    ] {
        queue.push(DeadLetterEntry { star_id, ..dead(job, key, reason) }).unwrap();
    }
    queue
}

fn keys<'a>(entries: impl IntoIterator<Item = &'a DeadLetterEntry>) -> Vec<&'a str> {
    entries.into_iter().map(|entry| entry.item_key.as_str()).collect()
}

fn every_reason() -> [FailureReason; 6] {
    [
        FailureReason::RetriesExhausted { attempts: 5 },
        FailureReason::PermanentError,
        FailureReason::ChecksumMismatch,
        FailureReason::SourceMissing,
        FailureReason::DestinationError,
        FailureReason::DataCorruption,
    ]
}

#[test]
fn what_is_pushed_is_drained_in_order_and_then_gone() {
    let mut queue = DeadLetterQueue::new(10);
    queue.push(exhausted("b")).unwrap();
    queue.push(exhausted("a")).unwrap();
    assert_eq!(keys(&queue.drain().acknowledge()), ["b", "a"]);
    assert!(queue.is_empty() && queue.drain().acknowledge().is_empty());
    assert!(queue.entries_for_job(JOB).is_empty() && queue.entry(JOB, "a").is_none());
}

#[test]
fn a_drain_that_is_not_acknowledged_removes_nothing() {
    let mut queue = mixed_queue();
    let drain = queue.drain();
    assert_eq!(keys(drain.entries()), ["a", "b", "c", "d"]);
    drop(drain);
    assert_eq!(queue.len(), 4);
}

#[test]
fn a_full_queue_refuses_and_gives_the_entry_back() {
    let mut queue = DeadLetterQueue::new(2);
    queue.push(exhausted("a")).unwrap();
    queue.push(exhausted("b")).unwrap();
    assert!(queue.is_full());
    let refused = queue.push(exhausted("c")).unwrap_err();
    assert_eq!((*refused.entry, refused.capacity), (exhausted("c"), 2));
    assert_eq!(keys(queue.entries()), ["a", "b"]);
}

#[test]
fn room_made_by_an_acknowledgement_is_room_again() {
    let mut queue = DeadLetterQueue::new(1);
    queue.push(exhausted("a")).unwrap();
    queue.acknowledge(&[1]);
    assert!(!queue.is_full());
    assert_eq!(queue.push(exhausted("b")), Ok(2));
}

#[test]
fn a_queue_with_capacity_zero_refuses_everything() {
    let mut queue = DeadLetterQueue::new(0);
    assert!(queue.push(exhausted("a")).is_err());
    let stats = queue.stats();
    assert_eq!((stats.current_count, stats.total_received, stats.total_refused), (0, 0, 1));
}

#[test]
fn nothing_is_overwritten_however_much_arrives() {
    let mut queue = DeadLetterQueue::new(2);
    let refused = (0..50).filter(|n| queue.push(exhausted(&n.to_string())).is_err()).count();
    assert_eq!((refused, queue.stats().total_refused), (48, 48));
    assert_eq!(keys(queue.entries()), ["0", "1"]);
}

#[test]
fn one_broken_job_cannot_fill_the_queue_for_the_others() {
    let mut queue = DeadLetterQueue::new(10).with_job_capacity(2);
    queue.push(exhausted("a")).unwrap();
    queue.push(exhausted("b")).unwrap();
    assert!(queue.is_full_for(JOB) && !queue.is_full_for(OTHER_JOB) && !queue.is_full());
    assert_eq!(queue.push(exhausted("c")).unwrap_err().capacity, 2);
    assert!(queue.push(dead(OTHER_JOB, "c", FailureReason::PermanentError)).is_ok());
}

#[test]
fn entries_of_one_job_are_found_in_order() {
    let queue = mixed_queue();
    assert_eq!(keys(queue.entries_for_job(JOB)), ["a", "b", "d"]);
    assert!(queue.entries_for_job(JobId(9)).is_empty());
}

#[test]
fn stats_count_what_was_taken_in_repeated_and_refused() {
    let mut queue = DeadLetterQueue::new(2);
    for key in ["a", "b", "c", "a"] {
        let _ = queue.push(exhausted(key));
    }
    queue.redrive(&DeadLetterFilter { item_key: Some("b".into()), ..DeadLetterFilter::for_job(JOB) }, 9);
    let expected = DeadLetterStats {
        current_count: 1,
        retrying_count: 1,
        max_capacity: 2,
        total_received: 3,
        total_repeated: 1,
        total_refused: 1,
    };
    assert_eq!(queue.stats(), expected);
}

#[test]
fn a_fresh_queue_has_seen_nothing() {
    let queue = DeadLetterQueue::new(7);
    assert!(queue.is_empty() && queue.peek(9).is_empty());
    assert_eq!(queue.stats(), DeadLetterStats { max_capacity: 7, ..DeadLetterStats::default() });
}

#[test]
fn every_reason_has_a_text() {
    let words = every_reason().map(|reason| reason.to_string());
    let expected = [
        "retries exhausted after 5 attempts",
        "permanent error",
        "checksum mismatch",
        "source missing",
        "destination error",
        "data corruption",
    ];
    assert_eq!(words, expected);
    let once = FailureReason::RetriesExhausted { attempts: 1 };
    assert_eq!(once.to_string(), "retries exhausted after 1 attempt");
}

#[test]
fn every_kind_has_one_name_everywhere() {
    assert_eq!(every_reason().map(FailureReason::kind), FailureKind::ALL);
    for kind in FailureKind::ALL {
        assert_eq!(kind.to_string(), kind.as_str());
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
}

#[test]
fn every_reason_can_be_kept() {
    let mut queue = DeadLetterQueue::new(6);
    for (n, reason) in every_reason().into_iter().enumerate() {
        queue.push(dead(JOB, &n.to_string(), reason)).unwrap();
    }
    let kept: Vec<FailureReason> = queue.entries().map(|entry| entry.failure_reason).collect();
    assert_eq!(kept, every_reason());
}

#[test]
fn every_field_survives_the_queue_and_serialisation() {
    let full = DeadLetterEntry {
        dead_letter_id: 1,
        item_key: "1/0/42".into(),
        job_id: JOB,
        star_id: Some(star("star-2")),
        failure_reason: FailureReason::RetriesExhausted { attempts: 5 },
        attempts: 5,
        last_error: "connection refused".into(),
        first_failed_at: WallTime::from_unix_ms(1),
        last_failed_at: WallTime::from_unix_ms(31_001),
        source_path: Some(b"/data/caf\xe9.bin".to_vec()),
        dest_path: Some(b"/backup/caf\xe9.bin".to_vec()),
        history: vec![PastDeath {
            dead_letter_id: 9,
            star_id: None,
            failure_reason: FailureReason::DestinationError,
            attempts: 2,
            last_error: "disk full".into(),
            first_failed_at: WallTime::UNIX_EPOCH,
            last_failed_at: WallTime::UNIX_EPOCH,
        }],
        history_dropped: 3,
    };
    let mut queue = DeadLetterQueue::new(1);
    queue.push(DeadLetterEntry { dead_letter_id: 77, ..full.clone() }).unwrap();
    let drained = queue.drain().acknowledge();
    assert_eq!(drained, std::slice::from_ref(&full));
    let text = serde_json::to_string(&full).unwrap();
    assert_eq!(serde_json::from_str::<DeadLetterEntry>(&text).unwrap(), full);
}

#[test]
fn peeking_does_not_consume() {
    let queue = mixed_queue();
    assert_eq!(keys(queue.peek(2)), ["a", "b"]);
    assert_eq!(keys(queue.peek(99)), ["a", "b", "c", "d"]);
    assert_eq!(queue.len(), 4);
}

#[test]
fn acknowledging_removes_exactly_what_was_read() {
    let mut queue = mixed_queue();
    assert_eq!(keys(&queue.acknowledge(&[3, 1, 99])), ["c", "a"]);
    assert_eq!(keys(queue.entries()), ["b", "d"]);
    assert!(queue.acknowledge(&[3, 1]).is_empty());
}

#[test]
fn an_acknowledgement_does_not_cover_a_death_after_the_peek() {
    let mut queue = DeadLetterQueue::new(5);
    queue.push(exhausted("a")).unwrap();
    let read: Vec<u64> = queue.peek(1).iter().map(|entry| entry.dead_letter_id).collect();
    queue.push(dead(JOB, "a", FailureReason::DataCorruption)).unwrap();
    assert!(queue.acknowledge(&read).is_empty());
    assert_eq!(queue.entry(JOB, "a").unwrap().failure_reason, FailureReason::DataCorruption);
}

#[test]
fn an_item_that_dies_twice_has_one_entry_with_its_history() {
    let mut queue = DeadLetterQueue::new(1);
    queue.push(exhausted("a")).unwrap();
    assert_eq!(queue.push(dead(JOB, "a", FailureReason::ChecksumMismatch)), Ok(2));
    let entry = queue.entry(JOB, "a").unwrap();
    assert_eq!((queue.len(), entry.dead_letter_id, entry.deaths()), (1, 2, 2));
    assert_eq!(entry.history[0].failure_reason, FailureReason::RetriesExhausted { attempts: 5 });
    assert_eq!(entry.history[0].dead_letter_id, 1);
}

#[test]
fn one_key_in_two_jobs_is_two_items() {
    let mut queue = DeadLetterQueue::new(5);
    queue.push(exhausted("a")).unwrap();
    queue.push(dead(OTHER_JOB, "a", FailureReason::PermanentError)).unwrap();
    assert_eq!(queue.len(), 2);
    assert_eq!(queue.entry(OTHER_JOB, "a").unwrap().failure_reason, FailureReason::PermanentError);
}

#[test]
fn a_history_is_bounded_and_says_what_it_lost() {
    let mut queue = DeadLetterQueue::new(1);
    for _ in 0..HISTORY_MAX + 6 {
        queue.push(exhausted("a")).unwrap();
    }
    let entry = queue.entry(JOB, "a").unwrap();
    assert_eq!((entry.history.len(), entry.history_dropped), (HISTORY_MAX, 5));
    assert_eq!(entry.deaths(), HISTORY_MAX as u64 + 6);
    assert_eq!(entry.history.last().unwrap().dead_letter_id, HISTORY_MAX as u64 + 5);
}

#[test]
fn an_over_long_error_is_cut_visibly() {
    let mut queue = DeadLetterQueue::new(1);
    let last_error = "é".repeat(10_000);
    queue.push(DeadLetterEntry { last_error, ..exhausted("a") }).unwrap();
    let kept = &queue.entry(JOB, "a").unwrap().last_error;
    assert!(kept.len() <= ERROR_BYTES_MAX && kept.ends_with("[cut]"));
}

#[test]
fn a_redriven_item_is_no_longer_dead_and_is_not_sent_twice() {
    let mut queue = mixed_queue();
    assert_eq!(keys(&queue.redrive(&DeadLetterFilter::for_job(JOB), 2)), ["a", "b"]);
    assert_eq!(keys(queue.entries()), ["c", "d"]);
    assert_eq!(keys(queue.retrying()), ["a", "b"]);
    assert!(queue.is_retrying(JOB, "a") && !queue.is_retrying(JOB, "d"));
    assert_eq!(keys(&queue.redrive(&DeadLetterFilter::for_job(JOB), 9)), ["d"]);
    assert!(queue.acknowledge(&[1]).is_empty());
}

#[test]
fn a_redriven_item_that_dies_again_has_room_and_keeps_its_history() {
    let mut queue = DeadLetterQueue::new(1);
    queue.push(exhausted("a")).unwrap();
    queue.redrive(&DeadLetterFilter::default(), 9);
    assert!(queue.is_full() && queue.push(exhausted("b")).is_err());
    queue.push(dead(JOB, "a", FailureReason::SourceMissing)).unwrap();
    let entry = queue.entry(JOB, "a").unwrap();
    assert_eq!((entry.deaths(), queue.is_retrying(JOB, "a")), (2, false));
    assert_eq!(queue.stats().retrying_count, 0);
}

#[test]
fn a_redriven_item_that_succeeded_is_forgotten() {
    let mut queue = mixed_queue();
    queue.redrive(&DeadLetterFilter { item_key: Some("a".into()), ..DeadLetterFilter::default() }, 9);
    assert_eq!(queue.settle(JOB, "a").unwrap().item_key, "a");
    assert_eq!(queue.settle(JOB, "a"), None);
    assert_eq!(queue.settle(JOB, "b"), None);
    assert_eq!(keys(queue.entries()), ["b", "c", "d"]);
    assert_eq!(queue.retrying().count(), 0);
}

#[test]
fn a_filter_combines_its_conditions() {
    let queue = mixed_queue();
    let query = |filter: DeadLetterFilter| keys(queue.query(&filter, 9));
    let all = DeadLetterFilter::default();
    assert_eq!(query(all.clone()), ["a", "b", "c", "d"]);
    let reason = Some(FailureKind::RetriesExhausted);
    assert_eq!(query(DeadLetterFilter { reason, ..all.clone() }), ["a", "c"]);
    assert_eq!(query(DeadLetterFilter { reason, ..DeadLetterFilter::for_job(JOB) }), ["a"]);
    let star_id = Some(star("star-2"));
    assert_eq!(query(DeadLetterFilter { star_id: star_id.clone(), ..all.clone() }), ["c", "d"]);
    assert_eq!(query(DeadLetterFilter { star_id, reason, ..all.clone() }), ["c"]);
    assert_eq!(query(DeadLetterFilter { after_id: Some(2), ..all.clone() }), ["c", "d"]);
    assert_eq!(query(DeadLetterFilter { after_id: Some(1), ..DeadLetterFilter::for_job(JOB) }), ["b", "d"]);
    let item_key = Some("d".to_owned());
    assert_eq!(query(DeadLetterFilter { item_key: item_key.clone(), ..all }), ["d"]);
    assert!(query(DeadLetterFilter { item_key, ..DeadLetterFilter::for_job(OTHER_JOB) }).is_empty());
}

#[test]
fn a_limit_takes_the_oldest() {
    let queue = mixed_queue();
    assert_eq!(keys(queue.query(&DeadLetterFilter::for_job(JOB), 2)), ["a", "b"]);
    assert_eq!(keys(queue.query(&DeadLetterFilter::default(), 3)), ["a", "b", "c"]);
}

#[test]
fn taking_removes_what_meets_the_filter_and_nothing_else() {
    let mut queue = mixed_queue();
    let filter = DeadLetterFilter { star_id: Some(star("star-2")), ..DeadLetterFilter::default() };
    assert_eq!(keys(&queue.take(&filter)), ["c", "d"]);
    assert_eq!(keys(queue.entries()), ["a", "b"]);
}

#[test]
fn a_deleted_job_leaves_nothing_behind() {
    let mut queue = mixed_queue();
    queue.redrive(&DeadLetterFilter::for_job(JOB), 1);
    assert_eq!(queue.remove_job(JOB), 3);
    assert_eq!(queue.remove_job(JOB), 0);
    assert_eq!(keys(queue.entries()), ["c"]);
    assert_eq!(queue.stats().retrying_count, 0);
}

#[test]
fn a_restart_changes_nothing_and_gives_no_id_twice() {
    let mut before = mixed_queue();
    before.redrive(&DeadLetterFilter { item_key: Some("b".into()), ..DeadLetterFilter::default() }, 9);
    before.acknowledge(&[4]);
    // Fewer places than entries: accepted entries stay nevertheless.
    let mut after = DeadLetterQueue::new(1).with_next_id(before.next_id());
    before.entries().for_each(|entry| after.restore(entry.clone(), false));
    before.retrying().for_each(|entry| after.restore(entry.clone(), true));
    assert!(after.entries().eq(before.entries()) && after.retrying().eq(before.retrying()));
    assert_eq!(after.push(exhausted("a")), Ok(5));
}

#[test]
fn restoring_keeps_the_latest_death_and_one_entry_per_id() {
    let entry = |id, key: &str| DeadLetterEntry { dead_letter_id: id, ..exhausted(key) };
    let mut queue = DeadLetterQueue::new(9);
    queue.restore(entry(5, "a"), false);
    queue.restore(entry(3, "a"), false);
    queue.restore(entry(5, "b"), true);
    assert_eq!(queue.entry(JOB, "a").unwrap().dead_letter_id, 5);
    assert_eq!((queue.len(), queue.retrying().count(), queue.next_id()), (1, 0, 6));
    queue.restore(entry(7, "a"), true);
    assert!(queue.is_retrying(JOB, "a") && queue.is_empty());
}

/// One call on the queue, on one of a few items of two jobs.
#[derive(Debug, Clone)]
enum Call {
    Push(u64, u8),
    AcknowledgeOldest,
    Redrive(u64),
    Settle(u64, u8),
    RemoveJob(u64),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        6 => (1_u64..3, 0_u8..6).prop_map(|(job, item)| Call::Push(job, item)),
        1 => Just(Call::AcknowledgeOldest),
        2 => (1_u64..3).prop_map(Call::Redrive),
        2 => (1_u64..3, 0_u8..6).prop_map(|(job, item)| Call::Settle(job, item)),
        1 => (1_u64..3).prop_map(Call::RemoveJob),
    ];
    prop::collection::vec(call, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The model: for each item its deaths, whether it is being retried, and the id of its last death.
    #[test]
    fn no_death_is_lost_without_a_refusal(calls in calls(), capacity in 0_usize..8) {
        let mut queue = DeadLetterQueue::new(capacity);
        let mut model: BTreeMap<(u64, String), (u64, bool, u64)> = BTreeMap::new();
        for call in calls {
            match call {
                Call::Push(job, item) => {
                    let key = (job, item.to_string());
                    let has_room = model.contains_key(&key) || model.len() < capacity;
                    let pushed = queue.push(dead(JobId(job), &key.1, FailureReason::PermanentError));
                    prop_assert_eq!(pushed.is_ok(), has_room);
                    if let Ok(id) = pushed {
                        let deaths = model.get(&key).map_or(0, |known| known.0) + 1;
                        model.insert(key, (deaths, false, id));
                    }
                }
                Call::AcknowledgeOldest => {
                    let ids: Vec<u64> = queue.peek(1).iter().map(|entry| entry.dead_letter_id).collect();
                    let oldest = model.iter().filter(|(_, known)| !known.1).min_by_key(|(_, known)| known.2);
                    let oldest = oldest.map(|(key, _)| key.clone());
                    prop_assert_eq!(queue.acknowledge(&ids).len(), usize::from(oldest.is_some()));
                    oldest.and_then(|key| model.remove(&key));
                }
                Call::Redrive(job) => {
                    let dead = model.iter_mut().filter(|(key, known)| key.0 == job && !known.1);
                    let count = dead.map(|(_, known)| known.1 = true).count();
                    prop_assert_eq!(queue.redrive(&DeadLetterFilter::for_job(JobId(job)), 99).len(), count);
                }
                Call::Settle(job, item) => {
                    let key = (job, item.to_string());
                    let is_retrying = model.get(&key).is_some_and(|known| known.1);
                    prop_assert_eq!(queue.settle(JobId(job), &key.1).is_some(), is_retrying);
                    if is_retrying {
                        model.remove(&key);
                    }
                }
                Call::RemoveJob(job) => {
                    let count = model.len();
                    model.retain(|key, _| key.0 != job);
                    prop_assert_eq!(queue.remove_job(JobId(job)), count - model.len());
                }
            }
            prop_assert_eq!(queue.len() + queue.retrying().count(), model.len());
            for ((job, key), (deaths, is_retrying, id)) in &model {
                let entry = queue.entry(JobId(*job), key);
                prop_assert_eq!(entry.map(DeadLetterEntry::deaths), Some(*deaths));
                prop_assert_eq!(entry.map(|entry| entry.dead_letter_id), Some(*id));
                prop_assert_eq!(queue.is_retrying(JobId(*job), key), *is_retrying);
            }
        }
    }
}
