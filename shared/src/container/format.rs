//! The bytes of a container: header, entry, and the index that ends a sealed one. Numbers are little-endian.
//!
//! ```text
//! 0    magic "ORBITPAK\0" (9)  version u32 (4)  zero (3)
//! 16   chunk  chunk  chunk ...
//! end  entry (48) ...  count u64  index length u64  checksum (32)  magic "ORBITEND" (8)
//! ```
//!
//! An entry is hash (32), offset u64, stored length u32, raw length u32; a chunk whose stored length is the smaller one is
//! one zstd frame and its CRC-32. The checksum is the BLAKE3 hash of everything of the index before it;
//! the index length counts the whole index, so it is found from the end of the file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{ContainerEntry, ContainerError};
use crate::chunk_hash::{CHUNK_HASH_BYTES, ChunkHash};

/// The first bytes of a container.
pub const CONTAINER_MAGIC: &[u8; 9] = b"ORBITPAK\0";
/// The version of the format.
pub const CONTAINER_VERSION: u32 = 1;
/// Length of the header in bytes, which is the offset of the first chunk.
pub const CONTAINER_HEADER_BYTES: u64 = 16;
/// Maximum number of chunks in one container. It limits the memory for the index if all chunks are tiny.
pub const CONTAINER_ENTRY_COUNT_MAX: usize = 1 << 20;

/// Maximum length of a chunk, in bytes, so that a damaged length never allocates more.
pub const CHUNK_BYTES_MAX: u32 = 16 * 1024 * 1024;

const INDEX_MAGIC: &[u8; 8] = b"ORBITEND";
const TRAILER_BYTES: usize = 8 + 8 + 32 + INDEX_MAGIC.len();

/// Length of one entry, in bytes.
pub(super) const ENTRY_BYTES: usize = CHUNK_HASH_BYTES + 8 + 4 + 4;

/// A container's first 16 bytes.
pub(super) fn header() -> [u8; CONTAINER_HEADER_BYTES as usize] {
    let mut header = [0; CONTAINER_HEADER_BYTES as usize];
    header[..9].copy_from_slice(CONTAINER_MAGIC);
    header[9..13].copy_from_slice(&CONTAINER_VERSION.to_le_bytes());
    header
}

/// Reads the header and checks every byte of it.
pub(super) fn check_header(file: &File, path: &Path) -> Result<(), ContainerError> {
    let mut found = [0; CONTAINER_HEADER_BYTES as usize];
    match file.read_exact_at(&mut found, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(ContainerError::BadMagic { path: path.to_owned() });
        }
        Err(error) => return Err(ContainerError::io(path, "read the header")(error)),
    }
    if &found[..9] != CONTAINER_MAGIC {
        return Err(ContainerError::BadMagic { path: path.to_owned() });
    }
    let version = u32::from_le_bytes(array(&found[9..13]));
    if version != CONTAINER_VERSION {
        return Err(ContainerError::UnsupportedVersion { path: path.to_owned(), version });
    }
    if found != header() {
        return Err(ContainerError::damaged(path, "the reserved bytes of the header are not zero"));
    }
    Ok(())
}

pub(super) fn encode_entry(entry: &ContainerEntry) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..32].copy_from_slice(entry.hash.as_bytes());
    bytes[32..40].copy_from_slice(&entry.offset.to_le_bytes());
    bytes[40..44].copy_from_slice(&entry.length.to_le_bytes());
    bytes[44..].copy_from_slice(&entry.raw_length.to_le_bytes());
    bytes
}

/// An entry whose chunk lies between the header and `data_end`, or `None`.
pub(super) fn decode_entry(bytes: &[u8], data_end: u64) -> Option<ContainerEntry> {
    let hash = ChunkHash(array(&bytes[..32]));
    let offset = u64::from_le_bytes(array(&bytes[32..40]));
    let length = u32::from_le_bytes(array(&bytes[40..44]));
    let raw_length = u32::from_le_bytes(array(&bytes[44..ENTRY_BYTES]));
    let end = offset.checked_add(u64::from(length))?;
    let is_inside = offset >= CONTAINER_HEADER_BYTES && end <= data_end;
    let is_possible = length <= raw_length && raw_length <= CHUNK_BYTES_MAX;
    (is_inside && is_possible).then_some(ContainerEntry { hash, offset, length, raw_length })
}

/// The index that seals a container.
pub(super) fn encode_index(entries: &[ContainerEntry]) -> Vec<u8> {
    let length = entries.len() * ENTRY_BYTES + TRAILER_BYTES;
    let mut index = Vec::with_capacity(length);
    for entry in entries {
        index.extend(encode_entry(entry));
    }
    index.extend((entries.len() as u64).to_le_bytes());
    index.extend((length as u64).to_le_bytes());
    let checksum = blake3::hash(&index);
    index.extend(checksum.as_bytes());
    index.extend(INDEX_MAGIC);
    index
}

/// The checksum in the trailer at the end of a sealed container's file.
pub(super) fn read_list_checksum(file: &File) -> std::io::Result<Option<[u8; 32]>> {
    let file_end = file.metadata()?.len();
    let trailer_at = file_end.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= CONTAINER_HEADER_BYTES);
    let Some(trailer_at) = trailer_at else { return Ok(None) };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, trailer_at)?;
    Ok(trailer.ends_with(INDEX_MAGIC).then(|| array(&trailer[16..48])))
}

/// The entries of a sealed container, from the end of its file.
pub(super) fn read_index(file: &File, path: &Path) -> Result<Vec<ContainerEntry>, ContainerError> {
    let damaged = |what| ContainerError::damaged(path, what);
    let io = |error| ContainerError::io(path, "read the index")(error);
    let file_end = file.metadata().map_err(io)?.len();
    let trailer_at = file_end.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= CONTAINER_HEADER_BYTES);
    let trailer_at = trailer_at.ok_or_else(|| damaged("it has neither a journal nor an index"))?;
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, trailer_at).map_err(io)?;
    if !trailer.ends_with(INDEX_MAGIC) {
        return Err(damaged("it has neither a journal nor an index"));
    }
    let count = u64::from_le_bytes(array(&trailer[..8]));
    let index_bytes = u64::from_le_bytes(array(&trailer[8..16]));
    if count > CONTAINER_ENTRY_COUNT_MAX as u64 {
        return Err(damaged("the index counts more chunks than a container can have"));
    }
    let entry_bytes = count * ENTRY_BYTES as u64;
    let data_end = trailer_at.checked_sub(entry_bytes).filter(|at| *at >= CONTAINER_HEADER_BYTES);
    let data_end = data_end.ok_or_else(|| damaged("the index is longer than the file"))?;
    if index_bytes != entry_bytes + TRAILER_BYTES as u64 {
        return Err(damaged("the index contradicts itself"));
    }
    let mut index = vec![0; entry_bytes as usize];
    file.read_exact_at(&mut index, data_end).map_err(io)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&index).update(&trailer[..16]);
    if hasher.finalize().as_bytes() != &trailer[16..48] {
        return Err(damaged("the checksum of the index does not match"));
    }
    let entries = index.chunks_exact(ENTRY_BYTES).map(|bytes| decode_entry(bytes, data_end));
    entries.collect::<Option<Vec<_>>>().ok_or_else(|| damaged("the index points outside the chunks"))
}

/// A slice of a length that the caller knows, as an array.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller cut the slice to this length")
}
