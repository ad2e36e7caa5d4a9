//! Compaction: copies the live chunks of a container into a new one, and then removes the old file.
//!
//! Space is reserved first. Bytes are verified while they are copied. The new container is synced before the universe
//! points to it, and the old file is removed only after that is durable. A reader that still has the old place looks it
//! up again. A chunk that cannot be read is never dropped: its container stays.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{ContainerEntry, ContainerReader, ContainerWriter, Stored};

use super::PackedStore;
use super::chunks::is_damage;
use super::collect::{CollectOptions, CollectPhase, CollectProgress, CollectReport};
use super::error::{PackedError, Result};
use super::pace::{Courtesy, Pace};
use super::survey::Usage;
use super::universe::{Location, NOWHERE};

/// Number of entries that are looked up at a time.
const ENTRIES_AT_ONCE: usize = 512;
/// Maximum number of chunks whose move goes into the universe in one transaction; the constant below limits their
/// bytes.
const MOVED_PER_TRANSACTION: usize = 8 * 1024;
const MOVED_BYTES_PER_TRANSACTION: u64 = 16 * 1024 * 1024;
/// Minimum overhead of a container in bytes, for each chunk and once for the container.
pub(super) const ENTRY_BYTES: u64 = 48;
const FRAME_BYTES: u64 = 16 + 56;

/// A container to rewrite.
struct Candidate {
    number: u32,
    id: String,
    file_bytes: u64,
    live: u64,
}

/// The container that chunks are copied to.
struct Output {
    number: u32,
    writer: ContainerWriter,
    moves: Vec<(ChunkHash, Location, Location)>,
    moved_bytes: u64,
}

impl PackedStore {
    /// Rewrites containers that have enough garbage, or returns which those would be.
    pub(super) fn compact(
        &self,
        usage: &BTreeMap<u32, Usage>,
        options: &CollectOptions,
        report: &mut CollectReport,
        progress: &dyn Fn(&CollectProgress),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let candidates = self.candidates(usage, options)?;
        if options.plan_only {
            for candidate in &candidates {
                report.count(candidate);
                report.bytes_copied += candidate.live;
                report.bytes_freed += candidate.file_bytes.saturating_sub(candidate.live);
            }
            return Ok(());
        }
        let total = candidates.len() as u64;
        let mut output = None;
        let is_urgent = self.is_urgent(options);
        let mut rests = (Pace::new(options.bytes_per_second), Courtesy::new(&self.activity, is_urgent));
        for (done, candidate) in candidates.iter().enumerate() {
            progress(&CollectProgress { phase: CollectPhase::Compacting, done: done as u64, total });
            match self.move_chunks(candidate, &mut output, &mut rests, is_cancelled) {
                Ok(moved) => {
                    report.bytes_copied += moved;
                    report.bytes_freed += candidate.file_bytes.saturating_sub(moved);
                    report.count(candidate);
                }
                Err(error @ (PackedError::NoSpace { .. } | PackedError::DamagedChunk { .. })) => {
                    report.containers_kept.push((candidate.id.clone(), error.to_string()));
                }
                Err(error) => {
                    self.end_output(output)?;
                    return Err(error);
                }
            }
        }
        self.end_output(output)
    }

    /// The containers to rewrite, those with the lowest cost first.
    fn candidates(&self, usage: &BTreeMap<u32, Usage>, options: &CollectOptions) -> Result<Vec<Candidate>> {
        let active = self.containers.active();
        let mut found = Vec::new();
        for (number, known) in self.containers.snapshot() {
            // A container that was begun since has no garbage yet.
            let Some(usage) = usage.get(&number) else { continue };
            let Ok(metadata) = std::fs::metadata(self.containers.path(&known.id)) else { continue };
            let (file_bytes, live) = (metadata.len(), usage.live);
            let garbage = usage.file_bytes.saturating_sub(live + FRAME_BYTES + ENTRY_BYTES);
            let is_worth_it =
                garbage * 100 >= file_bytes * u64::from(options.garbage_percent_min) && garbage > 0;
            if !is_worth_it && !known.is_damaged {
                continue;
            }
            if active == Some(number) {
                // Chunks are never moved out of an open container.
                if !options.plan_only && !self.rotate(number)? {
                    continue;
                }
            } else if !known.is_sealed && !known.is_damaged {
                continue;
            }
            found.push(Candidate { number, id: known.id, file_bytes, live });
        }
        found.sort_by_key(|candidate| candidate.live);
        Ok(found)
    }

    /// Seals a container if it is the open one. Returns whether it did so; another one is begun then.
    fn rotate(&self, number: u32) -> Result<bool> {
        self.make_durable()?;
        let is_sealed = self.containers.rotate(number)?;
        self.flush()?;
        Ok(is_sealed)
    }

    /// Moves the live chunks of a container and removes it. Returns the number of bytes moved.
    fn move_chunks(
        &self,
        from: &Candidate,
        output: &mut Option<Output>,
        (pace, courtesy): &mut (Pace, Courtesy<'_>),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<u64> {
        let Some(reader) = self.containers.reader(from.number)? else { return Ok(0) };
        // Its last chunks must be in the universe before it is decided what is garbage.
        self.flush()?;
        let entries = match reader.entries() {
            Ok(entries) if self.containers.known(from.number).is_some_and(|known| !known.is_damaged) => {
                entries
            }
            Ok(_) | Err(_) => self.entries_by_rows(from.number)?,
        };
        self.reserve(from, output)?;
        let (mut moved, mut bad) = (0, None);
        for part in entries.chunks(ENTRIES_AT_ONCE) {
            if is_cancelled() {
                return Err(PackedError::Cancelled);
            }
            let hashes: Vec<_> = part.iter().map(|entry| entry.hash).collect();
            let rows = self.universe.lookup_many(&hashes)?;
            let mut bytes = 0;
            for (entry, row) in part.iter().zip(rows) {
                let location = Location::of(from.number, entry);
                if row.is_none_or(|row| row.location != location) {
                    continue;
                }
                match self.move_one(&reader, entry, location, output) {
                    Ok(()) => bytes += u64::from(entry.length) + ENTRY_BYTES,
                    Err(error @ PackedError::DamagedChunk { .. }) => bad = Some(error),
                    Err(error) => return Err(error),
                }
            }
            moved += bytes;
            pace.pass(bytes, is_cancelled);
            courtesy.rest(is_cancelled);
        }
        if let Some(output) = output {
            self.switch(output)?;
        }
        match bad {
            Some(error) => {
                self.record_damaged();
                Err(error)
            }
            None => {
                self.pass_window("switched");
                self.universe.write(|tables| tables.remove_container(from.number))?;
                self.containers.remove(from.number)?;
                Ok(moved)
            }
        }
    }

    fn move_one(
        &self,
        reader: &Arc<ContainerReader>,
        entry: &ContainerEntry,
        from: Location,
        output: &mut Option<Output>,
    ) -> Result<()> {
        let stored = reader.read_stored(entry);
        let checked = stored.and_then(|stored| reader.check(entry, &stored).map(|()| stored));
        let stored = checked.map_err(PackedError::from).map_err(|error| {
            if is_damage(&error) { self.note_damaged(&entry.hash, &error) } else { error }
        })?;
        if output.as_ref().is_some_and(|output| !output.writer.has_capacity(stored.len() as u64)) {
            self.end_output(output.take())?;
        }
        let output = match output {
            Some(output) => output,
            None => output.insert(self.begin_output()?),
        };
        let stored = Stored { bytes: Cow::Owned(stored), raw_length: entry.raw_length };
        let moved = output.writer.append_stored(entry.hash, &stored)?;
        output.moved_bytes += stored.length();
        output.moves.push((entry.hash, from, Location::of(output.number, &moved)));
        let is_much =
            output.moves.len() >= MOVED_PER_TRANSACTION || output.moved_bytes >= MOVED_BYTES_PER_TRANSACTION;
        if is_much { self.switch(output) } else { Ok(()) }
    }

    fn begin_output(&self) -> Result<Output> {
        let (number, writer) = self.containers.create(&mut self.containers.lock_appender())?;
        Ok(Output { number, writer, moves: Vec::new(), moved_bytes: 0 })
    }

    /// Reserves the space that the live chunks need, or reports that there is not enough. The reserve of the vault may
    /// be used.
    fn reserve(&self, from: &Candidate, output: &mut Option<Output>) -> Result<()> {
        if from.live == 0 {
            return Ok(());
        }
        let needed = from.live + from.live / 64 + 64 * 1024;
        let no_space = || PackedError::NoSpace { needed, available: self.available_bytes().unwrap_or(0) };
        if self.available_bytes().is_some_and(|available| available < needed)
            && !(self.give_up_reserve()
                && self.available_bytes().is_some_and(|available| available >= needed))
        {
            return Err(no_space());
        }
        if output.is_none() {
            match self.begin_output() {
                Err(error) if error.is_full() => return Err(no_space()),
                begun => *output = Some(begun?),
            }
        }
        let Some(output) = output else { return Ok(()) };
        match output.writer.reserve(from.live) {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = PackedError::from(error);
                Err(if error.is_full() { no_space() } else { error })
            }
        }
    }

    /// Makes the copies durable, and points the universe to them.
    fn switch(&self, output: &mut Output) -> Result<()> {
        output.writer.sync()?;
        // The old copies are removed next.
        self.containers.check_file(output.number)?;
        self.pass_window("moved");
        let moves = std::mem::take(&mut output.moves);
        output.moved_bytes = 0;
        let indexed = u32::try_from(output.writer.chunks_written()).unwrap_or(u32::MAX);
        self.universe.write(|tables| {
            for (hash, from, to) in &moves {
                tables.move_row(hash, *from, *to)?;
            }
            if let Some(last) = output.writer.entries().last() {
                tables.put_anchor(output.number, output.writer.container_id(), indexed - 1, last.hash)?;
            }
            let row = tables.container(output.number)?;
            tables.put_container(output.number, &super::universe::ContainerRow { indexed, ..row })
        })
    }

    fn end_output(&self, output: Option<Output>) -> Result<()> {
        let Some(mut output) = output else { return Ok(()) };
        self.switch(&mut output)?;
        if output.writer.chunks_written() == 0 {
            return Ok(self.containers.remove(output.number)?);
        }
        Ok(self.containers.finish(output.number, output.writer)?)
    }

    /// The entries that the universe has for a container whose own list cannot be read.
    pub(super) fn entries_by_rows(&self, number: u32) -> Result<Vec<ContainerEntry>> {
        assert!(number != NOWHERE, "a container has a number");
        super::indexing::entries_of(&self.universe, number)
    }
}

impl CollectReport {
    fn count(&mut self, candidate: &Candidate) {
        self.containers_removed += 1;
        self.containers_rewritten += u64::from(candidate.live > 0);
    }
}
