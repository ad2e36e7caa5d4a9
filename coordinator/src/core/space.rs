//! Space: a destination's disk is never given more than it has room for, what is on its way counted in.
//!
//! An item that does not fit beside what is on its way waits for that to end. One that does not fit at all is sent only
//! to be checked: the Star looks whether it has the file already, and writes nothing. If it has not, the item is parked,
//! so that smaller ones pass, until the disk has room.
//!
//! What is on its way counts here with the whole of its files, although a guard is charged with a large file's window only.
//!
//! A Star reports the room below each of its roots and in its vault. What is on its way to any of them is counted against
//! the one in question, since they may share a disk. A vault may need less than an item's size, since it compresses and
//! has some of the content: a packed item that does not seem to fit is tried, and parked if the vault has no room. A Star sends its first sample at once; in the moment before nothing is
//! known, and only its own refusals apply.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use orbit_shared::entry::display_path;
use orbit_shared::session::limits::{ASSIGNMENT_ITEMS_MAX, ASSIGNMENTS_PER_STAR_MAX};
use orbit_shared::time::Now;
use orbit_shared::words::{ItemId, JobId, StarId};

use super::Core;
use super::gate::{Gate, Held};
use super::job_record::Location;
use super::lane::Queued;
use super::star::Star;

/// Items of one job that wait for room. Beyond this the lane waits at its next item.
const PARKED_PER_JOB_MAX: usize = 10_000;

/// What one item counts for at most. No disk has room for more, and all items of a Star's assignments can be added up.
const CARRIED_BYTES_MAX: u64 = 1 << 50;
const _: () = assert!(
    CARRIED_BYTES_MAX.checked_mul((ASSIGNMENTS_PER_STAR_MAX * ASSIGNMENT_ITEMS_MAX) as u64).is_some()
);

/// What a lane may send as far as space goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Items of so many bytes together.
    Bytes(u64),
    /// The next item does not fit, and nothing is on its way: it and its like may go to be checked.
    CheckOnly {
        /// Items up to this size would fit and stay behind.
        beyond: u64,
    },
    /// Nothing, until something that is on its way has ended.
    None,
}

/// Sum of the sizes of what is on its way to a Star.
#[derive(Debug, Clone, Default)]
pub struct OnWay(Arc<AtomicU64>);

impl OnWay {
    /// Counts an item's bytes until the returned value is dropped.
    pub(super) fn carry(&self, bytes: u64) -> Carried {
        let bytes = bytes.min(CARRIED_BYTES_MAX);
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Carried { on_way: self.clone(), bytes }
    }

    /// Bytes of all that is on its way.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes of one item that is on its way.
#[derive(Debug)]
pub struct Carried {
    on_way: OnWay,
    bytes: u64,
}

impl Carried {
    /// How many they are; 0 for an item that goes only to be checked.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let before = self.on_way.0.fetch_sub(self.bytes, Ordering::Relaxed);
        debug_assert!(before >= self.bytes, "{before} bytes were on their way, {} arrive", self.bytes);
    }
}

/// Bytes that are available below the root of a path, or on the disk of the vault if the path is empty; `None` if that
/// is not known.
fn available(star: &Star, path: &[u8]) -> Option<u64> {
    if path.is_empty() {
        return star.vault_sample.map(|sample| sample.disk_available_bytes);
    }
    let root = star.record.root_of(path)?;
    star.root_space.iter().find(|space| space.path == root.path).map(|space| space.available_bytes)
}

/// Bytes that may still be sent to a place on a Star; `None` if that is not known.
pub(super) fn room_of(star: &Star, path: &[u8]) -> Option<u64> {
    let taken = star.on_way.bytes().saturating_add(star.bytes_since_sample);
    Some(available(star, path)?.saturating_sub(taken))
}

/// What a lane whose next item has `size` bytes may send to a place on a Star.
pub(super) fn room(star: &Star, path: &[u8], parked: usize, size: u64) -> Room {
    match room_of(star, path) {
        None => Room::Bytes(u64::MAX),
        Some(bytes) if size <= bytes => Room::Bytes(bytes),
        Some(_) if star.guard.state().object_count > 0 || star.bytes_since_sample > 0 => Room::None,
        Some(_) if parked >= PARKED_PER_JOB_MAX => Room::None,
        Some(bytes) => Room::CheckOnly { beyond: bytes },
    }
}

impl Core {
    /// What holds a lane for want of space.
    pub(super) fn space_gate(&self, job: JobId, destination: u32) -> Option<Held> {
        let job = self.jobs.get(&job)?;
        let live = job.live.as_ref()?;
        let place = job.record.spec.destinations.get(destination as usize)?;
        let star = self.stars.get(&place.star_id)?;
        let lane = live.lanes.get(destination as usize)?;
        let size = lane.item(lane.best_key()?)?.entry.size();
        match room(star, &place.path, live.parked.len(), size) {
            Room::Bytes(_) | Room::CheckOnly { .. } => None,
            Room::None => Some(Held::new(Gate::Guard, no_room(place, star, size))),
        }
    }

    /// What holds a parked item.
    pub(super) fn parked_gate(&self, item: ItemId) -> Option<Held> {
        let job = self.jobs.get(&item.job)?;
        let queued = job.live.as_ref()?.parked.get(&item)?;
        let place = job.record.spec.destinations.get(item.destination as usize)?;
        let star = self.stars.get(&place.star_id)?;
        Some(Held::new(Gate::Guard, no_room(place, star, queued.entry.size())))
    }

    /// An item was checked and is not there: it waits for room.
    pub(super) fn park(&mut self, item: ItemId, queued: Queued) {
        let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) else { return };
        live.parked.insert(item, queued);
    }

    /// A Star has reported its free space: items that fit now wait in their lanes again.
    pub(super) fn unpark(&mut self, now: Now, name: &StarId) {
        let Some(star) = self.stars.get(name) else { return };
        for job in self.jobs.values_mut() {
            let spec = &job.record.spec;
            let Some(live) = job.live.as_mut().filter(|live| !live.parked.is_empty()) else { continue };
            let mut rooms: BTreeMap<&[u8], Option<u64>> = BTreeMap::new();
            let mut fits = |item: &ItemId, size: u64| {
                let place = spec.destinations.get(item.destination as usize);
                place.filter(|place| place.star_id == *name).is_some_and(|place| {
                    let known = rooms.entry(&place.path[..]).or_insert_with(|| room_of(star, &place.path));
                    known.is_none_or(|room| size <= room)
                })
            };
            let (ready, parked): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut live.parked)
                .into_iter()
                .partition(|(item, queued)| fits(item, queued.entry.size()));
            live.parked = parked;
            for (item, mut queued) in ready {
                queued.queued_at = now.monotonic;
                live.wait(item, queued);
            }
        }
    }
}

fn no_room(place: &Location, star: &Star, size: u64) -> String {
    let available = available(star, &place.path).unwrap_or(0);
    let taken = star.on_way.bytes();
    let below = match place.path.is_empty() {
        true => "for its vault".to_owned(),
        false => format!("below {}", display_path(&place.path)),
    };
    format!(
        "the disk of {} has {available} bytes free {below}, {taken} are on their way to this Star, and the item needs {size}",
        place.star_id,
    )
}
