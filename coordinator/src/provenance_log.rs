//! The provenance log on disk: JSON Lines in a directory, numbered, rotated and bounded.
//!
//! A file is named by the number of its first event, so a reader that wants what follows an event opens the right file
//! at once. Events are appended and synced with the turn they belong to, and the turn's commit in the store carries the
//! number of its last event. A crash between the two leaves events whose changes never happened: they were shown to
//! nobody, and the next start cuts them off, because what caused them is reported again.

mod files;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use orbit_program::private_files::mark;
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceFilter, ProvenanceReader, ProvenanceWriter};
use orbit_shared::time::WallTime;

use files::{cut_file, file_path, files_of, first_time, open_file, sync_directory};

/// A file that has grown beyond this is followed by a new one.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of all files unless an operator wants another number; the oldest file goes first.
pub const BYTES_MAX_DEFAULT: u64 = 64 * FILE_BYTES_MAX;
/// Events that one query looks at, so that a filter that matches nothing still answers soon.
const EVENTS_SCANNED_MAX: usize = 200_000;

/// Events kept in memory for those who watch what is new.
const RECENT_MAX: usize = 1024;

/// Why the log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("the provenance log {} failed: {source}", path.display())]
pub struct ProvenanceLogError {
    /// Which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A stretch of the log.
#[derive(Debug, Default)]
pub struct EventPage {
    /// What matched.
    pub events: Vec<ProvenanceEvent>,
    /// The first number that was looked at, matching or not; another one than the next when the oldest files are gone.
    /// `None` at the end of the log.
    pub first_id: Option<u64>,
    /// The last number that was looked at; go on after it. `None` at the end of the log.
    pub resume_after: Option<u64>,
}

/// The newest events.
#[derive(Debug, Default)]
pub struct RecentEvents {
    /// By number. Where the first is not the one that was asked after, older ones are left out.
    pub events: Vec<ProvenanceEvent>,
    /// The number of the last event that is shown, whether it is among them or not.
    pub last_id: u64,
}

#[derive(Debug)]
struct Open {
    writer: ProvenanceWriter<File>,
    path: PathBuf,
    bytes: u64,
    next_id: u64,
    /// The last event whose turn is committed; readers see no further.
    committed_id: u64,
}

/// The log.
#[derive(Debug)]
pub struct ProvenanceLog {
    directory: PathBuf,
    file_bytes_max: u64,
    bytes_max: u64,
    open: Mutex<Open>,
    /// The last events of this process, by number, those that are not shown yet among them.
    recent: Mutex<VecDeque<ProvenanceEvent>>,
}

impl ProvenanceLog {
    /// Opens the log in a directory, or makes it; its files together are kept at about `bytes_max` bytes, of which the
    /// newest file is always kept. A line that a crash has torn is cut off and reported. Nothing is shown
    /// before [`ProvenanceLog::recover`].
    pub fn open(directory: &Path, bytes_max: u64) -> Result<Self, ProvenanceLogError> {
        Self::open_with(directory, FILE_BYTES_MAX.min(bytes_max), bytes_max)
    }

    fn open_with(directory: &Path, file_bytes_max: u64, bytes_max: u64) -> Result<Self, ProvenanceLogError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ProvenanceLogError { path, source }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        // It may be reached without the data directory, which is marked, through a bind mount.
        mark(directory).map_err(failed(directory))?;
        let files = files_of(directory).map_err(failed(directory))?;
        let path = files.last().map_or_else(|| file_path(directory, 1), |(_, path)| path.clone());
        let first_id = files.last().map_or(1, |&(first_id, _)| first_id);
        let open = open_file(&path, first_id).map_err(failed(&path))?;
        sync_directory(directory).map_err(failed(directory))?;
        let recent = Mutex::new(VecDeque::with_capacity(RECENT_MAX));
        Ok(Self {
            directory: directory.to_path_buf(),
            file_bytes_max,
            bytes_max,
            open: Mutex::new(open),
            recent,
        })
    }

    /// Goes on behind the last event whose turn the store has committed; what follows it is cut off. `None` says that
    /// the store is new and knows nothing of this log; then all of it is kept.
    pub fn recover(&self, committed_id: Option<u64>) -> Result<(), ProvenanceLogError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let last_id = open.next_id - 1;
        let committed_id = committed_id.unwrap_or(last_id);
        if last_id > committed_id {
            tracing::info!(
                events = last_id - committed_id,
                "cutting off events whose turn was not committed"
            );
            *open = self.cut_after(committed_id)?;
        } else if last_id < committed_id {
            tracing::warn!(
                directory = %self.directory.display(),
                "the provenance log ends at event {last_id} and should end at {committed_id}; what lies between is lost"
            );
        }
        open.next_id = committed_id + 1;
        open.committed_id = committed_id;
        Ok(())
    }

    /// Removes every event behind `last_id`, the newest file first, so that a crash meanwhile leaves a shorter log.
    fn cut_after(&self, last_id: u64) -> Result<Open, ProvenanceLogError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ProvenanceLogError { path, source }
        };
        let mut files = files_of(&self.directory).map_err(failed(&self.directory))?;
        while let Some((_, path)) = files.pop_if(|(first_id, _)| *first_id > last_id) {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        let (first_id, path) =
            files.pop().unwrap_or_else(|| (last_id + 1, file_path(&self.directory, last_id + 1)));
        cut_file(&path, last_id).map_err(failed(&path))?;
        let open = open_file(&path, first_id).map_err(failed(&path))?;
        sync_directory(&self.directory).map_err(failed(&self.directory))?;
        Ok(open)
    }

    /// Shows readers all that was appended: its turn is committed.
    pub fn publish(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.committed_id = open.next_id - 1;
    }

    /// Gives the events their numbers, appends and syncs them. Returns the last number given. They are shown when they
    /// are published.
    pub fn append(
        &self,
        events: impl IntoIterator<Item = ProvenanceEvent>,
    ) -> Result<u64, ProvenanceLogError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ProvenanceLogError { path, source }
        };
        let mut events = events.into_iter().peekable();
        if events.peek().is_none() {
            return Ok(open.next_id - 1);
        }
        if open.bytes >= self.file_bytes_max {
            let path = file_path(&self.directory, open.next_id);
            let committed_id = open.committed_id;
            *open = open_file(&path, open.next_id).map_err(failed(&path))?;
            open.committed_id = committed_id;
            sync_directory(&self.directory).map_err(failed(&self.directory))?;
            self.remove_surplus().map_err(failed(&self.directory))?;
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for mut event in events {
            event.event_id = open.next_id;
            open.writer.log(&event).map_err(failed(&open.path))?;
            open.next_id += 1;
            if recent.len() == RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back(event);
        }
        drop(recent);
        let path = open.path.clone();
        open.writer.flush().map_err(failed(&path))?;
        open.writer.sink().sync_data().map_err(failed(&path))?;
        open.bytes = open.writer.sink().metadata().map_err(failed(&path))?.len();
        Ok(open.next_id - 1)
    }

    /// Removes the oldest files until the others are within the bound.
    fn remove_surplus(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for (_, path) in files_of(&self.directory)? {
            files.push((fs::metadata(&path)?.len(), path));
        }
        let mut bytes: u64 = files.iter().map(|(length, _)| length).sum();
        files.pop();
        for (length, path) in files {
            if bytes <= self.bytes_max {
                break;
            }
            fs::remove_file(path)?;
            bytes -= length;
        }
        Ok(())
    }

    /// Removes the files whose events are all older than a time: those whose next file begins with one that is.
    pub fn remove_before(&self, before: WallTime) -> Result<(), ProvenanceLogError> {
        // No file may be cut off or begun meanwhile.
        let _open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ProvenanceLogError { path, source }
        };
        let files = files_of(&self.directory).map_err(failed(&self.directory))?;
        for ((_, path), (_, next)) in files.iter().zip(files.iter().skip(1)) {
            let first = first_time(next).map_err(failed(next))?;
            if first.is_none_or(|first| first >= before) {
                break;
            }
            fs::remove_file(path).map_err(failed(path))?;
        }
        Ok(())
    }

    /// Bytes of all files.
    pub fn size_bytes(&self) -> io::Result<u64> {
        let sizes = files_of(&self.directory)?.into_iter().map(|(_, path)| Ok(fs::metadata(path)?.len()));
        sizes.sum()
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The number of the last event that is shown.
    pub fn last_id(&self) -> u64 {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).committed_id
    }

    /// The newest events behind `after`, at most `limit` of them: those that were recorded lately, without a look at the
    /// disk.
    pub fn recent_after(&self, after: u64, limit: usize) -> RecentEvents {
        let last_id = self.last_id();
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |event: &&ProvenanceEvent| event.event_id > after && event.event_id <= last_id;
        let newest = recent.iter().rev().skip_while(|event| event.event_id > last_id);
        let mut events: Vec<_> = newest.take_while(is_wanted).take(limit).cloned().collect();
        events.reverse();
        RecentEvents { events, last_id }
    }

    /// At most `limit` events that match, by number, after the filter's `after_event_id`.
    pub fn query(&self, filter: &ProvenanceFilter, limit: usize) -> Result<EventPage, ProvenanceLogError> {
        let after = filter.after_event_id.unwrap_or(0);
        let last_id = self.last_id();
        let mut page = EventPage::default();
        let mut scanned = 0;
        let listed = files_of(&self.directory);
        let files = listed.map_err(|source| ProvenanceLogError { path: self.directory.clone(), source })?;
        let start = files.iter().rposition(|&(first_id, _)| first_id <= after.saturating_add(1)).unwrap_or(0);
        for (_, path) in &files[start..] {
            let file = match File::open(path) {
                Ok(file) => file,
                // The oldest file was removed between listing and opening.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(ProvenanceLogError { path: path.clone(), source }),
            };
            for event in ProvenanceReader::new(BufReader::with_capacity(256 * 1024, file)) {
                // A damaged line has no number; what is around it is still good.
                let Ok(event) = event else { continue };
                if event.event_id <= after {
                    continue;
                }
                if event.event_id > last_id {
                    return Ok(page);
                }
                if scanned == EVENTS_SCANNED_MAX || page.events.len() == limit {
                    page.resume_after = Some(event.event_id - 1);
                    return Ok(page);
                }
                page.first_id.get_or_insert(event.event_id);
                scanned += 1;
                if filter.matches(&event) {
                    page.events.push(event);
                }
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests;
