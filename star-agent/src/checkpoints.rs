//! The progress of large files that are being received: which of their bytes are verified, written and synced. After a
//! restart a process continues from there, and neither fetches nor reads those bytes again.
//!
//! There is one record per file, in a directory of the vault. It is written atomically after the content that it covers
//! was synced, and has a checksum, so all bytes that a record covers are on the disk. It names the exact version of the
//! source file and the inode of the temporary. A record that does not fit both is not used.
//!
//! The coordinator tells a Star when a job is cancelled, but not when it ends otherwise. So a record that no job has
//! used for [`KEPT_FOR`] is removed together with its temporary.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orbit_shared::session::Assignment;
use orbit_shared::time::WallTime;
use orbit_shared::words::{ItemId, JobId, StarId};
use serde::{Deserialize, Serialize};

use crate::transfer::{FileVersion, Range};
use crate::vault::publish;

/// A record that has not changed for this long belongs to a job that has ended or was given up.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Length of the checksum in front of a record: a BLAKE3 hash in hexadecimal digits.
const CHECKSUM_BYTES: usize = 64;

/// The progress of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The source Star.
    pub source_star: StarId,
    /// The source path of the job.
    pub source_path: Vec<u8>,
    /// The destination path of the job.
    pub destination_path: Vec<u8>,
    /// Path of the file below both.
    pub path: Vec<u8>,
    /// Name of the temporary, in the directory of the target.
    pub temporary: String,
    /// Inode of the temporary.
    pub inode: u64,
    /// Size of the source file.
    pub size: u64,
    /// Its modification time.
    pub modified: WallTime,
    /// Time of the last change to its inode.
    pub changed: WallTime,
    /// Its permission bits.
    pub mode: u32,
    /// Start and end of each range that is verified, written and synced; ascending, with gaps between them.
    pub synced: Vec<(u64, u64)>,
}

impl Checkpoint {
    /// The version of the source file.
    pub fn version(&self) -> FileVersion {
        FileVersion { size: self.size, modified: self.modified, changed: self.changed, mode: self.mode }
    }

    /// Whether it belongs to this item of this assignment, in the version that was scanned.
    pub fn is_of(&self, assignment: &Assignment, index: usize) -> bool {
        let entry = &assignment.items[index].entry;
        self.source_star == assignment.source_star
            && self.source_path == assignment.source_path
            && self.destination_path == assignment.destination_path
            && self.path == entry.path
            && self.size == entry.size()
            && self.modified == entry.modified
    }
}

/// The records of one Star.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    directory: PathBuf,
}

impl Checkpoints {
    /// Opens the records in a directory, and makes it if it is missing. Removes a record that an earlier process was
    /// writing when it was killed.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// Replaces the record of an item. Blocks until the new one is durable.
    ///
    /// # Errors
    /// The operating system reports an error. The earlier record still exists then.
    pub fn save(&self, item: ItemId, checkpoint: &Checkpoint) -> io::Result<()> {
        let text = serde_json::to_string(checkpoint).map_err(io::Error::other)?;
        let checked = format!("{}{text}", blake3::hash(text.as_bytes()).to_hex());
        publish(&self.directory, &file_name(item), checked.as_bytes())
    }

    /// The record of an item, if there is an intact one.
    pub fn load(&self, item: ItemId) -> Option<Checkpoint> {
        parse(&fs::read(self.directory.join(file_name(item))).ok()?)
    }

    /// Whether an item has a record.
    pub fn has(&self, item: ItemId) -> bool {
        self.directory.join(file_name(item)).exists()
    }

    /// Removes the record of an item, if there is one. The removal is not synced: a record that reappears after a crash
    /// finds no temporary.
    pub fn remove(&self, item: ItemId) {
        // It usually does not exist.
        let _ = fs::remove_file(self.directory.join(file_name(item)));
    }

    /// The records of one job, or those of all jobs that have not changed for [`KEPT_FOR`]. Removes damaged records.
    pub fn ended(&self, job: Option<JobId>) -> Vec<(ItemId, Checkpoint)> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let item = name.to_str().and_then(parse_file_name);
            let checkpoint = fs::read(entry.path()).ok().and_then(|bytes| parse(&bytes));
            let (Some(item), Some(checkpoint)) = (item, checkpoint) else {
                // Only a file whose name is not that of an item belongs to a record that is being written.
                if job.is_none() && item.is_some() {
                    let _ = fs::remove_file(entry.path());
                }
                continue;
            };
            let is_ended = match job {
                Some(job) => item.job == job,
                None => is_old(&entry),
            };
            if is_ended {
                found.push((item, checkpoint));
            }
        }
        found
    }
}

fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.ok().and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age >= KEPT_FOR)
}

fn file_name(item: ItemId) -> String {
    format!("{}-{}-{}.json", item.job.0, item.destination, item.sequence)
}

fn parse_file_name(name: &str) -> Option<ItemId> {
    let mut numbers = name.strip_suffix(".json")?.split('-');
    let job = JobId(numbers.next()?.parse().ok()?);
    let destination = numbers.next()?.parse().ok()?;
    let sequence = numbers.next()?.parse().ok()?;
    numbers.next().is_none().then_some(ItemId { job, destination, sequence })
}

fn parse(bytes: &[u8]) -> Option<Checkpoint> {
    let (checksum, text) = bytes.split_at_checked(CHECKSUM_BYTES)?;
    if blake3::hash(text).to_hex().as_bytes() != checksum {
        return None;
    }
    serde_json::from_slice(text).ok()
}

/// Parts of a file, as ascending ranges with gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Covered(Vec<(u64, u64)>);

impl Covered {
    /// Makes it from the starts and ends in a record. If they are not ascending with gaps, nothing is covered.
    pub fn new(ranges: Vec<(u64, u64)>) -> Self {
        let is_sound = ranges.iter().all(|(start, end)| start < end)
            && ranges.is_sorted_by(|before, after| before.1 < after.0);
        Self(if is_sound { ranges } else { Vec::new() })
    }

    /// Start and end of each range.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Number of bytes covered.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// Adds a range.
    pub fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let from = self.0.partition_point(|range| range.1 < start);
        let to = self.0.partition_point(|range| range.0 <= end);
        let (mut low, mut high) = (start, end);
        for range in &self.0[from..to] {
            (low, high) = (low.min(range.0), high.max(range.1));
        }
        self.0.splice(from..to, [(low, high)]);
    }

    /// Removes everything from `end` on.
    pub fn cut(&mut self, end: u64) {
        self.0.retain_mut(|range| {
            range.1 = range.1.min(end);
            range.0 < range.1
        });
    }

    /// The ranges between two offsets that are not covered.
    pub fn missing(&self, start: u64, end: u64) -> Vec<Range> {
        let mut missing = Vec::new();
        let mut at = start;
        for &(low, high) in self.0.iter().filter(|(low, high)| *high > start && *low < end) {
            if low > at {
                missing.push(Range { offset: at, length: low - at });
            }
            at = at.max(high);
        }
        if at < end {
            missing.push(Range { offset: at, length: end - at });
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ITEM: ItemId = ItemId { job: JobId(7), destination: 0, sequence: 3 };

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            source_star: StarId::new("source").unwrap(),
            source_path: b"/from".to_vec(),
            destination_path: b"/to".to_vec(),
            path: b"a\xff".to_vec(),
            temporary: ".orbit-tmp-1".to_owned(),
            inode: 5,
            size: 100,
            modified: WallTime::default(),
            changed: WallTime::default(),
            mode: 0o644,
            synced: vec![(0, 10), (20, 30)],
        }
    }

    #[test]
    fn a_record_is_found_again_and_replaced_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let records = Checkpoints::open(&directory.path().join("new")).unwrap();
        assert_eq!(records.load(ITEM), None);
        records.save(ITEM, &checkpoint()).unwrap();
        let longer = Checkpoint { synced: vec![(0, 40)], ..checkpoint() };
        records.save(ITEM, &longer).unwrap();
        assert_eq!(records.load(ITEM), Some(longer));
        assert_eq!(records.ended(Some(JobId(7))).len(), 1);
        assert!(records.ended(Some(JobId(8))).is_empty() && records.ended(None).is_empty());
        records.remove(ITEM);
        assert!(!records.has(ITEM));
        let unnamed = directory.path().join("new").join(format!("{}.tmp", file_name(ITEM)));
        fs::write(&unnamed, "half").unwrap();
        Checkpoints::open(&directory.path().join("new")).unwrap();
        assert!(!unnamed.exists());
    }

    #[test]
    fn a_damaged_record_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let records = Checkpoints::open(directory.path()).unwrap();
        records.save(ITEM, &checkpoint()).unwrap();
        let path = directory.path().join(file_name(ITEM));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes[..]).unwrap();
        assert_eq!(records.load(ITEM), None);
        fs::write(&path, b"short").unwrap();
        assert_eq!(records.load(ITEM), None);
        assert!(records.ended(None).is_empty());
        assert!(!path.exists(), "what is no record goes");
    }

    #[test]
    fn an_old_record_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let records = Checkpoints::open(directory.path()).unwrap();
        records.save(ITEM, &checkpoint()).unwrap();
        let file = fs::File::options().write(true).open(directory.path().join(file_name(ITEM))).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(records.ended(None), [(ITEM, checkpoint())]);
    }

    #[test]
    fn the_architecture_states_the_numbers_of_the_code() {
        use crate::limits::{CHECKPOINT_BYTES, SEGMENT_BYTES, UNRECORDED_BYTES_MAX};
        let text = include_str!("../../ARCHITECTURE.md").replace('\n', " ");
        let hours = KEPT_FOR.as_secs() / 3600;
        for said in [
            format!("files beyond {} MiB are pulled in", SEGMENT_BYTES >> 20),
            format!("whenever {} MiB more are", CHECKPOINT_BYTES >> 20),
            format!("content beyond {} MiB that no record covers waits", UNRECORDED_BYTES_MAX >> 20),
            format!("has not changed for {hours} hours"),
        ] {
            assert!(text.contains(&said), "{said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_covered_and_what_is_missing_make_the_whole(
            added in proptest::collection::vec((0_u64..200, 0_u64..50), 0..20),
            cut in 0_u64..250,
        ) {
            let mut covered = Covered::default();
            let mut bytes = [false; 256];
            for (start, length) in added {
                covered.add(start, start + length);
                bytes[start as usize..(start + length) as usize].fill(true);
            }
            covered.cut(cut);
            bytes[cut as usize..].fill(false);
            prop_assert_eq!(&Covered::new(covered.ranges().to_vec()), &covered);
            prop_assert_eq!(covered.bytes(), bytes.iter().filter(|byte| **byte).count() as u64);
            let (start, end) = (10_u64, 230_u64);
            let mut lacking = [false; 256];
            for range in covered.missing(start, end) {
                lacking[range.offset as usize..(range.offset + range.length) as usize].fill(true);
            }
            for at in start..end {
                prop_assert_eq!(lacking[at as usize], !bytes[at as usize]);
            }
        }
    }
}
