//! Changes of the universe, within one transaction.
//!
//! References form a tree: a snapshot holds its root node, and a node holds what it lists, once, no matter how many
//! hold the node. So a snapshot that shares most nodes with an earlier one costs only as much as its new nodes.
//! `is_expanded` says whether the children of a node are counted. It changes in the transaction that counts them, so
//! nothing is counted twice. The counting itself is that of [`RefCountMap`], with the rows of chunks and of nodes as its
//! stores.

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::ref_count::{Count, CountStore, RefCountMap};
use redb::{ReadableTable as _, Table, WriteTransaction};

use super::row::{ContainerIdentity, ContainerRow, Location, NodeRow, Row};
use super::{
    CHUNKS, CONTAINER_BYTES, CONTAINERS, DAMAGED, FINDINGS, Hash, IDENTITIES, NODE_BYTES, NODES, OWNERS,
    RELEASES, ROW_BYTES,
};
use crate::packed::error::{PackedError, Result};
use crate::packed::types::SnapshotId;

/// Maximum number of chunks that are held to be counted in the order of the rows.
const SORTED_MAX: usize = 256 * 1024;

/// The children of a node: other nodes, and chunks that are not nodes. Each once.
#[derive(Debug, Default)]
pub(in crate::packed) struct Children {
    pub(in crate::packed) nodes: Vec<ChunkHash>,
    pub(in crate::packed) chunks: Vec<ChunkHash>,
}

/// Reads the children of a node; `None` if it cannot be read.
pub(in crate::packed) type LoadChildren<'a> = dyn Fn(&ChunkHash) -> Result<Option<Children>> + 'a;

/// The rows of chunks, which have their counts.
struct ChunkRows<'a>(Table<'a, &'static Hash, &'static [u8; ROW_BYTES]>);

impl ChunkRows<'_> {
    fn row(&self, hash: &ChunkHash) -> Result<Option<Row>> {
        let value = self.0.get(hash.as_bytes()).map_err(PackedError::universe)?;
        value.map(|value| Row::decode(hash, value.value())).transpose()
    }

    fn put(&mut self, hash: &ChunkHash, row: &Row) -> Result<()> {
        let bytes = row.encode(hash);
        self.0.insert(hash.as_bytes(), &bytes).map(|_| ()).map_err(PackedError::universe)
    }
}

impl CountStore for ChunkRows<'_> {
    type Error = PackedError;

    fn update(
        &mut self,
        hash: &ChunkHash,
        change: &mut dyn FnMut(Option<Count>) -> Option<Count>,
    ) -> Result<()> {
        let row = self.row(hash)?;
        let Some(count) = change(row.map(|row| Count { references: row.references, marked: row.marked }))
        else {
            return Ok(());
        };
        // A lost chunk is counted too, so that it is not collected once it is healed.
        let location = row.map_or(Location::NOWHERE, |row| row.location);
        self.put(hash, &Row { location, references: count.references, marked: count.marked })
    }

    fn forget(&mut self, hash: &ChunkHash) -> Result<()> {
        self.0.remove(hash.as_bytes()).map(|_| ()).map_err(PackedError::universe)
    }
}

/// The rows of chunks that are tree nodes: how many nodes and snapshots hold each as a node. The time of a mark is in the
/// row of the chunk.
struct NodeRows<'a>(Table<'a, &'static Hash, &'static [u8; NODE_BYTES]>);

impl NodeRows<'_> {
    fn row(&self, hash: &ChunkHash) -> Result<Option<NodeRow>> {
        let value = self.0.get(hash.as_bytes()).map_err(PackedError::universe)?;
        value.map(|value| NodeRow::decode(hash, value.value())).transpose()
    }

    fn put(&mut self, hash: &ChunkHash, node: NodeRow) -> Result<()> {
        let bytes = node.encode(hash);
        self.0.insert(hash.as_bytes(), &bytes).map(|_| ()).map_err(PackedError::universe)
    }

    /// The children of a node are counted from now on, or no longer.
    fn set_expanded(&mut self, hash: &ChunkHash, is_expanded: bool) -> Result<()> {
        let node = self.row(hash)?.unwrap_or_default();
        self.put(hash, NodeRow { is_expanded, ..node })
    }
}

impl CountStore for NodeRows<'_> {
    type Error = PackedError;

    fn update(
        &mut self,
        hash: &ChunkHash,
        change: &mut dyn FnMut(Option<Count>) -> Option<Count>,
    ) -> Result<()> {
        let row = self.row(hash)?;
        match change(row.map(|row| Count { references: row.references, marked: 0 })) {
            Some(count) => {
                self.put(hash, NodeRow { references: count.references, ..row.unwrap_or_default() })
            }
            None => Ok(()),
        }
    }

    fn forget(&mut self, hash: &ChunkHash) -> Result<()> {
        self.0.remove(hash.as_bytes()).map(|_| ()).map_err(PackedError::universe)
    }
}

/// The tables of one transaction.
pub(in crate::packed) struct Tables<'a> {
    chunks: RefCountMap<ChunkRows<'a>>,
    nodes: RefCountMap<NodeRows<'a>>,
    owners: Table<'a, &'static [u8; 16], &'static Hash>,
    releases: Table<'a, &'static Hash, u64>,
    containers: Table<'a, u32, &'static [u8; CONTAINER_BYTES]>,
    identities: Table<'a, u32, &'static [u8]>,
    findings: Table<'a, &'static str, &'static str>,
    damaged: Table<'a, &'static Hash, (u64, &'static str)>,
}

impl<'a> Tables<'a> {
    pub(super) fn open(transaction: &'a WriteTransaction) -> Result<Self> {
        Ok(Self {
            chunks: RefCountMap::new(ChunkRows(
                transaction.open_table(CHUNKS).map_err(PackedError::universe)?,
            )),
            nodes: RefCountMap::new(NodeRows(transaction.open_table(NODES).map_err(PackedError::universe)?)),
            owners: transaction.open_table(OWNERS).map_err(PackedError::universe)?,
            releases: transaction.open_table(RELEASES).map_err(PackedError::universe)?,
            containers: transaction.open_table(CONTAINERS).map_err(PackedError::universe)?,
            identities: transaction.open_table(IDENTITIES).map_err(PackedError::universe)?,
            findings: transaction.open_table(FINDINGS).map_err(PackedError::universe)?,
            damaged: transaction.open_table(DAMAGED).map_err(PackedError::universe)?,
        })
    }

    pub(in crate::packed) fn row(&self, hash: &ChunkHash) -> Result<Option<Row>> {
        self.chunks.store().row(hash)
    }

    /// Records that the chunk is at this place. Its references are unchanged.
    pub(in crate::packed) fn place(&mut self, hash: &ChunkHash, location: Location) -> Result<()> {
        let rows = self.chunks.store_mut();
        let bytes = Row::new(location).encode(hash);
        let before = rows.0.insert(hash.as_bytes(), &bytes).map_err(PackedError::universe)?;
        let before = before.map(|value| Row::decode(hash, value.value())).transpose()?;
        match before.filter(|before| before.references > 0 || before.marked > 0) {
            Some(before) => rows.put(hash, &Row { location, ..before }),
            None => Ok(()),
        }
    }

    /// Records that the chunk was moved. Does nothing if it has another place by now.
    pub(in crate::packed) fn move_row(
        &mut self,
        hash: &ChunkHash,
        from: Location,
        to: Location,
    ) -> Result<bool> {
        match self.row(hash)? {
            Some(row) if row.location == from => {
                self.chunks.store_mut().put(hash, &Row { location: to, ..row })?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Marks a chunk that never had a reference.
    pub(in crate::packed) fn mark(&mut self, hash: &ChunkHash, now: u64) -> Result<()> {
        self.chunks.mark(hash, now)
    }

    /// Removes a chunk at this place if it has no references. Returns whether it did.
    pub(in crate::packed) fn forget(&mut self, hash: &ChunkHash, location: Location) -> Result<bool> {
        let Some(row) = self.row(hash)? else { return Ok(false) };
        let node = self.nodes.store().row(hash)?.unwrap_or_default();
        if node.references > 0 || node.is_expanded || row.location != location || !self.chunks.remove(hash)? {
            return Ok(false);
        }
        self.nodes.remove(hash)?;
        self.damaged.remove(hash.as_bytes()).map_err(PackedError::universe)?;
        Ok(true)
    }

    /// The fault that a test injects: it is not checked whether the chunk is needed again.
    #[cfg(test)]
    pub(in crate::packed) fn forget_blindly(&mut self, hash: &ChunkHash) -> Result<()> {
        self.chunks.store_mut().forget(hash)
    }

    pub(in crate::packed) fn container(&self, number: u32) -> Result<ContainerRow> {
        let value = self.containers.get(number).map_err(PackedError::universe)?;
        let row = value.map(|value| ContainerRow::decode(number, value.value())).transpose()?;
        Ok(row.unwrap_or_default())
    }

    pub(in crate::packed) fn put_container(&mut self, number: u32, row: &ContainerRow) -> Result<()> {
        let bytes = row.encode(number);
        self.containers.insert(number, &bytes).map(|_| ()).map_err(PackedError::universe)
    }

    /// Removes a container. If its file comes back, it is indexed completely.
    pub(in crate::packed) fn remove_container(&mut self, number: u32) -> Result<()> {
        self.identities.remove(number).map_err(PackedError::universe)?;
        self.containers.remove(number).map(|_| ()).map_err(PackedError::universe)
    }

    pub(in crate::packed) fn put_identity(
        &mut self,
        number: u32,
        identity: &ContainerIdentity,
    ) -> Result<()> {
        let bytes = identity.encode(number);
        self.identities.insert(number, bytes.as_slice()).map(|_| ()).map_err(PackedError::universe)
    }

    /// Records how far an open container is indexed: its entries up to `ordinal`, the last of which is `chunk`.
    pub(in crate::packed) fn put_anchor(
        &mut self,
        number: u32,
        id: &str,
        ordinal: u32,
        chunk: ChunkHash,
    ) -> Result<()> {
        self.put_identity(
            number,
            &ContainerIdentity { id: id.to_owned(), list: None, anchor: Some((ordinal, chunk)) },
        )
    }

    pub(in crate::packed) fn put_finding(&mut self, about: &str, text: &str) -> Result<()> {
        self.findings.insert(about, text).map(|_| ()).map_err(PackedError::universe)
    }

    /// Nothing is missing any more.
    pub(in crate::packed) fn clear_findings(&mut self) -> Result<()> {
        self.findings.retain(|_, _| false).map_err(PackedError::universe)
    }

    pub(in crate::packed) fn put_damaged(
        &mut self,
        hash: &ChunkHash,
        found: u64,
        problem: &str,
    ) -> Result<()> {
        self.damaged.insert(hash.as_bytes(), (found, problem)).map(|_| ()).map_err(PackedError::universe)
    }

    pub(in crate::packed) fn remove_damaged(&mut self, hash: &ChunkHash) -> Result<()> {
        self.damaged.remove(hash.as_bytes()).map(|_| ()).map_err(PackedError::universe)
    }

    /// Whether the children of a node are counted, and how many references it has as a node.
    fn node(&self, hash: &ChunkHash) -> Result<NodeRow> {
        Ok(self.nodes.store().row(hash)?.unwrap_or_default())
    }

    /// From now on the snapshot is counted for this root, or for none.
    pub(in crate::packed) fn own(
        &mut self,
        id: &SnapshotId,
        root: Option<&ChunkHash>,
        now: u64,
        load: &LoadChildren<'_>,
    ) -> Result<()> {
        let before = self.owners.get(&id.0).map_err(PackedError::universe)?;
        let before = before.map(|value| ChunkHash(*value.value()));
        if before.as_ref() == root {
            return Ok(());
        }
        match root {
            Some(root) => {
                // The counts of what both roots hold must not become zero in between.
                self.retain(*root, load)?;
                self.owners.insert(&id.0, root.as_bytes()).map_err(PackedError::universe)?;
            }
            None => {
                self.owners.remove(&id.0).map_err(PackedError::universe)?;
            }
        }
        before.map_or(Ok(()), |before| self.release_node(&before, now))
    }

    /// Counts one more reference to a node, and its children if they are not counted yet.
    fn retain(&mut self, root: ChunkHash, load: &LoadChildren<'_>) -> Result<()> {
        let (mut pending, mut chunks) = (vec![root], Vec::new());
        while let Some(hash) = pending.pop() {
            self.chunks.increment(&hash, 1)?;
            self.nodes.increment(&hash, 1)?;
            self.releases.remove(hash.as_bytes()).map_err(PackedError::universe)?;
            if !self.node(&hash)?.is_expanded
                && let Some(children) = load(&hash)?
            {
                self.nodes.store_mut().set_expanded(&hash, true)?;
                pending.extend(children.nodes);
                chunks.extend(children.chunks);
            }
            if chunks.len() >= SORTED_MAX || pending.is_empty() {
                self.add_all(&mut chunks)?;
            }
        }
        Ok(())
    }

    /// Counts one more reference to each chunk, in the order of the rows, which is many times faster than any other
    /// order.
    fn add_all(&mut self, chunks: &mut Vec<ChunkHash>) -> Result<()> {
        chunks.sort_unstable();
        for same in chunks.chunk_by(|a, b| a == b) {
            self.chunks.increment(&same[0], u32::try_from(same.len()).unwrap_or(u32::MAX))?;
        }
        chunks.clear();
        Ok(())
    }

    /// Counts the children of a referenced node that could not be read before.
    pub(in crate::packed) fn expand(&mut self, hash: &ChunkHash, load: &LoadChildren<'_>) -> Result<bool> {
        let node = self.node(hash)?;
        if node.is_expanded || node.references == 0 {
            return Ok(true);
        }
        let Some(children) = load(hash)? else { return Ok(false) };
        self.nodes.store_mut().set_expanded(hash, true)?;
        for child in children.nodes {
            self.retain(child, load)?;
        }
        let mut chunks = children.chunks;
        self.add_all(&mut chunks)?;
        Ok(true)
    }

    /// Counts one reference less to a node. [`Tables::release_some`] releases its children later.
    fn release_node(&mut self, hash: &ChunkHash, now: u64) -> Result<()> {
        self.chunks.decrement(hash, now)?;
        let references = self.nodes.decrement(hash, now)?;
        if references == 0 && self.node(hash)?.is_expanded {
            self.releases.insert(hash.as_bytes(), now).map_err(PackedError::universe)?;
        }
        Ok(())
    }

    /// Releases the children of nodes without references, until `limit` chunks have changed or none are left. Returns
    /// whether some are left.
    pub(in crate::packed) fn release_some(&mut self, limit: usize, load: &LoadChildren<'_>) -> Result<bool> {
        let mut dropped: Vec<(ChunkHash, u64)> = Vec::new();
        let mut node_count = 0;
        let has_more = loop {
            if node_count + dropped.len() >= limit {
                break true;
            }
            let first = self.releases.pop_first().map_err(PackedError::universe)?;
            let Some((hash, now)) = first.map(|(key, value)| (ChunkHash(*key.value()), value.value())) else {
                break false;
            };
            let node = self.node(&hash)?;
            if node.references > 0 || !node.is_expanded {
                continue;
            }
            self.nodes.store_mut().set_expanded(&hash, false)?;
            // The children of a node that cannot be read stay counted until the universe is rebuilt.
            let children = load(&hash)?.unwrap_or_default();
            node_count += 1 + children.nodes.len();
            for child in &children.nodes {
                self.release_node(child, now)?;
            }
            dropped.extend(children.chunks.into_iter().map(|chunk| (chunk, now)));
        };
        dropped.sort_unstable();
        for (chunk, now) in &dropped {
            self.chunks.decrement(chunk, *now)?;
        }
        Ok(has_more)
    }
}
