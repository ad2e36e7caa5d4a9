//! Objects and bytes in one word, so that one atomic operation reads or changes both.
//!
//! A word is count * 2^40 + bytes, modulo 2^64. Adding words adds both parts. The arithmetic is modular, so an addition
//! and the matching subtraction cancel out in any order.

const BYTES_BITS: u32 = 40;

/// Maximum number of objects in a word.
pub(super) const COUNT_MAX: u64 = (1 << (u64::BITS - BYTES_BITS)) - 1;
/// Maximum number of bytes in a word.
pub(super) const BYTES_MAX: u64 = (1 << BYTES_BITS) - 1;

/// A number of objects and a number of bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Load {
    /// The load, reduced to the maximum of a word.
    pub(super) fn capped(count: u64, bytes: u64) -> Self {
        Self { count: count.min(COUNT_MAX), bytes: bytes.min(BYTES_MAX) }
    }

    /// The word of a load that does not exceed the maximum.
    pub(super) fn to_word(self) -> u64 {
        debug_assert!(self.count <= COUNT_MAX && self.bytes <= BYTES_MAX, "{self:?} does not fit");
        (self.count << BYTES_BITS) | self.bytes
    }

    /// The load in a word neither part of which was ever below zero.
    pub(super) fn from_word(word: u64) -> Self {
        Self { count: word >> BYTES_BITS, bytes: word & BYTES_MAX }
    }

    /// The load in a word whose parts may be below zero. A part below zero counts as zero.
    pub(super) fn from_signed_word(word: u64) -> Self {
        let shift = u64::BITS - BYTES_BITS;
        let bytes = (word << shift).cast_signed() >> shift;
        let count = word.wrapping_sub(bytes.cast_unsigned()).cast_signed() >> BYTES_BITS;
        Self { count: u64::try_from(count).unwrap_or(0), bytes: u64::try_from(bytes).unwrap_or(0) }
    }

    /// The amount to add to or subtract from a signed word. It need not fit: modulo 2^64 it cancels out.
    pub(super) fn to_delta(count: u64, bytes: u64) -> u64 {
        (count << BYTES_BITS).wrapping_add(bytes)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// The rest without `part`; `None` if that is more than there is.
    pub(super) fn minus(self, part: Self) -> Option<Self> {
        Some(Self { count: self.count.checked_sub(part.count)?, bytes: self.bytes.checked_sub(part.bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signed_word_keeps_debts_of_either_part_apart() {
        let word = Load::to_delta(3, 0).wrapping_sub(Load::to_delta(0, 5));
        assert_eq!(Load::from_signed_word(word), Load { count: 3, bytes: 0 });
        let word = Load::to_delta(0, 7).wrapping_sub(Load::to_delta(4, 0));
        assert_eq!(Load::from_signed_word(word), Load { count: 0, bytes: 7 });
    }

    proptest! {
        #[test]
        fn a_load_survives_its_word(count in 0..=COUNT_MAX, bytes in 0..=BYTES_MAX) {
            let load = Load { count, bytes };
            prop_assert_eq!(Load::from_word(load.to_word()), load);
        }

        #[test]
        fn words_add_like_the_loads_in_them(counts in (0_u64..1 << 22, 0_u64..1 << 22), bytes in (0_u64..1 << 38, 0_u64..1 << 38)) {
            let word = Load::to_delta(counts.0, bytes.0).wrapping_sub(Load::to_delta(counts.1, bytes.1));
            let expected = Load { count: counts.0.saturating_sub(counts.1), bytes: bytes.0.saturating_sub(bytes.1) };
            prop_assert_eq!(Load::from_signed_word(word), expected);
        }

        #[test]
        fn whatever_is_added_and_taken_away_leaves_nothing(deltas in prop::collection::vec(any::<(u64, u64)>(), 0..20)) {
            let added = deltas.iter().fold(0_u64, |word, &(n, b)| word.wrapping_sub(Load::to_delta(n, b)));
            let word = deltas.iter().rev().fold(added, |word, &(n, b)| word.wrapping_add(Load::to_delta(n, b)));
            prop_assert_eq!(word, 0);
        }
    }
}
