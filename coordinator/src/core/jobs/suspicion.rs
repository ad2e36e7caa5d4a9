//! How closely an item is watched that was in the hands of an agent which died. What follows from it is in `poison.rs`.
//!
//! The groups in which suspects travel become a quarter as large with each death. So a death makes at most four small batches
//! of one, and what is left after many deaths of innocents is done in a few round trips, while a killer among thousands
//! of items is alone after seven deaths.

use orbit_shared::session::limits::ASSIGNMENT_ITEMS_MAX;

/// How closely an item is watched. The more, the later it goes and the fewer go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Suspicion {
    /// Nothing is held against it.
    None,
    /// It was among many that an agent had in its hands when it died. It goes behind the others, as fast as they.
    Noted,
    /// It goes in one batch of the usual size at a time for each Star.
    Group,
    /// It goes in one batch of at most 256 items at a time for each Star.
    Of256,
    /// The same, of at most 64 items.
    Of64,
    /// The same, of at most 16 items.
    Of16,
    /// The same, of at most 4 items.
    Of4,
    /// It goes alone.
    Alone,
}

impl Suspicion {
    /// Every degree of suspicion.
    pub(super) const ALL: [Self; 7] =
        [Self::Noted, Self::Group, Self::Of256, Self::Of64, Self::Of16, Self::Of4, Self::Alone];

    /// Maximum number of items in a batch.
    pub(super) fn items_max(self) -> usize {
        match self {
            Self::None | Self::Noted | Self::Group => ASSIGNMENT_ITEMS_MAX,
            Self::Of256 => 256,
            Self::Of64 => 64,
            Self::Of16 => 16,
            Self::Of4 => 4,
            Self::Alone => 1,
        }
    }

    /// The suspicion of an item after a death with `count` suspects: up to those of one batch go on in groups of at most a
    /// quarter of that.
    pub(super) fn after(self, count: usize) -> Self {
        let narrowed = match count {
            0..=4 => Self::Alone,
            5..=16 => Self::Of4,
            17..=64 => Self::Of16,
            65..=256 => Self::Of64,
            257..=ASSIGNMENT_ITEMS_MAX => Self::Of256,
            _ if self == Self::None => Self::Noted,
            _ => Self::Group,
        };
        // Groups of several Stars may have been there at once: they become smaller all the same.
        narrowed.max(self.narrower())
    }

    /// The suspicion of an item that was under this one at a death.
    fn narrower(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Noted => Self::Noted,
            Self::Group => Self::Of256,
            Self::Of256 => Self::Of64,
            Self::Of64 => Self::Of16,
            Self::Of16 => Self::Of4,
            Self::Of4 | Self::Alone => Self::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_death_makes_a_group_a_quarter_as_large_until_an_item_is_alone() {
        for count in [1, 2, 5, 100, 1024, 100_000] {
            let (mut suspicion, mut in_hand, mut deaths) = (Suspicion::None, count, 0);
            while suspicion != Suspicion::Alone {
                let next = suspicion.after(in_hand);
                assert!(next > suspicion, "{count}: {suspicion:?}");
                suspicion = next;
                in_hand = in_hand.min(suspicion.items_max());
                deaths += 1;
            }
            assert!(deaths <= 7, "{count}: {deaths}");
        }
        assert_eq!(Suspicion::Of16.after(16), Suspicion::Of4);
        assert_eq!(Suspicion::Of64.after(3000), Suspicion::Of16, "others were there too");
    }
}
