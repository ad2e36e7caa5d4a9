//! The rows of the universe. Each ends with a CRC-32 of its key and value: the engine does not check every page that it
//! reads, and with a flipped bit in its count a needed chunk could be collected.

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{ContainerEntry, NO_CONTAINER};

use crate::packed::codec::{Decoder, Encoder};
use crate::packed::error::{PackedError, Result};

/// The number that stands for no container: the chunk is referenced and lost.
pub(in crate::packed) const NOWHERE: u32 = NO_CONTAINER;

/// Length of a chunk's row, in bytes.
pub(super) const ROW_BYTES: usize = 36;
/// Length of a node's row, in bytes.
pub(super) const NODE_BYTES: usize = 9;
/// Length of a container's row, in bytes.
pub(super) const CONTAINER_BYTES: usize = 29;

/// The place of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::packed) struct Location {
    pub(in crate::packed) container: u32,
    pub(in crate::packed) offset: u64,
    pub(in crate::packed) stored: u32,
    pub(in crate::packed) raw: u32,
}

impl Location {
    pub(in crate::packed) const NOWHERE: Self = Self { container: NOWHERE, offset: 0, stored: 0, raw: 0 };

    pub(in crate::packed) fn of(container: u32, entry: &ContainerEntry) -> Self {
        Self { container, offset: entry.offset, stored: entry.length, raw: entry.raw_length }
    }

    pub(in crate::packed) fn entry(&self, hash: &ChunkHash) -> ContainerEntry {
        ContainerEntry { hash: *hash, offset: self.offset, length: self.stored, raw_length: self.raw }
    }
}

/// The row of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::packed) struct Row {
    pub(in crate::packed) location: Location,
    /// Number of tree nodes and snapshots that hold it.
    pub(in crate::packed) references: u32,
    /// When it lost the last reference, in seconds since 1970; 0 if it is not marked.
    pub(in crate::packed) marked: u64,
}

impl Row {
    pub(in crate::packed) fn new(location: Location) -> Self {
        Self { location, references: 0, marked: 0 }
    }

    pub(super) fn encode(&self, hash: &ChunkHash) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..4].copy_from_slice(&self.location.container.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.location.offset.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.location.stored.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.location.raw.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.references.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.marked.to_le_bytes());
        sign(hash.as_bytes(), &mut bytes);
        bytes
    }

    pub(super) fn decode(hash: &ChunkHash, bytes: &[u8; ROW_BYTES]) -> Result<Self> {
        let decode = |bytes| {
            let mut fields = Decoder(bytes);
            let (container, offset) = (fields.u32()?, fields.u64()?);
            let location = Location { container, offset, stored: fields.u32()?, raw: fields.u32()? };
            Some(Self { location, references: fields.u32()?, marked: fields.u64()? })
        };
        checked(hash.as_bytes(), bytes).and_then(decode).ok_or_else(bad_row)
    }
}

/// The row of a chunk that is a tree node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::packed) struct NodeRow {
    /// Number of nodes and snapshots that hold it as a node.
    pub(in crate::packed) references: u32,
    /// Whether its children are counted.
    pub(in crate::packed) is_expanded: bool,
}

impl NodeRow {
    pub(super) fn encode(self, hash: &ChunkHash) -> [u8; NODE_BYTES] {
        let mut bytes = [0; NODE_BYTES];
        bytes[..4].copy_from_slice(&self.references.to_le_bytes());
        bytes[4] = u8::from(self.is_expanded);
        sign(hash.as_bytes(), &mut bytes);
        bytes
    }

    pub(super) fn decode(hash: &ChunkHash, bytes: &[u8; NODE_BYTES]) -> Result<Self> {
        let decode = |bytes| {
            let mut fields = Decoder(bytes);
            Some(Self { references: fields.u32()?, is_expanded: fields.u8()? == 1 })
        };
        checked(hash.as_bytes(), bytes).and_then(decode).ok_or_else(bad_row)
    }
}

/// The row of a container.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::packed) struct ContainerRow {
    /// Number of its entries, from the first on, that are in the universe.
    pub(in crate::packed) indexed: u32,
    /// Length of the file when it was found sealed and completely indexed; 0 before.
    pub(in crate::packed) sealed_bytes: u64,
    /// When all of it was last checked, in seconds since 1970; 0 if never.
    pub(in crate::packed) checked: u64,
    /// Number of entries that the current check has passed.
    pub(in crate::packed) cursor: u32,
    /// Whether it must be rewritten.
    pub(in crate::packed) is_damaged: bool,
}

impl ContainerRow {
    pub(super) fn encode(&self, number: u32) -> [u8; CONTAINER_BYTES] {
        let mut bytes = [0; CONTAINER_BYTES];
        bytes[..4].copy_from_slice(&self.indexed.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.sealed_bytes.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.checked.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.cursor.to_le_bytes());
        bytes[24] = u8::from(self.is_damaged);
        sign(&number.to_le_bytes(), &mut bytes);
        bytes
    }

    pub(super) fn decode(number: u32, bytes: &[u8; CONTAINER_BYTES]) -> Result<Self> {
        let decode = |bytes| {
            let mut fields = Decoder(bytes);
            Some(Self {
                indexed: fields.u32()?,
                sealed_bytes: fields.u64()?,
                checked: fields.u64()?,
                cursor: fields.u32()?,
                is_damaged: fields.u8()? == 1,
            })
        };
        checked(&number.to_le_bytes(), bytes).and_then(decode).ok_or_else(bad_row)
    }
}

/// What distinguishes the file of a container from another one with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::packed) struct ContainerIdentity {
    /// Its file name without `.orbitpak`.
    pub(in crate::packed) id: String,
    /// Checksum of the list of chunks, if it was found sealed.
    pub(in crate::packed) list: Option<[u8; 32]>,
    /// The last of its entries that was indexed: its ordinal and its chunk.
    pub(in crate::packed) anchor: Option<(u32, ChunkHash)>,
}

impl ContainerIdentity {
    pub(super) fn encode(&self, number: u32) -> Vec<u8> {
        let mut fields = Encoder::default();
        fields.u8(u8::from(self.list.is_some()));
        fields.0.extend(self.list.unwrap_or_default());
        fields.u8(u8::from(self.anchor.is_some()));
        let (ordinal, chunk) = self.anchor.unwrap_or((0, ChunkHash([0; 32])));
        fields.u32(ordinal);
        fields.0.extend(chunk.as_bytes());
        fields.bytes(self.id.as_bytes());
        let check = crc(&number.to_le_bytes(), &fields.0);
        fields.0.extend(check);
        fields.0
    }

    pub(super) fn decode(number: u32, bytes: &[u8]) -> Result<Self> {
        let decode = |bytes| {
            let mut fields = Decoder(bytes);
            let has_list = fields.u8()? == 1;
            let list = Some(fields.array()?).filter(|_| has_list);
            let has_anchor = fields.u8()? == 1;
            let anchor = Some((fields.u32()?, ChunkHash(fields.array()?))).filter(|_| has_anchor);
            let id = std::str::from_utf8(fields.bytes()?).ok()?.to_owned();
            fields.is_at_end().then_some(Self { id, list, anchor })
        };
        checked(&number.to_le_bytes(), bytes).and_then(decode).ok_or_else(bad_row)
    }
}

fn crc(key: &[u8], value: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// Writes the checksum of a row into its last four bytes.
fn sign(key: &[u8], bytes: &mut [u8]) {
    let at = bytes.len() - 4;
    let check = crc(key, &bytes[..at]);
    bytes[at..].copy_from_slice(&check);
}

/// The row without its checksum, if that is right.
fn checked<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (value, check) = bytes.split_last_chunk::<4>()?;
    (crc(key, value) == *check).then_some(value)
}

fn bad_row() -> PackedError {
    PackedError::bad_universe("a row is not as it was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_a_changed_bit_is_never_used() {
        let hash = ChunkHash::of(b"x");
        let location = Location { container: 7, offset: 16, stored: 5, raw: 9 };
        let row = Row { location, references: 3, marked: 11 };
        let bytes = row.encode(&hash);
        assert_eq!(Row::decode(&hash, &bytes).unwrap(), row);
        assert!(Row::decode(&ChunkHash::of(b"y"), &bytes).is_err());
        for bit in 0..ROW_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Row::decode(&hash, &changed).is_err(), "{bit}");
        }
        let node = NodeRow { references: 2, is_expanded: true };
        assert_eq!(NodeRow::decode(&hash, &node.encode(&hash)).unwrap(), node);
        let container = ContainerRow { indexed: 1, sealed_bytes: 2, checked: 3, cursor: 4, is_damaged: true };
        assert_eq!(ContainerRow::decode(9, &container.encode(9)).unwrap(), container);
        assert!(ContainerRow::decode(8, &container.encode(9)).is_err());
        for (list, anchor) in [(None, None), (Some([7; 32]), Some((5, hash)))] {
            let identity = ContainerIdentity { id: "0000000009-ab".to_owned(), list, anchor };
            let bytes = identity.encode(9);
            assert_eq!(ContainerIdentity::decode(9, &bytes).unwrap(), identity);
            assert!(ContainerIdentity::decode(8, &bytes).is_err());
            assert!(ContainerIdentity::decode(9, &bytes[1..]).is_err());
        }
    }
}
