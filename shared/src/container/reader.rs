//! Reading chunks and lists of chunks out of one container, sealed or open.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::{CONTAINER_HEADER_BYTES, check_header, read_index};
use super::{ContainerEntry, ContainerError, PackedChunkRef, id_of_path, journal, journal_path};
use crate::chunk_hash::ChunkHash;

/// One container, open for reading. Reads are positional: many threads may share it.
#[derive(Debug)]
pub struct ContainerReader {
    path: PathBuf,
    container_id: String,
    file: File,
}

impl ContainerReader {
    /// Opens a container and checks its header. Its list of chunks is not looked at, so that chunks stay readable when
    /// only the list is damaged.
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

    /// Its id.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// Reads a chunk and checks that it is the expected one.
    ///
    /// # Errors
    ///
    /// The reference is outside the container, or the bytes there are not those of the hash.
    pub fn read_chunk(
        &self,
        chunk_ref: &PackedChunkRef,
        expected: &ChunkHash,
    ) -> Result<Vec<u8>, ContainerError> {
        let out_of_bounds =
            || ContainerError::OutOfBounds { path: self.path.clone(), chunk_ref: chunk_ref.clone() };
        let io = |error| ContainerError::io(&self.path, "read a chunk")(error);
        let file_end = self.file.metadata().map_err(io)?.len();
        let end = chunk_ref.offset.checked_add(u64::from(chunk_ref.length));
        // Checked before memory is taken: a reference may come from a damaged index.
        let is_inside = chunk_ref.container_id == self.container_id
            && chunk_ref.offset >= CONTAINER_HEADER_BYTES
            && end.is_some_and(|end| end <= file_end);
        if !is_inside {
            return Err(out_of_bounds());
        }
        let mut bytes = vec![0; chunk_ref.length as usize];
        match self.file.read_exact_at(&mut bytes, chunk_ref.offset) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(out_of_bounds()),
            Err(error) => return Err(io(error)),
        }
        if ChunkHash::of(&bytes) != *expected {
            let (path, chunk_ref) = (self.path.clone(), chunk_ref.clone());
            return Err(ContainerError::HashMismatch { path, chunk_ref, expected: *expected });
        }
        Ok(bytes)
    }

    /// The chunks that are durable in it, from the journal of an open container or the index of a sealed one. Their bytes
    /// are not read.
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

    /// How an entry of this container is referred to.
    pub fn chunk_ref(&self, entry: &ContainerEntry) -> PackedChunkRef {
        let container_id = self.container_id.clone();
        PackedChunkRef { container_id, offset: entry.offset, length: entry.length }
    }
}
