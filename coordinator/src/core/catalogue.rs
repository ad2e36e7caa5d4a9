//! The catalogue of snapshots: what is known of the vaults, those of Stars that are away among them.
//!
//! It is durable, and with every hello it is compared with what the vault has, page by page; the vault is right.

use std::ops::Bound;

use orbit_shared::bulletin::Severity;
use orbit_shared::capability::Capability;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::vault_call::{SnapshotInfo, VaultCall};
use orbit_shared::words::{JobId, SnapshotId, StarId};
use serde::{Deserialize, Serialize};

use super::event::SessionId;
use super::limits::{SNAPSHOTS_FEW, SNAPSHOTS_MAX, SNAPSHOTS_RESERVED};
use super::refusal::Refusal;
use super::vaults::{Purpose, not_connected};
use super::{Change, Core, Turn};

/// Whom a Star serves that is no Star: a program of an operator.
const READER: &str = "operator";

/// A snapshot and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The Star whose vault has it.
    pub star: StarId,
    /// What the vault says of it.
    pub info: SnapshotInfo,
    /// The Star under which it was known before its vault came back under another name.
    #[serde(default)]
    pub origin: Option<StarId>,
}

/// A snapshot in the catalogue.
#[derive(Debug)]
pub(super) struct Catalogued {
    pub(super) record: SnapshotRecord,
    /// Calls up to this number were made before it was known: a list that one of them brings may lack it.
    pub(super) since: u64,
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

impl Core {
    /// Snapshots, newest first.
    pub fn snapshots(&self) -> Vec<&SnapshotRecord> {
        let mut found: Vec<&SnapshotRecord> = self.snapshots.values().map(|known| &known.record).collect();
        found.sort_by_key(|record| std::cmp::Reverse((record.info.create_time, record.info.id)));
        found
    }

    /// One snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> Option<&SnapshotRecord> {
        self.snapshots.get(&id).map(|known| &known.record)
    }

    /// Where a snapshot can be read now, and what an operator's program may do there.
    pub fn readable_snapshot(&self, id: SnapshotId) -> Result<(String, Capability), Refusal> {
        let not_known =
            || Refusal::NotFound { what: format!("snapshot {id}; ListSnapshots shows those there are") };
        let record = self.snapshot(id).ok_or_else(not_known)?;
        let star = self.stars.get(&record.star).filter(|star| star.session.is_some());
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

    /// Takes the catalogue from the store.
    pub(super) fn recover_snapshots(&mut self, records: Vec<SnapshotRecord>) {
        for record in records {
            self.insert_snapshot(Catalogued { record, since: 0 });
        }
    }

    /// Takes over a page of a vault's list: what lies between its ends and is not in it is there no more.
    pub(super) fn compare(
        &mut self,
        turn: &mut Turn,
        request: u64,
        star: &StarId,
        (after, last): (Option<SnapshotId>, Option<SnapshotId>),
        page: Vec<SnapshotInfo>,
    ) {
        let listed: std::collections::BTreeSet<SnapshotId> = page.iter().map(|info| info.id).collect();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        let is_gone = |(id, known): &(&SnapshotId, &Catalogued)| {
            known.record.star == *star && known.since < request && !listed.contains(id)
        };
        let gone: Vec<SnapshotId> =
            self.snapshots.range((from, to)).filter(is_gone).map(|(&id, _)| id).collect();
        for id in gone {
            self.forget_snapshot(turn, id);
            let message = format!("snapshot {id} is not in the vault of {star} any more");
            self.post(turn, (Severity::Warning, star.as_str(), "vault"), None, &message);
        }
        let (mut copied, mut is_full) = (None, false);
        for info in page {
            match self.catalogue(turn, star, info) {
                Listing::Known => {}
                Listing::Full => is_full = true,
                Listing::OfOther(other) => copied = Some(other),
            }
        }
        if is_full {
            self.tell_full_catalogue(turn, star);
        }
        if let Some(other) = copied {
            let message = format!(
                "the vaults of {star} and {other} have snapshots in common, so one is a copy of the other: they are listed under {other} \
                 while it is connected"
            );
            self.post(turn, (Severity::Warning, star.as_str(), "vault"), None, &message);
        }
    }

    /// Lists a snapshot that a vault has.
    pub(super) fn catalogue(&mut self, turn: &mut Turn, star: &StarId, info: SnapshotInfo) -> Listing {
        let id = info.id;
        let known = self.snapshots.get(&id).map(|known| &known.record);
        let origin = match known {
            Some(known) if known.star == *star => known.origin.clone(),
            Some(known) if self.stars.get(&known.star).is_some_and(|other| other.session.is_some()) => {
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
        if known.is_none() && !self.has_snapshot_place(star) {
            return Listing::Full;
        }
        turn.changes.push(Change::PutSnapshot(Box::new(record.clone())));
        self.insert_snapshot(Catalogued { record, since: self.next_ask });
        Listing::Known
    }

    /// Posts that the catalogue has no place for a snapshot of a Star.
    pub(super) fn tell_full_catalogue(&mut self, turn: &mut Turn, star: &StarId) {
        let message = format!(
            "the catalogue is full: {SNAPSHOTS_MAX} snapshots, of which the last {SNAPSHOTS_RESERVED} places are for Stars with fewer \
             than {SNAPSHOTS_FEW}. The vault of {star} keeps snapshots that `orbit snapshot ls` does not list; delete old ones with \
             `orbit snapshot prune`, and reconnect the Star"
        );
        self.post(turn, (Severity::Warning, star.as_str(), "vault"), None, &message);
    }

    /// Whether the catalogue takes one more snapshot of this Star.
    fn has_snapshot_place(&self, star: &StarId) -> bool {
        let count = self.snapshots.len();
        if count < SNAPSHOTS_MAX - SNAPSHOTS_RESERVED {
            return true;
        }
        count < SNAPSHOTS_MAX && self.snapshot_counts.get(star).is_none_or(|&own| own < SNAPSHOTS_FEW)
    }

    fn insert_snapshot(&mut self, known: Catalogued) {
        let (id, star) = (known.record.info.id, known.record.star.clone());
        if let Some(before) = self.snapshots.insert(id, known) {
            self.uncount_snapshot(&before.record.star);
        }
        *self.snapshot_counts.entry(star).or_default() += 1;
    }

    fn uncount_snapshot(&mut self, star: &StarId) {
        if let Some(count) = self.snapshot_counts.get_mut(star) {
            *count -= 1;
            if *count == 0 {
                self.snapshot_counts.remove(star);
            }
        }
    }

    pub(super) fn forget_snapshot(&mut self, turn: &mut Turn, id: SnapshotId) {
        if let Some(known) = self.snapshots.remove(&id) {
            self.uncount_snapshot(&known.record.star);
            turn.changes.push(Change::RemoveSnapshot(id));
        }
    }

    /// The snapshots of a Star that is removed from the grid are not known any more.
    pub(super) fn forget_snapshots_of(&mut self, turn: &mut Turn, star: &StarId) {
        let of_star = self.snapshots.iter().filter(|(_, known)| known.record.star == *star);
        let ids: Vec<SnapshotId> = of_star.map(|(&id, _)| id).collect();
        for id in ids {
            self.forget_snapshot(turn, id);
        }
    }

    /// Gives up what a vault has of jobs that will not go on.
    pub(super) fn abandon_stages(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        star: &StarId,
        stages: &[(JobId, u32)],
    ) {
        for &(job, destination) in stages {
            let is_open = self.jobs.get(&job).is_some_and(|job| {
                let place = job.record.spec.destinations.get(destination as usize);
                job.live.is_some() && place.is_some_and(|place| place.star_id == *star)
            });
            if !is_open && !is_planted(Bug::StagesNotAbandoned) {
                let call = VaultCall::Abandon { job, destination };
                self.ask(turn, session, star, call, Purpose::Abandon);
            }
        }
    }
}
