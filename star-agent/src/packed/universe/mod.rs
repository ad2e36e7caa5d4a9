//! The universe: an index of the places and the reference counts of all chunks, in one redb file.
//!
//! It can be rebuilt from the containers and the snapshots, so its loss is harmless. Its transactions are durable. Rows
//! have their own checksums. The engine can panic on a damaged file, so every call of it is made where a panic is
//! caught and becomes an error.

mod counts;
mod row;
mod view;

use std::fs;
use std::io::Write as _;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use orbit_shared::chunk_hash::ChunkHash;
use redb::{Database, ReadableDatabase, ReadableTable as _, ReadableTableMetadata as _};
use redb::{TableDefinition, WriteTransaction};

pub(in crate::packed) use self::counts::{Children, Tables};
use self::row::{CONTAINER_BYTES, NODE_BYTES, ROW_BYTES};
pub(in crate::packed) use self::row::{ContainerIdentity, ContainerRow, Location, NOWHERE, Row};
use self::view::View;
use super::error::{PackedError, Result};
use super::types::SnapshotId;

type Hash = [u8; 32];

const CHUNKS: TableDefinition<'_, &Hash, &[u8; ROW_BYTES]> = TableDefinition::new("chunks");
const NODES: TableDefinition<'_, &Hash, &[u8; NODE_BYTES]> = TableDefinition::new("nodes");
/// The root that each snapshot is counted for.
const OWNERS: TableDefinition<'_, &[u8; 16], &Hash> = TableDefinition::new("owners");
/// Nodes without references whose children are still counted, with the time at which they lost the last one.
const RELEASES: TableDefinition<'_, &Hash, u64> = TableDefinition::new("releases");
const CONTAINERS: TableDefinition<'_, u32, &[u8; CONTAINER_BYTES]> = TableDefinition::new("containers");
/// What distinguishes the file of each container from another one with its number.
const IDENTITIES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("identities");
/// What is missing in the vault, by subject, until it is complete again.
const FINDINGS: TableDefinition<'_, &str, &str> = TableDefinition::new("findings");
/// Chunks that cannot be read, with the time at which that was found, and the reason.
const DAMAGED: TableDefinition<'_, &Hash, (u64, &str)> = TableDefinition::new("damaged");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The message if a snapshot was counted and its root has no row.
pub(in crate::packed) const ROOT_UNKNOWN: &str = "it does not know the root of a snapshot";

const VERSION_KEY: &str = "version";
const VERSION: u64 = 1;

/// The open file.
#[derive(Debug)]
struct OpenFile {
    database: Engine,
    view: RwLock<Arc<View>>,
}

/// The engine. Closing it writes, so that is a guarded call as well.
#[derive(Debug)]
struct Engine(Option<Database>);

impl Deref for Engine {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is there until it is closed")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let database = self.0.take();
        // What could not be written is found when the file is opened, and rebuilt if necessary.
        let _ = guarded(move || {
            drop(database);
            Ok(())
        });
    }
}

#[derive(Debug)]
pub(in crate::packed) struct Universe {
    path: PathBuf,
    cache_bytes: usize,
    /// `None` after a failure, after which the engine takes no calls until the file is opened again.
    open: RwLock<Option<Arc<OpenFile>>>,
}

/// The file that records that the one at this path is damaged.
fn note_of(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// Runs a call of the engine and catches its panic, which a damaged file can cause.
fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result,
        Err(_) => Err(PackedError::bad_universe("its file is damaged")),
    }
}

impl OpenFile {
    fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        guarded(|| {
            let database = Database::builder().set_cache_size(cache_bytes).create(path);
            let database = Engine(Some(database.map_err(PackedError::universe)?));
            let transaction = database.begin_write().map_err(PackedError::universe)?;
            create_tables(&transaction)?;
            transaction.commit().map_err(PackedError::universe)?;
            let view = RwLock::new(Arc::new(View::of(&database)?));
            Ok(Self { database, view })
        })
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Universe {
    /// Opens the file, or makes an empty one.
    pub(in crate::packed) fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        let open = RwLock::new(Some(Arc::new(OpenFile::open(path, cache_bytes)?)));
        Ok(Self { path: path.to_owned(), cache_bytes, open })
    }

    /// The damage that an earlier process has recorded for the file at this path.
    pub(in crate::packed) fn noted_damage(path: &Path) -> Option<String> {
        fs::read_to_string(note_of(path)).ok()
    }

    /// Removes [`Universe::noted_damage`]: the file was rebuilt.
    pub(in crate::packed) fn clear_noted_damage(path: &Path) {
        // It would only be rebuilt once more.
        let _ = fs::remove_file(note_of(path));
    }

    /// As [`guarded`]. Records damage beside the file for the next start, which does not read every row.
    fn guarded<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = guarded(call);
        if let Err(PackedError::Universe { problem }) = &result {
            self.note_damage(problem);
        }
        result
    }

    /// Makes the next start rebuild the file.
    pub(in crate::packed) fn note_damage(&self, problem: &str) {
        // The first note is enough. If it is lost, the damage is found again.
        let _ =
            fs::File::create_new(note_of(&self.path)).and_then(|mut note| note.write_all(problem.as_bytes()));
    }

    /// Removes the file.
    pub(in crate::packed) fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(PackedError::io(path, "remove the index")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The open file. After a failure it is opened again, which fails while the failed one is still in use.
    fn opened(&self) -> Result<Arc<OpenFile>> {
        if let Some(open) = &*self.open.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(open));
        }
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(open) => Ok(Arc::clone(open)),
            None => {
                let open = Arc::new(OpenFile::open(&self.path, self.cache_bytes)?);
                Ok(Arc::clone(slot.insert(open)))
            }
        }
    }

    /// Makes the next call open the file again.
    fn fail(&self, failed: &Arc<OpenFile>) {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|open| Arc::ptr_eq(open, failed)) {
            *slot = None;
        }
    }

    fn view(&self) -> Result<Arc<View>> {
        Ok(self.opened()?.view())
    }

    /// Changes the universe in one durable transaction.
    pub(in crate::packed) fn write<T>(&self, change: impl FnOnce(&mut Tables<'_>) -> Result<T>) -> Result<T> {
        let open = self.opened()?;
        let result = self.guarded(|| {
            let transaction = open.database.begin_write().map_err(PackedError::universe)?;
            let result = {
                let mut tables = Tables::open(&transaction)?;
                change(&mut tables)?
            };
            transaction.commit().map_err(PackedError::universe)?;
            // The view is made while nobody else can set one: a later transaction is never hidden by an earlier one.
            let mut slot = open.view.write().unwrap_or_else(PoisonError::into_inner);
            *slot = Arc::new(View::of(&open.database)?);
            Ok(result)
        });
        if let Err(
            PackedError::Universe { .. } | PackedError::UniverseFull | PackedError::UniverseFailed { .. },
        ) = result
        {
            self.fail(&open);
        }
        result
    }

    /// The row of a chunk.
    pub(in crate::packed) fn lookup(&self, hash: &ChunkHash) -> Result<Option<Row>> {
        let view = self.view()?;
        self.guarded(|| view.row(hash))
    }

    /// The rows of these chunks.
    pub(in crate::packed) fn lookup_many(&self, hashes: &[ChunkHash]) -> Result<Vec<Option<Row>>> {
        let view = self.view()?;
        self.guarded(|| hashes.iter().map(|hash| view.row(hash)).collect())
    }

    /// Up to `limit` chunks after `after`, in order of hashes.
    pub(in crate::packed) fn rows_after(
        &self,
        after: Option<&ChunkHash>,
        limit: usize,
    ) -> Result<Vec<(ChunkHash, Row)>> {
        let view = self.view()?;
        self.guarded(|| view.rows_after(after, limit))
    }

    /// As [`Universe::rows_after`], and checks that each is also found by its hash. Damage above a row hides it from
    /// one of the two ways.
    pub(in crate::packed) fn checked_rows_after(
        &self,
        after: Option<&ChunkHash>,
        limit: usize,
    ) -> Result<Vec<(ChunkHash, Row)>> {
        let view = self.view()?;
        self.guarded(|| view.checked_rows_after(after, limit))
    }

    /// Checks that no row is hidden, and that these nodes have rows, before anything is removed because it has no row.
    /// Calls `pass` repeatedly.
    pub(in crate::packed) fn check_rows(
        &self,
        needed: &[ChunkHash],
        limit: usize,
        mut pass: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        // One view, so that changes meanwhile do not matter.
        let view = self.view()?;
        let has_indexed = self.containers()?.iter().any(|(_, row)| row.indexed > 0);
        let (mut after, mut count) = (None, 0);
        loop {
            let rows = self.guarded(|| view.checked_rows_after(after.as_ref(), limit))?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(*last);
            count += rows.len() as u64;
            pass()?;
        }
        self.guarded(|| {
            let expected = view.chunks.len().map_err(PackedError::universe)?;
            if count != expected || count == 0 && has_indexed {
                return Err(PackedError::bad_universe(format!("it shows {count} rows of {expected}")));
            }
            for hash in needed {
                if view.row(hash)?.is_none() {
                    return Err(PackedError::bad_universe(ROOT_UNKNOWN));
                }
            }
            Ok(())
        })
    }

    /// Number of chunks.
    pub(in crate::packed) fn chunk_count(&self) -> Result<u64> {
        let view = self.view()?;
        self.guarded(|| view.chunks.len().map_err(PackedError::universe))
    }

    /// The referenced nodes that could not be read when their children were to be counted.
    pub(in crate::packed) fn uncounted_nodes(&self) -> Result<Vec<ChunkHash>> {
        let view = self.view()?;
        self.guarded(|| {
            let mut found = Vec::new();
            for item in view.nodes.iter().map_err(PackedError::universe)? {
                let (key, value) = item.map_err(PackedError::universe)?;
                let hash = ChunkHash(*key.value());
                let node = row::NodeRow::decode(&hash, value.value())?;
                if node.references > 0 && !node.is_expanded {
                    found.push(hash);
                }
            }
            Ok(found)
        })
    }

    /// The root that each snapshot is counted for.
    pub(in crate::packed) fn owners(&self) -> Result<Vec<(SnapshotId, ChunkHash)>> {
        self.read_all(OWNERS, |key, value| Ok((SnapshotId(*key), ChunkHash(*value))))
    }

    /// All containers.
    pub(in crate::packed) fn containers(&self) -> Result<Vec<(u32, ContainerRow)>> {
        self.read_all(CONTAINERS, |number, value| Ok((number, ContainerRow::decode(number, value)?)))
    }

    /// What distinguishes the files of containers from others.
    pub(in crate::packed) fn identities(&self) -> Result<Vec<(u32, ContainerIdentity)>> {
        self.read_all(IDENTITIES, |number, value| Ok((number, ContainerIdentity::decode(number, value)?)))
    }

    /// What was found missing, by subject.
    pub(in crate::packed) fn findings(&self) -> Result<Vec<(String, String)>> {
        self.read_all(FINDINGS, |key, value| Ok((key.to_owned(), value.to_owned())))
    }

    /// All chunks that cannot be read.
    pub(in crate::packed) fn damaged(&self) -> Result<Vec<(ChunkHash, u64, String)>> {
        self.read_all(DAMAGED, |key, (time, problem)| Ok((ChunkHash(*key), time, problem.to_owned())))
    }

    /// Whether there are nodes whose children are to be released.
    pub(in crate::packed) fn has_releases(&self) -> Result<bool> {
        let open = self.opened()?;
        self.guarded(|| {
            let transaction = open.database.begin_read().map_err(PackedError::universe)?;
            let table = transaction.open_table(RELEASES).map_err(PackedError::universe)?;
            Ok(!table.is_empty().map_err(PackedError::universe)?)
        })
    }

    fn read_all<K, V, T>(
        &self,
        definition: TableDefinition<'static, K, V>,
        read: impl for<'a> Fn(K::SelfType<'a>, V::SelfType<'a>) -> Result<T>,
    ) -> Result<Vec<T>>
    where
        K: redb::Key + 'static,
        V: redb::Value + 'static,
    {
        let open = self.opened()?;
        self.guarded(|| {
            let transaction = open.database.begin_read().map_err(PackedError::universe)?;
            let table = transaction.open_table(definition).map_err(PackedError::universe)?;
            let mut found = Vec::new();
            for item in table.iter().map_err(PackedError::universe)? {
                let (key, value) = item.map_err(PackedError::universe)?;
                found.push(read(key.value(), value.value())?);
            }
            Ok(found)
        })
    }

    /// Reads all tables except the rows of chunks.
    pub(in crate::packed) fn check_rest(&self) -> Result<()> {
        self.uncounted_nodes()?;
        self.containers()?;
        self.identities()?;
        self.owners()?;
        self.damaged().map(|_| ())
    }
}

fn create_tables(transaction: &WriteTransaction) -> Result<()> {
    let tables = Tables::open(transaction)?;
    drop(tables);
    let mut meta = transaction.open_table(META).map_err(PackedError::universe)?;
    let version = meta.get(VERSION_KEY).map_err(PackedError::universe)?.map(|version| version.value());
    match version {
        Some(VERSION) => Ok(()),
        Some(version) => Err(PackedError::bad_universe(format!("version {version} is not supported"))),
        None => meta.insert(VERSION_KEY, VERSION).map(|_| ()).map_err(PackedError::universe),
    }
}
