//! Reads chunks and lists of chunks from one container, sealed or open.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::{CONTAINER_HEADER_BYTES, check_header, read_index, read_list_checksum};
use super::{ContainerEntry, ContainerError, PackedChunkRef, decompress, id_of_path, journal, journal_path};
use crate::chunk_hash::ChunkHash;

/// Maximum size of a chunk, in bytes, that is read without checking the file's length first.
const TRUSTED_BYTES: u32 = 1024 * 1024;

/// One container, open for reading. Reads are positional, so many threads can share it.
#[derive(Debug)]
pub struct ContainerReader {
    path: PathBuf,
    container_id: String,
    file: File,
}

impl ContainerReader {
    /// Opens a container and checks its header. Its list of chunks is not read, so that chunks stay readable if only
    /// the list is damaged.
    ///
    /// # Errors
    ///
    /// There is no such file, or it is not a container of this version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ContainerError> {
        let path = path.as_ref();
        let container_id = id_of_path(path)?;
        let file = File::open(path).map_err(ContainerError::io(path, "open the container"))?;
        check_header(&file, path)?;
        Ok(Self { path: path.to_owned(), container_id, file })
    }

    /// As [`ContainerReader::open`], but ignores damage of the header: chunks whose places are known from elsewhere,
    /// and an undamaged list, are still usable.
    ///
    /// # Errors
    ///
    /// There is no such file.
    pub fn open_damaged(path: impl AsRef<Path>) -> Result<Self, ContainerError> {
        let path = path.as_ref();
        let container_id = id_of_path(path)?;
        let file = File::open(path).map_err(ContainerError::io(path, "open the container"))?;
        Ok(Self { path: path.to_owned(), container_id, file })
    }

    /// Its id.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// Reads the raw bytes of a listed chunk and checks its hash.
    ///
    /// # Errors
    ///
    /// It is outside the container, cannot be decompressed, or has another hash.
    pub fn read_entry(&self, entry: &ContainerEntry) -> Result<Vec<u8>, ContainerError> {
        let stored = self.read_stored(entry)?;
        self.verify(entry, stored)
    }

    /// The raw bytes of a listed chunk from its stored ones, checked against its hash.
    ///
    /// # Errors
    ///
    /// They cannot be decompressed, or have another hash.
    pub fn verify(&self, entry: &ContainerEntry, stored: Vec<u8>) -> Result<Vec<u8>, ContainerError> {
        let raw = if entry.length == entry.raw_length {
            Some(stored)
        } else {
            decompress(&stored, entry.raw_length)
        };
        match raw.filter(|raw| ChunkHash::of(raw) == entry.hash) {
            Some(raw) => Ok(raw),
            None => Err(ContainerError::HashMismatch {
                path: self.path.clone(),
                chunk_ref: self.chunk_ref(entry),
                expected: entry.hash,
            }),
        }
    }

    /// As [`ContainerReader::verify`], for callers that want to keep the stored bytes.
    ///
    /// # Errors
    ///
    /// As [`ContainerReader::verify`].
    pub fn check(&self, entry: &ContainerEntry, stored: &[u8]) -> Result<(), ContainerError> {
        let is_raw_intact = entry.length == entry.raw_length && ChunkHash::of(stored) == entry.hash;
        if is_raw_intact { Ok(()) } else { self.verify(entry, stored.to_vec()).map(|_| ()) }
    }

    /// The stored bytes of a listed chunk, unchecked.
    ///
    /// # Errors
    ///
    /// It is outside the container, or cannot be read.
    pub fn read_stored(&self, entry: &ContainerEntry) -> Result<Vec<u8>, ContainerError> {
        let out_of_bounds =
            || ContainerError::OutOfBounds { path: self.path.clone(), chunk_ref: self.chunk_ref(entry) };
        let io = |error| ContainerError::io(&self.path, "read a chunk")(error);
        let end = entry.offset.checked_add(u64::from(entry.length));
        // Checked before memory is allocated: an entry can come from a damaged index. For more than a page or two it is
        // worth reading the length of the file.
        let mut is_inside = entry.offset >= CONTAINER_HEADER_BYTES && end.is_some();
        if is_inside && (entry.length == 0 || entry.length > TRUSTED_BYTES) {
            let file_end = self.file.metadata().map_err(io)?.len();
            is_inside = end.is_some_and(|end| end <= file_end);
        }
        if !is_inside {
            return Err(out_of_bounds());
        }
        let mut bytes = vec![0; entry.length as usize];
        match self.file.read_exact_at(&mut bytes, entry.offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(out_of_bounds()),
            Err(error) => Err(io(error)),
        }
    }

    /// The durable chunks, from the journal of an open container or the index of a sealed one. Their bytes are not
    /// read.
    ///
    /// # Errors
    ///
    /// The list is damaged.
    pub fn entries(&self) -> Result<Vec<ContainerEntry>, ContainerError> {
        let metadata = self.file.metadata().map_err(ContainerError::io(&self.path, "read the container"))?;
        match journal::replay(&journal_path(&self.path), metadata.len())? {
            Some(replay) => Ok(replay.entries),
            None => read_index(&self.file, &self.path),
        }
    }

    /// The checksum in the trailer of a sealed container, which covers its whole list. `None` if the file does not end
    /// with a trailer. The list itself is not read.
    ///
    /// # Errors
    ///
    /// The operating system reports an error.
    pub fn list_checksum(&self) -> Result<Option<[u8; 32]>, ContainerError> {
        read_list_checksum(&self.file).map_err(ContainerError::io(&self.path, "read the index"))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Current length of its file in bytes.
    ///
    /// # Errors
    ///
    /// The operating system reports an error.
    pub fn file_bytes(&self) -> Result<u64, ContainerError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(ContainerError::io(&self.path, "look at the container"))?.len())
    }

    /// The reference to an entry of this container.
    fn chunk_ref(&self, entry: &ContainerEntry) -> PackedChunkRef {
        let container_id = self.container_id.clone();
        PackedChunkRef { container_id, offset: entry.offset, length: entry.length }
    }
}
