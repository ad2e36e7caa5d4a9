//! What a Star that does not keep to the rules may do to the others: nothing.

use std::time::Duration;

use orbit_shared::bulletin::{BulletinFilter, Severity};
use orbit_shared::session::limits::BYTES_MAX;
use orbit_shared::session::{
    AdvisoryKind, AdvisoryNotice, ChunkCounts, FailureCause, Fault, Heartbeat, ItemResult, Notice, ScanBatch,
    StarMessage,
};

use super::world::{World, batch, failed, file, spec, star_id, stored};
use crate::core::event::CloseReason;
use crate::core::limits::{BULLETINS_MAX, ITEMS_REMOVED_PER_TURN, LISTED_BYTES_PER_ITEM};
use crate::core::records::JobState;
use crate::core::{Command, CoreConfig, Event};

/// Sends batches of a scan that never ends, as many as `stop` lets it.
fn scan_for_ever(world: &mut World, stop: impl Fn(&World) -> bool, path: impl Fn(u64) -> String) {
    let scan = world.stars.get_mut("star-1").and_then(|star| star.scans.pop_front()).expect("a scan").scan;
    let mut next = 0;
    for number in 1.. {
        if stop(world) {
            return;
        }
        let entries = (next..next + 100).map(|index| file(&path(index), 1)).collect();
        next += 100;
        let batch = ScanBatch { matched: vec![9], ..batch(scan, number, entries) };
        world.say("star-1", StarMessage::ScanBatch(batch));
    }
}

fn small(items: u64) -> World {
    let mut world = World::with(CoreConfig { items_per_job_max: items, ..CoreConfig::default() });
    for name in ["star-1", "star-2", "star-3"] {
        world.connect(name, 1, &[]);
    }
    world
}

/// Time for everything that is removed part by part.
fn settle(world: &mut World) {
    for _ in 0..20 {
        world.pass(20);
    }
}

#[test]
fn an_endless_listing_fails_its_job_and_leaves_nothing_in_the_store() {
    for name in [|index: u64| format!("f{index:09}"), |index: u64| format!("{index}{}", "x".repeat(2000))] {
        let mut world = small(2000);
        let id = world.create(spec("star-1", &["star-2", "star-3"]));
        let other = world.create(spec("star-3", &["star-2"]));
        let is_over = |world: &World| world.job(id).record.state().is_end();
        scan_for_ever(&mut world, is_over, name);
        let record = world.job(id).record;
        assert_eq!(record.state(), JobState::Failed);
        let reason = &record.end.as_ref().expect("it has ended").reason;
        assert!(reason.contains("star-1") && reason.contains("--max-items-per-job"), "{reason}");
        assert!(record.tally().total <= 2000);
        assert!(record.scan.matched.as_ref().is_some_and(std::collections::BTreeSet::is_empty), "no part 9");
        assert!(record.scan.listed_bytes <= 2 * 2000 * LISTED_BYTES_PER_ITEM);
        let said = world.core.board().query(&BulletinFilter { job_id: Some(id), ..Default::default() }, 10);
        assert!(said.iter().any(|said| said.severity == Severity::Error && said.message.contains("star-1")));
        settle(&mut world);
        assert!(!world.store.entries.keys().any(|(job, _)| *job == id), "its items are gone");
        assert!(!world.store.queue.keys().any(|(job, _, _)| *job == id));
        assert!(!world.job(other).record.state().is_end(), "the other job goes on");
    }
}

#[test]
fn the_items_of_a_cancelled_job_leave_the_store_part_by_part_also_across_a_crash() {
    let mut world = small(u64::MAX);
    let id = world.create(spec("star-1", &["star-2"]));
    scan_for_ever(
        &mut world,
        |world| world.job(id).record.tally().total > 2 * ITEMS_REMOVED_PER_TURN,
        |index| format!("{index:09}"),
    );
    let total = world.job(id).record.tally().total;
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("it can be cancelled");
    let left = world.store.entries.len() as u64;
    assert!(left > 0 && left >= total - ITEMS_REMOVED_PER_TURN, "not all at once");
    world.crash();
    settle(&mut world);
    assert!(world.store.entries.is_empty() && world.store.ends.is_empty());
    assert_eq!(world.job(id).record.tally().total, total, "the counts stay");
}

#[test]
fn one_star_that_floods_the_board_leaves_the_bulletins_of_others() {
    let mut world = World::of_three();
    let id = world.create(spec("star-2", &["star-3"]));
    world.command(Command::CancelJob { job: id, reason: "kept".to_owned() }).expect("it can be cancelled");
    let notice = |severity, category: &str, text: &str| {
        StarMessage::Noticed(Notice { severity, category: category.to_owned(), text: text.to_owned() })
    };
    for index in 0..20 {
        world.say("star-2", notice(Severity::Info, "disk", &format!("kept {index}")));
    }
    let copy = world.create(spec("star-3", &["star-1"]));
    world.scan("star-3");
    for index in 0..2 * BULLETINS_MAX {
        world.say("star-1", notice(Severity::Error, &format!("category {index}"), &format!("flood {index}")));
        let advisories = vec![AdvisoryNotice {
            kind: if index % 2 == 0 { AdvisoryKind::DiskCritical } else { AdvisoryKind::ErrorRateHigh },
            message: format!("advisory {index}"),
            predicted_seconds: None,
        }];
        let heartbeat = Heartbeat {
            lifecycle: world.stars["star-1"].state,
            active_tasks: 0,
            served_pulls: 0,
            sample: None,
            advisories,
            progress: Vec::new(),
            root_space: Vec::new(),
            vault_bytes: None,
            vault_sample: None,
        };
        world.say("star-1", StarMessage::Heartbeat(heartbeat));
        world.say("star-1", StarMessage::DamageFound { chunks: 0, problem: format!("damage {index}") });
        // It blames the Star that it reads from, each time with other words.
        world.behaviour = Box::new(move |entry| match failed(FailureCause::Transient, Fault::Link) {
            ItemResult::Failed(failure) if index % 3 > 0 => {
                ItemResult::Failed(orbit_shared::session::Failure {
                    message: format!("blame {index}"),
                    ..failure
                })
            }
            ItemResult::Failed(_) | ItemResult::Stored { .. } | ItemResult::Skipped => stored(entry),
        });
        world.work("star-1");
    }
    let all = world.core.board().query(&BulletinFilter::default(), BULLETINS_MAX);
    assert_eq!(all.len(), BULLETINS_MAX);
    let kept = all.iter().filter(|said| said.source == "star-2").count();
    assert!(kept >= 20, "{kept} of another Star's bulletins are left");
    assert!(all.iter().any(|said| said.job_id == Some(id) && said.message.contains("kept")));
    let of_source = all.iter().filter(|said| said.source == "star-3").count();
    assert!(of_source < 100, "{of_source} bulletins under the name of the Star that it blames");
    assert!(world.core.job(copy, world.now()).is_some());
}

#[test]
fn untrue_sizes_wrap_no_counter() {
    let mut world = World::of_three();
    world.tree = (0..12).map(|index| file(&format!("f{index}"), BYTES_MAX)).collect();
    world.behaviour = Box::new(|_| ItemResult::Stored {
        size: BYTES_MAX,
        bytes_transferred: BYTES_MAX,
        bytes_deduplicated: BYTES_MAX,
        chunks: ChunkCounts { transferred: BYTES_MAX, ..ChunkCounts::default() },
        duration: Duration::MAX,
        is_changed: false,
    });
    let id = world.create(spec("star-1", &["star-2", "star-3"]));
    world.scan("star-1");
    let tally = world.job(id).record.tally();
    assert_eq!((tally.total, tally.bytes_total), (24, u64::MAX));
    for star in ["star-2", "star-3"] {
        while world.work(star) {}
    }
    let view = world.job(id);
    assert_eq!(view.record.state(), JobState::Completed, "{:?}", view.record.end);
    assert_eq!((view.tally.stored, view.tally.bytes_stored), (24, u64::MAX));
    assert_eq!((view.tally.bytes_transferred, view.tally.bytes_deduplicated), (u64::MAX, u64::MAX));
    assert_eq!(world.core.totals().bytes_stored, u64::MAX);
    // A file that is nothing now after it was everything: no count goes below nothing.
    let mut world = World::of_three();
    world.tree = (0..3).map(|index| file(&format!("f{index}"), BYTES_MAX)).collect();
    world.behaviour = Box::new(|_| ItemResult::Stored {
        size: 0,
        bytes_transferred: 0,
        bytes_deduplicated: 0,
        chunks: ChunkCounts::default(),
        duration: Duration::ZERO,
        is_changed: false,
    });
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    assert_eq!(world.job(id).tally.bytes_stored, 0);
}

#[test]
fn a_star_that_breaks_the_protocol_is_cut_off_and_named_once() {
    let mut world = World::of_three();
    let session = world.stars["star-1"].session;
    world.turn(vec![Event::SessionSlowed { session }, Event::SessionSlowed { session }]);
    world.turn(vec![Event::ProtocolViolated { session, problem: "report.number: counts from 1".to_owned() }]);
    let closed = world.stars["star-1"].was_closed.clone();
    assert!(matches!(closed, Some(CloseReason::ProtocolViolated { .. })), "{closed:?}");
    let filter = BulletinFilter { category: Some("protocol".to_owned()), ..BulletinFilter::default() };
    let said = world.core.board().query(&filter, 10);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].severity == Severity::Error && said[0].message.contains("report.number"), "{said:?}");
    assert!(said[1].repeat_count == 2 && said[1].message.contains("star-1"), "{said:?}");
    assert!(said.iter().all(|said| said.source == "star-1"));
    assert_eq!(world.core.star(&star_id("star-1")).map(|star| star.session), Some(None));
}
