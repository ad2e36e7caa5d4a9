//! The embedded store gives back what was committed, in the order that was asked for, and refuses what is damaged.

use std::sync::Arc;

use orbit_shared::bulletin::Bulletin;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::penalization::PenaltyConfig;
use orbit_shared::prioritizer::PrioritizerKind;
use orbit_shared::time::WallTime;
use orbit_shared::words::{AssignmentId, ItemId, JobId, StarId};

use super::codec::{decode, encode};
use super::{EmbeddedStore, Store, StoreError};
use crate::core::{
    AnswerRecord, Answered, AssignmentRecord, Change, Counters, DeadItem, ItemEnd, ItemEndRecord, JobRecord,
    JobSpec, Location, PenalizedRecord, RequestName, ScanRecord, ScheduleRecord, ScheduleTimes, StarRecord,
    Tally,
};

const JOB: JobId = JobId(7);

fn item(destination: u32, sequence: u64) -> ItemId {
    ItemId { job: JOB, destination, sequence }
}

fn entry(name: &str) -> Entry {
    Entry {
        path: name.as_bytes().to_vec(),
        kind: EntryKind::File { size: 3 },
        mode: 0o600,
        modified: WallTime::UNIX_EPOCH,
        rank: 50,
    }
}

fn job() -> JobRecord {
    let place = Location { star_id: StarId::new("star-1").expect("a name"), path: b"/d\xff".to_vec() };
    JobRecord {
        id: JOB,
        spec: JobSpec {
            source: place.clone(),
            destinations: vec![place],
            include: vec!["*.rs".to_owned()],
            exclude: Vec::new(),
            prioritizers: PrioritizerKind::ALL.to_vec(),
            penalty: PenaltyConfig::default(),
            max_bytes_per_second: 0,
            dead_letter_max: 10,
            layout: orbit_shared::words::Layout::Files,
            snapshot: None,
            tags: Vec::new(),
            limits: Default::default(),
            is_one_file_system: false,
            bandwidth_windows: Vec::new(),
            caller: None,
            mirror: None,
            paths: Vec::new(),
            compares_content: false,
        },
        request_id: "r".to_owned(),
        create_time: WallTime::UNIX_EPOCH,
        pause: Some("lunch".to_owned()),
        scan: ScanRecord { is_done: true, next_sequence: 3, ..ScanRecord::default() },
        tallies: vec![Tally::default()],
        end: None,
        snapshots: Vec::new(),
        seal_failures: std::collections::BTreeMap::new(),
        sweeps: Vec::new(),
        created_by: String::new(),
        removed_before: None,
        is_forgotten: false,
        sweeps_voided: 0,
        run_of: None,
        deleted_before: 0,
    }
}

fn filled() -> Vec<Change> {
    let mut changes = vec![Change::PutJob(Box::new(job()))];
    for (sequence, name) in ["c", "b", "a"].iter().enumerate() {
        let sequence = sequence as u64;
        changes.push(Change::PutEntry { job: JOB, sequence, entry: Arc::new(entry(name)) });
        changes.push(Change::Enqueue { item: item(0, sequence), key: name.as_bytes().to_vec() });
    }
    changes
}

#[test]
fn everything_committed_is_there_after_the_store_is_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let store = EmbeddedStore::open(&path).expect("opens");
    store.commit(&filled()).expect("commits");
    let record = AssignmentRecord {
        id: AssignmentId(9),
        star: StarId::new("star-1").expect("a name"),
        job: JOB,
        destination: 0,
        sequences: vec![0, 2],
    };
    let end = ItemEndRecord { end: ItemEnd::Stored, attempts: 1 };
    let counters = Counters { job: 8, ..Counters::default() };
    store
        .commit(&[
            Change::PutAssignment(record.clone()),
            Change::PutEnd { item: item(0, 2), record: end },
            Change::PutCounters(counters),
        ])
        .expect("commits");
    drop(store);
    let store = EmbeddedStore::open(&path).expect("opens again");
    let recovered = store.recover().expect("recovers");
    assert_eq!(recovered.jobs, [job()]);
    assert_eq!(recovered.counters, counters);
    let left = AssignmentRecord { sequences: vec![0], ..record };
    assert_eq!(recovered.assignments, [(left, vec![entry("c")])], "without the item that has ended");
    assert_eq!(store.item(item(0, 2)).expect("reads").and_then(|item| item.end), Some(end));
    assert_eq!(store.item(item(0, 3)).expect("reads"), None);
}

fn schedule() -> ScheduleRecord {
    ScheduleRecord {
        id: 3,
        spec: job().spec,
        times: ScheduleTimes::Daily(vec![90, 120]),
        request_id: "nightly".to_owned(),
        create_time: WallTime::UNIX_EPOCH,
        next_time: WallTime { seconds: 5400, nanos: 0 },
        last_job: Some(JOB),
        pause: None,
        problem: String::new(),
        last_success_time: None,
        edits: 0,
        created_as: None,
        edited_by: String::new(),
    }
}

/// A schedule as it was written before its last success was kept.
#[test]
fn schedules_of_an_earlier_build_are_read() {
    let now = schedule();
    let earlier = encode(&(
        now.id,
        &now.spec,
        &now.times,
        &now.request_id,
        now.create_time,
        now.next_time,
        now.last_job,
        &now.pause,
        &now.problem,
    ));
    assert_eq!(decode::<ScheduleRecord>("schedules", &earlier).expect("decodes"), now);
}

/// Counters as they were written before there were schedules.
#[test]
fn counters_of_an_earlier_build_are_read() {
    let earlier = encode(&(7_u64, 1_u64, 2_u64, 3_u64, 4_u64));
    let counters: Counters = decode("meta", &earlier).expect("decodes");
    assert_eq!((counters.job, counters.bulletin, counters.schedule), (7, 4, 1));
}

#[test]
fn a_queue_is_read_in_the_order_of_its_keys_and_page_by_page() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(&directory.path().join("store")).expect("opens");
    store.commit(&filled()).expect("commits");
    let first = store.queue_page(JOB, 0, b"", 2).expect("reads");
    let names: Vec<_> = first.items.iter().map(|(key, sequence, _)| (key.clone(), *sequence)).collect();
    assert_eq!(names, [(b"a".to_vec(), 2), (b"b".to_vec(), 1)]);
    assert!(!first.is_end);
    let second = store.queue_page(JOB, 0, b"b", 2).expect("reads");
    assert_eq!((second.items.len(), second.is_end), (1, true));
    assert!(store.queue_page(JOB, 1, b"", 2).expect("reads").items.is_empty(), "another destination");
    store.commit(&[Change::ClearQueue(JOB)]).expect("commits");
    assert!(store.queue_page(JOB, 0, b"", 2).expect("reads").items.is_empty());
}

#[test]
fn a_forgotten_job_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(&directory.path().join("store")).expect("opens");
    store.commit(&filled()).expect("commits");
    store.commit(&[Change::ForgetJob(JOB)]).expect("commits");
    assert!(store.recover().expect("recovers").jobs.is_empty());
    assert!(store.items(JOB, 1, 0, 10).expect("reads").is_empty());
    assert!(store.queue_page(JOB, 0, b"", 2).expect("reads").items.is_empty());
}

#[test]
fn a_store_that_is_in_use_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let _first = EmbeddedStore::open(&path).expect("opens");
    let error = EmbeddedStore::open(&path).expect_err("refuses").to_string();
    assert!(error.contains("another coordinator uses it"), "{error}");
}

#[test]
fn every_flipped_bit_of_a_record_is_found() {
    let bytes = encode(&job());
    assert_eq!(decode::<JobRecord>("jobs", &bytes).expect("decodes"), job());
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 1 << (index % 8);
        let result = decode::<JobRecord>("jobs", &damaged);
        assert!(matches!(result, Err(StoreError::Damaged { .. })), "byte {index}");
    }
    for length in 0..bytes.len() {
        assert!(decode::<JobRecord>("jobs", &bytes[..length]).is_err(), "cut to {length}");
    }
}

/// Tries a record's body as every kind of record that the store has. Reading it may fail, and nothing else.
fn read_as_anything(body: &[u8]) {
    let bytes = super::codec::sealed(body);
    macro_rules! try_all {
        ($($record:ty),* $(,)?) => {$(
            if let Ok(record) = decode::<$record>("fuzzed", &bytes) {
                // What was understood can be written again.
                let _ = encode(&record);
            }
        )*};
    }
    try_all!(
        JobRecord,
        StarRecord,
        AssignmentRecord,
        Entry,
        ItemEndRecord,
        DeadItem,
        PenalizedRecord,
        Bulletin,
        Counters,
        u64,
    );
}

proptest::proptest! {
    /// The checksum is right, so what is tried is the reader behind it: another version's record, or a program's mistake.
    #[test]
    fn a_record_of_any_content_is_read_or_refused(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        read_as_anything(&body);
    }

    #[test]
    fn a_record_that_is_almost_right_is_read_or_refused(
        edits in proptest::collection::vec((0_usize..400, proptest::num::u8::ANY), 1..6),
        length in 0_usize..400,
    ) {
        let whole = encode(&job());
        let mut body = whole[super::codec::HEADER_BYTES..].to_vec();
        for (at, byte) in edits {
            let at = at % body.len();
            body[at] = byte;
        }
        read_as_anything(&body);
        body.truncate(length);
        read_as_anything(&body);
    }
}

#[test]
fn a_copy_shows_one_moment_and_opens_as_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(&directory.path().join("store")).expect("opens");
    store.commit(&filled()).expect("commits");
    store.commit(&[Change::PutLastEvent(12), Change::PutSchedule(Box::new(schedule()))]).expect("commits");
    let copy = directory.path().join("copy");
    store.copy_to(&copy).expect("copies while it is open");
    store.commit(&[Change::ForgetJob(JOB)]).expect("commits");
    let copy = EmbeddedStore::open(&copy).expect("opens the copy");
    let recovered = copy.recover().expect("recovers");
    assert_eq!((recovered.jobs.len(), recovered.last_event), (1, Some(12)));
    assert_eq!(recovered.schedules, [schedule()]);
    store.commit(&[Change::RemoveSchedule(3)]).expect("commits");
    assert!(store.recover().expect("recovers").schedules.is_empty());
    assert_eq!(copy.queue_page(JOB, 0, b"", 9).expect("reads").items.len(), 3);
    assert!(store.recover().expect("recovers").jobs.is_empty());
}

#[test]
fn answers_are_kept_until_they_make_room_and_are_in_a_copy() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(&directory.path().join("store")).expect("opens");
    let told = Answered::Told(b"an answer".to_vec());
    let answers = [Answered::Job(JOB), Answered::Count(3), told].into_iter().zip(1..);
    let answers: Vec<AnswerRecord> = answers
        .map(|(answered, number)| AnswerRecord {
            number,
            request: RequestName { method: "M".to_owned(), id: format!("id-{number}"), digest: u64::MAX },
            answered,
        })
        .collect();
    let puts = answers.iter().cloned().map(|record| Change::PutAnswer(Box::new(record)));
    store.commit(&puts.collect::<Vec<_>>()).expect("commits");
    store.commit(&[Change::RemoveAnswer(1)]).expect("commits");
    assert_eq!(store.recover().expect("recovers").answers, answers[1..]);
    let copy = directory.path().join("copy");
    store.copy_to(&copy).expect("copies while it is open");
    let copy = EmbeddedStore::open(&copy).expect("opens the copy");
    assert_eq!(copy.recover().expect("recovers").answers, answers[1..]);
}

/// What a store holds, as text that can be compared.
fn contents(store: &EmbeddedStore) -> Result<String, StoreError> {
    let recovered = store.recover()?;
    let queue = store.queue_page(JOB, 0, b"", 10_000)?;
    let items = store.items(JOB, 1, 0, 10_000)?;
    Ok(format!("{recovered:?} {queue:?} {items:?}"))
}

#[test]
fn damage_is_found_or_harmless_and_never_believed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let store = EmbeddedStore::open(&path).expect("opens");
    for round in 0..20 {
        let mut changes = filled();
        let put = (0..50).map(|sequence| Change::PutEntry {
            job: JOB,
            sequence: round * 50 + sequence,
            entry: Arc::new(entry(&format!("entry-{round}-{sequence}"))),
        });
        changes.extend(put);
        store.commit(&changes).expect("commits");
    }
    let expected = contents(&store).expect("reads");
    drop(store);
    let bytes = std::fs::read(&path).expect("reads the file");
    let (mut found, mut harmless) = (0, 0);
    let mut try_with = |damaged: &[u8], what: &str| {
        let damaged_path = directory.path().join("damaged");
        std::fs::write(&damaged_path, damaged).expect("writes");
        match EmbeddedStore::open(&damaged_path).and_then(|store| contents(&store)) {
            Ok(contents) => {
                assert!(contents == expected, "{what} was believed");
                harmless += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("backup") || text.contains("format"), "{what}: {text}");
                found += 1;
            }
        }
    };
    // Every 97th byte of the beginning, where the structure stands, and a sample of all others.
    let offsets = (0..4096_usize).step_by(97).chain((4096..bytes.len()).step_by(bytes.len() / 150));
    for offset in offsets {
        let mut damaged = bytes.clone();
        damaged[offset] ^= 1 << (offset % 8);
        try_with(&damaged, &format!("a flipped bit in byte {offset}"));
    }
    for eighths in 0..8 {
        try_with(&bytes[..bytes.len() * eighths / 8], &format!("a file cut to {eighths} eighths"));
    }
    assert!(found > 0 && harmless > 0, "{found} found, {harmless} harmless");
}
