//! Sessions in progress: sending, delivery, breaks, delays. What is in flight when a link breaks can still arrive in
//! part, in order; what is sent after the break never does.

use orbit_coordinator::core::CloseReason;
use orbit_shared::session::StarMessage;
use orbit_star::core::{Event as StarEvent, SessionEnd};

use super::World;
use super::agenda::Happening;
use super::network::{Down, LinkId, Up};

/// Time after which both ends give up a silent link: the keepalive of the transport.
const KEEPALIVE_MS: u64 = 20_000;

impl World {
    /// The delay of a message that is sent now.
    pub(super) fn delay_ms(&mut self) -> u64 {
        let is_slow = !self.is_healing && self.chance.percent(3);
        let usual = self.chance.between(0, self.scenario.delay_max_ms);
        if is_slow { usual + self.chance.between(0, 3_000) } else { usual }
    }

    /// A Star sends a message on its link.
    pub(super) fn send_up(&mut self, id: LinkId, message: &StarMessage) {
        let delay_ms = self.delay_ms();
        let is_repeated = self.scenario.troubles.repeats
            && matches!(message, StarMessage::Report(_))
            && self.chance.percent(10);
        let now_ms = self.now_ms;
        let Some(link) = self.network.link(id) else { return };
        for _ in 0..=usize::from(is_repeated) {
            let due_ms = link.up.send(now_ms, delay_ms, Up::Message(Box::new(message.clone())));
            self.agenda.add(due_ms, Happening::Delivery { link: id, is_up: true });
        }
    }

    /// Delivers the due messages of a link.
    pub(super) fn deliver(&mut self, id: LinkId, is_up: bool) {
        let Some(star) = self.network.link(id).map(|link| link.star) else { return };
        let is_held = if is_up { self.network.is_up_held[star] } else { self.network.is_down_held[star] };
        if is_held {
            return;
        }
        if is_up {
            while let Some(up) = self.network.link(id).and_then(|link| link.up.take_due(self.now_ms)) {
                self.hear_star(id, up);
            }
        } else {
            while let Some(down) = self.network.link(id).and_then(|link| link.down.take_due(self.now_ms)) {
                self.hear_coordinator(id, down);
            }
        }
    }

    /// Messages from the coordinator have arrived on a link.
    fn hear_coordinator(&mut self, id: LinkId, down: Down) {
        let Some(link) = self.network.link(id) else { return };
        if !link.is_star_end_open {
            return;
        }
        let (star, process, session) = (link.star, link.process, link.number);
        let event = match down {
            Down::Message(message) => StarEvent::FromCoordinator { session, message: *message },
            Down::Close(reason) => StarEvent::Disconnected { session, end: end_of(&reason) },
            Down::End => {
                StarEvent::Disconnected { session, end: SessionEnd::Lost("the stream ended".to_owned()) }
            }
        };
        if matches!(event, StarEvent::Disconnected { .. }) {
            link.is_star_end_open = false;
            self.end_up_later(id);
        }
        self.post_to_star(star, process, event);
    }

    /// Breaks a link. `by_star` and `by_coordinator` name the ends that are gone themselves and get no notice.
    pub(super) fn cut_link(&mut self, id: LinkId, by_star: bool, by_coordinator: bool) {
        let now_ms = self.now_ms;
        let is_half_open = !self.is_healing && self.chance.percent(20);
        let late_ms =
            if is_half_open { self.chance.between(1_000, KEEPALIVE_MS) } else { self.chance.between(0, 50) };
        let (up_kept, down_kept) = (self.chance.draw(), self.chance.draw());
        let Some(link) = self.network.link(id) else { return };
        if by_star {
            link.is_star_end_open = false;
        }
        if by_coordinator {
            link.is_coordinator_end_open = false;
        }
        if link.is_coordinator_end_open && !matches!(link.up.last(), Some(Up::End)) {
            let kept = up_kept % (link.up.len() as u64 + 1);
            link.up.lose_after(kept as usize);
            let due_ms = link.up.send(now_ms, late_ms, Up::End);
            self.agenda.add(due_ms, Happening::Delivery { link: id, is_up: true });
        }
        if link.is_star_end_open && !matches!(link.down.last(), Some(Down::End | Down::Close(_))) {
            let kept = down_kept % (link.down.len() as u64 + 1);
            link.down.lose_after(kept as usize);
            let due_ms = link.down.send(now_ms, late_ms, Down::End);
            self.agenda.add(due_ms, Happening::Delivery { link: id, is_up: false });
        }
        self.network.forget_closed(id);
    }

    /// The upward lane ends in order, after all messages.
    pub(super) fn end_up_later(&mut self, id: LinkId) {
        let delay_ms = self.chance.between(0, 50);
        let now_ms = self.now_ms;
        let Some(link) = self.network.link(id) else { return };
        if !link.is_coordinator_end_open || matches!(link.up.last(), Some(Up::End)) {
            return;
        }
        let due_ms = link.up.send(now_ms, delay_ms, Up::End);
        self.agenda.add(due_ms, Happening::Delivery { link: id, is_up: true });
    }

    /// Holds back one direction of a Star's sessions. If that lasts, both ends give them up.
    pub(super) fn hold_session(&mut self, star: usize, is_up: bool) {
        let held = if is_up { &mut self.network.is_up_held } else { &mut self.network.is_down_held };
        held[star] = true;
        for link in self.network.links_of(star) {
            self.agenda.add(self.now_ms + KEEPALIVE_MS, Happening::KeepaliveEnded { link });
        }
    }

    /// Stops holding it back.
    pub(super) fn release_session(&mut self, star: usize, is_up: bool) {
        let held = if is_up { &mut self.network.is_up_held } else { &mut self.network.is_down_held };
        held[star] = false;
        for link in self.network.links_of(star) {
            // Each connection notices separately that it works again.
            let at_ms = self.now_ms + self.chance.between(0, 100);
            self.agenda.add(at_ms, Happening::Delivery { link, is_up });
        }
    }

    /// The transport finds that a link is silent.
    pub(super) fn keepalive_ended(&mut self, id: LinkId) {
        let Some(star) = self.network.link(id).map(|link| link.star) else { return };
        if self.network.is_up_held[star] || self.network.is_down_held[star] || self.stars[star].is_frozen {
            self.note(format_args!("link {id} is silent and given up"));
            let Some(link) = self.network.link(id) else { return };
            let (process, session) = (link.process, link.number);
            link.is_star_end_open = false;
            let known = link.session.filter(|_| link.is_coordinator_end_open);
            link.is_coordinator_end_open = false;
            let end = SessionEnd::Lost("keepalive timed out".to_owned());
            self.post_to_star(star, process, StarEvent::Disconnected { session, end });
            if let Some(session) = known {
                let event = orbit_coordinator::core::Event::SessionClosed { session };
                self.request(super::coordinator::Request::Event(event));
            }
            self.network.forget_closed(id);
        }
    }
}

/// A Star's interpretation of the status for a reason (`closed` and `judge` in the gRPC modules).
fn end_of(reason: &CloseReason) -> SessionEnd {
    let text = reason.to_string();
    match reason {
        CloseReason::Superseded { .. } => SessionEnd::Superseded(text),
        CloseReason::NameTaken { .. } | CloseReason::ProtocolViolated { .. } => SessionEnd::Refused(text),
        CloseReason::TooManyStars { .. }
        | CloseReason::Removed { .. }
        | CloseReason::OtherGrid { .. }
        | CloseReason::StoreLost { .. } => SessionEnd::Lost(text),
    }
}
