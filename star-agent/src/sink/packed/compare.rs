//! Finds which chunks of a source are missing in the vault, for many files at once.

use std::sync::Arc;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::session::Failure;

use super::{Work, at_vault};
use crate::transfer::{Chunk, Range};

/// The chunks of one part of a file, as the source named them.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) file: usize,
    pub(super) chunks: Vec<(u64, Chunk)>,
}

/// The result for one part.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) file: usize,
    /// Chunks that are stored.
    pub(super) known: Vec<(u64, Chunk)>,
    /// The ranges of the others; adjacent ones are merged.
    pub(super) missing: Vec<Range>,
}

/// Asks the store. Blocks.
pub(super) fn compare(work: &Arc<Work>, named: Vec<Named>) -> Result<Vec<Compared>, (Failure, Vec<usize>)> {
    let all = named.iter().flat_map(|part| &part.chunks);
    let hashes: Vec<ChunkHash> = all.map(|(_, chunk)| ChunkHash(chunk.hash)).collect();
    let found = work
        .store
        .contains(work.stage, &hashes)
        .map_err(|error| (at_vault(&error, b""), named.iter().map(|part| part.file).collect::<Vec<_>>()))?;
    let mut found = found.into_iter();
    Ok(named.into_iter().map(|part| split(part, &mut found)).collect())
}

fn split(part: Named, found: &mut impl Iterator<Item = bool>) -> Compared {
    let mut compared = Compared { file: part.file, known: Vec::new(), missing: Vec::<Range>::new() };
    for (offset, chunk) in part.chunks {
        let length = u64::from(chunk.length);
        if found.next().unwrap_or(false) {
            compared.known.push((offset, chunk));
        } else if let Some(last) =
            compared.missing.last_mut().filter(|last| last.offset + last.length == offset)
        {
            last.length += length;
        } else {
            compared.missing.push(Range { offset, length });
        }
    }
    compared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_missing_chunks_become_one_range() {
        let chunk = Chunk { hash: [0; 32], length: 10 };
        let chunks = (0..5).map(|index| (index * 10, chunk)).collect();
        let mut found = [false, false, true, false, false].into_iter();
        let compared = split(Named { file: 3, chunks }, &mut found);
        assert_eq!(compared.known, [(20, chunk)]);
        let range = |offset| Range { offset, length: 20 };
        assert_eq!((compared.file, compared.missing), (3, vec![range(0), range(30)]));
    }
}
