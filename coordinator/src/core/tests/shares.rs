//! What is large or slow leaves room for what is not.

use orbit_shared::session::{AdvisoryKind, AdvisoryNotice, Heartbeat, RootSpace, StarMessage};
use orbit_shared::words::JobId;

use super::world::{World, file, spec, tree};
use crate::core::{BandwidthWindow, Command, JobState};

const GIB: u64 = 1 << 30;

/// Starts a job that copies the given files, and lets its source be listed.
fn start(world: &mut World, source: &'static str, files: &[(&str, u64)]) -> JobId {
    world.tree = files.iter().map(|(path, size)| file(path, *size)).collect();
    let id = world.create(spec(source, &["star-2"]));
    world.scan(source);
    id
}

fn sent(world: &World, id: JobId) -> usize {
    world.given.iter().filter(|(_, item)| item.job == id).count()
}

const SMALL: [(&str, u64); 3] = [("a", 1000), ("b", 1000), ("c", 1000)];

#[test]
fn small_files_go_at_once_beside_a_file_that_is_larger_than_the_guard() {
    let mut world = World::of_three();
    let large = start(&mut world, "star-1", &[("image", 2 * GIB)]);
    assert_eq!(sent(&world, large), 1);
    let small = start(&mut world, "star-1", &SMALL);
    assert_eq!(sent(&world, small), 3, "{}", world.job(small).reason);
    let guard = world.core.star(&super::world::star_id("star-2")).expect("known").guard.state();
    assert!(guard.byte_size < GIB / 4, "{guard:?}");
}

#[test]
fn small_files_go_at_once_beside_many_large_jobs() {
    let mut world = World::of_three();
    let large: Vec<JobId> = (0..12).map(|_| start(&mut world, "star-1", &[("image", GIB)])).collect();
    assert_eq!(large.iter().map(|id| sent(&world, *id)).sum::<usize>(), 4, "large files have their share");
    let reason = &world.job(large[11]).reason;
    assert!(reason.contains("large files at a time"), "{reason}");
    for source in ["star-1", "star-3"] {
        let small = start(&mut world, source, &SMALL);
        assert_eq!(sent(&world, small), 3, "{}", world.job(small).reason);
    }
    let mut finished = 0;
    while world.work("star-2") {
        finished += 1;
    }
    assert!(finished >= 14);
    for id in large {
        assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    }
    world.assert_clean();
}

#[test]
fn small_files_of_one_job_pass_its_large_ones() {
    let mut world = World::of_three();
    world.tree = (0..6).map(|index| file(&format!("large-{index}"), GIB)).collect();
    world.tree.extend((0..3).map(|index| file(&format!("small-{index}"), 1000)));
    let mut asked = spec("star-1", &["star-2"]);
    asked.prioritizers = vec![orbit_shared::prioritizer::PrioritizerKind::LargestFirst];
    let id = world.create(asked);
    world.scan("star-1");
    assert_eq!(sent(&world, id), 4 + 3, "{}", world.job(id).reason);
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
}

#[test]
fn a_slow_source_leaves_hands_to_the_others() {
    let mut world = World::of_three();
    world.tree = tree(4000);
    let slow = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    assert!(world.stars["star-2"].held.len() >= 4);
    assert!(sent(&world, slow) < 4000);
    let small = start(&mut world, "star-3", &SMALL);
    assert_eq!(sent(&world, small), 3, "{}", world.job(small).reason);
}

#[test]
fn a_paused_job_gives_its_place_back_at_once_and_goes_on_later() {
    let mut world = World::of_three();
    let large: Vec<JobId> = (0..5).map(|_| start(&mut world, "star-1", &[("image", GIB)])).collect();
    assert_eq!(sent(&world, large[4]), 0);
    world.command(Command::PauseJob { job: large[0], reason: String::new() }).expect("it runs");
    assert_eq!(sent(&world, large[4]), 1, "the next one has its place");
    assert_eq!(world.job(large[0]).in_flight, 0);
    world.command(Command::ResumeJob { job: large[0] }).expect("it is paused");
    world.settle();
    for id in large {
        assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    }
    world.assert_clean();
}

#[test]
fn of_jobs_with_equal_shares_none_goes_first_always() {
    let mut world = World::of_three();
    let jobs: Vec<JobId> = (0..6)
        .map(|index| {
            world.tree = (0..4).map(|file_index| file(&format!("{index}-{file_index}"), GIB)).collect();
            let id = world.create(spec("star-1", &["star-2"]));
            world.scan("star-1");
            id
        })
        .collect();
    while sent(&world, jobs[0]) + sent(&world, jobs[5]) < 3 && world.work("star-2") {}
    for _ in 0..8 {
        world.work("star-2");
    }
    assert!(jobs.iter().all(|id| sent(&world, *id) > 0), "{:?}", world.given);
    world.settle();
}

#[test]
fn a_disk_must_have_room_for_the_whole_of_what_is_on_its_way() {
    let mut world = World::of_three();
    let space = RootSpace { path: b"/data".to_vec(), available_bytes: 3 * GIB / 2 };
    let heartbeat = Heartbeat {
        lifecycle: world.stars["star-2"].state,
        active_tasks: 0,
        served_pulls: 0,
        sample: None,
        advisories: Vec::new(),
        progress: Vec::new(),
        root_space: vec![space],
        vault_bytes: None,
        vault_sample: None,
    };
    world.say("star-2", StarMessage::Heartbeat(heartbeat));
    let first = start(&mut world, "star-1", &[("image", GIB)]);
    let second = start(&mut world, "star-1", &[("image", GIB)]);
    assert_eq!((sent(&world, first), sent(&world, second)), (1, 0));
    assert!(world.job(second).reason.contains("bytes free"), "{}", world.job(second).reason);
}

#[test]
fn a_forecast_about_the_grids_own_writing_is_an_alarm_only_if_it_does_not_fit() {
    let forecast = |world: &mut World, available_bytes: u64| {
        let advisory = AdvisoryNotice {
            kind: AdvisoryKind::DiskExhaustionPredicted,
            message: "disk full in about 60 minutes".to_owned(),
            predicted_seconds: Some(3600),
        };
        let heartbeat = Heartbeat {
            lifecycle: world.stars["star-2"].state,
            active_tasks: 0,
            served_pulls: 0,
            sample: None,
            advisories: vec![advisory],
            progress: Vec::new(),
            root_space: vec![RootSpace { path: b"/data".to_vec(), available_bytes }],
            vault_bytes: None,
            vault_sample: None,
        };
        world.say("star-2", StarMessage::Heartbeat(heartbeat));
        let star = world.core.star(&super::world::star_id("star-2")).expect("known");
        (star.advisories[0].kind, star.guard.scale())
    };
    let mut world = World::of_three();
    assert_eq!(
        forecast(&mut world, 100 * GIB),
        (AdvisoryKind::DiskExhaustionPredicted, 0.25),
        "not the grid"
    );
    let mut world = World::of_three();
    start(&mut world, "star-1", &[("image", GIB)]);
    assert_eq!(forecast(&mut world, 2 * GIB), (AdvisoryKind::Healthy, 1.0), "what is left fits");
    assert_eq!(forecast(&mut world, GIB / 2).0, AdvisoryKind::DiskExhaustionPredicted, "it does not fit");
    while world.work("star-2") {}
    assert_eq!(forecast(&mut world, 2 * GIB).0, AdvisoryKind::Healthy, "the trend is still that of the job");
    for _ in 0..130 {
        world.now_ms += 5_000;
        for name in ["star-1", "star-2", "star-3"] {
            world.heartbeat(name);
        }
    }
    assert_eq!(forecast(&mut world, 2 * GIB).0, AdvisoryKind::DiskExhaustionPredicted, "a trend of others");
}

#[test]
fn destinations_share_a_jobs_bandwidth_and_another_time_of_the_day_reaches_what_is_on_its_way() {
    let mut world = World::of_three();
    world.tree = vec![file("image", GIB)];
    let mut asked = spec("star-1", &["star-2", "star-3"]);
    asked.max_bytes_per_second = 10_000_000;
    let window = |start_minute, max_bytes_per_second| BandwidthWindow {
        start_minute,
        end_minute: start_minute + 1,
        max_bytes_per_second,
    };
    let id = world.create(asked);
    world.scan("star-1");
    let rates = |world: &World| world.rates.iter().map(|(_, rate)| *rate).collect::<Vec<u64>>();
    assert!(
        rates(&world).iter().all(|rate| *rate == 5_000_000) && !rates(&world).is_empty(),
        "{:?}",
        world.rates
    );
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("it runs");

    let mut world = World::of_three();
    world.tree = vec![file("image", GIB)];
    let mut asked = spec("star-1", &["star-2"]);
    asked.max_bytes_per_second = 10_000_000;
    asked.bandwidth_windows = vec![window(1, 4_000_000)];
    world.create(asked);
    world.scan("star-1");
    let mut looks = 0;
    while world.now_ms < 125_000 {
        world.now_ms += 5_000;
        for name in ["star-1", "star-2", "star-3"] {
            world.heartbeat(name);
        }
        looks += 1;
    }
    assert!(looks > 10);
    assert_eq!(rates(&world), [10_000_000, 4_000_000, 10_000_000], "it goes on at the rate of the time");
}
