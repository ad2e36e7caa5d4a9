//! Encodes the store's own records: entries, tree nodes, snapshot records. Numbers are little-endian; a length (u32)
//! precedes every field of variable length. `docs/format.md` describes every byte.

use orbit_shared::chunk_hash::{CHUNK_HASH_BYTES, ChunkHash};
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::time::WallTime;

use super::types::{ChunkRef, TreeEntry};

/// Length of a chunk in an entry: its hash, and its length as u32.
const CHUNK_BYTES: usize = CHUNK_HASH_BYTES + 4;

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        // The lengths were checked before, against limits far below this.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn time(&mut self, time: WallTime) {
        self.0.extend_from_slice(&time.seconds.to_le_bytes());
        self.u32(time.nanos);
    }

    pub(super) fn chunk(&mut self, chunk: &ChunkRef) {
        self.0.extend_from_slice(chunk.hash.as_bytes());
        self.u32(chunk.length);
    }

    /// Writes an entry. `is_listed` says that its chunks contain lists of the content's chunks instead of the content
    /// itself.
    pub(super) fn entry(&mut self, entry: &Entry, chunks: &[ChunkRef], is_listed: bool) {
        self.bytes(&entry.path);
        match &entry.kind {
            EntryKind::File { size } => {
                self.u8(0);
                self.u64(*size);
            }
            EntryKind::Directory => self.u8(1),
            EntryKind::Symlink { target } => {
                self.u8(2);
                self.bytes(target);
            }
            EntryKind::Fifo => self.u8(3),
            EntryKind::Socket => self.u8(4),
            EntryKind::CharacterDevice => self.u8(5),
            EntryKind::BlockDevice => self.u8(6),
            EntryKind::Unreadable { errno } => {
                self.u8(7);
                self.0.extend_from_slice(&errno.to_le_bytes());
            }
        }
        self.u32(entry.mode);
        self.time(entry.modified);
        self.u8(entry.rank);
        self.u8(u8::from(is_listed));
        self.u32(u32::try_from(chunks.len()).unwrap_or(u32::MAX));
        for chunk in chunks {
            self.chunk(chunk);
        }
    }
}

/// Reads fields. Returns nothing from the first incomplete field on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(super) fn time(&mut self) -> Option<WallTime> {
        let seconds = i64::from_le_bytes(self.array()?);
        WallTime::new(seconds, self.u32()?)
    }

    pub(super) fn hash(&mut self) -> Option<ChunkHash> {
        self.array::<CHUNK_HASH_BYTES>().map(ChunkHash)
    }

    pub(super) fn chunk(&mut self) -> Option<ChunkRef> {
        Some(ChunkRef { hash: self.hash()?, length: self.u32()? })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// An entry, and whether its chunks contain lists.
    pub(super) fn entry(&mut self) -> Option<(TreeEntry, bool)> {
        self.entry_view().map(|view| view.to_entry())
    }

    /// An entry whose path and chunks are not copied.
    pub(super) fn entry_view(&mut self) -> Option<EntryView<'a>> {
        let path = self.bytes()?;
        let kind = match self.u8()? {
            0 => EntryKind::File { size: self.u64()? },
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink { target: self.bytes()?.to_vec() },
            3 => EntryKind::Fifo,
            4 => EntryKind::Socket,
            5 => EntryKind::CharacterDevice,
            6 => EntryKind::BlockDevice,
            7 => EntryKind::Unreadable { errno: i32::from_le_bytes(self.array()?) },
            _ => return None,
        };
        let mode = self.u32()?;
        let modified = self.time()?;
        let rank = self.u8()?;
        let is_listed = match self.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let count = self.u32()? as usize;
        let chunks = self.take(count.checked_mul(CHUNK_BYTES)?)?;
        Some(EntryView { path, kind, mode, modified, rank, is_listed, chunks })
    }
}

/// An entry in its encoded form.
#[derive(Debug)]
pub(super) struct EntryView<'a> {
    path: &'a [u8],
    kind: EntryKind,
    mode: u32,
    modified: WallTime,
    rank: u8,
    /// Whether the chunks contain lists of the content's chunks instead of the content itself.
    pub(super) is_listed: bool,
    chunks: &'a [u8],
}

impl EntryView<'_> {
    /// The hashes of its chunks.
    pub(super) fn hashes(&self) -> impl Iterator<Item = ChunkHash> {
        self.chunks.chunks_exact(CHUNK_BYTES).filter_map(|chunk| Decoder(chunk).hash())
    }

    /// The entry, and whether its chunks contain lists.
    fn to_entry(&self) -> (TreeEntry, bool) {
        let entry = Entry {
            path: self.path.to_vec(),
            kind: self.kind.clone(),
            mode: self.mode,
            modified: self.modified,
            rank: self.rank,
        };
        let chunks = self.chunks.chunks_exact(CHUNK_BYTES).filter_map(|chunk| Decoder(chunk).chunk());
        (TreeEntry { entry, chunks: chunks.collect() }, self.is_listed)
    }
}

/// A record with its type and checksum: magic (8), version u32, length u32, the payload, and the BLAKE3 hash of all
/// that (32).
pub(super) fn seal_record(magic: &[u8; 8], version: u32, payload: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.0.extend_from_slice(magic);
    encoder.u32(version);
    encoder.bytes(payload);
    let check = blake3::hash(&encoder.0);
    encoder.0.extend_from_slice(check.as_bytes());
    encoder.0
}

/// The payload of a record, if the checksum is right.
pub(super) fn open_record<'a>(magic: &[u8; 8], version: u32, record: &'a [u8]) -> Option<&'a [u8]> {
    let (body, check) = record.split_last_chunk::<32>()?;
    let mut decoder = Decoder(body);
    let is_ours = decoder.array::<8>()? == *magic && decoder.u32()? == version;
    let payload = decoder.bytes()?;
    let is_whole = is_ours && decoder.is_at_end() && blake3::hash(body).as_bytes() == check;
    is_whole.then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind) -> TreeEntry {
        let modified = WallTime { seconds: -5, nanos: 7 };
        let chunks = vec![ChunkRef { hash: ChunkHash::of(b"x"), length: 1 }];
        TreeEntry { entry: Entry { path: b"a/\xff".to_vec(), kind, mode: 0o644, modified, rank: 3 }, chunks }
    }

    #[test]
    fn entries_of_all_kinds_round_trip_and_no_prefix_of_one_is_an_entry() {
        for kind in [
            EntryKind::File { size: u64::MAX },
            EntryKind::Directory,
            EntryKind::Symlink { target: b"../t".to_vec() },
            EntryKind::Fifo,
            EntryKind::Socket,
            EntryKind::CharacterDevice,
            EntryKind::BlockDevice,
            EntryKind::Unreadable { errno: -13 },
        ] {
            let entry = entry(kind);
            let mut encoder = Encoder::default();
            encoder.entry(&entry.entry, &entry.chunks, true);
            let mut decoder = Decoder(&encoder.0);
            assert_eq!(decoder.entry(), Some((entry, true)));
            assert!(decoder.is_at_end());
            for length in 0..encoder.0.len() {
                assert_eq!(Decoder(&encoder.0[..length]).entry(), None);
            }
        }
    }

    #[test]
    fn every_changed_byte_of_a_record_is_found() {
        let record = seal_record(b"ORBITTST", 1, b"payload");
        assert_eq!(open_record(b"ORBITTST", 1, &record), Some(&b"payload"[..]));
        assert_eq!(open_record(b"ORBITTST", 2, &record), None);
        for index in 0..record.len() {
            let mut changed = record.clone();
            changed[index] ^= 1;
            assert_eq!(open_record(b"ORBITTST", 1, &changed), None, "{index}");
            assert_eq!(open_record(b"ORBITTST", 1, &record[..index]), None, "{index}");
        }
    }
}
