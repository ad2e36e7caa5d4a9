//! The universe: where each chunk lies and how many need it, in one redb file.
//!
//! All of it follows from the containers and the snapshots, so it may be lost: it is then built again. Its transactions
//! are durable. Rows carry their own checks; and because the engine may panic on a damaged file, every call of it is
//! made where a panic is caught and becomes an error.

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
/// Nodes that nobody holds and whose children are still counted, with the time they were let go.
const RELEASES: TableDefinition<'_, &Hash, u64> = TableDefinition::new("releases");
const CONTAINERS: TableDefinition<'_, u32, &[u8; CONTAINER_BYTES]> = TableDefinition::new("containers");
/// What tells the file of each container from another with its number.
const IDENTITIES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("identities");
/// What is missing of the vault, by what it is about, until nothing is missing any more.
const FINDINGS: TableDefinition<'_, &str, &str> = TableDefinition::new("findings");
/// Chunks that cannot be read: when that was found, and why.
const DAMAGED: TableDefinition<'_, &Hash, (u64, &str)> = TableDefinition::new("damaged");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// What is wrong if a snapshot was counted and its root is not there.
pub(in crate::packed) const ROOT_UNKNOWN: &str = "it does not know the root of a snapshot";

const VERSION_KEY: &str = "version";
const VERSION: u64 = 1;

/// The open file.
#[derive(Debug)]
struct OpenFile {
    database: Engine,
    view: RwLock<Arc<View>>,
}

/// The engine. It writes as it is closed, so that is a call of it like any other.
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
        // What could not be written is found, and if need be built again, when the file is opened.
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
    /// Nothing after a failure, behind which the engine takes no more calls until the file is opened again.
    open: RwLock<Option<Arc<OpenFile>>>,
}

/// Where it is noted that the file at this path is damaged.
fn note_of(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// Runs a call of the engine. It may panic on a damaged file.
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

    /// What an earlier process has found wrong with the file at this path.
    pub(in crate::packed) fn noted_damage(path: &Path) -> Option<String> {
        fs::read_to_string(note_of(path)).ok()
    }

    /// Forgets [`Universe::noted_damage`]: the file was built again.
    pub(in crate::packed) fn clear_noted_damage(path: &Path) {
        // It would only be built once more.
        let _ = fs::remove_file(note_of(path));
    }

    /// As [`guarded`]. Damage is noted beside the file, for the next start: that does not read every row.
    fn guarded<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = guarded(call);
        if let Err(PackedError::Universe { problem }) = &result {
            self.note_damage(problem);
        }
        result
    }

    /// Has the file built again at the next start.
    pub(in crate::packed) fn note_damage(&self, problem: &str) {
        // The first one says enough, and whoever loses the note finds the damage again.
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

    /// The open file, which is opened again after a failure. That fails while someone still uses what has failed.
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

    /// The file must be opened again.
    fn fail(&self, failed: &Arc<OpenFile>) {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|open| Arc::ptr_eq(open, failed)) {
            *slot = None;
        }
    }

    fn view(&self) -> Result<Arc<View>> {
        Ok(self.opened()?.view())
    }

    /// Changes it in one durable transaction.
    pub(in crate::packed) fn write<T>(&self, change: impl FnOnce(&mut Tables<'_>) -> Result<T>) -> Result<T> {
        let open = self.opened()?;
        let result = self.guarded(|| {
            let transaction = open.database.begin_write().map_err(PackedError::universe)?;
            let result = {
                let mut tables = Tables::open(&transaction)?;
                change(&mut tables)?
            };
            transaction.commit().map_err(PackedError::universe)?;
            let view = Arc::new(View::of(&open.database)?);
            *open.view.write().unwrap_or_else(PoisonError::into_inner) = view;
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

    /// What is known of a chunk.
    pub(in crate::packed) fn lookup(&self, hash: &ChunkHash) -> Result<Option<Row>> {
        let view = self.view()?;
        self.guarded(|| view.row(hash))
    }

    /// What is known of each of these chunks.
    pub(in crate::packed) fn lookup_many(&self, hashes: &[ChunkHash]) -> Result<Vec<Option<Row>>> {
        let view = self.view()?;
        self.guarded(|| hashes.iter().map(|hash| view.row(hash)).collect())
    }

    /// Up to `limit` chunks behind `after`, in the order of their hashes.
    pub(in crate::packed) fn rows_after(
        &self,
        after: Option<&ChunkHash>,
        limit: usize,
    ) -> Result<Vec<(ChunkHash, Row)>> {
        let view = self.view()?;
        self.guarded(|| view.rows_after(after, limit))
    }

    /// The same, with a check that each is found by its hash too. Damage above a row hides it from one of the two ways.
    pub(in crate::packed) fn checked_rows_after(
        &self,
        after: Option<&ChunkHash>,
        limit: usize,
    ) -> Result<Vec<(ChunkHash, Row)>> {
        let view = self.view()?;
        self.guarded(|| view.checked_rows_after(after, limit))
    }

    /// Makes sure that no row is hidden, and that these nodes are known: before anything is removed because it has no row.
    /// Calls `pass` again and again.
    pub(in crate::packed) fn check_rows(
        &self,
        needed: &[ChunkHash],
        limit: usize,
        mut pass: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        // One view, so that what comes and goes meanwhile does not count.
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

    /// How many chunks are known.
    pub(in crate::packed) fn chunk_count(&self) -> Result<u64> {
        let view = self.view()?;
        self.guarded(|| view.chunks.len().map_err(PackedError::universe))
    }

    /// Which nodes are held and could not be read when they were to be counted.
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

    /// What tells the files of containers from others.
    pub(in crate::packed) fn identities(&self) -> Result<Vec<(u32, ContainerIdentity)>> {
        self.read_all(IDENTITIES, |number, value| Ok((number, ContainerIdentity::decode(number, value)?)))
    }

    /// What was found missing, by what it is about.
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

    /// Reads everything but the rows of chunks.
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
