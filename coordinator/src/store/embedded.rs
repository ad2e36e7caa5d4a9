//! The embedded store: one redb file, one transaction a commit.
//!
//! Keys are big-endian, so that a table's order is the order of jobs, destinations and sequence numbers, and a lane's
//! queue is one range.

use std::path::{Path, PathBuf};

use orbit_shared::entry::Entry;
use orbit_shared::words::{AssignmentId, ItemId, JobId};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::blocks::{self, BlockChanges, ENDS, ENTRIES};
use super::codec::{decode, encode};
use super::copy::copy_all;
use super::verify::verify_all;
use super::watched::WatchedFile;
use super::{QueuePage, Store, StoreError, StoredItem, Transaction};
use crate::core::{AssignmentRecord, Change, Recovered};

type ItemKey = (u64, u32, u64);

pub(super) const JOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("jobs");
pub(super) const QUEUE: TableDefinition<(u64, u32, &[u8]), u64> = TableDefinition::new("queue");
pub(super) const PENALTIES: TableDefinition<ItemKey, &[u8]> = TableDefinition::new("penalties");
pub(super) const DEAD_LETTERS: TableDefinition<u64, &[u8]> = TableDefinition::new("dead_letters");
pub(super) const ASSIGNMENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("assignments");
pub(super) const STARS: TableDefinition<&str, &[u8]> = TableDefinition::new("stars");
pub(super) const BULLETINS: TableDefinition<u64, &[u8]> = TableDefinition::new("bulletins");
pub(super) const SNAPSHOTS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("snapshots");
pub(super) const SCHEDULES: TableDefinition<u64, &[u8]> = TableDefinition::new("schedules");
pub(super) const ANSWERS: TableDefinition<u64, &[u8]> = TableDefinition::new("answers");
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// What an error of a transaction says it could not be.
const COMMITTED: &str = "committed";

const COUNTERS_KEY: &str = "counters";
const GRID_KEY: &str = "grid";
const LAST_EVENT_KEY: &str = "last_event";
const FORMAT_KEY: &str = "format";
const FORMAT: u32 = 2;

/// Memory that redb may use for pages.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// A larger file is not verified whole when it is opened, but afterwards, while it is used.
const CHECKED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// A store in one file.
#[derive(Debug)]
pub struct EmbeddedStore {
    database: Database,
    file: WatchedFile,
    is_verified: bool,
}

/// A transaction whose outcome counts only while the store's file has its name.
struct WatchedTransaction {
    transaction: WriteTransaction,
    file: WatchedFile,
}

pub(super) fn engine(doing: &'static str) -> impl Fn(redb::Error) -> StoreError {
    move |error| StoreError::Engine { doing, problem: error.to_string() }
}

/// Maps any of redb's errors to one of the store's.
macro_rules! at {
    ($doing:expr, $result:expr) => {
        $result.map_err(redb::Error::from).map_err(engine($doing))
    };
}

impl EmbeddedStore {
    /// Opens the store in a file, or makes it. One process at a time may have it open.
    ///
    /// # Errors
    /// Another process has it, it is damaged, or the system refuses; the text says what to do.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_verified(path, CHECKED_BYTES_MAX)
    }

    /// Opens or makes it, verified whole if its file has at most `checked_bytes_max`.
    pub(crate) fn open_verified(path: &Path, checked_bytes_max: u64) -> Result<Self, StoreError> {
        match std::fs::metadata(path) {
            // The engine would take it for a new one, and everything would seem to be gone.
            Ok(metadata) if metadata.len() == 0 => return Err(damaged(path, "it is empty")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::make(path)?,
            Err(error) => {
                return Err(StoreError::Open { path: path.to_path_buf(), problem: error.to_string() });
            }
        }
        // The engine trusts its file and panics on some damage, which must reach the operator as a sentence.
        let opened = std::panic::catch_unwind(|| Self::open_checked(path, checked_bytes_max));
        opened.unwrap_or_else(|_| Err(damaged(path, "its structure makes no sense")))
    }

    /// Makes an empty store. It has its name only when it is whole, so that an empty file is never a new store.
    fn make(path: &Path) -> Result<(), StoreError> {
        let failed =
            |error: std::io::Error| StoreError::Open { path: path.to_path_buf(), problem: error.to_string() };
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let made = Database::builder().create(&unfinished).map_err(|error| refuse(path, error))?;
        let store = Self { database: made, file: WatchedFile::new(&unfinished)?, is_verified: true };
        store.prepare(path.to_path_buf())?;
        std::fs::rename(&unfinished, path).map_err(failed)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = std::fs::File::open(directory.unwrap_or(Path::new("."))).map_err(failed)?;
        directory.sync_all().map_err(failed)
    }

    fn open_checked(path: &Path, checked_bytes_max: u64) -> Result<Self, StoreError> {
        let mut database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| refuse(path, error))?;
        let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let is_verified = size <= checked_bytes_max;
        if is_verified && !database.check_integrity().map_err(|error| refuse(path, error))? {
            return Err(damaged(path, "a checksum was wrong, and the engine went back to an earlier state"));
        }
        let store = Self { database, file: WatchedFile::new(path)?, is_verified };
        store.prepare(path.to_path_buf())?;
        Ok(store)
    }

    /// Makes all tables, and refuses a format of another version.
    fn prepare(&self, path: PathBuf) -> Result<(), StoreError> {
        let doing = "prepared its tables";
        let transaction = at!(doing, self.database.begin_write())?;
        {
            let mut meta = at!(doing, transaction.open_table(META))?;
            let found = at!(doing, meta.get(FORMAT_KEY))?.map(|found| decode::<u32>("meta", found.value()));
            match found.transpose()? {
                Some(FORMAT) => {}
                Some(other) => {
                    let problem = format!("it has format {other}, this program reads format {FORMAT}");
                    return Err(StoreError::Open { path, problem });
                }
                None => drop(at!(doing, meta.insert(FORMAT_KEY, encode(&FORMAT).as_slice()))?),
            }
            at!(doing, transaction.open_table(JOBS))?;
            at!(doing, transaction.open_table(ENTRIES))?;
            at!(doing, transaction.open_table(QUEUE))?;
            at!(doing, transaction.open_table(ENDS))?;
            at!(doing, transaction.open_table(PENALTIES))?;
            at!(doing, transaction.open_table(DEAD_LETTERS))?;
            at!(doing, transaction.open_table(ASSIGNMENTS))?;
            at!(doing, transaction.open_table(STARS))?;
            at!(doing, transaction.open_table(BULLETINS))?;
            at!(doing, transaction.open_table(SNAPSHOTS))?;
            at!(doing, transaction.open_table(SCHEDULES))?;
            at!(doing, transaction.open_table(ANSWERS))?;
        }
        at!(doing, transaction.commit())
    }
}

fn damaged(path: &Path, problem: &str) -> StoreError {
    StoreError::Open {
        path: path.to_path_buf(),
        problem: format!("it is damaged ({problem}); restore the data directory from a backup"),
    }
}

fn refuse(path: &Path, error: redb::DatabaseError) -> StoreError {
    let problem = match error {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            "another coordinator uses it; give this one another --data-dir, or stop the other".to_owned()
        }
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(problem)) => {
            return damaged(path, &problem);
        }
        redb::DatabaseError::Storage(redb::StorageError::Io(error))
            if matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            return damaged(path, &error.to_string());
        }
        other => other.to_string(),
    };
    StoreError::Open { path: path.to_path_buf(), problem }
}

impl Store for EmbeddedStore {
    fn begin(&self, changes: &[Change]) -> Result<Box<dyn Transaction>, StoreError> {
        self.check()?;
        let mut transaction = at!(COMMITTED, self.database.begin_write())?;
        at!(COMMITTED, transaction.set_durability(Durability::Immediate))?;
        apply(&transaction, changes).map_err(engine(COMMITTED))?;
        Ok(Box::new(WatchedTransaction { transaction, file: self.file.clone() }))
    }

    fn check(&self) -> Result<(), StoreError> {
        self.file.check()
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        let doing = "recovered";
        let transaction = at!(doing, self.database.begin_read())?;
        let mut recovered = Recovered::default();
        /// Decodes every record of a table with a plain key.
        macro_rules! all {
            ($table:expr, $name:literal) => {{
                let table = at!(doing, transaction.open_table($table))?;
                let rows = at!(doing, table.iter())?;
                rows.map(|row| decode($name, at!(doing, row)?.1.value())).collect::<Result<Vec<_>, _>>()?
            }};
        }
        recovered.jobs = all!(JOBS, "jobs");
        recovered.stars = all!(STARS, "stars");
        recovered.dead_letters = all!(DEAD_LETTERS, "dead_letters");
        recovered.bulletins = all!(BULLETINS, "bulletins");
        recovered.snapshots = all!(SNAPSHOTS, "snapshots");
        recovered.schedules = all!(SCHEDULES, "schedules");
        recovered.answers = all!(ANSWERS, "answers");
        let assignments: Vec<AssignmentRecord> = all!(ASSIGNMENTS, "assignments");
        let penalties = at!(doing, transaction.open_table(PENALTIES))?;
        for row in at!(doing, penalties.iter())? {
            let (key, value) = at!(doing, row)?;
            recovered.penalties.push((item_id(key.value()), decode("penalties", value.value())?));
        }
        let entries = at!(doing, transaction.open_table(ENTRIES))?;
        let ends = at!(doing, transaction.open_table(ENDS))?;
        for mut record in assignments {
            let mut found = Vec::new();
            let mut open = Vec::new();
            for &sequence in &record.sequences {
                let item = ItemId { job: record.job, destination: record.destination, sequence };
                if blocks::end(&ends, item)?.is_some() {
                    continue;
                }
                if let Some(entry) = blocks::entry(&entries, record.job, sequence)? {
                    found.push(entry);
                    open.push(sequence);
                }
            }
            record.sequences = open;
            recovered.assignments.push((record, found));
        }
        let meta = at!(doing, transaction.open_table(META))?;
        if let Some(counters) = at!(doing, meta.get(COUNTERS_KEY))? {
            recovered.counters = decode("meta", counters.value())?;
        }
        if let Some(grid) = at!(doing, meta.get(GRID_KEY))? {
            recovered.grid = Some(decode("meta", grid.value())?);
        }
        if let Some(last_event) = at!(doing, meta.get(LAST_EVENT_KEY))? {
            recovered.last_event = Some(decode("meta", last_event.value())?);
        }
        Ok(recovered)
    }

    fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let read = at!("was copied", self.database.begin_read())?;
        let copy = Database::builder().set_cache_size(CACHE_BYTES).create(path);
        copy_all(&read, &copy.map_err(|error| refuse(path, error))?)
    }

    fn queue_page(
        &self,
        job: JobId,
        destination: u32,
        after: &[u8],
        limit: usize,
    ) -> Result<QueuePage, StoreError> {
        let doing = "read a queue";
        let transaction = at!(doing, self.database.begin_read())?;
        let queue = at!(doing, transaction.open_table(QUEUE))?;
        let entries = at!(doing, transaction.open_table(ENTRIES))?;
        let start = (job.0, destination, after);
        let end = (job.0, destination + 1, &[][..]);
        let mut page = QueuePage { items: Vec::new(), is_end: true };
        for row in at!(doing, queue.range(start..end))? {
            let (key, sequence) = at!(doing, row)?;
            let (_, _, key) = key.value();
            if key == after {
                continue;
            }
            if page.items.len() == limit {
                page.is_end = false;
                break;
            }
            let sequence = sequence.value();
            let entry = blocks::entry(&entries, job, sequence)?.ok_or_else(|| StoreError::Damaged {
                table: "queue",
                problem: format!("item {sequence} of job {job} has no entry"),
            })?;
            page.items.push((key.to_vec(), sequence, entry));
        }
        Ok(page)
    }

    fn item(&self, id: ItemId) -> Result<Option<StoredItem>, StoreError> {
        let doing = "read an item";
        let transaction = at!(doing, self.database.begin_read())?;
        let entries = at!(doing, transaction.open_table(ENTRIES))?;
        let ends = at!(doing, transaction.open_table(ENDS))?;
        let Some(entry) = blocks::entry(&entries, id.job, id.sequence)? else { return Ok(None) };
        Ok(Some(StoredItem { id, entry, end: blocks::end(&ends, id)? }))
    }

    fn items(
        &self,
        job: JobId,
        destinations: u32,
        start: u64,
        limit: usize,
    ) -> Result<Vec<(Entry, Vec<StoredItem>)>, StoreError> {
        let doing = "listed items";
        let transaction = at!(doing, self.database.begin_read())?;
        let entries = at!(doing, transaction.open_table(ENTRIES))?;
        let ends = at!(doing, transaction.open_table(ENDS))?;
        let mut found = Vec::new();
        for (sequence, entry) in blocks::entries_from(&entries, job, start, limit)? {
            let mut items = Vec::new();
            for destination in 0..destinations {
                let id = ItemId { job, destination, sequence };
                items.push(StoredItem { id, entry: entry.clone(), end: blocks::end(&ends, id)? });
            }
            found.push((entry, items));
        }
        Ok(found)
    }

    fn is_verified(&self) -> bool {
        self.is_verified
    }

    fn verify(&self, goes_on: &dyn Fn() -> bool) -> Result<u64, StoreError> {
        verify_all(&self.database, goes_on)
    }
}

impl Transaction for WatchedTransaction {
    fn commit(self: Box<Self>, more: &[Change]) -> Result<(), StoreError> {
        let Self { transaction, file } = *self;
        if !more.is_empty() {
            apply(&transaction, more).map_err(engine(COMMITTED))?;
        }
        at!(COMMITTED, transaction.commit())?;
        // It may have lost its name while the disk wrote.
        file.check()
    }
}

fn item_key(id: ItemId) -> ItemKey {
    (id.job.0, id.destination, id.sequence)
}

fn item_id((job, destination, sequence): ItemKey) -> ItemId {
    ItemId { job: JobId(job), destination, sequence }
}

/// Writes every change into a transaction.
fn apply(transaction: &WriteTransaction, changes: &[Change]) -> Result<(), redb::Error> {
    let mut jobs = transaction.open_table(JOBS)?;
    let mut entries = transaction.open_table(ENTRIES)?;
    let mut queue = transaction.open_table(QUEUE)?;
    let mut ends = transaction.open_table(ENDS)?;
    let mut penalties = transaction.open_table(PENALTIES)?;
    let mut dead_letters = transaction.open_table(DEAD_LETTERS)?;
    let mut assignments = transaction.open_table(ASSIGNMENTS)?;
    let mut stars = transaction.open_table(STARS)?;
    let mut bulletins = transaction.open_table(BULLETINS)?;
    let mut blocks = BlockChanges::default();
    for change in changes {
        match change {
            Change::PutJob(record) => drop(jobs.insert(record.id.0, encode(record).as_slice())?),
            Change::ForgetJob(job) => {
                blocks.write(&mut entries, &mut ends)?;
                jobs.remove(job.0)?;
                entries.retain_in((job.0, 0)..=(job.0, u64::MAX), |_, _| false)?;
                ends.retain_in((job.0, 0, 0)..=(job.0, u32::MAX, u64::MAX), |_, _| false)?;
                queue.retain_in((job.0, 0, &[][..])..(job.0 + 1, 0, &[][..]), |_, _| false)?;
            }
            Change::ClearQueue(job) => {
                queue.retain_in((job.0, 0, &[][..])..(job.0 + 1, 0, &[][..]), |_, _| false)?;
            }
            Change::RemoveItems { job, destinations, from, until } => {
                blocks.write(&mut entries, &mut ends)?;
                blocks::remove(&mut entries, &mut ends, (*job, *destinations), (*from, *until))?;
            }
            Change::PutEntry { job, sequence, entry } => blocks.put_entry(*job, *sequence, entry),
            Change::Enqueue { item, key } => {
                queue.insert((item.job.0, item.destination, key.as_slice()), item.sequence)?;
            }
            Change::Dequeue { item, key } => {
                queue.remove((item.job.0, item.destination, key.as_slice()))?;
            }
            Change::PutEnd { item, record } => blocks.put_end(*item, Some(record)),
            Change::RemoveEnd(item) => blocks.put_end(*item, None),
            Change::PutPenalty { item, record } => {
                drop(penalties.insert(item_key(*item), encode(record).as_slice())?);
            }
            Change::RemovePenalty(item) => drop(penalties.remove(item_key(*item))?),
            Change::PutDeadLetter(dead) => {
                drop(dead_letters.insert(dead.letter.dead_letter_id, encode(dead).as_slice())?);
            }
            Change::RemoveDeadLetter(id) => drop(dead_letters.remove(*id)?),
            Change::PutAssignment(record) => {
                drop(assignments.insert(record.id.0, encode(record).as_slice())?);
            }
            Change::RemoveAssignment(AssignmentId(id)) => drop(assignments.remove(*id)?),
            Change::PutStar(record) => {
                drop(stars.insert(record.star_id.as_str(), encode(record).as_slice())?);
            }
            Change::RemoveStar(id) => drop(stars.remove(id.as_str())?),
            Change::PutBulletin(bulletin) => {
                drop(bulletins.insert(bulletin.id, encode(bulletin).as_slice())?);
            }
            Change::RemoveBulletin(id) => drop(bulletins.remove(*id)?),
            Change::PutSnapshot(record) => {
                let mut snapshots = transaction.open_table(SNAPSHOTS)?;
                drop(snapshots.insert(record.info.id.0, encode(record).as_slice())?);
            }
            Change::RemoveSnapshot(id) => drop(transaction.open_table(SNAPSHOTS)?.remove(id.0)?),
            Change::PutSchedule(record) => {
                let mut schedules = transaction.open_table(SCHEDULES)?;
                drop(schedules.insert(record.id, encode(record).as_slice())?);
            }
            Change::RemoveSchedule(id) => drop(transaction.open_table(SCHEDULES)?.remove(*id)?),
            Change::PutAnswer(record) => {
                let mut answers = transaction.open_table(ANSWERS)?;
                drop(answers.insert(record.number, encode(record).as_slice())?);
            }
            Change::RemoveAnswer(number) => drop(transaction.open_table(ANSWERS)?.remove(*number)?),
            Change::PutCounters(counters) => {
                let mut meta = transaction.open_table(META)?;
                drop(meta.insert(COUNTERS_KEY, encode(counters).as_slice())?);
            }
            Change::PutGrid(grid) => {
                let mut meta = transaction.open_table(META)?;
                drop(meta.insert(GRID_KEY, encode(grid).as_slice())?);
            }
            Change::PutLastEvent(number) => {
                let mut meta = transaction.open_table(META)?;
                drop(meta.insert(LAST_EVENT_KEY, encode(number).as_slice())?);
            }
        }
    }
    blocks.write(&mut entries, &mut ends)
}
