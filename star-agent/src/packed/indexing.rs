//! Updates the universe from the containers: adds the chunks that their files list and it does not have, and removes
//! its rows for files that are missing, truncated, replaced or swapped.
//!
//! A file is recognized by its name, its length and the checksum of its list. An open one is recognized by the last of
//! its entries that was indexed. The list of a file is authoritative; rows beyond it are removed. If a list cannot be
//! read, some chunks of the file are read: if none is intact, all of its rows are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{
    ContainerEntry, ContainerError, ContainerPool, ContainerReader, FileMark, PooledContainer,
};

use super::error::{PackedError, Result};
use super::universe::{ContainerIdentity, ContainerRow, Location, Universe};

/// Maximum number of entries that are added to the universe in one transaction.
const INDEXED_PER_TRANSACTION: usize = 256 * 1024;
const ROWS_PER_READ: usize = 4096;
/// Number of chunks that are read of a container whose list cannot be read.
const SAMPLES: usize = 16;

/// The result of indexing.
#[derive(Debug, Default)]
pub(super) struct Indexed {
    /// Whether the universe was empty before, although there were containers.
    pub(super) is_rebuilt: bool,
    /// Chunks that were not in the universe and are now.
    pub(super) chunks_indexed: u64,
    /// Chunks that the universe had and that are not at their places.
    pub(super) chunks_lost: u64,
    /// Containers that are gone.
    pub(super) missing: Vec<u32>,
    /// Messages for the operator, by subject.
    pub(super) findings: BTreeMap<String, String>,
}

/// How a container's file compares with the universe.
enum Found {
    /// It is unchanged.
    Same,
    /// It has entries that are not indexed, from this one on.
    Grown(usize),
    /// It is another file, or has less than before.
    Other,
    /// Its list cannot be read. It has this many bytes.
    Unlisted(u64),
    Missing,
}

/// Changes to the universe.
#[derive(Default)]
struct Changes {
    /// By container: rows that end after this position are removed.
    cuts: BTreeMap<u32, u64>,
    /// Containers that are gone.
    gone: BTreeSet<u32>,
    /// Containers to read, with the first entry to read.
    to_read: BTreeMap<u32, usize>,
    /// By container: the message if rows of it are lost.
    reasons: BTreeMap<u32, (String, &'static str)>,
}

/// Indexes `only` these containers, or all of them.
pub(super) fn index_containers(
    universe: &Universe,
    containers: &ContainerPool,
    only: Option<&BTreeSet<u32>>,
) -> Result<Indexed> {
    let is_wanted = |number: &u32| only.is_none_or(|only| only.contains(number));
    let known = containers.snapshot();
    let rows: BTreeMap<_, _> = universe.containers()?.into_iter().collect();
    let identities: BTreeMap<_, _> = universe.identities()?.into_iter().collect();
    let last = rows.keys().next_back().map_or(0, |last| last.saturating_add(1));
    containers.raise_next_number(last);
    let mut changes = Changes::default();
    let id_of = |number: &u32| {
        let id = identities.get(number).map(|identity| identity.id.clone());
        id.or_else(|| known.get(number).map(|known| known.id.clone())).unwrap_or_else(|| number.to_string())
    };
    let wanted: BTreeSet<u32> = rows.keys().chain(known.keys()).copied().filter(is_wanted).collect();
    for number in wanted {
        let row = rows.get(&number).copied().unwrap_or_default();
        let found = match known.get(&number) {
            Some(known) => look(containers, number, known, &row, identities.get(&number))?,
            None => Found::Missing,
        };
        match found {
            Found::Same => {}
            Found::Grown(from) => {
                changes.to_read.insert(number, from);
            }
            Found::Other => {
                changes.cuts.insert(number, 0);
                changes.to_read.insert(number, 0);
                changes.reasons.insert(number, (id_of(&number), "is not the file that it was"));
            }
            Found::Unlisted(bytes) => {
                let end = if has_whole_chunks(universe, containers, number, bytes)? { bytes } else { 0 };
                changes.cuts.insert(number, end);
                changes.reasons.insert(number, (id_of(&number), "is cut or damaged"));
            }
            Found::Missing => {
                containers.forget(number);
                changes.cuts.insert(number, 0);
                changes.gone.insert(number);
                changes.reasons.insert(number, (id_of(&number), "is missing"));
            }
        }
    }
    let mut indexed = Indexed { is_rebuilt: rows.is_empty() && !known.is_empty(), ..Indexed::default() };
    apply(universe, containers, &changes, &mut indexed)?;
    Ok(indexed)
}

/// Compares a file with the universe, and stores its current identity.
fn look(
    containers: &ContainerPool,
    number: u32,
    known: &PooledContainer,
    row: &ContainerRow,
    identity: Option<&ContainerIdentity>,
) -> Result<Found> {
    if row.is_damaged {
        containers.set_damaged(number);
    }
    let path = containers.path(&known.id);
    let reader = match ContainerReader::open(&path) {
        Ok(reader) => reader,
        Err(ContainerError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Found::Missing);
        }
        Err(ContainerError::Io { source, .. }) if source.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(PackedError::io(&path, "open the container")(source));
        }
        Err(_) => {
            containers.set_damaged(number);
            ContainerReader::open_damaged(&path)?
        }
    };
    let metadata = fs::metadata(&path).map_err(PackedError::io(&path, "look at the container"))?;
    containers.set_mark(number, FileMark::of(&metadata));
    let list = reader.list_checksum()?.filter(|_| known.is_sealed);
    let is_same_list = |identity: &ContainerIdentity| identity.list.is_none() || identity.list == list;
    let is_another = identity.is_some_and(|identity| identity.id != known.id);
    if !is_another
        && known.is_sealed
        && list.is_some()
        && row.sealed_bytes == metadata.len()
        && identity.is_none_or(is_same_list)
    {
        // A container that an earlier version has indexed gets its identity now.
        let is_identified = identity.is_some_and(|identity| identity.list.is_some());
        return Ok(if is_identified { Found::Same } else { Found::Grown(row.indexed as usize) });
    }
    let Ok(entries) = reader.entries() else {
        containers.set_damaged(number);
        return Ok(Found::Unlisted(metadata.len()));
    };
    let has_anchor = identity.and_then(|identity| identity.anchor).is_none_or(|(ordinal, chunk)| {
        entries.get(ordinal as usize).is_some_and(|entry| entry.hash == chunk)
    });
    let is_longer = row.indexed as usize <= entries.len();
    let is_resealed = identity.is_some_and(|identity| !is_same_list(identity));
    let is_other = is_another || !has_anchor || !is_longer || is_resealed;
    Ok(if is_other { Found::Other } else { Found::Grown(row.indexed as usize) })
}

/// Whether any chunk can be read of those that the universe has in a container and that are within its file.
fn has_whole_chunks(
    universe: &Universe,
    containers: &ContainerPool,
    number: u32,
    bytes: u64,
) -> Result<bool> {
    let inside = |entry: &ContainerEntry| entry.offset.saturating_add(u64::from(entry.length)) <= bytes;
    let entries: Vec<_> = entries_of(universe, number)?.into_iter().filter(inside).collect();
    let Some(path) = containers.path_of(number) else { return Ok(false) };
    let reader = ContainerReader::open_damaged(&path)?;
    let samples = entries.iter().step_by((entries.len() / SAMPLES).max(1));
    Ok(samples.take(SAMPLES + 1).any(|entry| reader.read_entry(entry).is_ok()))
}

/// The rows that the universe has for one container, in the order of the file.
pub(super) fn entries_of(universe: &Universe, number: u32) -> Result<Vec<ContainerEntry>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let rows = universe.rows_after(after.as_ref(), ROWS_PER_READ)?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(*last);
        let here = rows.iter().filter(|(_, row)| row.location.container == number);
        found.extend(here.map(|(hash, row)| row.location.entry(hash)));
    }
    found.sort_unstable_by_key(|entry| entry.offset);
    Ok(found)
}

/// Missing chunks are removed first, because they may be found in another container.
fn apply(
    universe: &Universe,
    containers: &ContainerPool,
    changes: &Changes,
    indexed: &mut Indexed,
) -> Result<()> {
    indexed.missing = changes.gone.iter().copied().collect();
    if !changes.cuts.is_empty() {
        let lost = forget_cut(universe, &changes.cuts)?;
        universe.write(|tables| {
            for number in changes.cuts.iter().filter(|(_, end)| **end == 0).map(|(number, _)| *number) {
                tables.remove_container(number)?;
            }
            Ok(())
        })?;
        indexed.chunks_lost = lost.values().sum();
        for (number, (id, what)) in &changes.reasons {
            let count = lost.get(number).copied().unwrap_or(0);
            if count > 0 {
                let text = format!("container {id} {what} ({count} chunks were known in it)");
                indexed.findings.insert(id.clone(), text);
            }
        }
    }
    let mut batch = Batch::default();
    for (&number, &from) in &changes.to_read {
        let Some(known) = containers.known(number) else { continue };
        let path = containers.path(&known.id);
        let reader = ContainerReader::open_damaged(&path)?;
        let Ok(entries) = reader.entries() else {
            containers.set_damaged(number);
            continue;
        };
        let from = from.min(entries.len());
        let list = reader.list_checksum()?.filter(|_| known.is_sealed);
        let last = entries.len().checked_sub(1).map(|last| (last as u32, entries[last].hash));
        let identity = ContainerIdentity { id: known.id.clone(), list, anchor: last };
        let sealed_bytes = if known.is_sealed { reader.file_bytes()? } else { 0 };
        indexed.chunks_indexed += (entries.len() - from) as u64;
        let new = entries[from..].iter();
        batch.rows.extend(new.map(|entry| (entry.hash, Location::of(number, entry))));
        batch.ends.push((number, entries.len(), sealed_bytes, identity));
        if batch.rows.len() >= INDEXED_PER_TRANSACTION {
            batch.write(universe)?;
        }
    }
    batch.write(universe)
}

#[derive(Default)]
struct Batch {
    rows: Vec<(ChunkHash, Location)>,
    /// Containers that are indexed up to an entry: the number of entries, the length if it is sealed, and the identity.
    ends: Vec<(u32, usize, u64, ContainerIdentity)>,
}

impl Batch {
    fn write(&mut self, universe: &Universe) -> Result<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        // Stable: of several places of one chunk the newest is last.
        self.rows.sort_by_key(|(hash, _)| *hash);
        universe.write(|tables| {
            for (hash, location) in self.rows.drain(..) {
                tables.place(&hash, location)?;
            }
            for (number, count, sealed_bytes, identity) in self.ends.drain(..) {
                let row = tables.container(number)?;
                let indexed = u32::try_from(count).unwrap_or(u32::MAX);
                tables.put_container(number, &ContainerRow { indexed, sealed_bytes, ..row })?;
                tables.put_identity(number, &identity)?;
            }
            Ok(())
        })
    }
}

/// Removes the places of chunks that end after these positions of their containers: those chunks must be stored again.
/// Returns their number for each container.
fn forget_cut(universe: &Universe, cuts: &BTreeMap<u32, u64>) -> Result<BTreeMap<u32, u64>> {
    let (mut after, mut counts) = (None, BTreeMap::new());
    loop {
        let rows = universe.rows_after(after.as_ref(), ROWS_PER_READ)?;
        let Some((last, _)) = rows.last() else { return Ok(counts) };
        after = Some(*last);
        let is_lost = |location: &Location| {
            let end = location.offset.saturating_add(u64::from(location.stored));
            cuts.get(&location.container).is_some_and(|cut| end > *cut)
        };
        let lost: Vec<_> = rows.iter().filter(|(_, row)| is_lost(&row.location)).collect();
        if lost.is_empty() {
            continue;
        }
        universe.write(|tables| {
            for (hash, row) in &lost {
                tables.move_row(hash, row.location, Location::NOWHERE)?;
            }
            Ok(())
        })?;
        for (_, row) in lost {
            *counts.entry(row.location.container).or_insert(0) += 1;
        }
    }
}
