//! How closely an item is watched that was in the hands of an agent which died. What follows from it is in `poison.rs`.

use orbit_shared::session::limits::ASSIGNMENT_ITEMS_MAX;

/// Items of a small group.
const FEW: usize = 32;

/// How closely an item is watched. The more, the later it goes and the fewer go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspicion {
    /// Nothing is held against it.
    None,
    /// It was among many that an agent had in its hands when it died. It goes behind the others, as fast as they.
    Noted,
    /// It goes in one batch at a time for each Star.
    Group,
    /// It goes in one small batch at a time for each Star.
    Few,
    /// It goes alone.
    Alone,
}

impl Suspicion {
    /// Every degree of suspicion.
    pub(super) const ALL: [Self; 4] = [Self::Noted, Self::Group, Self::Few, Self::Alone];

    /// Maximum number of items in a batch.
    pub(super) fn items_max(self) -> usize {
        match self {
            Self::None | Self::Noted | Self::Group => ASSIGNMENT_ITEMS_MAX,
            Self::Few => FEW,
            Self::Alone => 1,
        }
    }

    /// The suspicion of an item after a death with `count` suspects.
    pub(super) fn after(self, count: usize) -> Self {
        let narrowed = match count {
            0..=FEW => Self::Alone,
            count if count <= ASSIGNMENT_ITEMS_MAX => Self::Few,
            _ if self == Self::None => Self::Noted,
            _ => Self::Group,
        };
        match self {
            Self::None | Self::Noted => narrowed.max(self),
            // The groups of several Stars may have been there at once: they become smaller all the same.
            Self::Group => narrowed.max(Self::Few),
            Self::Few | Self::Alone => Self::Alone,
        }
    }
}
