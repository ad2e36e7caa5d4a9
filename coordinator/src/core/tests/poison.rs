//! What kills agents is given up; what was only near when they died is not, and is not slowed down for long.

use orbit_shared::bulletin::BulletinFilter;
use orbit_shared::dead_letter::FailureReason;
use orbit_shared::session::limits::ASSIGNMENT_ITEMS_MAX;
use orbit_shared::session::{FailureCause, Fault, Heartbeat, StarMessage};
use orbit_shared::words::AssignmentId;

use super::world::{World, failed, file, spec, stored, tree};
use crate::core::JobState;

const GIB: u64 = 1 << 30;

/// A Star's agent dies and starts again, within a second.
fn die(world: &mut World, name: &'static str, process: u128) {
    world.disconnect(name);
    start_again(world, name, process);
}

fn start_again(world: &mut World, name: &'static str, process: u128) {
    world.pass(1000);
    let others: Vec<_> = world.stars.keys().copied().filter(|other| *other != name).collect();
    others.into_iter().for_each(|other| world.heartbeat(other));
    world.connect(name, process, &[]);
}

/// Whether an item is in a Star's hands as a destination.
fn holds(world: &World, name: &str, path: &str) -> bool {
    let mut items = world.stars[name].held.values().flat_map(|assignment| &assignment.items);
    items.any(|item| item.entry.path == path.as_bytes())
}

fn batches(world: &World, name: &str) -> Vec<usize> {
    world.stars[name].held.values().map(|assignment| assignment.items.len()).collect()
}

fn posted(world: &World) -> Vec<String> {
    let filter = BulletinFilter { category: Some("poison".to_owned()), ..BulletinFilter::default() };
    world.core.board().query(&filter, 100).into_iter().map(|bulletin| bulletin.message.clone()).collect()
}

/// A Star says how far an assignment is.
fn moved(world: &mut World, name: &str, assignment: AssignmentId, bytes: u64) {
    let state = world.stars[name].state;
    let heartbeat = Heartbeat {
        lifecycle: state,
        active_tasks: 1,
        served_pulls: 0,
        sample: None,
        advisories: Vec::new(),
        progress: vec![(assignment, bytes)],
        root_space: Vec::new(),
        vault_bytes: None,
        vault_sample: None,
    };
    world.say(name, StarMessage::Heartbeat(heartbeat));
}

/// Lets star-2 work while `victim` dies whenever star-2 has an item in its hands; gives the number of deaths.
fn work_with_killer(world: &mut World, victim: &'static str, path: &str) -> u32 {
    let mut deaths = 0;
    for process in 2..200 {
        if holds(world, "star-2", path) {
            deaths += 1;
            if victim != "star-2" {
                // The pulls break with their source.
                world.disconnect(victim);
                world.behaviour = Box::new(|_| failed(FailureCause::Transient, Fault::Source));
                while world.work("star-2") {}
                world.behaviour = Box::new(stored);
                start_again(world, victim, process);
                continue;
            }
            die(world, victim, process);
        } else if !world.work("star-2") && !world.wait(20_000) {
            return deaths;
        }
    }
    panic!("it is never given up");
}

#[test]
fn an_item_that_takes_every_agent_down_is_given_up_and_the_rest_completes() {
    for (count, deaths_max) in [(1, 10), (20, 13), (300, 15), (20_000, 17)] {
        let mut world = World::of_three();
        world.tree = tree(count);
        let killer = format!("f{:06}", count / 3);
        let id = world.create(spec("star-1", &["star-2"]));
        world.scan("star-1");
        let deaths = work_with_killer(&mut world, "star-2", &killer);
        assert!((10..=deaths_max).contains(&deaths), "{deaths} agents died among {count} files");
        world.settle();
        let job = world.job(id);
        assert_eq!(job.record.state(), JobState::PartiallyCompleted, "{}", job.reason);
        assert_eq!((job.tally.stored, job.tally.dead), (count, 1));
        let letter = world.core.dead_letters().entries().next().expect("a letter");
        assert_eq!((letter.failure_reason, letter.attempts), (FailureReason::PermanentError, 10));
        assert!(letter.source_path.as_ref().is_some_and(|path| path.ends_with(killer.as_bytes())));
        world.assert_clean();
    }
}

#[test]
fn an_agent_that_was_only_out_of_reach_puts_nothing_under_suspicion() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    for _ in 0..10 {
        world.disconnect("star-2");
        let held: Vec<_> = world.stars["star-2"].held.keys().copied().collect();
        world.connect("star-2", 1, &held);
    }
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    assert!(posted(&world).is_empty());
}

#[test]
fn agents_that_die_at_random_make_no_dead_letter() {
    for seed in 1..9_u64 {
        let mut world = World::of_three();
        world.tree = tree(3000);
        let id = world.create(spec("star-1", &["star-2", "star-3"]));
        world.scan("star-1");
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for process in 2..38 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            for _ in 0..random % 4 {
                world.work("star-2");
                world.work("star-3");
            }
            die(&mut world, ["star-1", "star-2", "star-3"][(random >> 8) as usize % 3], process);
        }
        for _ in 0..100 {
            world.settle();
            if !world.wait(20_000) {
                break;
            }
        }
        let job = world.job(id);
        assert_eq!(job.record.state(), JobState::Completed, "seed {seed}: {} {:?}", job.reason, job.tally);
        world.assert_clean();
    }
}

#[test]
fn what_was_never_near_a_death_goes_first_and_as_fast_as_before() {
    let mut world = World::of_three();
    world.tree = tree(30_000);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    for process in 2..5 {
        world.given.clear();
        die(&mut world, "star-2", process);
        assert!(!world.given.is_empty());
    }
    let before: std::collections::BTreeSet<u64> =
        world.store.assignments.values().flat_map(|record| record.sequences.clone()).collect();
    die(&mut world, "star-2", 5);
    let now: Vec<u64> =
        world.store.assignments.values().flat_map(|record| record.sequences.clone()).collect();
    assert!(now.iter().all(|sequence| !before.contains(sequence)), "a suspect went first");
    assert!(batches(&world, "star-2").iter().all(|count| *count == ASSIGNMENT_ITEMS_MAX));
    assert!(batches(&world, "star-2").len() > 4, "{:?}", batches(&world, "star-2"));
    let reason = world.job(id).reason;
    assert!(reason.starts_with("items are moving") && reason.contains("wait behind the others"), "{reason}");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    world.assert_clean();
}

#[test]
fn suspects_go_in_one_group_at_a_time_for_each_star_beside_other_work() {
    let mut world = World::of_three();
    world.tree = tree(200);
    world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    die(&mut world, "star-2", 2);
    assert_eq!(batches(&world, "star-2"), [64], "a small group, and nothing else of them");
    world.create(spec("star-3", &["star-2"]));
    world.scan("star-3");
    assert!(batches(&world, "star-2").len() > 1, "another job goes on: {:?}", batches(&world, "star-2"));
    world.settle();
    assert_eq!(world.core.dead_letters().len(), 0);
    world.assert_clean();
}

#[test]
fn what_many_deaths_leave_under_suspicion_goes_in_few_groups() {
    let mut world = World::of_three();
    world.tree = tree(30_000);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    for process in 2..22 {
        world.work("star-2");
        die(&mut world, "star-2", process);
    }
    let left = 30_001 - world.job(id).tally.stored;
    let mut batches = 0;
    while world.work("star-2") {
        batches += 1;
    }
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    assert!(left > 1000 && batches <= left / 50, "{left} items went in {batches} batches");
    world.assert_clean();
}

#[test]
fn only_what_the_journal_says_was_begun_is_under_suspicion() {
    let mut world = World::of_three();
    world.tree = tree(600);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let held: Vec<AssignmentId> = world.stars["star-2"].held.keys().copied().collect();
    assert!(held.len() > 2);
    world.begun = Some(Vec::new());
    die(&mut world, "star-2", 2);
    assert!(!world.job(id).reason.contains("agent died"), "nothing had begun: {}", world.job(id).reason);
    let first = *world.stars["star-2"].held.keys().next().expect("it has work again");
    let suspects = world.stars["star-2"].held[&first].items.len();
    world.begun = Some(vec![first]);
    die(&mut world, "star-2", 3);
    let reason = world.job(id).reason;
    let waiting = suspects - 64;
    assert!(reason.contains(&format!("{waiting} items wait behind the others")), "{reason}");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
}

#[test]
fn a_large_file_that_comes_on_is_free_of_suspicion_however_often_its_agent_dies() {
    for layout_progress in [true, false] {
        let mut world = World::of_three();
        world.tree = vec![file("large", GIB)];
        let id = world.create(spec("star-1", &["star-2"]));
        world.scan("star-1");
        for process in 2..12 {
            let Some(&held) = world.stars["star-2"].held.keys().next() else { break };
            let bytes = if layout_progress { 200 << 20 } else { 1 << 20 };
            moved(&mut world, "star-2", held, bytes);
            die(&mut world, "star-2", process);
        }
        world.settle();
        let expected = match layout_progress {
            true => JobState::Completed,
            false => JobState::PartiallyCompleted,
        };
        assert_eq!(world.job(id).record.state(), expected, "{}", world.job(id).reason);
    }
}

#[test]
fn a_star_that_dies_as_often_without_an_item_proves_nothing() {
    let mut world = World::of_three();
    world.tree = vec![file("innocent", 1000)];
    for process in 2..10 {
        die(&mut world, "star-2", process);
    }
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    for process in 20..26 {
        assert!(holds(&world, "star-2", "innocent"));
        die(&mut world, "star-2", process);
    }
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
}

#[test]
fn a_killer_is_found_beside_a_suspect_that_is_always_there() {
    let mut world = World::of_three();
    world.tree = vec![file("slow", 1000)];
    world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    die(&mut world, "star-2", 2);
    assert_eq!(batches(&world, "star-2"), [1], "it goes alone");
    world.tree = tree(200);
    let id = world.create(spec("star-3", &["star-2"]));
    world.scan("star-3");
    for process in 3..100 {
        // The one that goes alone is never done; after its trial the others go too.
        world.wait(2_000);
        if world.job(id).tally.dead > 0 {
            break;
        }
        if holds(&world, "star-2", "f000050") {
            die(&mut world, "star-2", process);
        } else if !world.work("star-2") && !world.wait(20_000) {
            break;
        }
    }
    world.settle();
    let job = world.job(id);
    assert_eq!((job.tally.stored, job.tally.dead), (200, 1), "{}", job.reason);
}

#[test]
fn two_items_that_take_agents_down_are_both_given_up() {
    let mut world = World::of_three();
    world.tree = tree(100);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let mut deaths = 0;
    for process in 2..200 {
        if holds(&world, "star-2", "f000020") || holds(&world, "star-2", "f000070") {
            deaths += 1;
            die(&mut world, "star-2", process);
        } else if !world.work("star-2") && !world.wait(20_000) {
            break;
        }
    }
    assert!((20..=40).contains(&deaths), "{deaths}");
    world.settle();
    let job = world.job(id);
    assert_eq!((job.tally.stored, job.tally.dead), (99, 2), "{}", job.reason);
}

#[test]
fn an_item_that_is_there_when_everything_dies_is_stored_in_the_end() {
    let mut world = World::of_three();
    world.tree = vec![file("innocent", 1000)];
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let victims = ["star-2", "star-1", "star-3", "star-2", "star-3", "star-1", "star-2", "star-2"];
    for (victim, process) in victims.into_iter().cycle().zip(2..60) {
        world.pass(300);
        die(&mut world, victim, process);
    }
    for _ in 0..10 {
        world.settle();
        world.wait(20_000);
    }
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
}

#[test]
fn an_item_under_which_its_source_dies_is_given_up() {
    let mut world = World::of_three();
    world.tree = tree(100);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let deaths = work_with_killer(&mut world, "star-1", "f000050");
    assert!((10..=15).contains(&deaths), "{deaths}");
    world.settle();
    let job = world.job(id);
    assert_eq!((job.tally.stored, job.tally.dead), (100, 1), "{}", job.reason);
}

#[test]
fn an_item_that_goes_alone_holds_its_star_up_for_a_moment_only() {
    let mut world = World::of_three();
    world.tree = vec![file("slow", 1000)];
    world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    die(&mut world, "star-2", 2);
    assert!(holds(&world, "star-2", "slow"));
    world.tree = tree(10);
    let other = world.create(spec("star-3", &["star-2"]));
    world.scan("star-3");
    assert_eq!(batches(&world, "star-2"), [1], "the other job waits for it");
    let held = world.core.item(
        world.now(),
        orbit_shared::words::ItemId { job: other, destination: 0, sequence: 1 },
        &world.tree[1],
    );
    let held = held.and_then(|view| view.held).expect("it is held");
    assert!(held.explanation.contains("one item alone"), "{held:?}");
    assert!(world.wait(2_000), "its time is up");
    assert!(batches(&world, "star-2").len() > 1, "{:?}", batches(&world, "star-2"));
}

/// A Star's whole machine dies and needs minutes to start again.
fn die_for(world: &mut World, name: &'static str, process: u128, minutes: u64) {
    world.disconnect(name);
    for _ in 0..minutes * 6 {
        world.pass(10_000);
        let others: Vec<_> = world.stars.keys().copied().filter(|other| *other != name).collect();
        others.into_iter().for_each(|other| world.heartbeat(other));
    }
    world.connect(name, process, &[]);
}

#[test]
fn deaths_that_are_spread_over_hours_give_no_item_up_and_as_many_in_one_hour_do() {
    for (minutes, is_given_up) in [(15, false), (4, true)] {
        let mut world = World::of_three();
        world.tree = vec![file("long", 1000)];
        let id = world.create(spec("star-1", &["star-2"]));
        world.scan("star-1");
        let mut deaths = 0;
        while deaths < 30 && holds(&world, "star-2", "long") {
            deaths += 1;
            die_for(&mut world, "star-2", 1 + deaths, minutes);
        }
        assert_eq!(deaths, if is_given_up { 10 } else { 30 }, "each takes {minutes} minutes");
        world.settle();
        let (expected, letters) = match is_given_up {
            true => (JobState::PartiallyCompleted, 1),
            false => (JobState::Completed, 0),
        };
        assert_eq!(world.job(id).record.state(), expected, "{}", world.job(id).reason);
        assert_eq!(world.core.dead_letters().len(), letters);
    }
}

#[test]
fn five_deaths_in_ten_minutes_give_an_item_up_in_a_grid_of_many_stars() {
    let mut world = World::of_three();
    for name in ["star-4", "star-5", "star-6", "star-7", "star-8", "star-9"] {
        world.connect(name, 1, &[]);
    }
    world.tree = vec![file("killer", 1000)];
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let mut deaths = 0;
    while holds(&world, "star-2", "killer") {
        deaths += 1;
        die_for(&mut world, "star-2", 1 + deaths, 2);
    }
    assert_eq!(deaths, 5);
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::PartiallyCompleted, "{}", world.job(id).reason);
}
