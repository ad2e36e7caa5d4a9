//! The containers of a pool that are open for reading; their number is bounded.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::super::{ContainerEntry, ContainerError, ContainerReader};
use super::ContainerPool;

/// Maximum number of containers that a pool keeps open for reading.
pub const CONTAINER_READERS_MAX: usize = 64;

impl ContainerPool {
    /// As [`ContainerPool::reader`], but opens the file again.
    ///
    /// # Errors
    /// As there.
    pub fn reopen(&self, number: u32) -> Result<Option<Arc<ContainerReader>>, ContainerError> {
        self.lock_readers().retain(|(other, _)| *other != number);
        self.reader(number)
    }

    /// A container, opened for reading; `None` if it no longer exists.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn reader(&self, number: u32) -> Result<Option<Arc<ContainerReader>>, ContainerError> {
        let mut readers = self.lock_readers();
        if let Some(index) = readers.iter().rposition(|(other, _)| *other == number) {
            let found = readers.remove(index);
            let reader = Arc::clone(&found.1);
            readers.push(found);
            return Ok(Some(reader));
        }
        let Some(path) = self.path_of(number) else { return Ok(None) };
        let reader = match ContainerReader::open(&path) {
            Ok(reader) => Arc::new(reader),
            Err(ContainerError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error @ (ContainerError::Io { .. } | ContainerError::BadName { .. })) => {
                return Err(error);
            }
            Err(_) => {
                // Its chunks are not affected.
                self.set_damaged(number);
                Arc::new(ContainerReader::open_damaged(&path)?)
            }
        };
        if readers.len() >= CONTAINER_READERS_MAX {
            readers.remove(0);
        }
        readers.push((number, Arc::clone(&reader)));
        Ok(Some(reader))
    }

    /// Reads a chunk and checks it; `None` if its container no longer exists.
    ///
    /// # Errors
    /// The bytes at that place are not those of the chunk, or cannot be read.
    pub fn read(&self, number: u32, entry: &ContainerEntry) -> Result<Option<Vec<u8>>, ContainerError> {
        let Some(reader) = self.reader(number)? else { return Ok(None) };
        match reader.read_entry(entry) {
            Err(ContainerError::OutOfBounds { .. }) if self.flush(number)? => {
                reader.read_entry(entry).map(Some)
            }
            read => read.map(Some),
        }
    }

    /// Closes the files of these containers, since an open file can still be read after it was removed or replaced.
    pub fn close_readers(&self, numbers: &BTreeSet<u32>) {
        self.lock_readers().retain(|(other, _)| !numbers.contains(other));
    }

    fn lock_readers(&self) -> MutexGuard<'_, Vec<(u32, Arc<ContainerReader>)>> {
        // A list of open files is consistent after every step.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
