//! The catalogue of snapshots: what is known of the vaults, those of Stars that are away among them.
//!
//! It is durable, and with every hello it is compared with what the vault has, page by page; the vault is right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use orbit_shared::bulletin::Severity;
use orbit_shared::capability::Capability;
use orbit_shared::vault_call::SnapshotInfo;
use orbit_shared::words::{SnapshotId, StarId};

use crate::core::change::Change;
use crate::core::limits::{SNAPSHOTS_FEW, SNAPSHOTS_MAX, SNAPSHOTS_RESERVED};
use crate::core::records::SnapshotRecord;
use crate::core::refusal::Refusal;
use crate::core::stars::Stars;
use crate::core::turn::Turn;

/// Whom a Star serves that is no Star: a program of an operator.
const READER: &str = "operator";

/// A snapshot in the catalogue.
#[derive(Debug)]
struct Catalogued {
    record: SnapshotRecord,
    /// Calls up to this number were made before it was known: a list that one of them brings may lack it.
    since: u64,
}

/// Result of listing a snapshot in the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// The catalogue lists it.
    Known,
    /// The catalogue has no place for it.
    Full,
    /// It is listed under this Star, which is connected and has it too: one vault is a copy of the other.
    OfOther(StarId),
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::core) struct Catalogue {
    snapshots: BTreeMap<SnapshotId, Catalogued>,
    /// How many each Star has of them.
    counts: BTreeMap<StarId, usize>,
}

impl Catalogue {
    /// The catalogue as it is in the store.
    pub(super) fn recover(records: Vec<SnapshotRecord>) -> Self {
        let mut catalogue = Self::default();
        for record in records {
            catalogue.insert(Catalogued { record, since: 0 });
        }
        catalogue.check_all();
        catalogue
    }

    /// All snapshots, by number.
    pub(super) fn all(&self) -> impl Iterator<Item = &SnapshotRecord> {
        self.snapshots.values().map(|known| &known.record)
    }

    /// Snapshots, newest first.
    pub(in crate::core) fn newest_first(&self) -> Vec<&SnapshotRecord> {
        let mut found: Vec<&SnapshotRecord> = self.snapshots.values().map(|known| &known.record).collect();
        found.sort_by_key(|record| std::cmp::Reverse((record.info.create_time, record.info.id)));
        found
    }

    /// One snapshot.
    pub(in crate::core) fn get(&self, id: SnapshotId) -> Option<&SnapshotRecord> {
        self.snapshots.get(&id).map(|known| &known.record)
    }

    /// Where a snapshot can be read now, and what an operator's program may do there.
    pub(in crate::core) fn readable(
        &self,
        stars: &Stars,
        id: SnapshotId,
    ) -> Result<(String, Capability), Refusal> {
        let not_known =
            || Refusal::NotFound { what: format!("snapshot {id}; ListSnapshots shows those there are") };
        let record = self.get(id).ok_or_else(not_known)?;
        let star = stars.get(&record.star).filter(|star| star.session.is_some());
        let star = star.ok_or_else(|| not_connected(&record.star))?;
        let capability = Capability {
            job: record.info.job,
            source_star: record.star.clone(),
            source_path: b"/".to_vec(),
            destination_star: StarId::new(READER).expect("a name of letters"),
            snapshot: Some(id),
            is_for_chunks: false,
            max_bytes_per_second: 0,
            filter: None,
        };
        Ok((star.record.data_address.clone(), capability))
    }

    /// Takes over a page of a vault's list, which call `request` has brought: what lies between its ends and is not in it is
    /// there no more. `last_call` is the number of the last call of all.
    pub(super) fn compare(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        (request, last_call): (u64, u64),
        star: &StarId,
        (after, last): (Option<SnapshotId>, Option<SnapshotId>),
        page: Vec<SnapshotInfo>,
    ) {
        let listed: BTreeSet<SnapshotId> = page.iter().map(|info| info.id).collect();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        let is_gone = |(id, known): &(&SnapshotId, &Catalogued)| {
            known.record.star == *star && known.since < request && !listed.contains(id)
        };
        let gone: Vec<SnapshotId> =
            self.snapshots.range((from, to)).filter(is_gone).map(|(&id, _)| id).collect();
        for id in gone {
            self.forget(turn, id);
            let message = format!("snapshot {id} is not in the vault of {star} any more");
            turn.post((Severity::Warning, star.as_str(), "vault"), None, &message);
        }
        let (mut copied, mut is_full) = (None, false);
        for info in page {
            match self.list(turn, stars, star, info, last_call) {
                Listing::Known => {}
                Listing::Full => is_full = true,
                Listing::OfOther(other) => copied = Some(other),
            }
        }
        if is_full {
            tell_full(turn, star);
        }
        if let Some(other) = copied {
            let message = format!(
                "the vaults of {star} and {other} have snapshots in common, so one is a copy of the other: they are listed under {other} \
                 while it is connected"
            );
            turn.post((Severity::Warning, star.as_str(), "vault"), None, &message);
        }
        self.check();
    }

    /// Lists a snapshot that a vault has.
    pub(super) fn list(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        star: &StarId,
        info: SnapshotInfo,
        last_call: u64,
    ) -> Listing {
        let id = info.id;
        let known = self.snapshots.get(&id).map(|known| &known.record);
        let origin = match known {
            Some(known) if known.star == *star => known.origin.clone(),
            Some(known) if stars.session_of(&known.star).is_some() => {
                return Listing::OfOther(known.star.clone());
            }
            // Its vault has come back under another name.
            Some(known) => {
                known.origin.clone().or_else(|| Some(known.star.clone())).filter(|from| from != star)
            }
            None => None,
        };
        let record = SnapshotRecord { star: star.clone(), info, origin };
        if known == Some(&record) {
            return Listing::Known;
        }
        if known.is_none() && !self.has_place(star) {
            return Listing::Full;
        }
        turn.changes.push(Change::PutSnapshot(Box::new(record.clone())));
        self.insert(Catalogued { record, since: last_call });
        Listing::Known
    }

    /// Whether it takes one more snapshot of this Star.
    fn has_place(&self, star: &StarId) -> bool {
        let count = self.snapshots.len();
        if count < SNAPSHOTS_MAX - SNAPSHOTS_RESERVED {
            return true;
        }
        count < SNAPSHOTS_MAX && self.counts.get(star).is_none_or(|&own| own < SNAPSHOTS_FEW)
    }

    fn insert(&mut self, known: Catalogued) {
        let (id, star) = (known.record.info.id, known.record.star.clone());
        if let Some(before) = self.snapshots.insert(id, known) {
            self.uncount(&before.record.star);
        }
        *self.counts.entry(star).or_default() += 1;
    }

    fn uncount(&mut self, star: &StarId) {
        let count = self.counts.get_mut(star).expect("a snapshot that is listed is counted");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(star);
        }
    }

    /// A snapshot is deleted, or is not there any more.
    pub(super) fn forget(&mut self, turn: &mut Turn, id: SnapshotId) {
        if let Some(known) = self.snapshots.remove(&id) {
            self.uncount(&known.record.star);
            turn.changes.push(Change::RemoveSnapshot(id));
        }
    }

    /// The snapshots of a Star that is removed from the grid are not known any more.
    pub(super) fn forget_star(&mut self, turn: &mut Turn, star: &StarId) {
        let of_star = self.snapshots.iter().filter(|(_, known)| known.record.star == *star);
        let ids: Vec<SnapshotId> = of_star.map(|(&id, _)| id).collect();
        for id in ids {
            self.forget(turn, id);
        }
        assert!(!self.counts.contains_key(star), "the catalogue has no snapshots of {star}, but counts some");
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let (count, stars) = (self.snapshots.len(), self.counts.len());
        assert!(stars <= count, "{count} snapshots are of {stars} Stars");
    }

    /// The same for what would take a pass over everything.
    pub(super) fn check_all(&self) {
        let counted: usize = self.counts.values().sum();
        assert_eq!(counted, self.snapshots.len(), "snapshots by Star: {:?}", self.counts);
    }
}

/// Posts that there is no place for a snapshot of a Star.
pub(super) fn tell_full(turn: &mut Turn, star: &StarId) {
    let message = format!(
        "the catalogue is full: {SNAPSHOTS_MAX} snapshots, of which the last {SNAPSHOTS_RESERVED} places are for Stars with fewer \
         than {SNAPSHOTS_FEW}. The vault of {star} keeps snapshots that `orbit snapshot ls` does not list; delete old ones with \
         `orbit snapshot prune`, and reconnect the Star"
    );
    turn.post((Severity::Warning, star.as_str(), "vault"), None, &message);
}

/// A Star whose vault cannot be asked now.
pub(in crate::core) fn not_connected(star: &StarId) -> Refusal {
    let problem = format!("{star} is not connected, so its vault cannot be asked; start its agent");
    Refusal::WrongState { problem }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use orbit_shared::time::{Now, WallTime};
    use orbit_shared::words::JobId;

    use super::*;

    #[test]
    fn one_vault_with_endless_snapshots_leaves_places_for_those_of_others() {
        let [one, two] = ["star-1", "star-2"].map(|name| StarId::new(name).expect("a name"));
        let info = |number: usize, star: &StarId| SnapshotInfo {
            id: SnapshotId((number as u128).to_be_bytes()),
            job: JobId(1),
            destination: 0,
            source_star: star.clone(),
            source_path: b"/".to_vec(),
            create_time: WallTime { seconds: 1, nanos: 0 },
            tags: Vec::new(),
            is_partial: false,
            entry_count: 1,
            file_count: 1,
            total_bytes: 1,
            added_bytes: 1,
            changed_count: 0,
            tree_hash: None,
        };
        let now = Now::from_ms(1);
        let stars = Stars::recover(Vec::new(), Duration::from_secs(15), now);
        let mut turn = Turn::new(now);
        let mut catalogue = Catalogue::default();
        let mut add = |catalogue: &mut Catalogue, star: &StarId, numbers: std::ops::Range<usize>| {
            for number in numbers {
                catalogue.list(&mut turn, &stars, star, info(number, star), 0);
            }
            catalogue.check_all();
            catalogue.newest_first().iter().filter(|record| record.star == *star).count()
        };
        let flooded = add(&mut catalogue, &one, 0..2 * SNAPSHOTS_MAX);
        assert_eq!(flooded, SNAPSHOTS_MAX - SNAPSHOTS_RESERVED);
        let honest = 2 * SNAPSHOTS_MAX..2 * SNAPSHOTS_MAX + SNAPSHOTS_FEW;
        assert_eq!(add(&mut catalogue, &two, honest), SNAPSHOTS_FEW);
        let more = 3 * SNAPSHOTS_MAX..3 * SNAPSHOTS_MAX + 10;
        assert_eq!(add(&mut catalogue, &one, more), flooded, "it has its share");
        let page = vec![info(5 * SNAPSHOTS_MAX, &one)];
        let mut told = Turn::new(now);
        catalogue.compare(&mut told, &stars, (0, 0), &one, (None, None), page);
        assert!(format!("{:?}", told.sayings).contains("catalogue is full"), "{:?}", told.sayings);
        // What goes gives its place back.
        catalogue.forget_star(&mut told, &one);
        assert_eq!(add(&mut catalogue, &one, 0..10), 10);
        assert_eq!(add(&mut catalogue, &two, 4 * SNAPSHOTS_MAX..4 * SNAPSHOTS_MAX + 10), SNAPSHOTS_FEW + 10);
    }
}
