//! Pseudorandom numbers from a seed: the same seed makes the same tree and the same choices.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// Environment variable with a seed, which replays the choices of the run that printed it.
const SEED_VARIABLE: &str = "SEED";

/// PCG: the same sequence on every machine, and random enough for incompressible content.
#[derive(Debug, Clone)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// The sequence of `SEED`, or of a seed that no other run had. Prints the seed, so that a failure can be replayed.
    pub fn announced(what: &str) -> Self {
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(text) => text.parse().expect("SEED is a number"),
            Err(_) => RandomState::new().build_hasher().finish() % 1_000_000,
        };
        // Captured, and so shown only if the test fails.
        #[expect(clippy::print_stderr, reason = "a failed test must tell its seed")]
        {
            eprintln!("{what}: replay with SEED={seed}");
        }
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// This many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.number().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}
