//! The walk: one level for each directory above the current entry, and listings of the next directories.

use std::collections::VecDeque;
use std::sync::Arc;

use orbit_shared::entry::{Entry, EntryKind, REST_MODE, display_path, is_passing_errno};
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tracing::info;

use crate::limits::{LISTING_RETRIES_MAX, LISTING_RETRY_MIN, LISTINGS_AHEAD_MAX};
use crate::roots::{OWN_DIRECTORY, Place};
use crate::scan::Classifier;
use crate::scan::batch::{Batches, Interrupted};
use crate::scan::listing::{Found, Listing, look_at_base, look_at_single};
use orbit_shared::filter::Filter;

/// A listing and the part of it that was examined last.
type Listed = (Listing, Result<Vec<Found>, Errno>);

/// One walk in progress.
pub(super) struct Walk<'batches> {
    place: Arc<Place>,
    filter: Arc<Filter>,
    classifier: Classifier,
    batches: &'batches mut Batches,
    levels: Vec<Level>,
    ahead: Arc<Semaphore>,
    /// Whether directories on another device than the base are not entered.
    is_one_file_system: bool,
    /// The base's device, once it is known.
    device: Option<u64>,
}

/// A directory whose entries are being emitted.
struct Level {
    listing: Listing,
    found: VecDeque<Found>,
    /// Listings of the first directories in `found`, in order.
    ahead: VecDeque<Ahead>,
    /// The directory's own entry, while it waits for something below it that is kept.
    waiting: Option<Entry>,
    /// Whether everything below is kept, because an include glob matched this directory or one above.
    is_included: bool,
    /// The rest of the path to resume after, below this directory.
    resume: Option<Vec<u8>>,
}

/// A directory that is listed before the walk gets there.
struct Ahead {
    name: Vec<u8>,
    listed: JoinHandle<Listed>,
    _permit: OwnedSemaphorePermit,
}

impl<'batches> Walk<'batches> {
    pub(super) fn new(
        place: Arc<Place>,
        filter: Arc<Filter>,
        classifier: Classifier,
        batches: &'batches mut Batches,
    ) -> Self {
        let ahead = Arc::new(Semaphore::new(LISTINGS_AHEAD_MAX));
        let (is_one_file_system, device) = (false, None);
        Self { place, filter, classifier, batches, levels: Vec::new(), ahead, is_one_file_system, device }
    }

    /// Does not enter directories on another device than the base.
    pub(super) fn within_one_file_system(self) -> Self {
        Self { is_one_file_system: true, ..self }
    }

    /// Whether an entry is a mount point that is not entered.
    fn is_skipped_mount(&self, found: &Found) -> bool {
        self.is_one_file_system && self.device.is_some_and(|device| device != found.device)
    }

    /// Emits every entry after `resume_after`, or all.
    pub(super) async fn run(mut self, resume_after: Option<&[u8]>) -> Result<(), Interrupted> {
        if self.place.single.is_some() {
            return if resume_after.is_some() { Ok(()) } else { self.emit_single().await };
        }
        self.enter_base(resume_after).await?;
        while let Some(level) = self.levels.last_mut() {
            self.batches.keep_alive().await?;
            match level.found.pop_front() {
                Some(found) => self.visit(found).await?,
                None if level.listing.is_done() => {
                    self.levels.pop();
                }
                None => self.continue_listing().await?,
            }
        }
        Ok(())
    }

    async fn emit_single(&mut self) -> Result<(), Interrupted> {
        let place = Arc::clone(&self.place);
        let look = move || match &place.single {
            Some(name) => look_at_single(&place, name),
            None => Ok(None),
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(Some(found))) => {
                let entry = self.entry(Vec::new(), found.kind.clone(), &found);
                self.emit(entry).await
            }
            Ok(Ok(None)) => self.emit_unreadable(Vec::new(), Errno::NOENT, 0).await,
            Ok(Err(errno)) => self.emit_unreadable(Vec::new(), errno, 0).await,
            Err(_) => Err(Interrupted),
        }
    }

    async fn enter_base(&mut self, resume_after: Option<&[u8]>) -> Result<(), Interrupted> {
        let place = Arc::clone(&self.place);
        let base =
            tokio::task::spawn_blocking(move || look_at_base(&place)).await.map_err(|_| Interrupted)?;
        self.device = base.as_ref().ok().map(|base| base.device);
        let listed = self.list(Vec::new(), resume_after).await?;
        match (base, listed) {
            (Ok(base), (listing, Ok(found))) => {
                if resume_after.is_none() {
                    let entry = self.entry(Vec::new(), EntryKind::Directory, &base);
                    self.batches.push(entry).await?;
                }
                let is_included = self.filter.is_included(b"", true);
                self.descend(listing, found, None, is_included, resume_after.map(<[u8]>::to_vec));
                Ok(())
            }
            (Err(errno), _) | (_, (_, Err(errno))) => self.emit_unreadable(Vec::new(), errno, 0).await,
        }
    }

    /// Emits one entry. A directory becomes the current level.
    async fn visit(&mut self, found: Found) -> Result<(), Interrupted> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let path = child_path(&level.listing.path, &found.name);
        let is_directory = found.kind == EntryKind::Directory;
        let resume = level.resume_below(&found.name);
        let is_included = level.is_included;
        if self.filter.is_excluded(&path, is_directory) {
            // It is never listed ahead either.
            return Ok(());
        }
        // Evaluated in any case, so that it is known which globs and listed paths have matched.
        let is_included = self.filter.is_included(&path, is_directory) || is_included;
        if is_directory && !is_included && !self.filter.may_include_below(&path) {
            return Ok(());
        }
        if is_directory {
            return self.visit_directory(path, &found, is_included, resume).await;
        }
        if is_included && resume.is_none() {
            let entry = self.entry(path, found.kind.clone(), &found);
            let entry = self.with_header(entry).await?;
            self.emit(entry).await?;
        }
        Ok(())
    }

    async fn visit_directory(
        &mut self,
        path: Vec<u8>,
        found: &Found,
        is_included: bool,
        resume: Option<Vec<u8>>,
    ) -> Result<(), Interrupted> {
        if self.is_skipped_mount(found) {
            return if resume.is_none() { self.skip_mount(path, found, is_included).await } else { Ok(()) };
        }
        let (listing, listed) = match self.take_ahead(&found.name).await {
            Some(listed) => self.persist(listed).await?,
            None => self.list(path.clone(), resume.as_deref()).await?,
        };
        match listed {
            Ok(entries) => {
                let mut waiting = None;
                if resume.is_none() {
                    let entry = self.entry(path, EntryKind::Directory, found);
                    if is_included {
                        self.emit(entry).await?;
                    } else {
                        waiting = Some(entry);
                    }
                }
                self.descend(listing, entries, waiting, is_included, resume);
                Ok(())
            }
            Err(OWN_DIRECTORY) => {
                let path = display_path(&path);
                info!("{path} belongs to Orbit Grid itself and is left out of the job");
                Ok(())
            }
            // It was removed after it was listed, and is treated as if it had never existed.
            Err(Errno::NOENT) => Ok(()),
            Err(errno) if resume.is_none() => {
                let kind = EntryKind::Unreadable { errno: errno.raw_os_error() };
                let entry = self.entry(path, kind, found);
                self.emit(entry).await
            }
            Err(_) => Ok(()),
        }
    }

    /// Emits a mount point without entering it.
    async fn skip_mount(
        &mut self,
        path: Vec<u8>,
        found: &Found,
        is_included: bool,
    ) -> Result<(), Interrupted> {
        self.batches.note_mount(path.clone()).await?;
        if !is_included {
            return Ok(());
        }
        let entry = self.entry(path, EntryKind::Directory, found);
        self.emit(entry).await
    }

    fn descend(
        &mut self,
        listing: Listing,
        found: Vec<Found>,
        waiting: Option<Entry>,
        is_included: bool,
        resume: Option<Vec<u8>>,
    ) {
        let ahead = VecDeque::new();
        let mut level = Level { listing, found: found.into(), ahead, waiting, is_included, resume };
        self.list_ahead(&mut level);
        self.levels.push(level);
    }

    /// Examines the next part of the current level's directory.
    async fn continue_listing(&mut self) -> Result<(), Interrupted> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        let listed = next_block(Arc::clone(&self.place), level.listing).await?;
        let (listing, listed) = self.persist(listed).await?;
        level.listing = listing;
        match listed {
            Ok(found) => {
                level.found = found.into();
                self.list_ahead(&mut level);
                self.levels.push(level);
                Ok(())
            }
            // The rest of the directory cannot be read. What was emitted of it stays.
            Err(errno) => {
                let path = level.listing.path;
                self.emit_unreadable(path, errno, REST_MODE).await
            }
        }
    }

    /// Starts to list the next directories of a level. A level takes at most half of the free permits, so that the
    /// levels below it get some.
    fn list_ahead(&self, level: &mut Level) {
        if level.resume.is_some() {
            return;
        }
        let share = self.ahead.available_permits().div_ceil(2);
        let begun_to = level.ahead.back().map(|ahead| ahead.name.clone());
        let is_next = |found: &&Found| {
            found.kind == EntryKind::Directory && begun_to.as_ref().is_none_or(|name| found.name > *name)
        };
        for found in level.found.iter().filter(is_next).take(share) {
            let path = child_path(&level.listing.path, &found.name);
            if self.is_skipped_mount(found) || self.filter.is_excluded(&path, true) {
                continue;
            }
            let is_included = level.is_included || self.filter.is_included(&path, true);
            if !is_included && !self.filter.may_include_below(&path) {
                continue;
            }
            let Ok(permit) = Arc::clone(&self.ahead).try_acquire_owned() else { return };
            let place = Arc::clone(&self.place);
            let listed = tokio::task::spawn_blocking(move || block_of(&place, Listing::new(path, None)));
            level.ahead.push_back(Ahead { name: found.name.clone(), listed, _permit: permit });
        }
    }

    /// The listing of a directory of the current level, if it was begun ahead.
    async fn take_ahead(&mut self, name: &[u8]) -> Option<Listed> {
        let level = self.levels.last_mut()?;
        let at = level.ahead.iter().position(|ahead| ahead.name == name);
        let listed = match at.and_then(|at| level.ahead.remove(at)) {
            Some(ahead) => ahead.listed.await.ok(),
            None => None,
        };
        // A permit may be free again: the next directory of this level takes it.
        if let Some(mut level) = self.levels.pop() {
            self.list_ahead(&mut level);
            self.levels.push(level);
        }
        listed
    }

    async fn list(&mut self, path: Vec<u8>, resume: Option<&[u8]>) -> Result<Listed, Interrupted> {
        let after = resume.and_then(name_before);
        let listed = next_block(Arc::clone(&self.place), Listing::new(path, after)).await?;
        self.persist(listed).await
    }

    /// Retries after a temporary error: a whole directory must not be given up for one disk error, or for a moment
    /// without descriptors.
    async fn persist(&mut self, (mut listing, mut listed): Listed) -> Result<Listed, Interrupted> {
        let mut wait = LISTING_RETRY_MIN;
        for attempt in 1..=LISTING_RETRIES_MAX {
            let Err(errno) = &listed else { break };
            if !is_passing_errno(errno.raw_os_error()) {
                break;
            }
            let until = orbit_program::clock::now() + wait;
            tracing::warn!(path = %display_path(&listing.path), %errno, ?wait, "a directory is listed again");
            while orbit_program::clock::now() < until {
                tokio::time::sleep(wait.min(LISTING_RETRY_MIN)).await;
                self.batches.keep_alive().await?;
            }
            wait *= 2;
            // After the last retry a single entry with an error is given up, not its whole directory.
            listing.gives_up_single |= attempt == LISTING_RETRIES_MAX;
            (listing, listed) = next_block(Arc::clone(&self.place), listing).await?;
        }
        Ok((listing, listed))
    }

    /// Emits an entry that is kept, after the waiting entries of the directories above it.
    async fn emit(&mut self, entry: Entry) -> Result<(), Interrupted> {
        if !self.filter.admits(&entry) {
            return Ok(());
        }
        for level in &mut self.levels {
            if let Some(waiting) = level.waiting.take() {
                self.batches.push(waiting).await?;
            }
        }
        self.batches.push(entry).await
    }

    async fn emit_unreadable(&mut self, path: Vec<u8>, errno: Errno, mode: u32) -> Result<(), Interrupted> {
        let rank = self.classifier.rank(&path);
        let kind = EntryKind::Unreadable { errno: errno.raw_os_error() };
        let modified = orbit_shared::time::WallTime::UNIX_EPOCH;
        self.emit(Entry { path, kind, mode, modified, rank }).await
    }

    /// Reads the first bytes of a file if a rule asks for them, and classifies it again with them.
    async fn with_header(&self, entry: Entry) -> Result<Entry, Interrupted> {
        let is_asked = matches!(entry.kind, EntryKind::File { size } if size > 0)
            && self.filter.admits(&entry)
            && self.classifier.asks_for_header(&entry.path);
        if !is_asked {
            return Ok(entry);
        }
        let (place, classifier) = (Arc::clone(&self.place), self.classifier.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let (parent, name) = split_last(&entry.path);
            let rank = match place.tree.open_dir(parent) {
                Ok(directory) => classifier.rank_by_header(&entry.path, &*directory, name),
                Err(_) => entry.rank,
            };
            Entry { rank, ..entry }
        });
        reading.await.map_err(|_| Interrupted)
    }

    fn entry(&self, path: Vec<u8>, kind: EntryKind, found: &Found) -> Entry {
        let rank = self.classifier.rank(&path);
        Entry { path, kind, mode: found.mode, modified: found.modified, rank }
    }
}

impl Level {
    /// If `name` is the next component of the path to resume after: the rest of that path after it. The level itself
    /// continues normally from then on.
    fn resume_below(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let resume = self.resume.take()?;
        let (first, rest) = split_first(&resume);
        (first == name).then(|| rest.to_vec())
    }
}

/// Lists the next part of a directory on a blocking thread.
async fn next_block(place: Arc<Place>, listing: Listing) -> Result<Listed, Interrupted> {
    tokio::task::spawn_blocking(move || block_of(&place, listing)).await.map_err(|_| Interrupted)
}

fn block_of(place: &Place, mut listing: Listing) -> Listed {
    let found = listing.next_block(place);
    (listing, found)
}

fn child_path(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent);
    if !parent.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The directory of a path, and its last component.
fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, &[]),
    }
}

/// A name after which the listing of a directory can begin and still contain the first component of `resume`: the
/// largest name that is certainly smaller.
fn name_before(resume: &[u8]) -> Option<Vec<u8>> {
    let (first, _) = split_first(resume);
    let (last, head) = first.split_last()?;
    let mut before = head.to_vec();
    if *last > 0 {
        // Longer than any name, with all further bytes the largest: no name lies between this and `first`.
        before.push(last - 1);
        before.resize(head.len() + 300, 0xff);
    }
    Some(before)
}
