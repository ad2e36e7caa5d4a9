//! Tests of the board, and of its sharing rule against random traffic.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::time::Now;

const AT: Now = Now::from_ms(1_000);

/// Posts `message` as a warning about a disk of `source`, so that tests name only what differs.
fn warn(board: &mut BulletinBoard, source: &str, message: &str) -> Posted {
    board.post(AT, Severity::Warning, source, "disk", None, message)
}

fn messages(bulletins: &[&Bulletin]) -> Vec<String> {
    bulletins.iter().map(|bulletin| bulletin.message.clone()).collect()
}

fn ids(bulletins: &[&Bulletin]) -> Vec<u64> {
    bulletins.iter().map(|bulletin| bulletin.id).collect()
}

/// Info from star-1, warning from star-2 for job 7, error from star-1 for job 7; ids 1 to 3.
fn mixed_board() -> BulletinBoard {
    let mut board = BulletinBoard::new(10);
    board.post(Now::from_ms(1), Severity::Info, "star-1", "disk", None, "mounted");
    board.post(Now::from_ms(2), Severity::Warning, "star-2", "disk", Some(JobId(7)), "85% full");
    board.post(Now::from_ms(3), Severity::Error, "star-1", "network", Some(JobId(7)), "refused");
    board
}

#[test]
fn recent_lists_the_newest_first() {
    let mut board = BulletinBoard::new(10);
    for message in ["a", "b", "c"] {
        warn(&mut board, "star-1", message);
    }
    assert_eq!(messages(&board.recent(2)), ["c", "b"]);
    assert_eq!(messages(&board.recent(99)), ["c", "b", "a"]);
}

#[test]
fn recent_of_none_is_empty() {
    assert!(mixed_board().recent(0).is_empty());
}

#[test]
fn a_full_board_drops_its_oldest_and_counts_it() {
    let mut board = BulletinBoard::new(2);
    let evicted: Vec<Option<u64>> =
        ["a", "b", "c"].iter().map(|message| warn(&mut board, "star-1", message).evicted).collect();
    assert_eq!(evicted, [None, None, Some(1)]);
    assert_eq!(messages(&board.recent(9)), ["c", "b"]);
    assert_eq!(board.counts().dropped, 1);
}

#[test]
fn by_severity_is_a_threshold_and_newest_first() {
    let board = mixed_board();
    assert_eq!(ids(&board.by_severity(Severity::Info)), [3, 2, 1]);
    assert_eq!(ids(&board.by_severity(Severity::Warning)), [3, 2]);
    assert_eq!(ids(&board.by_severity(Severity::Error)), [3]);
}

#[test]
fn by_source_lists_one_source_newest_first() {
    let board = mixed_board();
    assert_eq!(ids(&board.by_source("star-1")), [3, 1]);
    assert!(board.by_source("star-9").is_empty());
}

#[test]
fn by_category_lists_one_category_newest_first() {
    let board = mixed_board();
    assert_eq!(ids(&board.by_category("disk")), [2, 1]);
    assert!(board.by_category("unheard-of").is_empty());
}

#[test]
fn by_job_lists_one_job_and_nothing_without_a_job() {
    let board = mixed_board();
    assert_eq!(ids(&board.by_job(JobId(7))), [3, 2]);
    assert!(board.by_job(JobId(0)).is_empty());
}

#[test]
fn issues_are_warnings_and_errors() {
    assert_eq!(ids(&mixed_board().issues()), [3, 2]);
}

#[test]
fn counts_are_by_severity() {
    let counts = mixed_board().counts();
    assert_eq!((counts.total, counts.info, counts.warnings, counts.errors), (3, 1, 1, 1));
    assert_eq!((counts.posted, counts.dropped), (3, 0));
}

#[test]
fn ids_count_up_from_one() {
    let mut board = BulletinBoard::new(2);
    let given: Vec<u64> = (0..4).map(|n| warn(&mut board, "star-1", &format!("{n}")).id).collect();
    assert_eq!(given, [1, 2, 3, 4]);
}

#[test]
fn ids_go_on_after_a_clear() {
    let mut board = mixed_board();
    board.clear();
    assert!(board.is_empty() && board.recent(9).is_empty() && board.by_source("star-1").is_empty());
    assert_eq!(warn(&mut board, "star-1", "again").id, 4);
}

#[test]
fn a_repeat_after_a_clear_is_a_new_bulletin() {
    let mut board = BulletinBoard::new(4);
    warn(&mut board, "star-1", "full");
    board.clear();
    assert!(warn(&mut board, "star-1", "full").is_new);
    assert_eq!(board.len(), 1);
}

#[test]
fn ids_go_on_after_a_restart() {
    let before = mixed_board();
    let kept = before.recent(9).into_iter().cloned().collect::<Vec<_>>();
    let mut after = BulletinBoard::restore(10, kept, before.next_id());
    assert_eq!(ids(&after.recent(9)), [3, 2, 1]);
    assert_eq!(warn(&mut after, "star-1", "new").id, 4);
}

#[test]
fn a_restart_that_forgot_the_counter_still_gives_no_id_twice() {
    let kept = mixed_board().recent(9).into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(BulletinBoard::restore(10, kept, 0).next_id(), 4);
    assert_eq!(BulletinBoard::restore(10, Vec::new(), 41).next_id(), 41);
}

#[test]
fn a_restart_with_less_room_keeps_the_newest() {
    let kept = mixed_board().recent(9).into_iter().cloned().collect::<Vec<_>>();
    let board = BulletinBoard::restore(2, kept, 4);
    assert_eq!(ids(&board.recent(9)), [3, 2]);
    assert_eq!(board.dropped(), 1);
}

#[test]
fn a_fresh_board_is_empty() {
    let board = BulletinBoard::new(5);
    assert!(board.is_empty() && board.recent(5).is_empty());
    assert_eq!(board.counts(), BulletinCounts::default());
    assert_eq!((board.capacity(), board.next_id()), (5, 1));
}

#[test]
fn severities_are_ordered_by_urgency() {
    assert!(Severity::Info < Severity::Warning && Severity::Warning < Severity::Error);
    assert!(Severity::ALL.is_sorted());
}

#[test]
fn severities_have_one_name_everywhere() {
    for severity in Severity::ALL {
        let name = severity.as_str();
        assert_eq!(severity.to_string(), name);
        assert_eq!(serde_json::to_string(&severity).unwrap(), format!("\"{name}\""));
    }
    assert_eq!(Severity::ALL.map(Severity::as_str), ["info", "warning", "error"]);
}

#[test]
fn a_bulletin_survives_serialisation() {
    for bulletin in mixed_board().recent(9) {
        let text = serde_json::to_string(bulletin).unwrap();
        assert_eq!(&serde_json::from_str::<Bulletin>(&text).unwrap(), bulletin);
    }
}

#[test]
fn counts_survive_serialisation() {
    let counts = mixed_board().counts();
    let text = serde_json::to_string(&counts).unwrap();
    assert_eq!(serde_json::from_str::<BulletinCounts>(&text).unwrap(), counts);
}

#[test]
fn a_board_with_capacity_zero_only_counts() {
    let mut board = BulletinBoard::new(0);
    let posted = warn(&mut board, "star-1", "full");
    assert_eq!(posted, Posted { id: 1, is_new: true, evicted: Some(1) });
    assert_eq!(warn(&mut board, "star-1", "full").id, 2);
    let counts = board.counts();
    assert_eq!((counts.total, counts.posted, counts.dropped), (0, 2, 2));
}

#[test]
fn a_repeat_raises_the_count_instead_of_taking_a_place() {
    let mut board = BulletinBoard::new(10);
    warn(&mut board, "star-1", "full");
    let again = board.post(Now::from_ms(9_000), Severity::Warning, "star-1", "disk", None, "full");
    assert_eq!(again, Posted { id: 1, is_new: false, evicted: None });
    let bulletin = board.bulletin(1).unwrap();
    assert_eq!(bulletin.repeat_count, 2);
    assert_eq!(bulletin.first_time, AT.wall);
    assert_eq!(bulletin.time, Now::from_ms(9_000).wall);
    assert_eq!((board.len(), board.counts().posted), (1, 2));
}

#[test]
fn reports_that_differ_anywhere_do_not_coalesce() {
    let mut board = BulletinBoard::new(10);
    board.post(AT, Severity::Warning, "star-1", "disk", None, "full");
    board.post(AT, Severity::Error, "star-1", "disk", None, "full");
    board.post(AT, Severity::Warning, "star-2", "disk", None, "full");
    board.post(AT, Severity::Warning, "star-1", "dis", None, "kfull");
    board.post(AT, Severity::Warning, "star-1", "disk", Some(JobId(0)), "full");
    board.post(AT, Severity::Warning, "star-1", "disk", None, "fuller");
    assert_eq!(board.len(), 6);
}

#[test]
fn a_problem_that_never_stops_is_posted_once_per_window() {
    let mut board = BulletinBoard::new(100).with_coalesce_window(Duration::from_millis(100));
    let new = (0..=300)
        .step_by(10)
        .filter(|&ms| board.post(Now::from_ms(ms), Severity::Error, "star-1", "disk", None, "dying").is_new)
        .collect::<Vec<_>>();
    assert_eq!(new, [0, 110, 220]);
}

#[test]
fn an_acknowledged_bulletin_does_not_swallow_the_next_report() {
    let mut board = BulletinBoard::new(10);
    warn(&mut board, "star-1", "full");
    board.acknowledge(&[1]);
    let again = warn(&mut board, "star-1", "full");
    assert!(again.is_new);
    assert!(!board.bulletin(again.id).unwrap().is_acknowledged);
}

#[test]
fn an_evicted_bulletin_does_not_end_the_coalescing_of_its_successor() {
    let mut board = BulletinBoard::new(2);
    warn(&mut board, "star-1", "full");
    board.acknowledge(&[1]);
    warn(&mut board, "star-1", "full");
    assert_eq!(warn(&mut board, "star-1", "other").evicted, Some(1));
    assert_eq!(warn(&mut board, "star-1", "full"), Posted { id: 2, is_new: false, evicted: None });
}

#[test]
fn acknowledging_reports_what_it_changed() {
    let mut board = mixed_board();
    assert_eq!(board.acknowledge(&[2, 9, 3]), [2, 3]);
    assert_eq!(board.acknowledge(&[2, 1]), [1]);
    let open = BulletinFilter { is_acknowledged: Some(false), ..BulletinFilter::default() };
    assert!(board.query(&open, 9).is_empty());
}

#[test]
fn a_noisy_source_cannot_evict_the_others() {
    let mut board = BulletinBoard::new(10);
    board.post(AT, Severity::Error, "star-2", "disk", None, "dead");
    for n in 0..1_000 {
        board.post(AT, Severity::Info, "star-1", "chatter", None, &format!("{n}"));
    }
    assert_eq!(ids(&board.by_source("star-2")), [1]);
    assert_eq!(board.by_source("star-1").len(), 9);
    assert_eq!(board.dropped(), 991);
}

#[test]
fn among_equally_loud_sources_the_oldest_bulletin_goes() {
    let mut board = BulletinBoard::new(2);
    warn(&mut board, "star-2", "a");
    warn(&mut board, "star-1", "b");
    assert_eq!(warn(&mut board, "star-3", "c").evicted, Some(1));
}

#[test]
fn an_over_long_report_is_cut_visibly() {
    let mut board = BulletinBoard::new(2);
    board.post(AT, Severity::Info, &"s".repeat(1_000), &"c".repeat(1_000), None, &"é".repeat(10_000));
    let bulletin = board.bulletin(1).unwrap();
    assert!(bulletin.message.len() <= MESSAGE_BYTES_MAX && bulletin.message.ends_with("[cut]"));
    assert_eq!((bulletin.source.len(), bulletin.category.len()), (LABEL_BYTES_MAX, LABEL_BYTES_MAX));
}

#[test]
fn a_filter_combines_its_conditions() {
    let board = mixed_board();
    let all = BulletinFilter::default();
    let query = |filter: BulletinFilter| ids(&board.query(&filter, 9));
    let job = Some(JobId(7));
    assert_eq!(query(BulletinFilter { job_id: job, source: Some("star-1".into()), ..all.clone() }), [3]);
    let disk = Some("disk".to_owned());
    assert_eq!(
        query(BulletinFilter { min_severity: Some(Severity::Warning), category: disk, ..all.clone() }),
        [2]
    );
    let since = Some(WallTime::from_unix_ms(2));
    assert_eq!(query(BulletinFilter { since, ..all.clone() }), [3, 2]);
    assert!(query(BulletinFilter { since, source: Some("star-9".into()), ..all }).is_empty());
}

#[test]
fn a_reader_with_a_cursor_misses_nothing_however_small_its_pages() {
    let mut board = BulletinBoard::new(100);
    for n in 0..25 {
        warn(&mut board, "star-1", &format!("{n}"));
    }
    let mut seen = Vec::new();
    loop {
        let filter =
            BulletinFilter { after_id: Some(seen.last().copied().unwrap_or(0)), ..BulletinFilter::default() };
        let page = ids(&board.query(&filter, 4));
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, (1..=25).collect::<Vec<u64>>());
    let last = BulletinFilter { after_id: Some(u64::MAX), ..BulletinFilter::default() };
    assert!(board.query(&last, 4).is_empty());
}

#[test]
fn the_shared_board_reads_like_the_board() {
    let shared = SharedBulletinBoard::from(mixed_board());
    let board = mixed_board();
    let filter = BulletinFilter { job_id: Some(JobId(7)), ..BulletinFilter::default() };
    let copies = |bulletins: Vec<&Bulletin>| bulletins.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(shared.recent(2), copies(board.recent(2)));
    assert_eq!(shared.by_severity(Severity::Warning), copies(board.by_severity(Severity::Warning)));
    assert_eq!(shared.by_source("star-1"), copies(board.by_source("star-1")));
    assert_eq!(shared.by_category("disk"), copies(board.by_category("disk")));
    assert_eq!(shared.by_job(JobId(7)), copies(board.by_job(JobId(7))));
    assert_eq!(shared.issues(), copies(board.issues()));
    assert_eq!(shared.query(&filter, 1), copies(board.query(&filter, 1)));
    assert_eq!(shared.counts(), board.counts());
}

#[test]
fn clones_of_a_shared_board_are_one_board() {
    let shared = SharedBulletinBoard::new(5);
    let clone = shared.clone();
    clone.post(AT, Severity::Error, "star-1", "disk", None, "dead");
    assert_eq!(shared.acknowledge(&[1]), [1]);
    assert!(clone.recent(1)[0].is_acknowledged && clone.len() == 1);
    shared.clear();
    assert!(clone.is_empty());
}

#[test]
fn many_threads_post_and_read_at_once() {
    let shared = SharedBulletinBoard::new(1_000);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let shared = shared.clone();
            scope.spawn(move || {
                for n in 0..100 {
                    shared.post(AT, Severity::Info, &format!("star-{thread}"), "load", None, &n.to_string());
                    assert!(!shared.recent(3).is_empty());
                }
            });
        }
    });
    assert_eq!(shared.len(), 800);
    let given: Vec<u64> = shared.recent(800).iter().map(|bulletin| bulletin.id).collect();
    assert_eq!(given, (1..=800).rev().collect::<Vec<u64>>());
}

#[test]
fn a_panic_elsewhere_does_not_take_the_board_away() {
    let shared = SharedBulletinBoard::new(5);
    let poisoner = shared.clone();
    let panicked = std::thread::spawn(move || {
        let _board = poisoner.write();
        panic!("poisons the lock");
    });
    assert!(panicked.join().is_err());
    assert_eq!(shared.post(AT, Severity::Info, "star-1", "disk", None, "fine").id, 1);
    assert_eq!(shared.recent(1).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_source_loses_its_share_to_another(
        capacity in 1_usize..20,
        sources in prop::collection::vec(0_usize..6, 1..200),
    ) {
        let mut board = BulletinBoard::new(capacity);
        let mut posted = [0_usize; 6];
        for (n, &source) in sources.iter().enumerate() {
            warn(&mut board, &format!("star-{source}"), &n.to_string());
            posted[source] += 1;
            let share = capacity / posted.iter().filter(|&&count| count > 0).count();
            for (source, &count) in posted.iter().enumerate() {
                let held = board.by_source(&format!("star-{source}")).len();
                prop_assert!(held >= count.min(share), "star-{source} holds {held} of {count}, share {share}");
            }
            prop_assert!(board.len() <= capacity);
            prop_assert_eq!(board.len() + board.dropped() as usize, n + 1);
        }
    }
}

#[test]
fn an_amended_bulletin_counts_and_an_acknowledged_one_stays_as_it_is() {
    let mut board = BulletinBoard::new(10);
    let posted = board.post(Now::from_ms(1), Severity::Error, "coordinator", "dead-letter", None, "one");
    assert!(board.amend(Now::from_ms(2), posted.id, "one and another"));
    let bulletin = board.bulletin(posted.id).expect("it is on the board");
    assert_eq!((bulletin.repeat_count, bulletin.message.as_str()), (2, "one and another"));
    assert_eq!((bulletin.first_time, bulletin.time), (Now::from_ms(1).wall, Now::from_ms(2).wall));
    board.acknowledge(&[posted.id]);
    assert!(!board.amend(Now::from_ms(3), posted.id, "more") && !board.amend(Now::from_ms(3), 99, "more"));
    assert_eq!(board.bulletin(posted.id).map(|bulletin| bulletin.repeat_count), Some(2));
}

proptest! {
    #[test]
    fn a_board_that_is_told_of_every_change_shows_and_counts_the_same(
        acts in proptest::collection::vec((0..4u8, 0..3u8, 0..40u64), 1..200),
    ) {
        let (mut board, mut shown) = (BulletinBoard::new(5), BulletinBoard::new(5));
        for (at, (act, source, id)) in acts.into_iter().enumerate() {
            let now = Now::from_ms(at as u64 * 1000);
            let source = format!("star-{source}");
            let mut changed = Vec::new();
            let mut gone = None;
            match act {
                0 | 1 => {
                    let posted = board.post(now, Severity::Warning, &source, "disk", None, &format!("{}", id % 4));
                    changed.push(posted.id);
                    gone = posted.evicted;
                }
                2 => changed.extend(board.acknowledge(&[id])),
                _ => {
                    if board.amend(now, id, "more") {
                        changed.push(id);
                    }
                }
            }
            for id in changed {
                if let Some(bulletin) = board.bulletin(id) {
                    shown.follow(bulletin.clone());
                }
            }
            if let Some(id) = gone {
                shown.forget(id);
            }
            let both = [&board, &shown].map(|board| {
                let all: Vec<Bulletin> = board.recent(99).into_iter().cloned().collect();
                (all, board.counts(), board.next_id(), board.missing_after(0))
            });
            prop_assert_eq!(&both[0], &both[1]);
        }
    }
}
