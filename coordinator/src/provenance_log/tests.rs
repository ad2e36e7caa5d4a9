//! Tests of the provenance log on real files.

use std::fs::OpenOptions;
use std::io::Write;

use orbit_shared::provenance::ProvenanceType;
use orbit_shared::words::JobId;

use super::*;

fn open(directory: &Path, committed_id: Option<u64>) -> ProvenanceLog {
    let log = ProvenanceLog::open(directory, u64::MAX).expect("opens");
    log.recover(committed_id).expect("recovers");
    log
}

fn append(log: &ProvenanceLog, jobs: &[u64]) -> u64 {
    let last_id = log.append(jobs.iter().copied().map(event)).expect("appends");
    log.publish();
    last_id
}

fn jobs(log: &ProvenanceLog) -> Vec<u64> {
    let page = log.query(&ProvenanceFilter::default(), 100).expect("reads");
    page.events.iter().map(|event| event.job_id.map_or(0, |job| job.0)).collect()
}

fn event(job: u64) -> ProvenanceEvent {
    ProvenanceEvent::new(ProvenanceType::FileCompleted, JobId(job))
}

fn ids(page: &EventPage) -> Vec<u64> {
    page.events.iter().map(|event| event.event_id).collect()
}

#[test]
fn events_are_numbered_on_across_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(append(&open(directory.path(), None), &[1, 2]), 2);
    let log = open(directory.path(), Some(2));
    assert_eq!(append(&log, &[3]), 3);
    let page = log.query(&ProvenanceFilter::default(), 10).expect("reads");
    assert_eq!(ids(&page), [1, 2, 3]);
    assert_eq!(page.resume_after, None);
}

#[test]
fn a_torn_last_line_is_cut_and_the_next_event_stands_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    append(&open(directory.path(), None), &[1]);
    let path = file_path(directory.path(), 1);
    let mut file = OpenOptions::new().append(true).open(path).expect("the file");
    file.write_all(b"{\"event_id\":2,\"event_ty").expect("tears");
    let log = open(directory.path(), Some(1));
    append(&log, &[5]);
    assert_eq!(jobs(&log), [1, 5]);
}

#[test]
fn events_are_shown_once_their_turn_is_committed() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = open(directory.path(), None);
    append(&log, &[1]);
    assert_eq!(log.append(vec![event(2)]).expect("appends"), 2);
    assert_eq!((log.last_id(), jobs(&log)), (1, vec![1]));
    log.publish();
    assert_eq!((log.last_id(), jobs(&log)), (2, vec![1, 2]));
}

#[test]
fn events_whose_turn_was_not_committed_are_cut_over_any_number_of_files() {
    for (file_bytes_max, committed_id) in [(u64::MAX, 2), (1, 2), (1, 0), (u64::MAX, 0)] {
        let directory = tempfile::tempdir().expect("a directory");
        let log = ProvenanceLog::open_with(directory.path(), file_bytes_max, u64::MAX).expect("opens");
        for job in 1..=5 {
            log.append(vec![event(job)]).expect("appends");
        }
        drop(log);
        let log = open(directory.path(), Some(committed_id));
        assert_eq!(append(&log, &[9]), committed_id + 1);
        let kept: Vec<u64> = (1..=committed_id).chain([9]).collect();
        assert_eq!(jobs(&log), kept);
        drop(log);
        assert_eq!(jobs(&open(directory.path(), Some(committed_id + 1))), kept);
    }
}

#[test]
fn a_log_that_lost_its_end_gives_no_number_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    append(&open(directory.path(), None), &[1, 2, 3]);
    fs::write(file_path(directory.path(), 1), b"").expect("loses it");
    let log = open(directory.path(), Some(3));
    assert_eq!(append(&log, &[4]), 4);
    assert_eq!(jobs(&log), [4]);
}

#[test]
fn the_newest_events_are_at_hand_once_they_are_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    append(&open(directory.path(), None), &[1, 2]);
    let log = open(directory.path(), Some(2));
    assert_eq!((log.recent_after(0, 10).events.len(), log.recent_after(0, 10).last_id), (0, 2));
    append(&log, &[3, 4, 5]);
    log.append(vec![event(6)]).expect("appends");
    let recent = |after, limit| {
        let found = log.recent_after(after, limit);
        found.events.iter().map(|event| event.event_id).collect::<Vec<_>>()
    };
    assert_eq!(
        (recent(0, 10), recent(4, 10), recent(0, 2), recent(5, 2)),
        (vec![3, 4, 5], vec![5], vec![4, 5], vec![])
    );
    log.publish();
    assert_eq!(recent(0, 2), [5, 6]);
    let many: Vec<u64> = (0..RECENT_MAX as u64 + 7).collect();
    let last = append(&log, &many);
    let all = recent(0, usize::MAX);
    assert_eq!((all.len(), all.last()), (RECENT_MAX, Some(&last)));
}

#[test]
fn a_page_says_when_the_oldest_files_are_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    // Three files of one event each, and the one that is written to.
    let bytes_max = 4 * (serde_json::to_vec(&event(1)).expect("writes").len() as u64 + 1);
    let log = ProvenanceLog::open_with(directory.path(), 1, bytes_max).expect("opens");
    log.recover(None).expect("recovers");
    for job in 0..7 {
        append(&log, &[job]);
    }
    let first_id = |after| {
        let filter = ProvenanceFilter { after_event_id: Some(after), ..ProvenanceFilter::default() };
        log.query(&filter, 1).expect("reads").first_id
    };
    let last = 7;
    assert_eq!((first_id(1), first_id(3), first_id(last)), (Some(4), Some(4), None));
}

#[test]
fn files_go_when_all_their_events_are_too_old_and_the_newest_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = ProvenanceLog::open_with(directory.path(), 1, u64::MAX).expect("opens");
    log.recover(None).expect("recovers");
    let at = |seconds| WallTime { seconds, nanos: 0 };
    for day in 1..=5 {
        log.append([event(day).with_time(at(day as i64 * 10))]).expect("appends");
        log.publish();
    }
    log.remove_before(at(30)).expect("removes");
    assert_eq!(jobs(&log), [2, 3, 4, 5], "the event of second 20 may be followed by others until second 30");
    log.remove_before(at(1000)).expect("removes");
    assert_eq!(jobs(&log), [5]);
    assert_eq!(append(&log, &[6]), 6, "numbers go on");
    assert!(log.size_bytes().expect("counts") > 0);
}

#[test]
fn a_new_store_keeps_an_old_log() {
    let directory = tempfile::tempdir().expect("a directory");
    append(&open(directory.path(), None), &[1, 2]);
    assert_eq!(jobs(&open(directory.path(), None)), [1, 2]);
}

#[test]
fn a_full_file_is_followed_by_another_and_pages_cross_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = ProvenanceLog::open_with(directory.path(), 1, u64::MAX).expect("opens");
    log.recover(None).expect("recovers");
    for job in 1..=5 {
        append(&log, &[job]);
    }
    assert_eq!(files_of(directory.path()).expect("lists").len(), 5);
    let mut filter = ProvenanceFilter::default();
    let first = log.query(&filter, 2).expect("reads");
    assert_eq!((ids(&first), first.resume_after), (vec![1, 2], Some(2)));
    filter.after_event_id = first.resume_after;
    assert_eq!(ids(&log.query(&filter, 10).expect("reads")), [3, 4, 5]);
    filter.job_id = Some(JobId(4));
    assert_eq!(ids(&log.query(&filter, 10).expect("reads")), [4]);
}
