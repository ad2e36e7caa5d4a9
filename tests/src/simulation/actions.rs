//! Execution of the coordinator's actions: sends, assigns, closes, answers, and waits for the next deadline.

use orbit_coordinator::core::limits::SESSION_OUTBOX_MAX;
use orbit_coordinator::core::{Action, QueueKey, SessionId};
use orbit_shared::session::{CoordinatorMessage, Keys};
use orbit_shared::words::JobId;

use super::World;
use super::agenda::Happening;
use super::network::Down;

/// A part of a queue that was requested.
pub(super) struct Window {
    pub(super) job: JobId,
    pub(super) destination: u32,
    pub(super) after: QueueKey,
    pub(super) limit: usize,
}

impl World {
    /// Executes actions. Returns the parts of queues that were requested.
    pub(super) fn act(&mut self, actions: Vec<Action>) -> Vec<Window> {
        let mut windows = Vec::new();
        for action in actions {
            match action {
                Action::Send { session, message } => {
                    let is_welcome = matches!(message, CoordinatorMessage::Welcome { .. });
                    self.tell(session, Down::Message(Box::new(message)));
                    if is_welcome {
                        let keys = CoordinatorMessage::VerificationKeys(Keys {
                            public: vec![vec![7]],
                            ..Keys::default()
                        });
                        self.tell(session, Down::Message(Box::new(keys)));
                    }
                }
                Action::Assign { session, assignment, .. } => {
                    self.check_told_once(&assignment);
                    self.tell(session, Down::Message(Box::new(CoordinatorMessage::Assign(assignment))));
                }
                Action::SignedCall { .. } => {
                    panic!("no vault of this world is damaged, and nothing is mirrored")
                }
                Action::Close { session, reason } => {
                    self.note(format_args!("session {} is closed: {reason}", session.0));
                    self.tell(session, Down::Close(reason));
                    let generation = self.coordinator.generation;
                    // Data that was read from it still arrives, and then its end.
                    if let Some(link) = self.network.link_of_session(generation, session) {
                        self.end_up_later(link);
                    }
                }
                Action::LoadWindow { job, destination, after, limit } => {
                    windows.push(Window { job, destination, after, limit });
                }
                // The log of this world keeps all events.
                Action::ForgetEvents { .. } => {}
                Action::Reply { reply, answer } => {
                    self.note(format_args!("answer {}: {answer:?}", reply.0));
                    self.operator.answered(reply, answer);
                }
                Action::ReplyPlan { reply, .. } | Action::ReplyVault { reply, .. } => {
                    panic!("no command here has a plan or a vault as its answer: {reply:?}");
                }
            }
        }
        windows
    }

    fn tell(&mut self, session: SessionId, down: Down) {
        let generation = self.coordinator.generation;
        let Some(id) = self.network.link_of_session(generation, session) else { return };
        let delay_ms = self.delay_ms();
        let now_ms = self.now_ms;
        let Some(link) = self.network.link(id) else { return };
        if !link.is_coordinator_end_open || !link.is_star_end_open {
            return;
        }
        if link.down.len() >= SESSION_OUTBOX_MAX {
            self.note(format_args!("session {} is cut off: it is not read", session.0));
            self.cut_link(id, false, false);
            return;
        }
        let due_ms = link.down.send(now_ms, delay_ms, down);
        self.agenda.add(due_ms, Happening::Delivery { link: id, is_up: false });
    }

    pub(super) fn arm_coordinator(&mut self) {
        let now = self.coordinator_now();
        let Some(turns) = &mut self.coordinator.turns else { return };
        let deadline = turns.next_deadline(now);
        if deadline == self.coordinator.deadline {
            return;
        }
        self.coordinator.deadline = deadline;
        self.coordinator.wish += 1;
        let Some(deadline) = deadline else { return };
        let in_ms = deadline.since(now.monotonic).as_nanos().div_ceil(1_000_000);
        let at_ms = self.now_ms + u64::try_from(in_ms).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
        let (generation, wish) = (self.coordinator.generation, self.coordinator.wish);
        self.agenda.add(at_ms, Happening::CoordinatorDeadline { generation, wish });
    }
}
