//! A leaf in its stored form. Reading one path of hundreds is far more frequent than reading all, so an entry is
//! decoded when it is needed.

use crate::packed::codec::{Decoder, EntryView};
use crate::packed::types::TreeEntry;

/// Entries in order of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::packed) struct Leaf {
    bytes: Vec<u8>,
    /// Offset of each entry.
    starts: Vec<u32>,
}

impl Leaf {
    /// Makes a leaf with entries that begin after the first `header` bytes and fill the rest. Checks every entry.
    pub(super) fn decode(bytes: Vec<u8>, header: usize, count: u32) -> Option<Self> {
        let mut decoder = Decoder(bytes.get(header..)?);
        let mut starts = Vec::with_capacity(count as usize);
        for _ in 0..count {
            starts.push(u32::try_from(bytes.len() - decoder.0.len()).ok()?);
            decoder.entry_view()?;
        }
        decoder.is_at_end().then_some(Self { bytes, starts })
    }

    /// Number of entries.
    pub(in crate::packed) fn len(&self) -> usize {
        self.starts.len()
    }

    /// An entry, and whether its chunks contain lists. The index must be valid.
    pub(in crate::packed) fn entry(&self, index: usize) -> (TreeEntry, bool) {
        self.decoder(index).entry().expect(IS_CHECKED)
    }

    /// All entries in their stored form.
    pub(super) fn views(&self) -> impl Iterator<Item = EntryView<'_>> {
        (0..self.len()).map(|index| self.decoder(index).entry_view().expect(IS_CHECKED))
    }

    /// Index of the first entry whose path is not before `from`.
    pub(super) fn first_from(&self, from: &[u8]) -> usize {
        self.starts.partition_point(|start| self.path_at(*start) < from)
    }

    /// Approximate memory use, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.starts.len() * size_of::<u32>()
    }

    fn decoder(&self, index: usize) -> Decoder<'_> {
        Decoder(&self.bytes[self.starts[index] as usize..])
    }

    fn path_at(&self, start: u32) -> &[u8] {
        Decoder(&self.bytes[start as usize..]).bytes().expect(IS_CHECKED)
    }
}

const IS_CHECKED: &str = "every entry was looked at when the leaf was made";

#[cfg(test)]
mod tests {
    use orbit_shared::chunk_hash::ChunkHash;
    use orbit_shared::entry::{Entry, EntryKind};
    use orbit_shared::time::WallTime;

    use super::*;
    use crate::packed::codec::Encoder;
    use crate::packed::types::ChunkRef;

    const HEADER: usize = 10;

    fn entry(path: &str, chunk_count: u32) -> TreeEntry {
        let chunk = |length: u32| ChunkRef { hash: ChunkHash::of(&length.to_le_bytes()), length };
        let path = path.as_bytes().to_vec();
        let kind = EntryKind::Symlink { target: path.clone() };
        let entry = Entry { path, kind, mode: 0o755, modified: WallTime::default(), rank: 1 };
        TreeEntry { entry, chunks: (0..chunk_count).map(chunk).collect() }
    }

    #[test]
    fn entries_are_found_one_by_one_and_a_truncated_leaf_is_refused() {
        let entries = [entry("a", 0), entry("b/c", 3), entry("d", 1)];
        let mut bytes = Encoder(vec![0; HEADER]);
        for (index, entry) in entries.iter().enumerate() {
            bytes.entry(&entry.entry, &entry.chunks, index == 1);
        }
        let leaf = Leaf::decode(bytes.0.clone(), HEADER, 3).unwrap();
        assert_eq!(leaf.len(), 3);
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(leaf.entry(index), (entry.clone(), index == 1));
        }
        let hashes: Vec<_> = leaf.views().flat_map(|view| view.hashes().collect::<Vec<_>>()).collect();
        let expected = entries.iter().flat_map(|entry| entry.chunks.iter().map(|chunk| chunk.hash));
        assert_eq!(hashes, expected.collect::<Vec<_>>());
        for (from, index) in [("", 0), ("a", 0), ("aa", 1), ("b/c", 1), ("c", 2), ("d", 2), ("e", 3)] {
            assert_eq!(leaf.first_from(from.as_bytes()), index, "{from}");
        }
        for length in 0..bytes.0.len() {
            assert_eq!(Leaf::decode(bytes.0[..length].to_vec(), HEADER, 3), None, "{length}");
        }
        assert_eq!(Leaf::decode(bytes.0.clone(), HEADER, 2), None);
        assert_eq!(Leaf::decode(bytes.0, HEADER, 4), None);
    }
}
