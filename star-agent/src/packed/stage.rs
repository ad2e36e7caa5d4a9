//! The log of a stage: what one job has stored so far for one destination, as `stages/JOB-DESTINATION`.
//!
//! ```text
//! 0    magic "ORBITSTG" (8)  version u32  random id (16)  check (8)
//! 36   frame: magic "FRME" (4)  length u32  check (8)  payload ...
//! ```
//!
//! A payload is a sequence of entries. A check is the first 8 bytes of a BLAKE3 hash: of the header before it, or of a
//! frame's length and payload. An incomplete frame at the end is the result of a crash and is cut off. A damaged one in
//! the middle is skipped, since the next can be found by its magic; the stage then lacks its entries.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orbit_shared::container::reserve_space;
use uuid::Uuid;

use super::codec::{Decoder, Encoder};
use super::error::{PackedError, Result};
use super::pins::Identity;
use super::sync_dir;
use super::types::{StageId, TreeEntry};

const MAGIC: &[u8; 8] = b"ORBITSTG";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 36;
const FRAME_MAGIC: &[u8; 4] = b"FRME";
const FRAME_HEADER_BYTES: usize = 16;
/// Target size of a frame, in bytes. Entries are added to a frame until it is reached.
const FRAME_BYTES: usize = 1024 * 1024;
/// Maximum size of a frame, in bytes: one entry can have a long list of chunks.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Disk space that is reserved for commits, in bytes: enough for some thousand small files.
const ROOM_BYTES: u64 = 256 * 1024;
/// Number of bytes that are read at a time when a damaged log is searched for the next frame.
const SEARCH_BYTES: usize = 64 * 1024;

#[expect(clippy::disallowed_types, reason = "only looked up by key")]
type ByPath = std::collections::HashMap<u64, u64, std::hash::BuildHasherDefault<Identity>>;

/// An open stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) id: StageId,
    /// The id of the future snapshot.
    pub(super) uuid: [u8; 16],
    pub(super) path: PathBuf,
    log: Mutex<Log>,
}

#[derive(Debug)]
pub(super) struct Log {
    file: File,
    end: u64,
    /// The frame with the newest entry of each path, by the first bytes of the path's hash.
    frames: ByPath,
    /// Whether a write has failed, so that part of it may be in the file.
    is_torn: bool,
    /// End of the space that is allocated for the file.
    reserved_end: u64,
}

impl Log {
    fn new(file: File, end: u64) -> Self {
        Self { file, end, frames: ByPath::default(), is_torn: false, reserved_end: end }
    }

    /// Reserves space for the next commits, if the disk has any. If not, appending finds out.
    fn keep_room(&mut self) {
        let is_low = self.reserved_end < self.end + ROOM_BYTES / 2;
        if is_low && reserve_space(&self.file, self.end, ROOM_BYTES).is_ok() {
            self.reserved_end = self.end + ROOM_BYTES;
        }
    }
}

impl Stage {
    /// Begins a stage. The file and its name are durable.
    pub(super) fn create(dir: &Path, id: StageId) -> Result<Self> {
        let uuid = *Uuid::new_v4().as_bytes();
        let name = id.to_string();
        let path = dir.join(&name);
        crate::vault::publish(dir, &name, &header(&uuid))
            .map_err(PackedError::io(&path, "begin the stage"))?;
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(PackedError::io(&path, "open the stage"))?;
        Ok(Self { id, uuid, path, log: Mutex::new(Log::new(file, HEADER_BYTES)) })
    }

    /// Opens a stage again, passes each of its entries to the caller, and cuts off an incomplete end.
    pub(super) fn open(path: &Path, id: StageId, mut seen: impl FnMut(&TreeEntry)) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(PackedError::io(path, "open the stage"))?;
        let uuid = read_header(&file, path)?;
        let mut log = Log::new(file, HEADER_BYTES);
        let mut end = HEADER_BYTES;
        let mut frames = ByPath::default();
        let mut reader = Frames::new(&log.file, path)?;
        while let Some((at, payload)) = reader.next()? {
            end = at + (FRAME_HEADER_BYTES + payload.len()) as u64;
            decode_all(&payload, |entry| {
                frames.insert(key_of(&entry.entry.path), at);
                seen(&entry);
            });
        }
        log.file.set_len(end).map_err(PackedError::io(path, "cut the stage"))?;
        (log.end, log.reserved_end, log.frames) = (end, end, frames);
        Ok(Self { id, uuid, path: path.to_owned(), log: Mutex::new(log) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves disk space for the next commits, so that chunks that fit can be committed when the disk is full.
    pub(super) fn keep_room(&self) {
        self.lock().keep_room();
    }

    /// Appends entries and makes them durable.
    pub(super) fn append(&self, entries: &[TreeEntry]) -> Result<()> {
        let mut frames = Vec::new();
        let (mut encoder, mut in_frame, mut placed) =
            (Encoder::default(), 0, Vec::with_capacity(entries.len()));
        for entry in entries {
            let before = encoder.0.len();
            encoder.entry(&entry.entry, &entry.chunks, false);
            let size = encoder.0.len() - before;
            if size > FRAME_BYTES_MAX {
                return Err(PackedError::EntryTooLarge { path: entry.entry.path.clone() });
            }
            if before > 0 && encoder.0.len() > FRAME_BYTES {
                let next = encoder.0.split_off(before);
                push_frame(&mut frames, &std::mem::replace(&mut encoder.0, next));
                in_frame = frames.len();
            }
            placed.push((key_of(&entry.entry.path), in_frame as u64));
        }
        if !encoder.0.is_empty() {
            push_frame(&mut frames, &encoder.0);
        }
        let mut log = self.lock();
        if log.is_torn {
            // Otherwise a frame in it could be taken for one that was written later.
            log.file.set_len(log.end).map_err(PackedError::io(&self.path, "cut the stage"))?;
            log.reserved_end = log.end;
            log.keep_room();
        }
        log.is_torn = true;
        let at = log.end;
        let written = log.file.write_all_at(&frames, at).and_then(|()| log.file.sync_data());
        written.map_err(PackedError::io(&self.path, "write the stage"))?;
        log.is_torn = false;
        log.end += frames.len() as u64;
        log.frames.extend(placed.into_iter().map(|(key, offset)| (key, at + offset)));
        log.keep_room();
        Ok(())
    }

    /// The newest entry with this path.
    pub(super) fn find(&self, path: &[u8]) -> Result<Option<TreeEntry>> {
        let log = self.lock();
        let Some(&at) = log.frames.get(&key_of(path)) else { return Ok(None) };
        let Some(payload) =
            read_frame(&log.file, at, log.end).map_err(PackedError::io(&self.path, "read the stage"))?
        else {
            return Ok(None);
        };
        let mut found = None;
        decode_all(&payload, |entry| {
            if entry.entry.path == path {
                found = Some(entry);
            }
        });
        Ok(found)
    }

    /// All entries in the order of appending. Of several with the same path, the last one counts.
    pub(super) fn entries(&self, mut seen: impl FnMut(TreeEntry) -> Result<()>) -> Result<()> {
        // A separate handle, so that no other operation waits.
        let file = File::open(&self.path).map_err(PackedError::io(&self.path, "open the stage"))?;
        let mut reader = Frames::new(&file, &self.path)?;
        while let Some((_, payload)) = reader.next()? {
            let mut result = Ok(());
            decode_all(&payload, |entry| {
                if result.is_ok() {
                    result = seen(entry);
                }
            });
            result?;
        }
        Ok(())
    }

    /// Checks all bytes. Returns whether the file is undamaged.
    pub(super) fn is_whole(&self) -> Result<bool> {
        let end = self.lock().end;
        let file = File::open(&self.path).map_err(PackedError::io(&self.path, "open the stage"))?;
        if read_header(&file, &self.path).is_err() {
            return Ok(false);
        }
        let mut reader = Frames::new(&file, &self.path)?;
        let mut expected = HEADER_BYTES;
        while expected < end {
            match reader.next()? {
                Some((at, payload)) if at == expected => {
                    expected += (FRAME_HEADER_BYTES + payload.len()) as u64;
                }
                Some(_) | None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Removes the log, durably.
    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(PackedError::io(&self.path, "remove the stage")(error));
            }
            Ok(()) | Err(_) => {}
        }
        sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}

/// The stage that a file name stands for.
pub(super) fn stage_of(name: &str) -> Option<StageId> {
    let (job, destination) = name.split_once('-')?;
    let job = orbit_shared::words::JobId(job.parse().ok()?);
    Some(StageId { job, destination: destination.parse().ok()? })
}

fn key_of(path: &[u8]) -> u64 {
    let hash = blake3::hash(path);
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

fn decode_all(payload: &[u8], mut seen: impl FnMut(TreeEntry)) {
    let mut decoder = Decoder(payload);
    while let Some((entry, _)) = decoder.entry() {
        seen(entry);
    }
}

fn header(uuid: &[u8; 16]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.0.extend_from_slice(MAGIC);
    encoder.u32(VERSION);
    encoder.0.extend_from_slice(uuid);
    let check = check(&[&encoder.0]);
    encoder.0.extend_from_slice(&check);
    encoder.0
}

fn read_header(file: &File, path: &Path) -> Result<[u8; 16]> {
    let mut found = [0; HEADER_BYTES as usize];
    let bad = || PackedError::damaged(path, "the header of the stage");
    file.read_exact_at(&mut found, 0).map_err(|_| bad())?;
    let uuid: [u8; 16] = found[12..28].try_into().map_err(|_| bad())?;
    if header(&uuid) == found { Ok(uuid) } else { Err(bad()) }
}

fn check(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn push_frame(frames: &mut Vec<u8>, payload: &[u8]) {
    // Checked against FRAME_BYTES_MAX.
    let length = (payload.len() as u32).to_le_bytes();
    frames.extend_from_slice(FRAME_MAGIC);
    frames.extend_from_slice(&length);
    frames.extend_from_slice(&check(&[&length, payload]));
    frames.extend_from_slice(payload);
}

/// The payload of the frame at `at`, if there is an undamaged one.
fn read_frame(file: &File, at: u64, end: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut header = [0; FRAME_HEADER_BYTES];
    if at + FRAME_HEADER_BYTES as u64 > end {
        return Ok(None);
    }
    file.read_exact_at(&mut header, at)?;
    let Some(fields) = header.strip_prefix(FRAME_MAGIC) else { return Ok(None) };
    let Some((length, found)) = fields.split_first_chunk::<4>() else { return Ok(None) };
    let count = u32::from_le_bytes(*length) as usize;
    if count > FRAME_BYTES_MAX || at + (FRAME_HEADER_BYTES + count) as u64 > end {
        return Ok(None);
    }
    let mut payload = vec![0; count];
    file.read_exact_at(&mut payload, at + FRAME_HEADER_BYTES as u64)?;
    Ok((check(&[length, &payload]) == found).then_some(payload))
}

/// The undamaged frames of a log, in order.
struct Frames<'a> {
    file: &'a File,
    path: &'a Path,
    at: u64,
    end: u64,
}

impl<'a> Frames<'a> {
    fn new(file: &'a File, path: &'a Path) -> Result<Self> {
        let end = file.metadata().map_err(PackedError::io(path, "look at the stage"))?.len();
        Ok(Self { file, path, at: HEADER_BYTES, end })
    }

    fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let failed = |error| PackedError::io(self.path, "read the stage")(error);
        while self.at < self.end {
            let at = self.at;
            if let Some(payload) = read_frame(self.file, at, self.end).map_err(failed)? {
                self.at = at + (FRAME_HEADER_BYTES + payload.len()) as u64;
                return Ok(Some((at, payload)));
            }
            self.at = self.search(at + 1).map_err(failed)?.unwrap_or(self.end);
        }
        Ok(None)
    }

    /// Where the next frame may begin.
    fn search(&self, mut at: u64) -> std::io::Result<Option<u64>> {
        let mut window = vec![0; SEARCH_BYTES];
        while at + (FRAME_HEADER_BYTES as u64) < self.end {
            let length = SEARCH_BYTES.min((self.end - at) as usize);
            self.file.read_exact_at(&mut window[..length], at)?;
            if let Some(found) = window[..length].windows(4).position(|part| part == FRAME_MAGIC) {
                return Ok(Some(at + found as u64));
            }
            at += (length - 3) as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::entry::{Entry, EntryKind};
    use orbit_shared::time::WallTime;
    use orbit_shared::words::JobId;

    use super::*;

    const ID: StageId = StageId { job: JobId(7), destination: 1 };

    fn entry(path: &str, mode: u32) -> TreeEntry {
        let path = path.as_bytes().to_vec();
        let entry = Entry { path, kind: EntryKind::Directory, mode, modified: WallTime::default(), rank: 0 };
        TreeEntry { entry, chunks: Vec::new() }
    }

    fn paths(stage: &Stage) -> Vec<String> {
        let mut found = Vec::new();
        let add = |entry: TreeEntry| {
            found.push(String::from_utf8(entry.entry.path).unwrap());
            Ok(())
        };
        stage.entries(add).unwrap();
        found
    }

    #[test]
    fn the_newest_entry_of_a_path_is_found_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::create(dir.path(), ID).unwrap();
        stage.append(&[entry("a", 1), entry("b", 1)]).unwrap();
        stage.append(&[entry("a", 2)]).unwrap();
        let mut seen = 0;
        let again = Stage::open(&stage.path, ID, |_| seen += 1).unwrap();
        assert_eq!((seen, again.uuid), (3, stage.uuid));
        for stage in [&stage, &again] {
            assert_eq!(stage.find(b"a").unwrap().unwrap().entry.mode, 2);
            assert_eq!(stage.find(b"b").unwrap().unwrap().entry.mode, 1);
            assert!(stage.find(b"c").unwrap().is_none());
        }
        assert_eq!(stage_of("7-1"), Some(ID));
    }

    #[test]
    fn a_truncated_log_keeps_its_complete_frames_and_can_be_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::create(dir.path(), ID).unwrap();
        stage.append(&[entry("a", 1)]).unwrap();
        let first = fs::metadata(&stage.path).unwrap().len();
        stage.append(&[entry("b", 1)]).unwrap();
        let whole = fs::read(&stage.path).unwrap();
        for length in HEADER_BYTES..whole.len() as u64 {
            fs::write(&stage.path, &whole[..length as usize]).unwrap();
            let again = Stage::open(&stage.path, ID, |_| {}).unwrap();
            again.append(&[entry("c", 1)]).unwrap();
            let expected: &[&str] = if length < first { &["c"] } else { &["a", "c"] };
            assert_eq!(paths(&again), expected, "{length}");
            assert!(again.is_whole().unwrap());
        }
    }

    #[test]
    fn every_changed_byte_is_found_and_loses_at_most_its_frame() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::create(dir.path(), ID).unwrap();
        for path in ["a", "b", "c"] {
            stage.append(&[entry(path, 1)]).unwrap();
        }
        let whole = fs::read(&stage.path).unwrap();
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 0x10;
            fs::write(&stage.path, &changed).unwrap();
            assert!(!stage.is_whole().unwrap(), "{index}");
            if index >= HEADER_BYTES as usize {
                assert_eq!(paths(&stage).len(), 2, "{index}");
            } else {
                assert!(Stage::open(&stage.path, ID, |_| {}).is_err());
            }
        }
    }
}
