//! Stars: identity, liveness and lifecycle.

use std::time::Duration;

use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::session::StarMessage;

use super::world::{World, spec, star_id};
use crate::core::{CloseReason, Command, CoreConfig, JobState, Liveness, Refusal};

fn drain(name: &str, deadline: Option<Duration>) -> Command {
    Command::DrainStar { star: star_id(name), reason: "maintenance".to_owned(), deadline }
}

fn shutdown(name: &str, force: bool) -> Command {
    Command::ShutdownStar { star: star_id(name), reason: String::new(), force }
}

#[test]
fn another_identity_under_a_taken_name_is_refused() {
    let mut world = World::of_three();
    world.connect_as("star-2", 777, 1, &[]);
    let refused = world.stars["star-2"].was_closed.clone();
    assert!(matches!(refused, Some(CloseReason::NameTaken { .. })), "{refused:?}");
    assert!(
        world.core.star(&star_id("star-2")).is_some_and(|star| star.session.is_some()),
        "the owner stays"
    );
}

#[test]
fn a_removed_name_is_free_for_another_identity() {
    let mut world = World::of_three();
    let remove = || Command::RemoveStar { star: star_id("star-2") };
    assert!(matches!(world.command(remove()), Err(Refusal::WrongState { .. })), "not while it is connected");
    world.disconnect("star-2");
    world.command(remove()).expect("removes");
    world.connect_as("star-2", 777, 1, &[]);
    assert_eq!(world.stars["star-2"].was_closed, None);
}

#[test]
fn the_same_identity_takes_over_and_its_old_session_is_fenced_off() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let old_session = world.stars["star-2"].session;
    let (&assignment, held) = world.stars["star-2"].held.first_key_value().expect("work");
    let sequence = held.items[0].sequence;
    world.connect("star-2", 2, &[]);
    assert!(world.job(id).in_flight > 0, "it is given work again");
    let late = world.core.late_count();
    let report = orbit_shared::session::Report {
        number: 1,
        assignment,
        outcomes: vec![orbit_shared::session::ItemOutcome {
            sequence,
            result: orbit_shared::session::ItemResult::Skipped,
        }],
    };
    world.turn(vec![crate::core::Event::MessageReceived {
        session: old_session,
        message: StarMessage::Report(report),
    }]);
    assert_eq!(world.core.late_count(), late + 1);
    assert_eq!(world.job(id).tally.skipped, 0, "a late report changes nothing");
    world.settle();
    assert_eq!(world.job(id).tally.stored, 11);
}

#[test]
fn a_star_that_comes_back_in_time_keeps_what_it_holds() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let held: Vec<_> = world.stars["star-2"].held.keys().copied().collect();
    world.disconnect("star-2");
    world.now_ms += 5000;
    world.connect("star-2", 1, &held);
    assert_eq!(world.stars["star-2"].held.keys().copied().collect::<Vec<_>>(), held);
    world.heartbeat("star-1");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    assert_eq!(world.given.len(), 11, "nothing was given out twice");
}

#[test]
fn a_silent_star_is_suspect_and_then_lost_and_gives_everything_back_without_a_penalty() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.pass(8000);
    let liveness = |world: &World| world.core.star(&star_id("star-2")).map(|star| star.liveness);
    assert_eq!(liveness(&world), Some(Liveness::Suspect));
    assert_eq!(world.job(id).in_flight, 10, "a suspect keeps what it holds");
    world.heartbeat("star-1");
    world.pass(8000);
    assert_eq!(liveness(&world), Some(Liveness::Lost));
    let job = world.job(id);
    assert_eq!((job.in_flight, job.penalized), (0, 0));
    world.heartbeat("star-1");
    let job = world.job(id);
    assert!(job.reason.contains("star-2 is lost"), "{}", job.reason);
    world.heartbeat("star-1");
    world.connect("star-2", 2, &[]);
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn a_draining_star_ends_its_work_gets_nothing_new_and_can_then_be_shut_down() {
    let mut world = World::of_three();
    world.tree = super::world::tree(3000);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.command(drain("star-2", None)).expect("drains");
    let given = world.given.len();
    let star = |world: &World| world.core.star(&star_id("star-2")).map(|star| world.core.is_drained(star));
    assert_eq!(star(&world), Some(false));
    assert!(matches!(world.command(shutdown("star-2", false)), Err(Refusal::WrongState { .. })));
    while world.work("star-2") {}
    world.heartbeat("star-2");
    assert_eq!(world.given.len(), given, "nothing new arrives");
    assert_eq!(star(&world), Some(true));
    assert!(world.job(id).reason.contains("star-2 is draining"), "{}", world.job(id).reason);
    world.command(shutdown("star-2", false)).expect("shuts down");
    assert_eq!(world.stars["star-2"].state, LifecycleState::Shutdown, "it is told to exit");
    world.disconnect("star-2");
    world.connect("star-2", 2, &[]);
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed, "a star that starts again registers again");
}

#[test]
fn a_drain_can_be_taken_back() {
    use LifecycleState::{Draining, Registered, Scheduled};
    let mut world = World::of_three();
    world.command(drain("star-2", None)).expect("drains");
    let schedule = Command::ScheduleStar { star: star_id("star-2"), reason: String::new() };
    world.command(schedule).expect("takes back");
    assert_eq!(world.stars["star-2"].told, [Scheduled, Draining, Registered, Scheduled]);
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    let history: Vec<_> = world
        .core
        .star(&star_id("star-2"))
        .map_or(Vec::new(), |star| star.record.history.iter().map(|event| event.to).collect());
    assert_eq!(history, [Registered, Scheduled, Draining, Registered, Scheduled]);
}

#[test]
fn an_overdue_drain_says_what_blocks_it() {
    let mut world = World::of_three();
    world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.command(drain("star-2", Some(Duration::from_secs(2)))).expect("drains");
    world.pass(2000);
    let bulletins = world.core.board().by_category("lifecycle");
    assert!(bulletins[0].message.contains("it still works on 1 assignment"), "{}", bulletins[0].message);
}

#[test]
fn a_star_that_asks_to_be_drained_is_let_go_when_it_is_done() {
    let mut world = World::of_three();
    world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.say("star-2", StarMessage::DrainRequested { reason: "SIGTERM".to_owned() });
    assert_eq!(world.stars["star-2"].state, LifecycleState::Draining);
    while world.work("star-2") {}
    world.heartbeat("star-2");
    assert_eq!(world.stars["star-2"].state, LifecycleState::Shutdown);
}

#[test]
fn a_forced_shutdown_gives_the_work_back() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.command(shutdown("star-2", true)).expect("forces");
    assert_eq!(world.job(id).in_flight, 0);
}

#[test]
fn with_manual_scheduling_a_star_waits_to_be_scheduled() {
    let mut world = World::with(CoreConfig { is_manual_schedule: true, ..CoreConfig::default() });
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 1, &[]);
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.given, []);
    assert!(world.job(id).reason.contains("not scheduled yet"), "{}", world.job(id).reason);
    for name in ["star-1", "star-2"] {
        let schedule = Command::ScheduleStar { star: star_id(name), reason: String::new() };
        world.command(schedule).expect("schedules");
    }
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn a_star_that_stands_elsewhere_than_it_was_told_is_told_again() {
    let mut world = World::of_three();
    world.stars.get_mut("star-2").expect("connected").state = LifecycleState::Draining;
    world.heartbeat("star-2");
    assert_eq!(world.stars["star-2"].state, LifecycleState::Scheduled);
}

#[test]
fn work_that_reaches_a_star_when_it_drains_comes_back_without_a_penalty() {
    use orbit_shared::session::{FailureCause, Fault};
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.command(drain("star-2", None)).expect("drains");
    world.behaviour = Box::new(|_| super::world::failed(FailureCause::Transient, Fault::Destination));
    while world.work("star-2") {}
    let job = world.job(id);
    assert_eq!((job.in_flight, job.penalized), (0, 0));
}

#[test]
fn a_star_that_is_lost_while_its_session_is_open_is_told_to_stop() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let held: Vec<_> = world.stars["star-2"].held.keys().copied().collect();
    assert!(!held.is_empty());
    world.pass(8_000);
    world.pass(7_000);
    assert_eq!(world.job(id).in_flight, 0, "its lease is over");
    assert!(world.stars["star-2"].held.is_empty(), "it works on nothing that another attempt will do");
    for name in ["star-1", "star-2"] {
        world.heartbeat(name);
    }
    assert!(world.stars["star-2"].held.keys().all(|id| !held.contains(id)));
    world.settle();
    assert_eq!(world.job(id).tally.stored, 11);
    world.assert_clean();
}
