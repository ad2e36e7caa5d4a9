//! The network between Stars and the coordinator: each session is a link of two lanes that preserve order. A lane can
//! be slow, held back, or cut; what is in flight is lost then.
//!
//! Links are independent, so messages of a stale one can arrive after a newer one has opened.

use std::collections::{BTreeMap, VecDeque};

use orbit_coordinator::core::{CloseReason, SessionId};
use orbit_shared::session::{CoordinatorMessage, StarMessage};

/// The id of a link.
pub type LinkId = u64;

/// A message or end from the Star.
#[derive(Debug, Clone)]
pub enum Up {
    /// A message.
    Message(Box<StarMessage>),
    /// The end of the stream.
    End,
}

/// A message or end from the coordinator.
#[derive(Debug, Clone)]
pub enum Down {
    /// A message.
    Message(Box<CoordinatorMessage>),
    /// The end of the stream, with a reason.
    Close(CloseReason),
    /// The end of the stream.
    End,
}

/// One direction of a link: messages in flight, with their times of arrival.
#[derive(Debug)]
pub struct Lane<T> {
    queue: VecDeque<(u64, T)>,
    last_due_ms: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), last_due_ms: 0 }
    }
}

impl<T> Lane<T> {
    /// Sends a message. Returns when it arrives: never before an earlier one.
    pub fn send(&mut self, at_ms: u64, delay_ms: u64, what: T) -> u64 {
        let due_ms = (at_ms + delay_ms).max(self.last_due_ms);
        self.last_due_ms = due_ms;
        self.queue.push_back((due_ms, what));
        due_ms
    }

    /// Takes the messages that have arrived by now, one at a time.
    pub fn take_due(&mut self, now_ms: u64) -> Option<T> {
        let is_due = self.queue.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms);
        if is_due { self.queue.pop_front().map(|(_, what)| what) } else { None }
    }

    /// Loses all but the first few messages.
    pub fn lose_after(&mut self, kept: usize) {
        self.queue.truncate(kept);
    }

    /// Number of messages in flight.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The message sent last, which must not have arrived.
    pub fn last(&self) -> Option<&T> {
        self.queue.back().map(|(_, what)| what)
    }
}

/// One session, from both ends.
#[derive(Debug)]
pub struct Link {
    /// The Star.
    pub star: usize,
    /// The Star's process.
    pub process: u32,
    /// The Star's number for it.
    pub number: u64,
    /// The coordinator's process.
    pub generation: u32,
    /// The coordinator's number for it, once the hello has arrived.
    pub session: Option<SessionId>,
    /// Messages from the Star.
    pub up: Lane<Up>,
    /// Messages from the coordinator.
    pub down: Lane<Down>,
    /// Whether the Star still listens.
    pub is_star_end_open: bool,
    /// Whether the coordinator still listens.
    pub is_coordinator_end_open: bool,
}

/// All links that are not closed at both ends, and the directions that are held back.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    next: LinkId,
    /// Stars whose upward lane is held back.
    pub is_up_held: Vec<bool>,
    /// Stars whose downward lane is held back.
    pub is_down_held: Vec<bool>,
    /// Pairs of Stars that cannot reach each other, lower index first.
    pub is_data_cut: BTreeMap<(usize, usize), bool>,
}

impl Network {
    /// A network of this many Stars.
    pub fn new(star_count: usize) -> Self {
        Self { is_up_held: vec![false; star_count], is_down_held: vec![false; star_count], ..Self::default() }
    }

    /// Opens a link.
    pub fn open(&mut self, star: usize, process: u32, number: u64, generation: u32) -> LinkId {
        self.next += 1;
        let link = Link {
            star,
            process,
            number,
            generation,
            session: None,
            up: Lane::default(),
            down: Lane::default(),
            is_star_end_open: true,
            is_coordinator_end_open: true,
        };
        self.links.insert(self.next, link);
        self.next
    }

    /// A link.
    pub fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// The links of a Star.
    pub fn links_of(&self, star: usize) -> Vec<LinkId> {
        self.links.iter().filter(|(_, link)| link.star == star).map(|(&id, _)| id).collect()
    }

    /// Every link.
    pub fn all(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    /// The link of a session.
    pub fn link_of_session(&self, generation: u32, session: SessionId) -> Option<LinkId> {
        let is_it = |link: &Link| link.generation == generation && link.session == Some(session);
        self.links.iter().find(|(_, link)| is_it(link)).map(|(&id, _)| id)
    }

    /// Forgets a link if both ends are closed.
    pub fn forget_closed(&mut self, id: LinkId) {
        if self.links.get(&id).is_some_and(|link| !link.is_star_end_open && !link.is_coordinator_end_open) {
            self.links.remove(&id);
        }
    }

    /// Whether two Stars can reach each other.
    pub fn is_connected(&self, one: usize, other: usize) -> bool {
        let pair = (one.min(other), one.max(other));
        !self.is_data_cut.get(&pair).copied().unwrap_or(false)
    }
}
