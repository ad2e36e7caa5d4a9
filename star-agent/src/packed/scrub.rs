//! Checks all stored content, in parts: first the containers that were not checked for the longest time. The position
//! is stored in the universe, so a restart does not begin again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{ContainerEntry, ContainerReader};

use super::chunks::is_damage;
use super::error::{PackedError, Result};
use super::pace::{Courtesy, Pace};
use super::universe::{ContainerRow, Location};
use super::{DELETED, PackedStore, SNAPSHOTS, records};

/// Number of entries that are checked before the position is stored.
const ENTRIES_PER_STEP: usize = 4096;
const ENTRIES_AT_ONCE: usize = 256;
const ROWS_PER_READ: usize = 4096;

/// The options of a scrub.
#[derive(Debug, Default, Clone)]
pub struct ScrubOptions {
    /// Check all containers. Otherwise the check continues at the position of the last one, up to `bytes_max`.
    pub everything: bool,
    /// Maximum number of bytes to read; absent: until each container was checked once.
    pub bytes_max: Option<u64>,
    /// Maximum number of bytes read per second; absent: unlimited.
    pub bytes_per_second: Option<u64>,
    /// Skips containers that were checked to the end within this time.
    pub unchecked_for: Option<Duration>,
    /// Rests while others read and write, and stops for another scrub, with [`PackedError::Cancelled`]. The next one
    /// continues at its position.
    pub gives_way: bool,
}

/// The progress of a scrub.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Bytes read.
    pub bytes_checked: u64,
    /// Total size of all containers to check, in bytes.
    pub bytes_total: u64,
    /// Chunks found damaged.
    pub damaged_count: u64,
}

/// The result of a scrub.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ScrubReport {
    /// Chunks read.
    pub chunks_checked: u64,
    /// Bytes read.
    pub bytes_checked: u64,
    /// Containers that were checked to the end.
    pub containers_checked: u64,
    /// Chunks that cannot be read and may be needed.
    pub damaged_chunks: Vec<ChunkHash>,
    /// Damaged bytes that are not needed.
    pub damaged_garbage: u64,
    /// Containers whose lists are damaged. The next collection rewrites them.
    pub damaged_containers: Vec<String>,
    /// Files of snapshots and stages that are damaged.
    pub damaged_files: Vec<String>,
    /// Files among them that were repaired from their remains.
    pub repaired_files: Vec<String>,
}

impl ScrubReport {
    /// Whether everything that was checked is undamaged.
    pub fn is_clean(&self) -> bool {
        self.damaged_chunks.is_empty()
            && self.damaged_garbage == 0
            && self.damaged_containers.is_empty()
            && self.damaged_files.is_empty()
    }
}

struct Scrub<'a> {
    report: ScrubReport,
    pace: Pace,
    /// Absent: other operations are ignored.
    courtesy: Option<Courtesy<'a>>,
    bytes_left: u64,
    bytes_total: u64,
    progress: &'a dyn Fn(&ScrubProgress),
    is_cancelled: &'a dyn Fn() -> bool,
}

impl Scrub<'_> {
    /// A part of the work is done.
    fn rest(&mut self) {
        if let Some(courtesy) = &mut self.courtesy {
            courtesy.rest(self.is_cancelled);
        }
    }
}

impl PackedStore {
    /// Checks stored content. Damage is remembered: see [`PackedStore::damaged`] and [`PackedStore::replace`].
    ///
    /// # Errors
    /// The universe cannot be read, or the disk reports an error.
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        progress: &dyn Fn(&ScrubProgress),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<ScrubReport> {
        let _wish = (!options.gives_way).then(|| Wish::new(&self.scrubs_wanted));
        let _one_at_a_time = match self.scrubbing.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if options.gives_way => return Err(PackedError::Cancelled),
            Err(TryLockError::WouldBlock) => self.scrubbing.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let is_cancelled =
            &|| is_cancelled() || options.gives_way && self.scrubs_wanted.load(Ordering::Acquire) > 0;
        self.make_durable()?;
        self.flush()?;
        let mut scrub = Scrub {
            report: ScrubReport::default(),
            pace: Pace::new(options.bytes_per_second),
            courtesy: options.gives_way.then(|| Courtesy::new(&self.activity, false)),
            bytes_left: options.bytes_max.unwrap_or(u64::MAX),
            bytes_total: self.totals()?.container_bytes,
            progress,
            is_cancelled,
        };
        self.scrub_files(&mut scrub.report)?;
        let rows: std::collections::BTreeMap<_, _> = self.universe.containers()?.into_iter().collect();
        let row_of = |number: &u32| rows.get(number).copied().unwrap_or_default();
        let mut numbers: Vec<u32> = self.containers.snapshot().into_keys().collect();
        if let Some(age_min) = options.unchecked_for {
            numbers.retain(|number| is_due(&row_of(number), self.now_seconds(), age_min));
        }
        numbers.sort_by_key(|number| (row_of(number).checked, *number));
        for number in numbers {
            if scrub.bytes_left == 0 {
                break;
            }
            let cursor = if options.everything { 0 } else { row_of(&number).cursor };
            self.scrub_container(number, cursor as usize, &mut scrub)?;
        }
        self.scrub_rows(&mut scrub)?;
        let mut report = scrub.report;
        report.damaged_chunks.sort_unstable();
        report.damaged_chunks.dedup();
        if !report.damaged_chunks.is_empty() {
            self.record_damaged();
            self.mend_trees()?;
        }
        Ok(report)
    }

    /// Whether a container was not checked to the end for this time.
    ///
    /// # Errors
    /// The universe cannot be read.
    pub fn is_scrub_due(&self, age_min: Duration) -> Result<bool> {
        let rows: std::collections::BTreeMap<_, _> = self.universe.containers()?.into_iter().collect();
        let now = self.now_seconds();
        let is_due = |number| is_due(&rows.get(&number).copied().unwrap_or_default(), now, age_min);
        Ok(self.containers.snapshot().into_keys().any(is_due))
    }

    fn scrub_container(&self, number: u32, cursor: usize, scrub: &mut Scrub<'_>) -> Result<()> {
        let Some(known) = self.containers.known(number) else { return Ok(()) };
        self.containers.flush(number)?;
        let Some(reader) = self.containers.reopen(number)? else { return Ok(()) };
        let row = self.universe.write(|tables| tables.container(number))?;
        // Opening it has shown whether its header is undamaged.
        let is_whole = !self.containers.known(number).is_none_or(|known| known.is_damaged);
        let entries = match reader.entries() {
            // Fewer than were written: the journal is damaged.
            Ok(entries) if is_whole && entries.len() >= row.indexed as usize => entries,
            Ok(_) | Err(_) => {
                self.set_container_damaged(number, &known.id, scrub)?;
                self.entries_by_rows(number)?
            }
        };
        let mut at = cursor.min(entries.len());
        while at < entries.len() && scrub.bytes_left > 0 {
            let end = entries.len().min(at + ENTRIES_PER_STEP);
            for part in entries[at..end].chunks(ENTRIES_AT_ONCE) {
                if (scrub.is_cancelled)() {
                    self.note_checked(number, at, false)?;
                    return Err(PackedError::Cancelled);
                }
                self.scrub_entries(number, &reader, part, scrub)?;
                at += part.len();
            }
            self.note_checked(number, at, at == entries.len())?;
        }
        if at == entries.len() {
            self.note_checked(number, at, true)?;
            scrub.report.containers_checked += 1;
        }
        Ok(())
    }

    fn scrub_entries(
        &self,
        number: u32,
        reader: &ContainerReader,
        entries: &[ContainerEntry],
        scrub: &mut Scrub<'_>,
    ) -> Result<()> {
        let mut bytes = 0;
        let hashes: Vec<_> = entries.iter().map(|entry| entry.hash).collect();
        let rows = self.universe.lookup_many(&hashes)?;
        for (entry, row) in entries.iter().zip(rows) {
            bytes += u64::from(entry.length);
            let is_needed = row.is_some_and(|row| row.location == Location::of(number, entry));
            match reader.read_entry(entry).map_err(PackedError::from) {
                Ok(_) if is_needed => {
                    // It was unreachable for a while, or another copy has replaced it.
                    let mut memory = self.memory();
                    if memory.damaged.remove(&entry.hash).is_some() {
                        memory.healed.push(entry.hash);
                    }
                }
                Ok(_) => {}
                Err(error) if !is_damage(&error) => return Err(error),
                // It may have been moved since, and its container removed.
                Err(error) if is_needed && self.find(&entry.hash)? == Some(Location::of(number, entry)) => {
                    self.note_damaged(&entry.hash, &error);
                    scrub.report.damaged_chunks.push(entry.hash);
                }
                Err(_) => scrub.report.damaged_garbage += u64::from(entry.length),
            }
        }
        let report = &mut scrub.report;
        report.chunks_checked += entries.len() as u64;
        report.bytes_checked += bytes;
        scrub.bytes_left = scrub.bytes_left.saturating_sub(bytes);
        (scrub.progress)(&ScrubProgress {
            bytes_checked: report.bytes_checked,
            bytes_total: scrub.bytes_total,
            damaged_count: report.damaged_chunks.len() as u64,
        });
        scrub.pace.pass(bytes, scrub.is_cancelled);
        scrub.rest();
        Ok(())
    }

    fn set_container_damaged(&self, number: u32, id: &str, scrub: &mut Scrub<'_>) -> Result<()> {
        scrub.report.damaged_containers.push(id.to_owned());
        self.containers.set_damaged(number);
        self.universe.write(|tables| {
            let row = tables.container(number)?;
            tables.put_container(number, &ContainerRow { is_damaged: true, ..row })
        })
    }

    fn note_checked(&self, number: u32, cursor: usize, is_done: bool) -> Result<()> {
        let now = self.now_seconds();
        self.universe.write(|tables| {
            let mut row = tables.container(number)?;
            row.cursor = if is_done { 0 } else { u32::try_from(cursor).unwrap_or(0) };
            if is_done {
                row.checked = now.max(1);
            }
            tables.put_container(number, &row)
        })
    }

    /// Every chunk that is needed must have a place.
    fn scrub_rows(&self, scrub: &mut Scrub<'_>) -> Result<()> {
        let mut after = None;
        loop {
            if (scrub.is_cancelled)() {
                return Err(PackedError::Cancelled);
            }
            let rows = self.universe.checked_rows_after(after.as_ref(), ROWS_PER_READ)?;
            let Some((last, _)) = rows.last() else { return self.universe.check_rest() };
            after = Some(*last);
            scrub.rest();
            for (hash, row) in rows {
                if row.references > 0
                    && !self.containers.exists(row.location.container)
                    && self.find(&hash)?.is_none()
                {
                    self.note_damaged(&hash, &PackedError::bad_universe("its container is gone"));
                    scrub.report.damaged_chunks.push(hash);
                }
            }
        }
    }

    /// Records of snapshots, and the logs of stages.
    fn scrub_files(&self, report: &mut ScrubReport) -> Result<()> {
        for name in [SNAPSHOTS, DELETED] {
            let _one_at_a_time = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
            let dir = self.dir.join(name);
            for id in records::ids(&dir)? {
                let path = dir.join(id.to_string()).display().to_string();
                match records::read(&dir, &id)? {
                    Some(found) if found.is_whole => {}
                    Some(_) if self.is_read_only() => report.damaged_files.push(path),
                    Some(found) => {
                        records::write(&dir, &found.record)?;
                        report.damaged_files.push(path.clone());
                        report.repaired_files.push(path);
                    }
                    None => report.damaged_files.push(path),
                }
            }
        }
        for id in self.stages() {
            if let Some(stage) = self.stage(id)
                && !stage.is_whole()?
                && self.stage(id).is_some()
            {
                report.damaged_files.push(stage.path.display().to_string());
            }
        }
        report.damaged_files.extend(self.opened.damaged_stages.iter().map(|path| path.display().to_string()));
        Ok(())
    }
}

/// As long as it exists, a scrub that does not give way is waiting.
struct Wish<'a>(&'a AtomicU64);

impl<'a> Wish<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether a container was not checked for this time. A time of check in the future comes from a wrong clock.
fn is_due(row: &ContainerRow, now_seconds: u64, age_min: Duration) -> bool {
    row.checked == 0 || row.checked > now_seconds || now_seconds - row.checked >= age_min.as_secs()
}
