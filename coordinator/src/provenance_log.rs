//! The provenance log on disk: JSON Lines in a directory, numbered, rotated and bounded.
//!
//! A file is named by the number of its first event, so a reader that wants what follows an event opens the right file
//! at once. Events are appended and synced with the turn they belong to, and the turn's commit in the store carries the
//! number of its last event. A crash between the two leaves events whose changes never happened: they were shown to
//! nobody, and the next start cuts them off, because what caused them is reported again.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use orbit_shared::provenance::{
    ProvenanceEvent, ProvenanceFilter, ProvenanceReader, ProvenanceWriter, parse_line, recover_tail,
};

/// A file that has grown beyond this is followed by a new one.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files kept; the oldest goes first.
const FILES_MAX: usize = 64;
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
    open: Mutex<Open>,
    /// The last events of this process, by number, those that are not shown yet among them.
    recent: Mutex<VecDeque<ProvenanceEvent>>,
}

impl ProvenanceLog {
    /// Opens the log in a directory, or makes it. A line that a crash has torn is cut off and reported. Nothing is shown
    /// before [`ProvenanceLog::recover`].
    pub fn open(directory: &Path) -> Result<Self, ProvenanceLogError> {
        Self::open_with(directory, FILE_BYTES_MAX)
    }

    fn open_with(directory: &Path, file_bytes_max: u64) -> Result<Self, ProvenanceLogError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ProvenanceLogError { path, source }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let files = files_of(directory).map_err(failed(directory))?;
        let path = files.last().map_or_else(|| file_path(directory, 1), |(_, path)| path.clone());
        let first_id = files.last().map_or(1, |&(first_id, _)| first_id);
        let open = open_file(&path, first_id).map_err(failed(&path))?;
        sync_directory(directory).map_err(failed(directory))?;
        let recent = Mutex::new(VecDeque::with_capacity(RECENT_MAX));
        Ok(Self { directory: directory.to_path_buf(), file_bytes_max, open: Mutex::new(open), recent })
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
            self.remove_oldest().map_err(failed(&self.directory))?;
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

    fn remove_oldest(&self) -> io::Result<()> {
        let files = files_of(&self.directory)?;
        for (_, path) in files.iter().take(files.len().saturating_sub(FILES_MAX)) {
            fs::remove_file(path)?;
        }
        Ok(())
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

fn file_path(directory: &Path, first_id: u64) -> PathBuf {
    directory.join(format!("events-{first_id:020}.jsonl"))
}

/// The log's files with the numbers of their first events, oldest first.
fn files_of(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits = name.strip_prefix("events-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(first_id) = digits.and_then(|digits| digits.parse().ok()) {
            files.push((first_id, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn open_file(path: &Path, first_id: u64) -> io::Result<Open> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let keep = recover_tail(&mut file)?;
    let length = file.metadata()?.len();
    if keep < length {
        tracing::warn!(
            path = %path.display(),
            bytes = length - keep,
            "the last line of the provenance log was torn by a crash and is cut off"
        );
        file.set_len(keep)?;
        file.sync_all()?;
    }
    let mut next_id = first_id;
    for event in ProvenanceReader::new(BufReader::new(File::open(path)?)) {
        match event {
            Ok(event) => next_id = event.event_id + 1,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a line of the provenance log is damaged");
            }
        }
    }
    let writer = ProvenanceWriter::new(file);
    Ok(Open { writer, path: path.to_path_buf(), bytes: keep, next_id, committed_id: 0 })
}

/// Cuts a file in front of the first event behind `last_id`. Lines are in the order of their numbers.
fn cut_file(path: &Path, last_id: u64) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(&file);
    let (mut keep, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let length = lines.read_until(b'\n', &mut line)? as u64;
        // A damaged line has no number, and stays with the events before it.
        let event = parse_line(line.strip_suffix(b"\n").unwrap_or(&line));
        let is_behind = event.is_ok_and(|event| event.event_id > last_id);
        if length == 0 || is_behind {
            break;
        }
        keep += length;
    }
    file.set_len(keep)?;
    file.sync_all()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use orbit_shared::provenance::ProvenanceType;
    use orbit_shared::words::JobId;

    use super::*;

    fn open(directory: &Path, committed_id: Option<u64>) -> ProvenanceLog {
        let log = ProvenanceLog::open(directory).expect("opens");
        log.recover(committed_id).expect("recovers");
        log
    }

    fn append(log: &ProvenanceLog, jobs: &[u64]) -> u64 {
        let last_id = log.append(jobs.iter().copied().map(event)).expect("appends");
        log.publish();
        last_id
    }

    fn jobs(log: &ProvenanceLog) -> Vec<u64> {
        let page = log.query(&ProvenanceFilter::default(), 100).expect("reads");
        page.events.iter().map(|event| event.job_id.map_or(0, |job| job.0)).collect()
    }

    fn event(job: u64) -> ProvenanceEvent {
        ProvenanceEvent::new(ProvenanceType::FileCompleted, JobId(job))
    }

    fn ids(page: &EventPage) -> Vec<u64> {
        page.events.iter().map(|event| event.event_id).collect()
    }

    #[test]
    fn events_are_numbered_on_across_restarts() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(append(&open(directory.path(), None), &[1, 2]), 2);
        let log = open(directory.path(), Some(2));
        assert_eq!(append(&log, &[3]), 3);
        let page = log.query(&ProvenanceFilter::default(), 10).expect("reads");
        assert_eq!(ids(&page), [1, 2, 3]);
        assert_eq!(page.resume_after, None);
    }

    #[test]
    fn a_torn_last_line_is_cut_and_the_next_event_stands_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        append(&open(directory.path(), None), &[1]);
        let path = file_path(directory.path(), 1);
        let mut file = OpenOptions::new().append(true).open(path).expect("the file");
        file.write_all(b"{\"event_id\":2,\"event_ty").expect("tears");
        let log = open(directory.path(), Some(1));
        append(&log, &[5]);
        assert_eq!(jobs(&log), [1, 5]);
    }

    #[test]
    fn events_are_shown_once_their_turn_is_committed() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = open(directory.path(), None);
        append(&log, &[1]);
        assert_eq!(log.append(vec![event(2)]).expect("appends"), 2);
        assert_eq!((log.last_id(), jobs(&log)), (1, vec![1]));
        log.publish();
        assert_eq!((log.last_id(), jobs(&log)), (2, vec![1, 2]));
    }

    #[test]
    fn events_whose_turn_was_not_committed_are_cut_over_any_number_of_files() {
        for (file_bytes_max, committed_id) in [(u64::MAX, 2), (1, 2), (1, 0), (u64::MAX, 0)] {
            let directory = tempfile::tempdir().expect("a directory");
            let log = ProvenanceLog::open_with(directory.path(), file_bytes_max).expect("opens");
            for job in 1..=5 {
                log.append(vec![event(job)]).expect("appends");
            }
            drop(log);
            let log = open(directory.path(), Some(committed_id));
            assert_eq!(append(&log, &[9]), committed_id + 1);
            let kept: Vec<u64> = (1..=committed_id).chain([9]).collect();
            assert_eq!(jobs(&log), kept);
            drop(log);
            assert_eq!(jobs(&open(directory.path(), Some(committed_id + 1))), kept);
        }
    }

    #[test]
    fn a_log_that_lost_its_end_gives_no_number_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        append(&open(directory.path(), None), &[1, 2, 3]);
        fs::write(file_path(directory.path(), 1), b"").expect("loses it");
        let log = open(directory.path(), Some(3));
        assert_eq!(append(&log, &[4]), 4);
        assert_eq!(jobs(&log), [4]);
    }

    #[test]
    fn the_newest_events_are_at_hand_once_they_are_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        append(&open(directory.path(), None), &[1, 2]);
        let log = open(directory.path(), Some(2));
        assert_eq!((log.recent_after(0, 10).events.len(), log.recent_after(0, 10).last_id), (0, 2));
        append(&log, &[3, 4, 5]);
        log.append(vec![event(6)]).expect("appends");
        let recent = |after, limit| {
            let found = log.recent_after(after, limit);
            found.events.iter().map(|event| event.event_id).collect::<Vec<_>>()
        };
        assert_eq!(
            (recent(0, 10), recent(4, 10), recent(0, 2), recent(5, 2)),
            (vec![3, 4, 5], vec![5], vec![4, 5], vec![])
        );
        log.publish();
        assert_eq!(recent(0, 2), [5, 6]);
        let many: Vec<u64> = (0..RECENT_MAX as u64 + 7).collect();
        let last = append(&log, &many);
        let all = recent(0, usize::MAX);
        assert_eq!((all.len(), all.last()), (RECENT_MAX, Some(&last)));
    }

    #[test]
    fn a_page_says_when_the_oldest_files_are_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = ProvenanceLog::open_with(directory.path(), 1).expect("opens");
        log.recover(None).expect("recovers");
        for job in 0..FILES_MAX as u64 + 3 {
            append(&log, &[job]);
        }
        let first_id = |after| {
            let filter = ProvenanceFilter { after_event_id: Some(after), ..ProvenanceFilter::default() };
            log.query(&filter, 1).expect("reads").first_id
        };
        let last = FILES_MAX as u64 + 3;
        assert_eq!((first_id(1), first_id(3), first_id(last)), (Some(4), Some(4), None));
    }

    #[test]
    fn a_new_store_keeps_an_old_log() {
        let directory = tempfile::tempdir().expect("a directory");
        append(&open(directory.path(), None), &[1, 2]);
        assert_eq!(jobs(&open(directory.path(), None)), [1, 2]);
    }

    #[test]
    fn a_full_file_is_followed_by_another_and_pages_cross_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = ProvenanceLog::open_with(directory.path(), 1).expect("opens");
        log.recover(None).expect("recovers");
        for job in 1..=5 {
            append(&log, &[job]);
        }
        assert_eq!(files_of(directory.path()).expect("lists").len(), 5);
        let mut filter = ProvenanceFilter::default();
        let first = log.query(&filter, 2).expect("reads");
        assert_eq!((ids(&first), first.resume_after), (vec![1, 2], Some(2)));
        filter.after_event_id = first.resume_after;
        assert_eq!(ids(&log.query(&filter, 10).expect("reads")), [3, 4, 5]);
        filter.job_id = Some(JobId(4));
        assert_eq!(ids(&log.query(&filter, 10).expect("reads")), [4]);
    }
}
