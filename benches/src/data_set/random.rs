//! The material of data sets: sizes, incompressible bytes, and text that looks like source code.

use rand_distr::{Distribution as _, LogNormal};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// Number of words in the vocabulary of texts.
const WORDS: usize = 4000;

/// PCG, the same sequence on every machine.
pub(super) struct Random(Pcg64Mcg);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Below `end`, or 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    /// At least 0 and below 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let distribution = LogNormal::new(median.ln(), sigma).expect("sigma is finite");
        distribution.sample(&mut self.0)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Lines that look like source code: words of a small vocabulary, some of them frequent.
    pub(super) fn text(&mut self, count: usize) -> Vec<u8> {
        let words: Vec<String> = (0..WORDS)
            .map(|_| (0..2 + self.below(10)).map(|_| char::from(b'a' + self.below(26) as u8)).collect())
            .collect();
        let mut text = Vec::with_capacity(count + 128);
        while text.len() < count {
            text.resize(text.len() + 4 * self.below(5), b' ');
            for _ in 0..=self.below(9) {
                // Squared, so that the first words are the frequent ones.
                let place = self.unit() * self.unit();
                text.extend_from_slice(words[(place * WORDS as f64) as usize].as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice([&b";\n"[..], b" {\n", b"}\n", b",\n"][self.below(4)]);
        }
        text.truncate(count);
        text
    }
}
