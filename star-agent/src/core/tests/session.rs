//! Connections, sessions and heartbeats.

use super::*;

#[test]
fn a_failed_connection_is_tried_again_later_each_time_at_the_next_address() {
    let mut bench = Bench::new();
    let mut waits = Vec::new();
    for attempt in 1..12_u64 {
        let lost_at = bench.at_ms;
        bench.lose(attempt);
        let effects = bench.wait();
        waits.push(bench.at_ms - lost_at);
        let expected = usize::try_from(attempt).unwrap() % 3;
        assert!(
            matches!(effects[..], [Effect::Connect { session, coordinator, .. }] if session == attempt + 1 && coordinator == expected),
            "{effects:?}"
        );
    }
    assert!((100..=200).contains(&waits[0]), "{waits:?}");
    assert!(waits[7..].iter().all(|wait| (5_000..=10_000).contains(wait)), "{waits:?}");
}

#[test]
fn a_coordinator_that_does_not_answer_is_given_up() {
    let mut bench = Bench::new();
    let effects = bench.wait();
    assert_eq!(bench.at_ms, 10_000);
    assert_eq!(effects[0], Effect::Disconnect { session: 1 });
    assert!(matches!(bench.wait()[..], [Effect::Connect { session: 2, .. }]));
}

#[test]
fn a_refused_hello_ends_the_process_with_its_reason() {
    let mut bench = Bench::new();
    let end = SessionEnd::Refused("another identity holds star-1".to_owned());
    let effects = bench.step(Event::Disconnected { session: 1, end });
    assert_eq!(
        effects.last(),
        Some(&Effect::Exit { code: 1, reason: "another identity holds star-1".to_owned() })
    );
    assert_eq!(bench.core.next_deadline(), None);
    assert!(bench.hear(1, welcome(&[])).is_empty());
}

#[test]
fn heartbeats_go_out_at_once_and_then_at_the_interval() {
    let mut bench = Bench::new();
    bench.hear(1, welcome(&[]));
    assert_eq!(heartbeats(&bench.wait()).len(), 1);
    assert_eq!(bench.at_ms, 0);
    for second in 1..5 {
        let effects = bench.wait();
        assert_eq!(bench.at_ms, second * 1000);
        assert_eq!(heartbeats(&effects).len(), 1);
        assert!(effects.contains(&Effect::SampleHealth));
    }
}

#[test]
fn the_first_sample_is_sent_at_once_and_later_ones_with_the_next_heartbeat() {
    let mut bench = Bench::welcomed();
    let root_space = vec![RootSpace { path: b"/data".to_vec(), available_bytes: 7 }];
    let sample = HealthSample::default();
    let sampled = Sampled {
        sample,
        advisories: Vec::new(),
        root_space: root_space.clone(),
        vault_bytes: Some(8),
        vault_sample: Some(HealthSample { disk_available_bytes: 9, ..HealthSample::default() }),
        notices: Vec::new(),
    };
    let effects = bench.step(Event::HealthSampled(sampled.clone()));
    assert_eq!(heartbeats(&effects)[0].root_space, root_space);
    assert!(bench.step(Event::HealthSampled(sampled)).is_empty());
}

#[test]
fn a_heartbeat_carries_the_last_sample_and_the_progress_of_what_is_held() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 1));
    let sample = HealthSample { disk_total_bytes: 9, ..HealthSample::default() };
    let root_space = vec![RootSpace { path: b"/data".to_vec(), available_bytes: 7 }];
    let sampled = Sampled {
        sample,
        advisories: Vec::new(),
        root_space: root_space.clone(),
        vault_bytes: Some(8),
        vault_sample: Some(HealthSample { disk_available_bytes: 9, ..HealthSample::default() }),
        notices: Vec::new(),
    };
    bench.step(Event::HealthSampled(sampled));
    bench.at_ms += 1000;
    let progress = BTreeMap::from([(AssignmentId(5), 42), (AssignmentId(6), 1)]);
    let effects = bench.step(Event::DeadlineReached(Vitals { served_pulls: 3, progress }));
    let heartbeat = heartbeats(&effects)[0];
    assert_eq!(heartbeat.sample, Some(sample));
    assert_eq!((&heartbeat.root_space, heartbeat.vault_bytes), (&root_space, Some(8)));
    assert_eq!(heartbeat.vault_sample.map(|disk| disk.disk_available_bytes), Some(9));
    assert_eq!(heartbeat.progress, [(AssignmentId(5), 42)]);
    assert_eq!((heartbeat.active_tasks, heartbeat.served_pulls), (1, 3));
}

#[test]
fn a_welcome_drops_what_it_does_not_keep() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.hear(1, assign(6, 2));
    bench.produce(5, 0..1);
    bench.lose(1);
    bench.wait();
    let effects = bench.hear(2, welcome(&[6]));
    assert!(effects.contains(&Effect::StopAssignment(AssignmentId(5))));
    assert!(reports(&effects).is_empty());
    assert_eq!(bench.held(), [6]);
}

#[test]
fn a_welcome_that_keeps_what_was_given_up_since_the_hello_is_answered_with_a_new_hello() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.lose(1);
    let effects = bench.wait();
    let [Effect::Connect { session: 2, hello, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(hello.held, [AssignmentId(5)]);
    // The coordinator hangs until the lease is over, then reads that hello.
    bench.at_ms = 9_000;
    while bench.held() == [5] {
        bench.wait();
    }
    let session = bench.core.link.session();
    let effects = match session {
        Some(session) => bench.hear(session, welcome(&[5])),
        None => {
            let effects = bench.wait();
            let Some(Effect::Connect { session, .. }) = effects.last() else { panic!("{effects:?}") };
            let session = *session;
            bench.hear(session, welcome(&[5]))
        }
    };
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Disconnect { .. })), "{effects:?}");
    let effects = bench.wait();
    let Some(Effect::Connect { hello, .. }) = effects.last() else { panic!("{effects:?}") };
    assert!(hello.held.is_empty(), "the new hello says that nothing is held");
}

#[test]
fn a_superseded_star_tries_again_and_leaves_if_that_happens_again_soon() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    let superseded = |bench: &mut Bench, session| {
        bench.step(Event::Disconnected { session, end: SessionEnd::Superseded("taken over".to_owned()) })
    };
    let effects = superseded(&mut bench, 1);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Exit { .. })), "{effects:?}");
    let effects = bench.wait();
    let Some(Effect::Connect { session, hello, .. }) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(hello.held, [AssignmentId(5)], "its work goes on");
    let session = *session;
    bench.hear(session, welcome(&[5]));
    bench.at_ms += 9_000;
    let effects = superseded(&mut bench, session);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Exit { code: 1, .. })), "{effects:?}");
}

#[test]
fn a_star_that_is_superseded_now_and_then_stays() {
    let mut bench = Bench::working();
    let mut session = 1;
    for _ in 0..5 {
        let end = SessionEnd::Superseded("a hello was long under way".to_owned());
        let effects = bench.step(Event::Disconnected { session, end });
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Exit { .. })), "{effects:?}");
        bench.wait();
        session += 1;
        bench.hear(session, welcome(&[]));
        bench.at_ms += 10_000;
    }
}

#[test]
fn messages_of_an_old_session_are_ignored() {
    let mut bench = Bench::working();
    bench.lose(1);
    bench.wait();
    assert!(bench.hear(1, assign(5, 1)).is_empty());
    assert!(bench.lose(1).is_empty());
    assert!(bench.hear(2, welcome(&[])).iter().all(|effect| matches!(effect, Effect::Log { .. })));
}

#[test]
fn a_message_before_the_welcome_or_a_second_welcome_breaks_the_session() {
    let mut bench = Bench::new();
    assert!(bench.hear(1, acknowledge(1)).contains(&Effect::Disconnect { session: 1 }));
    let mut bench = Bench::working();
    assert!(bench.hear(1, welcome(&[])).contains(&Effect::Disconnect { session: 1 }));
}

#[test]
fn new_keys_are_passed_on() {
    let mut bench = Bench::welcomed();
    let keys = Keys { public: vec![vec![1]], ..Keys::default() };
    let effects = bench.hear(1, CoordinatorMessage::VerificationKeys(keys.clone()));
    assert_eq!(effects, [Effect::UpdateKeys(keys)]);
}

#[test]
fn a_hello_lists_work_begun_before_and_the_grid_of_the_star() {
    let mut bench = Bench::new();
    let grid = Uuid::from_u128(5);
    let hello = |effects: Vec<Effect>| {
        let connects = effects.into_iter().find_map(|effect| match effect {
            Effect::Connect { hello, .. } => Some(*hello),
            _ => None,
        });
        connects.expect("it connects")
    };
    let CoordinatorMessage::Welcome { epoch, heartbeat_interval, lease, kept, .. } = welcome(&[]) else {
        panic!("a welcome")
    };
    let welcome = CoordinatorMessage::Welcome { epoch, heartbeat_interval, lease, kept, grid: Some(grid) };
    let effects = bench.hear(1, welcome.clone());
    assert!(effects.contains(&Effect::KeepGrid(grid)), "{effects:?}");
    bench.lose(1);
    let said = hello(bench.wait());
    assert_eq!((said.grid, said.begun), (Some(grid), Some(vec![AssignmentId(9)])));
    let effects = bench.hear(2, welcome);
    assert!(!effects.contains(&Effect::KeepGrid(grid)), "it is written down once: {effects:?}");
}
