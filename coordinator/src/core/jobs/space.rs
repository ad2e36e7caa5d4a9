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

use orbit_shared::entry::display_path;
use orbit_shared::time::Now;
use orbit_shared::words::{ItemId, JobId, StarId};

use super::Jobs;
use super::hands::Hand;
use super::lane::Queued;
use crate::core::held::{Gate, Held};
use crate::core::records::Location;
use crate::core::stars::{Star, Stars};

/// Items of one job that wait for room. Beyond this the lane waits at its next item.
const PARKED_PER_JOB_MAX: usize = 10_000;

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

/// Bytes that may still be sent to a place on a Star; `None` if that is not known.
pub(super) fn room_of(star: &Star, hand: &Hand, path: &[u8]) -> Option<u64> {
    let taken = hand.on_way.bytes().saturating_add(hand.bytes_since_sample);
    Some(star.available(path)?.saturating_sub(taken))
}

/// What a lane whose next item has `size` bytes may send to a place on a Star.
pub(super) fn room(star: &Star, hand: &Hand, path: &[u8], parked: usize, size: u64) -> Room {
    match room_of(star, hand, path) {
        None => Room::Bytes(u64::MAX),
        Some(bytes) if size <= bytes => Room::Bytes(bytes),
        Some(_) if star.guard.state().object_count > 0 || hand.bytes_since_sample > 0 => Room::None,
        Some(_) if parked >= PARKED_PER_JOB_MAX => Room::None,
        Some(bytes) => Room::CheckOnly { beyond: bytes },
    }
}

impl Jobs {
    /// What holds a lane for want of space.
    pub(super) fn space_gate(&self, stars: &Stars, job: JobId, destination: u32) -> Option<Held> {
        let job = self.jobs.get(&job)?;
        let live = job.live.as_ref()?;
        let place = job.record.spec.destinations.get(destination as usize)?;
        let star = stars.get(&place.star_id)?;
        let hand = self.hands.of(&place.star_id);
        let lane = live.lanes.get(destination as usize)?;
        let size = lane.item(lane.best_key()?)?.entry.size();
        match room(star, hand, &place.path, live.parked.len(), size) {
            Room::Bytes(_) | Room::CheckOnly { .. } => None,
            Room::None => Some(Held::new(Gate::Guard, no_room(place, (star, hand), size))),
        }
    }

    /// What holds a parked item.
    pub(super) fn parked_gate(&self, stars: &Stars, item: ItemId) -> Option<Held> {
        let job = self.jobs.get(&item.job)?;
        let queued = job.live.as_ref()?.parked.get(&item)?;
        let place = job.record.spec.destinations.get(item.destination as usize)?;
        let star = stars.get(&place.star_id)?;
        let hand = self.hands.of(&place.star_id);
        Some(Held::new(Gate::Guard, no_room(place, (star, hand), queued.entry.size())))
    }

    /// An item was checked and is not there: it waits for room.
    pub(super) fn park(&mut self, item: ItemId, queued: Queued) {
        self.live_mut(item.job).parked.insert(item, queued);
    }

    /// A Star has reported its free space: items that fit now wait in their lanes again.
    pub(in crate::core) fn unpark(&mut self, stars: &Stars, now: Now, name: &StarId) {
        let star = stars.get(name).expect("who has a session is known");
        let hand = self.hands.of(name);
        for id in self.open.iter() {
            let job = self.jobs.get_mut(id).expect("a job that is open is known");
            let spec = &job.record.spec;
            let Some(live) = job.live.as_mut().filter(|live| !live.parked.is_empty()) else { continue };
            let mut rooms: BTreeMap<&[u8], Option<u64>> = BTreeMap::new();
            let mut fits = |item: &ItemId, size: u64| {
                let place = spec.destinations.get(item.destination as usize);
                place.filter(|place| place.star_id == *name).is_some_and(|place| {
                    let known =
                        rooms.entry(&place.path[..]).or_insert_with(|| room_of(star, hand, &place.path));
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

fn no_room(place: &Location, (star, hand): (&Star, &Hand), size: u64) -> String {
    let available = star.available(&place.path).unwrap_or(0);
    let taken = hand.on_way.bytes();
    let below = match place.path.is_empty() {
        true => "for its vault".to_owned(),
        false => format!("below {}", display_path(&place.path)),
    };
    format!(
        "the disk of {} has {available} bytes free {below}, {taken} are on their way to this Star, and the item needs {size}",
        place.star_id,
    )
}

impl Jobs {
    /// Bytes that may still be sent to a place; `None` if that is not known.
    pub(in crate::core) fn room_of(&self, stars: &Stars, place: &Location) -> Option<u64> {
        room_of(stars.get(&place.star_id)?, self.hands.of(&place.star_id), &place.path)
    }
}
