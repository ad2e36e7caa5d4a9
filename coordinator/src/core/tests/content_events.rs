//! Events about content are sums: few for each report, whatever the number of files and chunks.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::session::{ChunkCounts, ItemResult};
use orbit_shared::vault_call::{Progress, Rename, Renames, ScrubInfo, VaultCall, VaultReply};
use orbit_shared::words::ItemId;

use super::vaults::packed;
use super::world::{World, file, spec, tree};

fn of_type(world: &World, event_type: ProvenanceType) -> Vec<&ProvenanceEvent> {
    world.content_events.iter().filter(|event| event.event_type == event_type).collect()
}

fn count(event: &ProvenanceEvent, name: &str) -> u64 {
    event.context.get(name).map_or(0, |text| text.parse().expect("a number"))
}

#[test]
fn a_copy_of_thousands_of_files_has_a_few_events_a_report() {
    let mut world = World::of_three();
    world.tree = tree(3000);
    world.behaviour = Box::new(|entry| ItemResult::Stored {
        size: entry.size(),
        // A directory has no content, and comes in a report of its own.
        bytes_transferred: if entry.size() > 0 { 700 } else { 0 },
        bytes_deduplicated: if entry.size() > 0 { 300 } else { 0 },
        duration: Duration::from_millis(5),
        is_changed: false,
        chunks: ChunkCounts { transferred: 7, deduplicated: 3, packed: 0, packed_bytes: 0 },
    });
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    let reports = world.stars["star-2"].reports as usize;
    assert!(reports < 20, "{reports}");
    assert!(world.content_events.len() <= 5 * reports, "{} in {reports}", world.content_events.len());
    let files = world.tree.iter().filter(|entry| entry.size() > 0).count() as u64;
    assert!(files + 1 == world.job(id).tally.stored, "and a directory");
    let expected = BTreeMap::from([
        (ProvenanceType::ChunkTransferred, (700, 7)),
        (ProvenanceType::ChunkVerified, (700, 7)),
        (ProvenanceType::ChunkDeduplicated, (300, 3)),
        // Only vaults keep chunks.
        (ProvenanceType::ChunkCreated, (0, 0)),
        (ProvenanceType::ChunkPacked, (0, 0)),
    ]);
    for (event_type, (bytes, chunks)) in expected {
        let events = of_type(&world, event_type);
        assert_eq!(events.iter().filter_map(|event| event.bytes).sum::<u64>(), bytes * files, "{event_type}");
        assert_eq!(events.iter().map(|event| count(event, "chunks")).sum::<u64>(), chunks * files);
        for event in events {
            assert_eq!((event.job_id, event.duration_ms, event.item), (Some(id), Some(5), None));
            let ends = ["first_item", "last_item"].map(|name| event.context[name].parse::<ItemId>().unwrap());
            assert!(ends[0] < ends[1] && event.context.contains_key("assignment"), "{event:?}");
            assert_eq!(event.destination.as_deref(), Some("star-2:/data/out"));
        }
    }
}

#[test]
fn the_events_of_a_single_file_name_it_and_a_star_of_an_earlier_version_has_no_numbers() {
    let mut world = World::of_three();
    world.tree = vec![file("large", 1_000_000)];
    world.behaviour = Box::new(|entry| ItemResult::Stored {
        size: entry.size(),
        bytes_transferred: entry.size(),
        bytes_deduplicated: 0,
        duration: Duration::from_millis(5),
        is_changed: false,
        chunks: ChunkCounts::default(),
    });
    world.create(spec("star-1", &["star-2"]));
    world.settle();
    let [event] = of_type(&world, ProvenanceType::ChunkTransferred)[..] else {
        panic!("one file, one event")
    };
    assert_eq!(event.item.map(|item| item.sequence), Some(0));
    assert_eq!(event.source.as_deref(), Some("star-1:/data/in/large"));
    assert_eq!((event.bytes, event.context.get("chunks")), (Some(1_000_000), None));
    assert!(of_type(&world, ProvenanceType::ChunkDeduplicated).is_empty(), "what is 0 has no event");
}

#[test]
fn a_vault_reports_what_it_stored_and_which_files_were_renamed() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|entry| ItemResult::Stored {
        size: entry.size(),
        bytes_transferred: entry.size(),
        bytes_deduplicated: 0,
        duration: Duration::ZERO,
        is_changed: false,
        chunks: ChunkCounts { transferred: 2, deduplicated: 0, packed: 1, packed_bytes: 10 },
    });
    let named = |index: usize| Rename {
        from: format!("old-{index}").into_bytes(),
        to: format!("new-{index}").into_bytes(),
        bytes: 5,
    };
    world.renames = Renames { first: (0..3).map(named).collect(), count: 8, bytes: 100 };
    let id = world.create(packed("star-1", &["star-2"]));
    world.settle();
    let files = world.tree.iter().filter(|entry| entry.size() > 0).count() as u64;
    assert!(files + 1 == world.job(id).tally.stored, "and a directory");
    for event_type in [ProvenanceType::ChunkCreated, ProvenanceType::ChunkPacked] {
        let sum: u64 = of_type(&world, event_type).iter().filter_map(|event| event.bytes).sum();
        assert_eq!(sum, 10 * files, "{event_type}");
    }
    let renamed = of_type(&world, ProvenanceType::FileRenamed);
    assert_eq!(renamed.len(), 4, "three by name and the rest as a sum: {renamed:?}");
    assert_eq!(renamed[1].context["renamed_from"], "old-1");
    assert_eq!(renamed[1].source.as_deref(), Some("star-1:/data/in/new-1"));
    assert_eq!((renamed[3].bytes, count(renamed[3], "files")), (Some(85), 5));
}

#[test]
fn a_scrub_that_has_ended_says_what_was_right() {
    let mut world = World::of_three();
    let info = |progress| ScrubInfo {
        progress,
        checked_chunks: 9,
        checked_bytes: 900,
        damaged_chunks: 0,
        problem: String::new(),
    };
    for progress in [Progress::Running, Progress::Done] {
        world.ask("star-2", VaultCall::Scrub { bytes_per_second: 0, is_everything: true });
        let star = world.stars.get_mut("star-2").expect("connected");
        let (request, _) = star.calls.pop_back().expect("it is asked");
        let answer = Ok(VaultReply::Scrub(info(progress)));
        world.say("star-2", orbit_shared::session::StarMessage::VaultAnswered { request, answer });
    }
    let [event] = of_type(&world, ProvenanceType::ChunkVerified)[..] else { panic!("one that has ended") };
    assert_eq!((event.bytes, count(event, "chunks")), (Some(900), 9));
}
