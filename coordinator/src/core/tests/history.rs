//! What is too old, or too much, is forgotten; what an operator may still need is not.

use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::session::{FailureCause, Fault};
use orbit_shared::words::JobId;

use super::world::{World, failed, spec, stored, tree};
use crate::core::limits::ITEMS_REMOVED_PER_TURN;
use crate::core::{Answer, Command, CoreConfig, HistoryLimits, Turn};

const HOUR_MS: u64 = 60 * 60 * 1000;

fn limits() -> HistoryLimits {
    HistoryLimits {
        ended_job_count_max: 2,
        ended_job_age_max: Duration::from_secs(10 * 3600),
        bulletin_age_max: Duration::from_secs(10 * 3600),
        event_age_max: Duration::from_secs(10 * 3600),
    }
}

fn world() -> World {
    let mut world = World::with(CoreConfig { history: limits(), ..CoreConfig::default() });
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 2, &[]);
    world
}

fn ended(world: &World) -> Vec<JobId> {
    world.core.ended_jobs().map(|(id, _)| id).collect()
}

/// Lets hours pass, in steps in which the core can look.
fn pass_hours(world: &mut World, hours: u64) {
    for _ in 0..hours {
        world.pass(HOUR_MS);
    }
}

#[test]
fn no_more_ended_jobs_are_kept_than_asked_for() {
    let mut world = world();
    let ids: Vec<JobId> = (0..4)
        .map(|_| {
            let id = world.create(spec("star-1", &["star-2"]));
            world.settle();
            id
        })
        .collect();
    // They are counted when a job is created, so the newest is one more.
    assert_eq!(ended(&world), ids[1..]);
}

#[test]
fn a_job_with_many_items_is_forgotten_in_steps_also_across_a_crash() {
    let mut world = world();
    let id = world.create(spec("star-1", &["star-2"]));
    world.tree = tree(3 * ITEMS_REMOVED_PER_TURN);
    world.settle();
    assert!(world.job(id).record.state().is_end());
    world.tree = tree(1);
    let stored = world.store.entries.len() as u64;
    assert!(stored >= 3 * ITEMS_REMOVED_PER_TURN);
    for _ in 0..2 {
        world.create(spec("star-1", &["star-2"]));
        world.settle();
    }
    // One more is created, so there is one too many, which is the large one.
    world.create(spec("star-1", &["star-2"]));
    let left = world.store.entries.keys().filter(|(job, _)| *job == id).count() as u64;
    assert!(left > 0 && left >= stored - 2 * ITEMS_REMOVED_PER_TURN, "{left} of {stored}: not all at once");
    assert!(world.store.jobs.contains_key(&id), "its record says how far it is");
    world.crash();
    for _ in 0..20 {
        world.pass(20);
    }
    assert!(!world.store.entries.keys().any(|(job, _)| *job == id));
    assert!(!world.store.ends.keys().any(|item| item.job == id));
    assert!(!world.store.jobs.contains_key(&id) && !ended(&world).contains(&id));
}

#[test]
fn a_job_that_is_too_old_is_not_shown_while_its_items_are_removed_and_its_letters_go_once() {
    let mut world = world();
    world.behaviour = Box::new(|entry| match entry.path.ends_with(b"000") {
        true => failed(FailureCause::Permanent, Fault::Item),
        false => stored(entry),
    });
    world.tree = tree(3 * ITEMS_REMOVED_PER_TURN);
    let create = || {
        let (spec, request_id) = (Box::new(spec("star-1", &["star-2"])), "nightly".to_owned());
        Command::CreateJob { spec, request_id, violations: Vec::new() }
    };
    let Ok(Answer::Job(id)) = world.command(create()) else { panic!("it is created") };
    world.settle();
    assert!(world.core.dead_letters().entries().count() > 0);
    pass_hours(&mut world, 11);
    assert!(world.core.job(id, world.now()).is_none() && ended(&world).is_empty(), "it is forgotten at once");
    assert_eq!(world.core.dead_letters().entries().count(), 0);
    assert!(world.store.entries.keys().any(|(job, _)| *job == id), "its items go later");
    world.crash();
    assert!(world.core.job(id, world.now()).is_none(), "a restart does not bring it back");
    for _ in 0..20 {
        world.pass(20);
    }
    assert!(!world.store.entries.keys().any(|(job, _)| *job == id));
    assert!(!world.store.jobs.contains_key(&id), "its record goes with them and not an hour later");
    let said = world.core.board().by_job(id).iter().filter(|one| one.message.contains("forgotten")).count();
    assert_eq!(said, 1);
    // The name of its request is free again.
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 2, &[]);
    assert!(matches!(world.command(create()), Ok(Answer::Job(next)) if next > id));
}

#[test]
fn jobs_go_by_age_with_their_dead_letters_and_a_job_that_runs_stays() {
    let mut world = world();
    world.behaviour = Box::new(|_| failed(FailureCause::Permanent, Fault::Item));
    world.create(spec("star-1", &["star-2"]));
    world.settle();
    let running = world.create(spec("star-1", &["star-2"]));
    world.command(Command::PauseJob { job: running, reason: "wait".to_owned() }).expect("pauses");
    assert!(world.core.dead_letters().entries().count() > 0);
    pass_hours(&mut world, 9);
    assert_eq!(ended(&world).len(), 1, "it is not ten hours old");
    pass_hours(&mut world, 3);
    assert_eq!(ended(&world), []);
    assert_eq!(world.core.dead_letters().entries().count(), 0);
    assert_eq!(world.job(running).reason, "wait");
    let before = world.forgotten_events_before.expect("events are forgotten too");
    assert_eq!(world.now().wall.since(before), Duration::from_secs(10 * 3600));
}

#[test]
fn bulletins_go_by_age_but_errors_only_when_they_were_acknowledged() {
    let mut world = world();
    let now = world.now();
    let mut posted = Turn::new(now);
    for (severity, message) in
        [(Severity::Info, "info"), (Severity::Error, "seen"), (Severity::Error, "not seen")]
    {
        posted.post((severity, "test", "test"), None, message);
        world.core.board.take_up(&mut posted);
    }
    let seen = world.core.board().by_source("test")[1].id;
    world.command(Command::AcknowledgeBulletins(vec![seen])).expect("acknowledges");
    pass_hours(&mut world, 12);
    let kept: Vec<&str> =
        world.core.board().by_source("test").iter().map(|bulletin| bulletin.message.as_str()).collect();
    assert_eq!(kept, ["not seen"]);
}

#[test]
fn a_clock_that_is_set_ahead_makes_nothing_old() {
    let mut world = world();
    world.create(spec("star-1", &["star-2"]));
    world.settle();
    world.pass(HOUR_MS / 2);
    world.wall_offset_s += 10 * 365 * 24 * 3600;
    world.pass(HOUR_MS);
    assert_eq!(ended(&world).len(), 1);
    assert_eq!(world.forgotten_events_before, None);
    world.wall_offset_s -= 10 * 365 * 24 * 3600;
    pass_hours(&mut world, 2);
    assert_eq!(ended(&world).len(), 1);
}

#[test]
fn letters_that_are_retried_are_forgotten_with_their_job_also_in_the_store() {
    let mut world = world();
    world.behaviour = Box::new(|_| failed(FailureCause::Permanent, Fault::Item));
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert!(!world.store.dead_letters.is_empty());
    world.disconnect("star-2");
    world.command(Command::RetryDeadLetters(DeadLetterFilter::for_job(id))).expect("retries");
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("cancels");
    pass_hours(&mut world, 12);
    assert!(!ended(&world).contains(&id), "it is too old");
    assert!(world.store.dead_letters.is_empty(), "{:?}", world.store.dead_letters);
}
