//! Jobs: from creation to their end, in order, with what an operator may do on the way.

use orbit_shared::entry::EntryKind;
use orbit_shared::session::{FailureCause, Fault, StarMessage};
use orbit_shared::trace_context::TraceContext;
use orbit_shared::words::{ItemId, JobId};

use super::world::{World, batch, directory, failed, file, spec, tree};
use crate::core::{Answer, Command, Gate, ItemEnd, JobSpec, JobState, Refusal, Violation};

#[test]
fn a_job_goes_to_every_destination_and_completes() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2", "star-3"]));
    assert_eq!(world.job(id).record.state(), JobState::Scanning);
    world.settle();
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::Completed, "{}", job.reason);
    assert_eq!((job.tally.total, job.tally.stored), (22, 22));
    assert_eq!(job.tally.bytes_transferred, 20_000);
    assert_eq!(world.ended(ItemEnd::Stored), 22);
    world.assert_clean();
}

#[test]
fn items_move_while_the_source_is_still_listed() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    let request = world.stars["star-1"].scans[0].clone();
    let batch = batch(request.scan, 1, tree(3));
    world.say("star-1", StarMessage::ScanBatch(batch));
    assert_eq!(world.job(id).record.state(), JobState::Scanning);
    assert_eq!(world.job(id).in_flight, 3, "the files go, the directory waits");
}

#[test]
fn directories_go_last_and_the_deepest_first() {
    let mut world = World::of_three();
    world.tree = vec![directory(""), directory("a"), directory("a/b"), file("a/b/f", 1), file("g", 1)];
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    let order: Vec<u64> = world.given.iter().map(|(_, item)| item.sequence).collect();
    assert_eq!(order[2..], [2, 1, 0], "{order:?}");
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn small_files_go_before_large_ones_unless_the_job_says_otherwise() {
    let mut world = World::of_three();
    world.tree = vec![file("large", 9000), file("small", 10), file("middle", 500)];
    world.create(spec("star-1", &["star-2"]));
    world.settle();
    let order: Vec<u64> = world.given.iter().map(|(_, item)| item.sequence).collect();
    assert_eq!(order, [1, 2, 0]);
    world.given.clear();
    let mut largest = spec("star-1", &["star-2"]);
    largest.prioritizers = vec![orbit_shared::prioritizer::PrioritizerKind::LargestFirst];
    world.create(largest);
    world.settle();
    let order: Vec<u64> = world.given.iter().map(|(_, item)| item.sequence).collect();
    assert_eq!(order, [0, 2, 1]);
}

#[test]
fn the_same_request_makes_one_job() {
    let mut world = World::of_three();
    let create = || Command::CreateJob {
        spec: Box::new(spec("star-1", &["star-2"])),
        request_id: "nightly".to_owned(),
        violations: Vec::new(),
    };
    assert_eq!(world.command(create()), Ok(Answer::Job(JobId(1))));
    assert_eq!(world.command(create()), Ok(Answer::Job(JobId(1))));
    world.crash();
    assert_eq!(world.command(create()), Ok(Answer::Job(JobId(1))), "also after a restart");
}

#[test]
fn a_used_request_name_with_another_specification_is_refused_and_makes_nothing() {
    let mut world = World::of_three();
    let create = |spec: JobSpec, violations| Command::CreateJob {
        spec: Box::new(spec),
        request_id: "nightly".to_owned(),
        violations,
    };
    let asked = || spec("star-1", &["star-2"]);
    assert_eq!(world.command(create(asked(), Vec::new())), Ok(Answer::Job(JobId(1))));
    let mut others = vec![spec("star-1", &["star-3"]), spec("star-3", &["star-2"]), asked(), asked()];
    others[2].source.path = b"/data/other".to_vec();
    others[3].max_bytes_per_second = 1;
    for is_after_crash in [false, true] {
        for other in &others {
            let refused = world.command(create(other.clone(), Vec::new()));
            let Err(Refusal::NameUsed { problem }) = &refused else { panic!("{refused:?}") };
            assert!(problem.contains("\"nightly\"") && problem.contains("job 1"), "{problem}");
        }
        let unreadable = vec![Violation::new("spec.layout", "9 is no layout")];
        let refused = world.command(create(asked(), unreadable));
        assert!(matches!(refused, Err(Refusal::NameUsed { .. })), "{refused:?}");
        let mut by_another_span = asked();
        by_another_span.caller = Some(TraceContext::root(b"another call"));
        assert_eq!(world.command(create(by_another_span, Vec::new())), Ok(Answer::Job(JobId(1))));
        assert_eq!(world.store.jobs.len(), 1, "a refused request made a job");
        if !is_after_crash {
            world.crash();
        }
    }
}

#[test]
fn a_bad_specification_is_refused_whole_and_changes_nothing() {
    let mut world = World::of_three();
    let before = format!("{:?}", world.store);
    let mut bad = spec("star-9", &["star-2", "star-2"]);
    bad.destinations[0].path = b"/data/../etc".to_vec();
    bad.destinations[1].path = b"/etc".to_vec();
    bad.exclude = vec!["a\0b".to_owned()];
    bad.dead_letter_max = 0;
    let command =
        Command::CreateJob { spec: Box::new(bad), request_id: "x".repeat(200), violations: Vec::new() };
    let Err(Refusal::Invalid(violations)) = world.command(command) else { panic!("accepted") };
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let expected = [
        "request_id",
        "spec.source.star_id",
        "spec.destinations[0].path",
        "spec.destinations[1].path",
        "spec.exclude[0]",
        "spec.dead_letter_max",
    ];
    assert_eq!(fields, expected);
    assert_eq!(format!("{:?}", world.store), before);
}

#[test]
fn a_tree_is_not_copied_into_itself_and_not_twice_to_one_place() {
    let mut world = World::of_three();
    let mut into_itself = spec("star-1", &["star-1"]);
    into_itself.destinations[0].path = b"/data/in/copy".to_vec();
    let twice = spec("star-1", &["star-2", "star-2"]);
    for bad in [into_itself, twice] {
        let command =
            Command::CreateJob { spec: Box::new(bad), request_id: String::new(), violations: Vec::new() };
        assert!(matches!(world.command(command), Err(Refusal::Invalid(_))));
    }
}

#[test]
fn a_paused_job_gives_out_nothing_until_it_is_resumed() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.command(Command::PauseJob { job: id, reason: "wait".to_owned() }).expect("pauses");
    assert!(world.stars["star-1"].scans.is_empty(), "its scan stops too");
    world.settle();
    assert_eq!(world.given, []);
    assert_eq!(world.job(id).reason, "wait");
    world.command(Command::ResumeJob { job: id }).expect("resumes");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn a_cancelled_job_withdraws_what_is_in_flight_and_stays_cancelled() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    assert!(!world.stars["star-2"].held.is_empty());
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("cancels");
    world.assert_clean();
    assert_eq!(world.job(id).record.state(), JobState::Cancelled);
    assert_eq!(world.stars["star-2"].ended_jobs, [id], "nothing is kept for a later attempt");
    assert!(world.stars["star-3"].ended_jobs.is_empty(), "it has nothing to do with the job");
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("again is harmless");
    let resumed = world.command(Command::ResumeJob { job: id });
    assert!(matches!(resumed, Err(Refusal::WrongState { .. })), "{resumed:?}");
}

#[test]
fn a_cancelled_job_leaves_no_penalties_not_even_of_items_whose_wait_is_over() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|_| failed(FailureCause::Transient, Fault::Item));
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let star = super::world::star_id("star-2");
    world.command(Command::PauseGuard { star, reason: String::new() }).expect("a pause");
    while world.work("star-2") {}
    assert_eq!(world.job(id).penalized, 10);
    world.pass(2_000);
    assert_eq!(world.job(id).penalized, 0, "they wait for the guard now");
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("cancels");
    world.assert_clean();
}

#[test]
fn what_cannot_be_carried_is_a_dead_letter_and_the_rest_goes_on() {
    let mut world = World::of_three();
    world.tree.push(orbit_shared::entry::Entry { kind: EntryKind::Fifo, ..file("pipe", 0) });
    world
        .tree
        .push(orbit_shared::entry::Entry { kind: EntryKind::Unreadable { errno: 13 }, ..file("secret", 0) });
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::PartiallyCompleted);
    assert_eq!((job.tally.stored, job.tally.dead), (11, 2));
    let errors: Vec<&str> =
        world.core.dead_letters().entries().map(|letter| letter.last_error.as_str()).collect();
    assert!(errors[0].contains("pipe is a named pipe"), "{errors:?}");
    assert!(errors[1].contains("Permission denied"), "{errors:?}");
    let dead = world.core.board().by_category("dead-letter");
    assert_eq!(dead.iter().map(|bulletin| bulletin.repeat_count).collect::<Vec<_>>(), [2], "{dead:?}");
}

#[test]
fn a_large_job_never_has_more_in_memory_than_its_window() {
    use crate::core::limits::LANE_WINDOW_MAX;
    let mut world = World::of_three();
    world.tree = tree(3 * LANE_WINDOW_MAX as u64);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let in_memory = |world: &World| world.core.jobs.in_memory(id);
    assert!(in_memory(&world) <= LANE_WINDOW_MAX);
    while world.work("star-2") {
        assert!(in_memory(&world) <= LANE_WINDOW_MAX);
    }
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::Completed);
    assert_eq!(job.tally.stored, 3 * LANE_WINDOW_MAX as u64 + 1);
    world.assert_clean();
}

#[test]
fn a_bandwidth_limit_spreads_a_job_over_time() {
    let mut world = World::of_three();
    let mut slow = spec("star-1", &["star-2"]);
    slow.max_bytes_per_second = 2000;
    let id = world.create(slow);
    world.scan("star-1");
    while !world.job(id).record.state().is_end() {
        while world.work("star-2") {}
        if world.job(id).record.state().is_end() {
            break;
        }
        assert!(world.wait(10_000), "{}", world.job(id).reason);
        world.heartbeat("star-1");
        world.heartbeat("star-2");
    }
    let seconds = (world.now_ms - 1000) / 1000;
    assert!((3..=6).contains(&seconds), "10,000 bytes at 2,000 a second took {seconds} s");
}

#[test]
fn an_item_explains_what_holds_it() {
    let mut world = World::of_three();
    world
        .command(Command::PauseGuard { star: super::world::star_id("star-2"), reason: "weekend".into() })
        .expect("pauses");
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let item = ItemId { job: id, destination: 0, sequence: 3 };
    let view = world.core.item(world.now(), item, &world.tree[3]).expect("known");
    let held = view.held.expect("held");
    assert_eq!(held.gate, Gate::Guard);
    assert!(held.explanation.contains("weekend"), "{}", held.explanation);
    assert!(world.job(id).reason.contains("weekend"), "{}", world.job(id).reason);
}

#[test]
fn every_window_key_finds_its_item_again_when_keys_are_equal_but_for_the_sequence() {
    let mut world = World::of_three();
    world.tree = (0..100).map(|index| file(&format!("same{index}"), 7)).collect();
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).tally.stored, 100);
}
