//! Requests with a name are executed once.

use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::session::FailureCause;

use super::failures::fail_on;
use super::world::{World, spec};
use crate::core::{Answer, Answered, Command, JobState, Refusal, RequestName};

fn name(id: &str, digest: u64) -> RequestName {
    RequestName { method: "Method".to_owned(), id: id.to_owned(), digest }
}

fn once(request: RequestName, command: Command) -> Command {
    Command::Once { request, command: Box::new(command) }
}

#[test]
fn the_same_request_gets_the_same_answer_and_changes_nothing_also_after_a_crash() {
    let mut world = World::of_three();
    world.behaviour = Box::new(fail_on("f000004", FailureCause::Permanent));
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    let retry = || once(name("retry", 1), Command::RetryDeadLetters(DeadLetterFilter::for_job(id)));
    assert_eq!(world.command(retry()), Ok(Answer::Count(1)));
    world.settle();
    world.crash();
    assert_eq!(world.command(retry()), Ok(Answer::Count(1)));
    let job = world.job(id).record;
    assert_eq!(job.state(), JobState::PartiallyCompleted, "the letter was retried again");
    let other = once(name("retry", 2), Command::DiscardDeadLetters(DeadLetterFilter::for_job(id)));
    let refused = world.command(other);
    assert!(matches!(&refused, Err(Refusal::NameUsed { .. })), "{refused:?}");
    assert_eq!(world.store.dead_letters.len(), 1, "a refused request has discarded a letter");
}

#[test]
fn what_is_refused_may_succeed_later_under_the_same_name() {
    let mut world = World::of_three();
    let pause = || {
        once(
            name("pause", 1),
            Command::PauseJob { job: orbit_shared::words::JobId(1), reason: String::new() },
        )
    };
    assert!(matches!(world.command(pause()), Err(Refusal::NotFound { .. })));
    let id = world.create(spec("star-1", &["star-2"]));
    assert_eq!(world.command(pause()), Ok(Answer::Job(id)));
}

#[test]
fn what_was_told_is_told_again() {
    let mut world = World::of_three();
    let remember = |told: &[u8]| Command::Remember { request: name("told", 1), told: told.to_vec() };
    assert_eq!(world.command(remember(b"first")), Ok(Answer::Done));
    assert_eq!(world.command(remember(b"second")), Ok(Answer::Done));
    world.crash();
    let answered = world.core.answered(&name("told", 1)).expect("its own name");
    assert_eq!(answered, Some(&Answered::Told(b"first".to_vec())));
    assert_eq!(world.core.answered(&name("other", 1)).expect("a free name"), None);
}
