//! Pseudorandom numbers from a seed: the same seed, the same tree, the same choices.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A seed in the environment replays the choices of the run that printed it.
const SEED_VARIABLE: &str = "SEED";

/// SplitMix64 by Sebastiano Vigna: enough to make content that nothing compresses.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The sequence of `SEED`, or of a seed that no other run had. Says which, so that a failure can be replayed.
    pub fn announced(what: &str) -> Self {
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(text) => text.parse().expect("SEED is a number"),
            Err(_) => RandomState::new().build_hasher().finish() % 1_000_000,
        };
        // Captured, and so shown only when the test fails.
        #[expect(clippy::print_stderr, reason = "a failed test must tell its seed")]
        {
            eprintln!("{what}: replay with SEED={seed}");
        }
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.number().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}
