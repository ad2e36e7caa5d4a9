//! A model of a Star's vault: what each job has stored, and the snapshots. A commit or a seal happens completely or not
//! at all, and is durable. The tests of the packed store show that it does the same.

use std::collections::BTreeMap;

use orbit_coordinator::core::JobState;
use orbit_shared::session::Assignment;
use orbit_shared::vault_call::{
    Renames, SealRequest, SnapshotInfo, VaultCall, VaultFailure, VaultProblem, VaultReply,
};
use orbit_shared::words::{JobId, Layout, SnapshotId};
use orbit_star::core::Event;

use super::World;

/// What one job has stored for one destination: the version of each path.
pub type Entries = BTreeMap<Vec<u8>, u64>;

/// A snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// The vault's description of it.
    pub info: SnapshotInfo,
    /// Its entries.
    pub entries: Entries,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Vault {
    stages: BTreeMap<(JobId, u32), Entries>,
    snapshots: Vec<Snapshot>,
}

impl Vault {
    /// The version of a path that a job has stored and that is not in a snapshot yet.
    pub fn staged(&self, job: JobId, destination: u32, path: &[u8]) -> Option<u64> {
        self.stages.get(&(job, destination))?.get(path).copied()
    }

    /// The version of a path that a job has stored, in a snapshot or not.
    pub fn version(&self, job: JobId, destination: u32, path: &[u8]) -> Option<u64> {
        let sealed =
            self.snapshots_of(job, destination).find_map(|snapshot| snapshot.entries.get(path).copied());
        sealed.or_else(|| self.staged(job, destination, path))
    }

    /// Stores versions of paths.
    pub fn commit(&mut self, job: JobId, destination: u32, entries: Entries) {
        if !entries.is_empty() {
            self.stages.entry((job, destination)).or_default().extend(entries);
        }
    }

    /// Removes what a job has stored.
    pub fn abandon_job(&mut self, job: JobId) {
        self.stages.retain(|(of, _), _| *of != job);
    }

    /// Jobs with stages that are no snapshots.
    pub fn stages(&self) -> impl Iterator<Item = (JobId, u32)> {
        self.stages.keys().copied()
    }

    /// All snapshots.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// The snapshots that one job has made for one destination.
    pub fn snapshots_of(&self, job: JobId, destination: u32) -> impl Iterator<Item = &Snapshot> {
        let is_of =
            move |snapshot: &&Snapshot| (snapshot.info.job, snapshot.info.destination) == (job, destination);
        self.snapshots.iter().filter(is_of)
    }

    /// Makes a snapshot. The same request returns the same one.
    fn seal(&mut self, star: usize, request: &SealRequest) -> Result<SnapshotInfo, VaultProblem> {
        let known = self
            .snapshots_of(request.job, request.destination)
            .find(|known| known.info.create_time == request.create_time);
        if let Some(known) = known {
            return Ok(known.info.clone());
        }
        let entries = self.stages.get(&(request.job, request.destination)).map_or(0, BTreeMap::len) as u64;
        if entries < request.entry_count {
            let message = format!("{entries} entries are there, {} should be", request.entry_count);
            return Err(VaultProblem { failure: VaultFailure::NotFound, message });
        }
        let entries = self.stages.remove(&(request.job, request.destination)).unwrap_or_default();
        let number = (star as u128 + 1) << 64 | (self.snapshots.len() as u128 + 1);
        let info = SnapshotInfo {
            id: SnapshotId(number.to_be_bytes()),
            job: request.job,
            destination: request.destination,
            source_star: request.source_star.clone(),
            source_path: request.source_path.clone(),
            create_time: request.create_time,
            tags: request.tags.clone(),
            is_partial: request.is_partial,
            entry_count: entries.len() as u64,
            file_count: 0,
            total_bytes: 0,
            added_bytes: 0,
            changed_count: request.changed_count,
            tree_hash: None,
        };
        self.snapshots.push(Snapshot { info: info.clone(), entries });
        Ok(info)
    }
}

/// The key under which the versions are remembered that were promised for paths of a job in a vault.
pub fn promise_of(job: JobId, destination: u32, path: &[u8]) -> Vec<u8> {
    [format!("vault/{job}-{destination}/").as_bytes(), path].concat()
}

/// Whether an assignment goes into the vault.
pub fn is_packed(assignment: &Assignment) -> bool {
    match assignment.layout {
        Layout::Packed => true,
        Layout::Files => false,
    }
}

impl World {
    /// Calls the vault of a Star. Its answer takes a moment, and can be lost with the session or the process.
    pub(super) fn call_vault(&mut self, star: usize, session: u64, request: u64, call: &VaultCall) {
        let fails = !self.is_healing && self.scenario.troubles.disks && self.chance.percent(20);
        let failure = self.chance.pick(&[VaultFailure::Busy, VaultFailure::Full, VaultFailure::Failed]);
        let vault = &mut self.stars[star].vault;
        let answer = match call {
            VaultCall::Seal(_) if fails => {
                Err(VaultProblem { failure, message: "the vault cannot do that now".to_owned() })
            }
            VaultCall::Seal(seal) => {
                vault.seal(star, seal).map(|info| VaultReply::Sealed(info, Renames::default()))
            }
            VaultCall::Abandon { job, destination } => {
                vault.stages.remove(&(*job, *destination));
                Ok(VaultReply::Done)
            }
            VaultCall::ListSnapshots { after } => {
                let mut found: Vec<SnapshotInfo> =
                    vault.snapshots.iter().map(|snapshot| snapshot.info.clone()).collect();
                found.retain(|info| after.is_none_or(|after| info.id > after));
                found.sort_by_key(|info| info.id);
                // Pages are short, so that changes happen between them.
                let is_end = found.len() <= 1;
                found.truncate(1);
                let stages = vault.stages().filter(|_| is_end).collect();
                Ok(VaultReply::Snapshots { snapshots: found, stages, is_end })
            }
            VaultCall::ListDamaged { .. } => Ok(VaultReply::Damaged(Vec::new())),
            other => panic!("nobody asks this of a vault here: {other:?}"),
        };
        let process = self.stars[star].process;
        self.post_to_star(star, process, Event::VaultAnswered { session, request, answer });
    }

    /// Each packed job that has succeeded has one snapshot in each vault, with the entries that the job reports; of
    /// other jobs nothing is left.
    pub(super) fn check_snapshots(&self) {
        for job in self.coordinator.store.jobs.values() {
            if job.spec.layout != Layout::Packed {
                continue;
            }
            let has_ended_well = matches!(job.state(), JobState::Completed | JobState::PartiallyCompleted);
            for (index, place) in job.spec.destinations.iter().enumerate() {
                let star = self.stars.iter().find(|star| star.name == place.star_id).expect("a known Star");
                let found: Vec<_> = star.vault.snapshots_of(job.id, index as u32).collect();
                if has_ended_well {
                    assert_eq!(found.len(), 1, "one snapshot a destination: job {} at {}", job.id, star.name);
                    let told = job.snapshots.get(index).copied().flatten();
                    assert_eq!(told, Some(found[0].info.id), "the job names its snapshot: job {}", job.id);
                } else {
                    assert!(found.len() <= 1, "at most one snapshot: job {} at {}", job.id, star.name);
                }
            }
        }
    }

    /// What is not at rest in the vaults: stages that are not needed, and snapshots that the catalogue does not have.
    pub(super) fn unrest_of_vaults(&self) -> Option<String> {
        let core = self.coordinator.core()?;
        let known: Vec<_> =
            core.snapshots().into_iter().map(|record| (&record.star, record.info.id)).collect();
        let mut count = 0;
        for star in &self.stars {
            if let Some((job, destination)) = star.vault.stages().next() {
                return Some(format!("{} has a stage of job {job}-{destination}", star.name));
            }
            for snapshot in star.vault.snapshots() {
                count += 1;
                if !known.contains(&(&star.name, snapshot.info.id)) {
                    return Some(format!("snapshot {} of {} is not known", snapshot.info.id, star.name));
                }
            }
        }
        (known.len() != count).then(|| format!("{} snapshots are known and {count} there", known.len()))
    }
}
