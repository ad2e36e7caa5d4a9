//! Plans: what a job would do, without doing it.

use std::collections::BTreeSet;

use orbit_shared::session::{FailureCause, Fault, ScanBatch, StarMessage};

use super::world::{Heard, World, batch, directory, file, spec};
use crate::core::{Event, JobSpec, Planned, Refusal, ReplyId};

impl World {
    fn plan(&mut self, spec: JobSpec) -> ReplyId {
        let reply = self.new_reply();
        let spec = Box::new(spec);
        self.turn(vec![Event::PlanAsked { reply, spec, violations: Vec::new() }]);
        reply
    }

    fn planned(&mut self, reply: ReplyId) -> Planned {
        match self.answered(reply) {
            Some(Ok(Heard::Plan(planned))) => *planned,
            other => panic!("no plan but {other:?}"),
        }
    }
}

#[test]
fn a_plan_counts_what_would_move_and_leaves_no_trace() {
    let mut world = World::of_three();
    world.tree = vec![directory(""), file("a", 10), file("b", 20), file("c", 30)];
    world.present = Some(BTreeSet::from([b"b".to_vec()]));
    let stored = world.store.clone();
    let reply = world.plan(spec("star-1", &["star-2", "star-3"]));
    assert!(world.answered(reply).is_none(), "the source is not listed yet");
    world.scan("star-1");
    let planned = world.planned(reply);
    assert_eq!((planned.entries, planned.bytes), (4, 60));
    for place in &planned.places {
        assert_eq!((place.moved, place.moved_bytes), (3, 40));
        assert_eq!((place.unchanged, place.unchanged_bytes), (1, 20));
        assert_eq!(place.examples, ["a", "c"]);
        assert!(place.is_compared && place.held.is_none());
    }
    assert!(world.store.jobs.is_empty() && world.store.entries == stored.entries);
    assert!(world.given.is_empty());
    // The places where it was listed are free again.
    for _ in 0..5 {
        let reply = world.plan(spec("star-1", &["star-2"]));
        world.scan("star-1");
        world.planned(reply);
    }
}

#[test]
fn a_plan_whose_destination_is_silent_says_that_it_was_not_compared() {
    let mut world = World::of_three();
    world.present = None;
    let reply = world.plan(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.wait(6_000) {
        world.heartbeat("star-1");
        world.heartbeat("star-2");
        if let Some(answer) = world.answered(reply) {
            let Ok(Heard::Plan(planned)) = answer else { panic!("{answer:?}") };
            assert!(!planned.places[0].is_compared);
            assert_eq!(planned.places[0].moved, 11);
            return;
        }
    }
    panic!("the plan hangs");
}

#[test]
fn a_caller_that_waits_for_a_plan_is_told_when_it_cannot_be_made() {
    let mut world = World::of_three();
    let reply = world.plan(spec("star-1", &["nobody"]));
    assert!(matches!(world.answered(reply), Some(Err(Refusal::Invalid(_)))));

    let reply = world.plan(spec("star-1", &["star-2"]));
    world.disconnect("star-1");
    assert!(matches!(world.answered(reply), Some(Err(Refusal::Unavailable { .. }))));
    let reply = world.plan(spec("star-1", &["star-2"]));
    assert!(matches!(world.answered(reply), Some(Err(Refusal::WrongState { .. }))), "it is away");

    world.connect("star-1", 2, &[]);
    let reply = world.plan(spec("star-1", &["star-2"]));
    let scan = world.stars.get_mut("star-1").and_then(|star| star.scans.pop_front()).expect("a scan").scan;
    let failure = orbit_shared::session::Failure {
        cause: FailureCause::SourceMissing,
        fault: Fault::Item,
        message: "/data/in: no such file".to_owned(),
    };
    let batch = ScanBatch { is_last: true, failure: Some(failure), ..batch(scan, 1, Vec::new()) };
    world.say("star-1", StarMessage::ScanBatch(batch));
    let answer = world.answered(reply);
    let Some(Err(Refusal::WrongState { problem })) = answer else { panic!("{answer:?}") };
    assert!(problem.contains("no such file"), "{problem}");

    let reply = world.plan(spec("star-1", &["star-2"]));
    for _ in 0..40 {
        world.pass(1_000);
        world.heartbeat("star-1");
        world.heartbeat("star-2");
    }
    assert!(matches!(world.answered(reply), Some(Err(Refusal::Unavailable { .. }))), "nothing ever came");
}
