//! The view of a turn for a part that needs other parts: what it may read of them, and which calls it may send.

use std::ops::{Deref, DerefMut};

use super::CoreConfig;
use super::calls::Asks;
use super::change::Counters;
use super::letters::Letters;
use super::stars::Stars;
use super::turn::Turn;

/// See the module.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    /// Where its results go.
    pub(super) turn: &'a mut Turn,
    /// How the core behaves.
    pub(super) config: &'a CoreConfig,
    /// The next numbers.
    pub(super) counters: &'a mut Counters,
    /// The Stars, to be read.
    pub(super) stars: &'a Stars,
    /// Questions to Stars.
    pub(super) asks: &'a mut Asks,
    /// Where items go that are given up.
    pub(super) letters: &'a mut Letters,
}

impl Deref for Seen<'_> {
    type Target = Turn;

    fn deref(&self) -> &Turn {
        self.turn
    }
}

impl DerefMut for Seen<'_> {
    fn deref_mut(&mut self) -> &mut Turn {
        self.turn
    }
}
