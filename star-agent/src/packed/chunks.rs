//! Chunks: looks them up, stores them, and reads them.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{ContainerError, Encoder, Stored};

use super::PackedStore;
use super::error::{PackedError, Result};
use super::pins::{Appended, Recall};
use super::types::{ChunkPlace, DamagedChunk, StageId};
use super::universe::Location;

/// Maximum number of retries if a chunk was moved while it was being read.
const MOVES_MAX: usize = 4;

thread_local! {
    /// An encoder, with its level. It is kept for reuse and belongs to one thread at a time.
    static ENCODER: RefCell<Option<(i32, Encoder)>> = const { RefCell::new(None) };
}

const CONTAINER_GONE: &str = "its container is gone";

/// Whether the error is damage of the chunk, and not temporary.
pub(super) fn is_damage(error: &PackedError) -> bool {
    match error {
        PackedError::Container(ContainerError::Io { source, .. }) => {
            source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
        }
        PackedError::Container(_) => true,
        _ => false,
    }
}

impl PackedStore {
    /// Whether no chunk is stored. Then content can be sent together with the hashes.
    pub fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Relaxed)
    }

    /// Returns which of these chunks are stored. They are kept until the stage has become a snapshot or is abandoned.
    ///
    /// # Errors
    /// The universe cannot be read.
    pub fn contains(&self, stage: StageId, hashes: &[ChunkHash]) -> Result<Vec<bool>> {
        self.activity.fetch_add(1, Ordering::Relaxed);
        let mut known = vec![false; hashes.len()];
        let mut to_ask = Vec::new();
        {
            let mut memory = self.memory();
            for (index, hash) in hashes.iter().enumerate() {
                // Pins before the lookup, so that no collection can come in between.
                memory.pin(stage, hash);
                match memory.recall(hash) {
                    Recall::At(_) => known[index] = true,
                    Recall::Going => {}
                    Recall::Unknown if memory.damaged.contains_key(hash) => {}
                    Recall::Unknown => to_ask.push(index),
                }
            }
        }
        if self.is_empty() {
            return Ok(known);
        }
        // Neighbours in the universe are read together.
        to_ask.sort_unstable_by_key(|index| hashes[*index]);
        let asked: Vec<_> = to_ask.iter().map(|index| hashes[*index]).collect();
        for (index, row) in to_ask.into_iter().zip(self.universe.lookup_many(&asked)?) {
            known[index] = row.is_some_and(|row| self.containers.exists(row.location.container));
        }
        Ok(known)
    }

    /// Stores a chunk unless it is stored. Returns whether it was new. The caller has verified the hash. The chunk can
    /// be read at once and is durable after [`PackedStore::commit`].
    ///
    /// # Errors
    /// The disk is full or reports an error.
    pub fn put(&self, stage: StageId, hash: ChunkHash, bytes: &[u8]) -> Result<bool> {
        if self.contains(stage, &[hash])?[0] {
            return Ok(false);
        }
        self.append(Some(stage), hash, bytes, false)
    }

    /// Appends a chunk. Unless `is_forced`, does nothing if another thread has appended it meanwhile.
    pub(super) fn append(
        &self,
        stage: Option<StageId>,
        hash: ChunkHash,
        bytes: &[u8],
        is_forced: bool,
    ) -> Result<bool> {
        let level = self.config.compression_level;
        ENCODER.with_borrow_mut(|kept| {
            let (_, encoder) = match kept {
                Some(same) if same.0 == level => same,
                _ => {
                    let encoder = Encoder::new(level).map_err(PackedError::io(&self.dir, "compress for"))?;
                    kept.insert((level, encoder))
                }
            };
            self.append_stored(stage, hash, &encoder.encode(bytes), is_forced)
        })
    }

    fn append_stored(
        &self,
        stage: Option<StageId>,
        hash: ChunkHash,
        stored: &Stored<'_>,
        is_forced: bool,
    ) -> Result<bool> {
        self.refuse_read_only()?;
        let mut appender = self.containers.lock_appender();
        if !is_forced && let Recall::At(_) = self.memory().recall(&hash) {
            return Ok(false);
        }
        let appended = self.containers.append(&mut appender, hash, stored);
        if appender.has_lost() {
            // The full container could not be sealed.
            let lost = appender.give_up();
            self.memory().lose(lost);
        }
        let appended = Appended::from(appended?);
        let mut memory = self.memory();
        memory.recent.insert(*hash.as_bytes(), appended);
        if let Some(stage) = stage {
            // A failed sync of another thread may have removed the pin.
            memory.pin(stage, &hash);
            memory.add_new_bytes(stage, stored.length());
        }
        if memory.damaged.remove(&hash).is_some() {
            memory.healed.push(hash);
        }
        drop(memory);
        self.is_empty.store(false, Ordering::Relaxed);
        Ok(true)
    }

    /// The place of a chunk.
    pub(super) fn find(&self, hash: &ChunkHash) -> Result<Option<Location>> {
        // In this order, because chunks leave memory only after they are in the universe.
        let recalled = self.memory().recall(hash);
        if let Recall::At(location) = recalled {
            return Ok(Some(location));
        }
        let row = self.universe.lookup(hash)?;
        Ok(row.map(|row| row.location).filter(|location| self.containers.exists(location.container)))
    }

    /// Reads a chunk and checks its hash. A damaged chunk is remembered for healing.
    ///
    /// # Errors
    /// It is not stored, or is damaged.
    pub fn read(&self, hash: &ChunkHash) -> Result<Vec<u8>> {
        self.activity.fetch_add(1, Ordering::Relaxed);
        let mut read = self.read_chunk(hash);
        if let Err(PackedError::DamagedChunk { .. }) = read {
            // More than this chunk may be missing, or it has moved.
            if self.check_presence()? {
                read = self.read_chunk(hash);
            }
            self.record_damaged();
        }
        read
    }

    /// As [`PackedStore::read`], but does not use the universe, which may be changing.
    pub(super) fn read_chunk(&self, hash: &ChunkHash) -> Result<Vec<u8>> {
        let mut last: Option<(Location, PackedError)> = None;
        for _ in 0..MOVES_MAX {
            let Some(location) = self.find(hash)? else { break };
            if let Some((_, error)) = last.take_if(|(tried, _)| *tried == location) {
                return Err(self.note_damaged(hash, &error));
            }
            match self.containers.read(location.container, &location.entry(hash)).map_err(PackedError::from) {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => last = Some((location, PackedError::bad_universe(CONTAINER_GONE))),
                Err(error) if is_damage(&error) => last = Some((location, error)),
                Err(error) => return Err(error),
            }
        }
        match last {
            Some((_, error)) => Err(self.note_damaged(hash, &error)),
            None if self.is_referenced(hash)? => {
                Err(self.note_damaged(hash, &PackedError::bad_universe(CONTAINER_GONE)))
            }
            None => Err(PackedError::UnknownChunk { hash: *hash }),
        }
    }

    /// Whether a snapshot needs it, whether it is stored or lost.
    pub(super) fn is_referenced(&self, hash: &ChunkHash) -> Result<bool> {
        Ok(self.universe.lookup(hash)?.is_some_and(|row| row.references > 0))
    }

    pub(super) fn note_damaged(&self, hash: &ChunkHash, error: &PackedError) -> PackedError {
        let problem = match error {
            PackedError::Container(ContainerError::HashMismatch { path, .. }) => {
                format!("its bytes in {} have changed", path.display())
            }
            PackedError::Container(ContainerError::OutOfBounds { path, .. }) => {
                format!("{} is shorter than it was", path.display())
            }
            PackedError::Universe { problem } | PackedError::UniverseFailed { problem } => problem.clone(),
            other => other.to_string(),
        };
        let found = (self.config.now)();
        let damaged = DamagedChunk { hash: *hash, found, problem: problem.clone() };
        self.memory().damaged.entry(*hash).or_insert(damaged);
        PackedError::DamagedChunk { hash: *hash, problem }
    }

    /// Records which chunks are damaged. If the record is lost, they must be found again.
    pub(super) fn record_damaged(&self) {
        let damaged: Vec<_> = self.memory().damaged.values().cloned().collect();
        let _ = self.universe.write(|tables| {
            for chunk in &damaged {
                let found = u64::try_from(chunk.found.seconds).unwrap_or(0);
                tables.put_damaged(&chunk.hash, found, &chunk.problem)?;
            }
            Ok(())
        });
    }

    /// The place of a chunk, for display.
    ///
    /// # Errors
    /// The universe cannot be read.
    pub fn locate(&self, hash: &ChunkHash) -> Result<Option<ChunkPlace>> {
        let Some(location) = self.find(hash)? else { return Ok(None) };
        let references = self.universe.lookup(hash)?.map_or(0, |row| row.references);
        let Some(known) = self.containers.known(location.container) else { return Ok(None) };
        Ok(Some(ChunkPlace {
            container_id: known.id,
            offset: location.offset,
            stored_length: location.stored,
            length: location.raw,
            references,
        }))
    }
}
