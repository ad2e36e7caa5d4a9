//! Cuts content into chunks: FastCDC (2020) as in the `fastcdc` crate, with the sizes of [`limits`](crate::limits).
//!
//! Both ends of a pull agree on [`ALGORITHM`] and the sizes before any data is sent. Stars that cut differently would
//! never find common chunks.

use std::ops::Range;

use fastcdc::v2020::FastCDC;

use crate::limits::{CHUNK_AVERAGE_BYTES, CHUNK_MAX_BYTES, CHUNK_MIN_BYTES};
use crate::transfer::{Chunk, ChunkHash};

/// The name of the algorithm on the wire.
pub const ALGORITHM: &str = "fastcdc-2020";

/// The hash that names a chunk.
pub fn hash(content: &[u8]) -> ChunkHash {
    *blake3::hash(content).as_bytes()
}

/// The ranges of the chunks in `window`, from its start.
///
/// Unless `is_final`, a rest that could become longer with more content is not cut. So the cuts do not depend on the
/// windows in which the content is read.
pub fn cut(window: &[u8], is_final: bool) -> Vec<Range<usize>> {
    let chunker = FastCDC::new(window, CHUNK_MIN_BYTES, CHUNK_AVERAGE_BYTES, CHUNK_MAX_BYTES);
    let mut cuts = Vec::with_capacity(window.len() / CHUNK_AVERAGE_BYTES + 1);
    let mut start = 0;
    while start < window.len() && (is_final || window.len() - start >= CHUNK_MAX_BYTES) {
        let (_, end) = chunker.cut(start, window.len() - start);
        assert!(end > start && end - start <= CHUNK_MAX_BYTES, "chunk {start}..{end} of {}", window.len());
        cuts.push(start..end);
        start = end;
    }
    cuts
}

/// The ranges of pieces of the largest chunk size in `content`. This is for content that is identified by its hash
/// alone, for which cutting at content-defined places would have no benefit.
pub fn cut_anywhere(content: &[u8]) -> Vec<Range<usize>> {
    let starts = (0..content.len()).step_by(CHUNK_MAX_BYTES);
    starts.map(|start| start..content.len().min(start + CHUNK_MAX_BYTES)).collect()
}

/// The name and length of the chunk at `range` of `window`.
pub fn name(window: &[u8], range: &Range<usize>) -> Chunk {
    // A chunk is at most CHUNK_MAX_BYTES long, which fits 32 bits.
    Chunk { hash: hash(&window[range.clone()]), length: range.len() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random bytes that are the same in every run.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn cuts_do_not_depend_on_the_windows_that_content_is_read_in() {
        let content = noise(5_000_000, 1);
        let whole: Vec<usize> = cut(&content, true).into_iter().map(|range| range.end).collect();
        let mut ends = Vec::new();
        let mut start = 0;
        while start < content.len() {
            let stop = (start + 700_001).min(content.len());
            let cuts = cut(&content[start..stop], stop == content.len());
            ends.extend(cuts.iter().map(|range| start + range.end));
            start = *ends.last().unwrap();
        }
        assert_eq!(ends, whole);
    }

    #[test]
    fn chunks_keep_to_their_sizes_and_aim_at_the_average() {
        let content = noise(16 << 20, 2);
        let cuts = cut(&content, true);
        assert!(cuts[..cuts.len() - 1].iter().all(|range| range.len() >= CHUNK_MIN_BYTES));
        let average = content.len() / cuts.len();
        assert!((CHUNK_AVERAGE_BYTES / 2..CHUNK_AVERAGE_BYTES * 2).contains(&average), "{average}");
    }

    #[test]
    fn pieces_of_cut_anywhere_cover_the_content_and_have_the_largest_size() {
        assert!(cut_anywhere(b"").is_empty());
        let cuts = cut_anywhere(&noise(2 * CHUNK_MAX_BYTES + 1, 4));
        let max = CHUNK_MAX_BYTES;
        assert_eq!(cuts, [0..max, max..2 * max, 2 * max..2 * max + 1]);
    }

    #[test]
    fn content_below_the_minimum_is_one_chunk_and_empty_content_has_none() {
        assert_eq!(cut(b"abc", true), vec![0..3]);
        assert!(cut(b"", true).is_empty());
        assert!(cut(&noise(CHUNK_MAX_BYTES - 1, 3), false).is_empty());
    }

    /// The ends of the chunks of known content must be the same in every build. A build that cuts elsewhere finds none
    /// of the chunks that its vaults have, so a change of these numbers needs a new [`ALGORITHM`].
    #[test]
    fn the_cuts_of_known_content_never_move() {
        let ends = |content: &[u8]| -> Vec<usize> {
            cut(content, true).into_iter().map(|range| range.end).collect()
        };
        let text: Vec<u8> = (0..40_000_u32).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
        let noise_ends = [
            155_809, 224_692, 302_523, 471_066, 545_371, 614_088, 647_999, 754_452, 789_170, 823_013,
            913_934, 933_175, 952_754, 1_037_747, 1_048_576,
        ];
        assert_eq!(ends(&noise(1 << 20, 7)), noise_ends);
        assert_eq!(ends(&text), [107_116, 150_427, 188_729, 277_412, 362_436, 414_230, 428_890]);
        // Repetitive content has no content-defined cut, and is cut at the largest size.
        assert_eq!(ends(&[7; 600_000]), [262_144, 524_288, 600_000]);
    }
}
