//! The catalogue of snapshots: what is known of the vaults, those of Stars that are away among them.
//!
//! It is durable, and with every hello it is compared with what the vault has, page by page; the vault is right.

use std::ops::Bound;

use orbit_shared::bulletin::Severity;
use orbit_shared::capability::Capability;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::time::Now;
use orbit_shared::vault_call::{SnapshotInfo, VaultCall};
use orbit_shared::words::{JobId, SnapshotId, StarId};
use serde::{Deserialize, Serialize};

use super::event::SessionId;
use super::limits::SNAPSHOTS_MAX;
use super::refusal::Refusal;
use super::vaults::{Purpose, not_connected};
use super::{Change, Core, Effects};

/// Whom a Star serves that is no Star: a program of an operator.
const READER: &str = "operator";

/// A snapshot and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The Star whose vault has it.
    pub star: StarId,
    /// What the vault says of it.
    pub info: SnapshotInfo,
}

/// A snapshot in the catalogue.
#[derive(Debug)]
pub(super) struct Catalogued {
    pub(super) record: SnapshotRecord,
    /// Calls up to this number were made before it was known: a list that one of them brings may lack it.
    pub(super) since: u64,
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
        };
        Ok((star.record.data_address.clone(), capability))
    }

    /// Takes the catalogue from the store.
    pub(super) fn recover_snapshots(&mut self, records: Vec<SnapshotRecord>) {
        let known = records.into_iter().map(|record| (record.info.id, Catalogued { record, since: 0 }));
        self.snapshots = known.collect();
    }

    /// Takes over a page of a vault's list: what lies between its ends and is not in it is there no more.
    pub(super) fn compare(
        &mut self,
        now: Now,
        request: u64,
        star: &StarId,
        (after, last): (Option<SnapshotId>, Option<SnapshotId>),
        page: Vec<SnapshotInfo>,
        fx: &mut Effects,
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
            self.forget_snapshot(id, fx);
            let message = format!("snapshot {id} is not in the vault of {star} any more");
            self.post(now, fx, (Severity::Warning, star.as_str(), "vault"), None, &message);
        }
        for info in page {
            self.catalogue(star, info, fx);
        }
    }

    /// Notes a snapshot, if it is not known as it is.
    pub(super) fn catalogue(&mut self, star: &StarId, info: SnapshotInfo, fx: &mut Effects) {
        let id = info.id;
        let record = SnapshotRecord { star: star.clone(), info };
        match self.snapshots.get(&id) {
            Some(known) if known.record == record => return,
            // Two vaults with one snapshot are one vault that was copied; the first one that spoke has it.
            Some(known) if known.record.star != *star => return,
            None if self.snapshots.len() >= SNAPSHOTS_MAX => return,
            Some(_) | None => {}
        }
        fx.changes.push(Change::PutSnapshot(Box::new(record.clone())));
        self.snapshots.insert(id, Catalogued { record, since: self.next_ask });
    }

    pub(super) fn forget_snapshot(&mut self, id: SnapshotId, fx: &mut Effects) {
        if self.snapshots.remove(&id).is_some() {
            fx.changes.push(Change::RemoveSnapshot(id));
        }
    }

    /// The snapshots of a Star that is removed from the grid are not known any more.
    pub(super) fn forget_snapshots_of(&mut self, star: &StarId, fx: &mut Effects) {
        let of_star = self.snapshots.iter().filter(|(_, known)| known.record.star == *star);
        let ids: Vec<SnapshotId> = of_star.map(|(&id, _)| id).collect();
        for id in ids {
            self.forget_snapshot(id, fx);
        }
    }

    /// Gives up what a vault has of jobs that will not go on.
    pub(super) fn abandon_stages(
        &mut self,
        now: Now,
        session: SessionId,
        star: &StarId,
        stages: &[(JobId, u32)],
        fx: &mut Effects,
    ) {
        for &(job, destination) in stages {
            let is_open = self.jobs.get(&job).is_some_and(|job| {
                let place = job.record.spec.destinations.get(destination as usize);
                job.live.is_some() && place.is_some_and(|place| place.star_id == *star)
            });
            if !is_open && !is_planted(Bug::StagesNotAbandoned) {
                let call = VaultCall::Abandon { job, destination };
                self.ask(now, session, star, call, Purpose::Abandon, fx);
            }
        }
    }
}
