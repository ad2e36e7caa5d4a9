//! What the core keeps of who asked for a change.

use super::world::{World, spec};
use crate::core::{Answer, Command, JobRecord, JobState};
use orbit_shared::words::JobId;

fn world() -> World {
    let mut world = World::new();
    for star in ["star-1", "star-2"] {
        world.connect(star, 1, &[]);
    }
    world
}

fn record(world: &World) -> JobRecord {
    world.job(JobId(1)).record
}

#[test]
fn a_job_knows_who_created_it_and_who_ended_it_also_after_a_restart() {
    let mut world = world();
    let create = Command::CreateJob {
        spec: Box::new(spec("star-1", &["star-2"])),
        request_id: String::new(),
        violations: Vec::new(),
    };
    let created = world.command_by(Some("operator:alice"), create);
    assert!(matches!(created, Ok(Answer::Job(JobId(1)))), "{created:?}");
    let pause = Command::PauseJob { job: JobId(1), reason: String::new() };
    world.command_by(Some("operator:bob"), pause).unwrap();
    world.crash();
    let job = record(&world);
    assert_eq!(job.created_by, "operator:alice");
    assert_eq!(job.pause.as_deref(), Some("paused by operator:bob"));
    let cancel = Command::CancelJob { job: JobId(1), reason: String::new() };
    world.command_by(Some("user:root"), cancel).unwrap();
    let end = record(&world).end.expect("it has ended");
    assert_eq!((end.state, end.reason.as_str()), (JobState::Cancelled, "cancelled by user:root"));
}
