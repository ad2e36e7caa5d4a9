//! Sorts the entries of a stage by path, keeping the newest of each path, in bounded memory: sorted runs are written to
//! unnamed files, which are then merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use orbit_shared::entry::Entry;

use super::codec::{Decoder, Encoder};
use super::error::{PackedError, Result};
use super::types::TreeEntry;

/// Maximum total size of the read buffers of all runs, in bytes.
const BUFFERS_BYTES: usize = 16 * 1024 * 1024;
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// Accepts entries in any order.
pub(super) struct Sorter {
    dir: PathBuf,
    run_bytes: usize,
    held: Vec<TreeEntry>,
    held_bytes: usize,
    runs: Vec<File>,
}

impl Sorter {
    /// Makes files in `dir`, and holds about `run_bytes` of entries at most.
    pub(super) fn new(dir: &Path, run_bytes: usize) -> Self {
        Self { dir: dir.to_owned(), run_bytes, held: Vec::new(), held_bytes: 0, runs: Vec::new() }
    }

    pub(super) fn push(&mut self, entry: TreeEntry) -> Result<()> {
        self.held_bytes += size_of::<TreeEntry>() + entry.entry.path.len() + entry.chunks.len() * 36;
        self.held.push(entry);
        if self.held_bytes >= self.run_bytes { self.spill() } else { Ok(()) }
    }

    fn sort(&mut self) {
        // Stable, so that the newest entry of a path is last.
        self.held.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
    }

    fn spill(&mut self) -> Result<()> {
        self.sort();
        let failed = |error| PackedError::io(&self.dir, "sort entries in")(error);
        let file = unnamed(&self.dir).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(256 * 1024, &file);
        let mut encoder = Encoder::default();
        for entry in self.held.drain(..) {
            encoder.0.clear();
            encoder.entry(&entry.entry, &entry.chunks, false);
            let length = u32::try_from(encoder.0.len()).unwrap_or(u32::MAX).to_le_bytes();
            writer.write_all(&length).and_then(|()| writer.write_all(&encoder.0)).map_err(failed)?;
        }
        writer.flush().map_err(failed)?;
        drop(writer);
        self.runs.push(file);
        self.held_bytes = 0;
        Ok(())
    }

    /// Passes the newest entry of each path to `give`, in order of paths. Returns their number.
    pub(super) fn finish(mut self, mut give: impl FnMut(TreeEntry) -> Result<()>) -> Result<u64> {
        self.sort();
        let mut sources = Vec::with_capacity(self.runs.len() + 1);
        let buffer_bytes = (BUFFERS_BYTES / self.runs.len().max(1)).max(BUFFER_BYTES_MIN);
        let dir = self.dir;
        for mut run in self.runs {
            run.rewind().map_err(PackedError::io(&dir, "sort entries in"))?;
            sources.push(Source::Run(BufReader::with_capacity(buffer_bytes, run)));
        }
        sources.push(Source::Held(self.held.into_iter()));
        let mut heads: Vec<Option<TreeEntry>> = Vec::with_capacity(sources.len());
        let mut heap = BinaryHeap::new();
        for (index, source) in sources.iter_mut().enumerate() {
            let head = source.next(&dir)?;
            heap.extend(head.as_ref().map(|head| Reverse((head.entry.path.clone(), index))));
            heads.push(head);
        }
        let (mut count, mut last): (u64, Option<TreeEntry>) = (0, None);
        while let Some(Reverse((_, index))) = heap.pop() {
            let next = sources[index].next(&dir)?;
            heap.extend(next.as_ref().map(|next| Reverse((next.entry.path.clone(), index))));
            let Some(entry) = std::mem::replace(&mut heads[index], next) else { continue };
            // A run with a lower index is older, so the last entry of a path is the newest.
            match last.replace(entry) {
                Some(before) if last.as_ref().is_some_and(|last| last.entry.path != before.entry.path) => {
                    count += 1;
                    give(before)?;
                }
                Some(_) | None => {}
            }
        }
        if let Some(entry) = last {
            count += 1;
            give(entry)?;
        }
        Ok(count)
    }
}

enum Source {
    Run(BufReader<File>),
    Held(std::vec::IntoIter<TreeEntry>),
}

impl Source {
    fn next(&mut self, dir: &Path) -> Result<Option<TreeEntry>> {
        let run = match self {
            Self::Held(held) => return Ok(held.next()),
            Self::Run(run) => run,
        };
        let mut length = [0; 4];
        match run.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(PackedError::io(dir, "sort entries in")(error)),
        }
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        run.read_exact(&mut bytes).map_err(PackedError::io(dir, "sort entries in"))?;
        match Decoder(&bytes).entry() {
            Some((entry, _)) => Ok(Some(entry)),
            None => Err(PackedError::damaged(dir, "what was being sorted")),
        }
    }
}

/// A file without a name, which is removed when it is closed, also after a kill.
fn unnamed(dir: &Path) -> std::io::Result<File> {
    let path = dir.join(format!("sorting-{}", uuid::Uuid::new_v4().simple()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// The size of an entry in memory.
const _: () = assert!(size_of::<Entry>() < 256);

#[cfg(test)]
mod tests {
    use orbit_shared::entry::EntryKind;
    use orbit_shared::time::WallTime;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn entries_come_out_like_those_of_a_map(
            paths in prop::collection::vec(0_u8..40, 0..300),
            run_bytes in 1_usize..20_000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(dir.path(), run_bytes);
            let mut expected = std::collections::BTreeMap::new();
            for (number, path) in paths.iter().enumerate() {
                let entry = Entry {
                    path: vec![b'a', *path],
                    kind: EntryKind::File { size: 1 },
                    mode: number as u32,
                    modified: WallTime::default(),
                    rank: 0,
                };
                let entry = TreeEntry { entry, chunks: Vec::new() };
                expected.insert(entry.entry.path.clone(), entry.clone());
                sorter.push(entry).unwrap();
            }
            let mut found = Vec::new();
            let count = sorter.finish(|entry| { found.push(entry); Ok(()) }).unwrap();
            prop_assert_eq!(count as usize, found.len());
            prop_assert_eq!(found, expected.into_values().collect::<Vec<_>>());
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
