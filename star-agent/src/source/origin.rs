//! The origin of a pull's content: a directory, the tree of a snapshot in this Star's vault, or chunks by their hashes.
//!
//! All three provide content by offset, so that cutting, naming and sending are the same.

use std::cell::RefCell;
use std::sync::Arc;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{EntryKind, display_path, join_path};
use orbit_shared::filter::Filter;
use orbit_shared::session::{Failure, FailureCause, Fault};
use orbit_shared::time::WallTime;
use orbit_shared::words::SnapshotId;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::failures::{at_source, changed_while_read, permanent};
use crate::packed::{ChunkRef, PackedError, PackedStore};
use crate::roots::{Place, split_parent};
use crate::source::clones::{Clones, FileClone};
use crate::source::held::hold;
use crate::transfer::{FileVersion, Looked};

/// What a pull reads, and which files of it the grant covers.
pub(crate) struct Origin {
    tree: Tree,
    /// `None`: every file may be read.
    filter: Option<Filter>,
}

/// The start of the paths of a pull's fetches.
enum Tree {
    /// A directory or a single file, with the clones that were made of files there.
    Directory(Place, Clones),
    /// The tree of a snapshot.
    Snapshot(SnapshotTree),
    /// Chunks: the path of a fetch is the hash of one.
    Chunks(Arc<PackedStore>),
}

/// A part of a snapshot's tree.
pub(crate) struct SnapshotTree {
    store: Arc<PackedStore>,
    id: SnapshotId,
    /// Path of its start in the tree; empty for the whole tree.
    base: Vec<u8>,
}

impl SnapshotTree {
    /// The tree from the source path of a job on, which begins with a slash.
    pub(crate) fn new(store: Arc<PackedStore>, id: SnapshotId, source_path: &[u8]) -> Self {
        Self { store, id, base: tree_path(source_path).to_vec() }
    }
}

/// The path in a snapshot's tree for a job's source path.
pub(crate) fn tree_path(source_path: &[u8]) -> &[u8] {
    let path = source_path.strip_prefix(b"/").unwrap_or(source_path);
    path.strip_suffix(b"/").unwrap_or(path)
}

/// The path in the tree of an entry below a base.
pub(crate) fn below(base: &[u8], path: &[u8]) -> Vec<u8> {
    if base.is_empty() { path.to_vec() } else { join_path(base, path) }
}

/// Content that is open for one fetch.
pub(crate) enum Readable {
    File(OwnedFd),
    /// A file whose reported size is meaningless, and its content when it was opened.
    Held(OwnedFd, Vec<u8>),
    Clone(FileClone),
    Packed(PackedFile),
}

/// Content in chunks.
pub(crate) struct PackedFile {
    store: Arc<PackedStore>,
    /// The snapshot that contains it, if it is a file of one.
    snapshot: Option<SnapshotId>,
    /// The offset of each chunk, and the chunk.
    chunks: Vec<(u64, ChunkRef)>,
    /// The chunk that was read last.
    last: RefCell<Option<(usize, Vec<u8>)>>,
}

impl Origin {
    /// Files below a directory.
    pub(crate) fn directory(place: Place, filter: Option<Filter>) -> Self {
        Self { tree: Tree::Directory(place, Clones::default()), filter }
    }

    /// Files of a snapshot.
    pub(crate) fn snapshot(tree: SnapshotTree, filter: Option<Filter>) -> Self {
        Self { tree: Tree::Snapshot(tree), filter }
    }

    /// Chunks of a vault.
    pub(crate) fn chunks(store: Arc<PackedStore>) -> Self {
        Self { tree: Tree::Chunks(store), filter: None }
    }

    /// The full path of a fetch, for messages.
    pub(crate) fn path(&self, path: &[u8]) -> Vec<u8> {
        match &self.tree {
            Tree::Directory(place, _) => join_path(&place.path, path),
            Tree::Snapshot(tree) => {
                join_path(format!("snapshot {}", tree.id).as_bytes(), &below(&tree.base, path))
            }
            Tree::Chunks(_) => path.to_vec(),
        }
    }

    /// What there is under a name. If that cannot be found out, the failure has another cause than that it is missing, because
    /// the caller may delete what is missing. With `is_one_file_system` this also applies to all that is on another file system
    /// than the base.
    pub(crate) fn look(&self, path: &[u8], is_one_file_system: bool) -> Result<Looked, Failure> {
        let shown = self.path(path);
        let found = match &self.tree {
            Tree::Directory(place, _) => match is_one_file_system && is_on_other_device(place, path) {
                true => Err(Errno::XDEV),
                false => look_in_directory(place, path),
            },
            Tree::Snapshot(tree) => match tree.store.entry(&tree.id, &below(&tree.base, path)) {
                Ok(Some(entry)) if entry.entry.kind == EntryKind::Directory => Ok(Looked::Directory),
                Ok(Some(_)) => Ok(Looked::Other),
                Ok(None) => Err(Errno::NOENT),
                Err(error) => return Err(of_vault(&error, &shown)),
            },
            Tree::Chunks(_) => Err(Errno::INVAL),
        };
        found.map_err(|errno| {
            let errno = if errno == Errno::NOTDIR { Errno::LOOP } else { errno };
            at_source(errno, "look for", &shown)
        })
    }

    /// Opens the file of a fetch, and returns its version. If the file changes while it is read, a clone is opened if
    /// one can be made.
    pub(crate) fn open(
        &self,
        path: &[u8],
        accepts_changes: bool,
    ) -> Result<(Readable, FileVersion), Failure> {
        if self.filter.as_ref().is_some_and(|filter| !filter.keeps_file(path)) {
            return Err(permanent(format!("{} is not part of the job", display_path(&self.path(path)))));
        }
        match &self.tree {
            Tree::Directory(place, clones) => {
                let clones = accepts_changes.then_some(clones);
                open_in_directory(place, path, clones, &self.path(path))
            }
            Tree::Snapshot(tree) => tree.open(path, &self.path(path)),
            Tree::Chunks(store) => open_chunk(store, path),
        }
    }
}

fn open_in_directory(
    place: &Place,
    path: &[u8],
    clones: Option<&Clones>,
    shown: &[u8],
) -> Result<(Readable, FileVersion), Failure> {
    let failed = |errno| at_source(errno, "open", shown);
    let file = open_file(place, path).map_err(failed)?;
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(permanent(format!("{} is no longer a regular file", display_path(shown))));
    }
    let version = FileVersion::from(&stat);
    if let Some(content) = hold(&file, &stat, shown)? {
        let version = FileVersion { size: content.len() as u64, ..version };
        return Ok((Readable::Held(file, content), version));
    }
    let directory = || match &place.single {
        Some(_) => place.tree.open_dir(b""),
        None => place.tree.open_parent(path).map(|(parent, _)| parent),
    };
    Ok(match clones.and_then(|clones| clones.of(path, &file, version, directory)) {
        Some(clone) => {
            let version = clone.version;
            (Readable::Clone(clone), version)
        }
        None => (Readable::File(file), version),
    })
}

/// Whether a name is on another device than the base: whether its nearest existing parent directory is. A directory
/// without `stat` counts as such.
fn is_on_other_device(place: &Place, path: &[u8]) -> bool {
    let device = |path: &[u8]| Ok(rustix::fs::fstat(&*place.tree.open_dir(path)?)?.st_dev);
    let Ok(of_base) = device(b"") else { return true };
    let mut above = path;
    loop {
        above = split_parent(above).0;
        match device(above) {
            Ok(device) => return device != of_base,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !above.is_empty() => {}
            Err(_) => return true,
        }
    }
}

fn look_in_directory(place: &Place, path: &[u8]) -> Result<Looked, Errno> {
    let look = |parent: &OwnedFd, name: &[u8]| {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Looked::Directory,
            _ => Looked::Other,
        })
    };
    match (&place.single, path.is_empty()) {
        (Some(name), true) => look(&*place.tree.open_dir(b"")?, name),
        // The base itself: it may have been removed since it was opened, and is still open then.
        (None, true) => match rustix::fs::fstat(&*place.tree.open_dir(b"")?)?.st_nlink {
            0 => Err(Errno::NOENT),
            _ => Ok(Looked::Directory),
        },
        (Some(_), false) => Err(Errno::NOTDIR),
        (None, false) => match place.tree.open_parent(path) {
            Ok((parent, name)) => look(&parent, name),
            // A file or link has replaced a directory above it, so nothing is below that any more.
            Err(Errno::NOTDIR | Errno::LOOP) => Err(Errno::NOENT),
            Err(errno) => Err(errno),
        },
    }
}

/// Opens the file at `path` below the base. Never follows a link and never waits for the other end of a FIFO.
fn open_file(place: &Place, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    match (&place.single, path.is_empty()) {
        (Some(name), true) => {
            rustix::fs::openat(place.tree.open_dir(b"")?, name.as_slice(), flags, Mode::empty())
        }
        (None, true) => Err(Errno::ISDIR),
        (Some(_), false) => Err(Errno::NOTDIR),
        (None, false) => {
            let (parent, name) = place.tree.open_parent(path)?;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        }
    }
}

impl SnapshotTree {
    fn open(&self, path: &[u8], shown: &[u8]) -> Result<(Readable, FileVersion), Failure> {
        let found = self.store.entry(&self.id, &below(&self.base, path));
        let entry = found.map_err(|error| of_vault(&error, shown))?;
        let Some(entry) = entry else { return Err(at_source(Errno::NOENT, "open", shown)) };
        let EntryKind::File { size } = entry.entry.kind else {
            return Err(permanent(format!("{} is no regular file", display_path(shown))));
        };
        let version = FileVersion {
            size,
            modified: entry.entry.modified,
            changed: entry.entry.modified,
            mode: entry.entry.mode,
        };
        let file = PackedFile::new(Arc::clone(&self.store), Some(self.id), entry.chunks);
        Ok((Readable::Packed(file), version))
    }
}

fn open_chunk(store: &Arc<PackedStore>, path: &[u8]) -> Result<(Readable, FileVersion), Failure> {
    let text = display_path(path);
    let hash: ChunkHash = text.parse().map_err(|_| permanent(format!("{text} is no chunk's hash")))?;
    let bytes = store.read(&hash).map_err(|error| of_vault(&error, path))?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let file = PackedFile::new(Arc::clone(store), None, vec![ChunkRef { hash, length }]);
    file.last.replace(Some((0, bytes)));
    let time = WallTime::UNIX_EPOCH;
    let version = FileVersion { size: length.into(), modified: time, changed: time, mode: 0 };
    Ok((Readable::Packed(file), version))
}

impl PackedFile {
    fn new(store: Arc<PackedStore>, snapshot: Option<SnapshotId>, chunks: Vec<ChunkRef>) -> Self {
        let mut offset = 0;
        let place = |chunk: ChunkRef| {
            let start = offset;
            offset += u64::from(chunk.length);
            (start, chunk)
        };
        let chunks = chunks.into_iter().map(place).collect();
        Self { store, snapshot, chunks, last: RefCell::default() }
    }

    fn read(&self, buffer: &mut Vec<u8>, offset: u64, shown: &[u8]) -> Result<(), Failure> {
        let index = self.chunks.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let Some((start, chunk)) = self.chunks.get(index) else { return Err(changed_while_read(shown)) };
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(loaded, _)| *loaded != index) {
            let read = match &self.snapshot {
                Some(snapshot) => self.store.read_of(snapshot, &chunk.hash),
                None => self.store.read(&chunk.hash),
            };
            let bytes = read.map_err(|error| of_vault(&error, shown))?;
            *last = Some((index, bytes));
        }
        let Some((_, bytes)) = last.as_ref() else { return Err(changed_while_read(shown)) };
        let rest = usize::try_from(offset - start).ok().and_then(|skipped| bytes.get(skipped..));
        let rest = rest.unwrap_or_default();
        let length = rest.len().min(buffer.capacity() - buffer.len());
        if length == 0 {
            return Err(changed_while_read(shown));
        }
        buffer.extend_from_slice(&rest[..length]);
        Ok(())
    }
}

impl Readable {
    /// Reads from `offset` into the free space at the end of `buffer`. May read more than is wanted. Returns whether
    /// there was any content.
    pub(crate) fn read_some(&self, buffer: &mut Vec<u8>, offset: u64, shown: &[u8]) -> Result<bool, Failure> {
        let file = match self {
            Self::File(file) => file,
            Self::Clone(clone) => &clone.file,
            Self::Held(_, content) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..));
                let rest = rest.unwrap_or_default();
                let length = rest.len().min(buffer.capacity() - buffer.len());
                buffer.extend_from_slice(&rest[..length]);
                return Ok(length > 0);
            }
            Self::Packed(file) => return file.read(buffer, offset, shown).map(|()| true),
        };
        loop {
            match rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), offset) {
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(at_source(errno, "read", shown)),
            }
        }
    }

    /// Whether its content is unaffected by writes to the file.
    pub(crate) fn is_still(&self) -> bool {
        match self {
            Self::File(_) | Self::Held(..) => false,
            Self::Clone(_) | Self::Packed(_) => true,
        }
    }

    /// Whether a file still has a version. If it has changed while it was read, what was read is a mixture.
    pub(crate) fn is_unchanged(&self, version: &FileVersion, shown: &[u8]) -> Result<bool, Failure> {
        let (file, held) = match self {
            Self::File(file) => (file, None),
            Self::Held(file, content) => (file, Some(content.len() as u64)),
            Self::Clone(_) | Self::Packed(_) => return Ok(true),
        };
        let stat = rustix::fs::fstat(file).map_err(|errno| at_source(errno, "stat", shown))?;
        let now = FileVersion::from(&stat);
        Ok(FileVersion { size: held.unwrap_or(now.size), ..now } == *version)
    }
}

/// The failure of a file if the vault reports this error.
pub(crate) fn of_vault(error: &PackedError, shown: &[u8]) -> Failure {
    let message = format!("cannot read {}: {error}", display_path(shown));
    match error {
        PackedError::DamagedChunk { .. } | PackedError::UnknownChunk { .. } | PackedError::Damaged { .. } => {
            Failure { cause: FailureCause::DataCorruption, fault: Fault::Item, message }
        }
        PackedError::UnknownSnapshot(_) => {
            Failure { cause: FailureCause::SourceMissing, fault: Fault::Item, message }
        }
        _ => Failure { cause: FailureCause::Transient, fault: Fault::Source, message },
    }
}
