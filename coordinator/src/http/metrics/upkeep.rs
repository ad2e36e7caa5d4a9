//! Metrics of what an operator must look after over weeks: schedules, snapshots, certificates, and which build runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use orbit_identity::Registry;
use orbit_shared::health_monitor::HealthSample;
use orbit_shared::time::WallTime;

use super::Page;
use crate::core::Core;

/// What is read in the same look as everything else.
pub(super) struct Upkeep {
    schedules: Vec<SeenSchedule>,
    /// Number of snapshots and time of the newest one, by the Star that has them.
    snapshots: BTreeMap<String, (u64, WallTime)>,
    /// Bytes of vaults, by the Star that has one.
    vaults: Vec<(String, u64)>,
    /// The disks of vaults, by the Star that has one.
    vault_disks: Vec<(String, HealthSample)>,
}

struct SeenSchedule {
    id: String,
    is_paused: bool,
    next_time: WallTime,
    last_success_time: Option<WallTime>,
}

impl Upkeep {
    pub(super) fn of(core: &Core) -> Self {
        let schedules = core.schedules(0).map(|record| SeenSchedule {
            id: record.id.to_string(),
            is_paused: record.pause.is_some(),
            next_time: record.next_time,
            last_success_time: record.last_success_time,
        });
        let mut snapshots: BTreeMap<String, (u64, WallTime)> = BTreeMap::new();
        for record in core.snapshots() {
            let seen = snapshots.entry(record.star.to_string()).or_insert((0, WallTime::UNIX_EPOCH));
            *seen = (seen.0 + 1, seen.1.max(record.info.create_time));
        }
        let vaults =
            core.stars().filter_map(|star| Some((star.record.star_id.to_string(), star.vault_bytes?)));
        let vault_disks =
            core.stars().filter_map(|star| Some((star.record.star_id.to_string(), star.vault_sample?)));
        Self {
            schedules: schedules.collect(),
            snapshots,
            vaults: vaults.collect(),
            vault_disks: vault_disks.collect(),
        }
    }
}

impl Page {
    pub(super) fn upkeep(&mut self, seen: &Upkeep) {
        let version = [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)];
        self.gauge("orbit_build_info", "1, with the version of the coordinator.", version);
        let each = |read: fn(&SeenSchedule) -> Option<f64>| {
            seen.schedules.iter().filter_map(move |schedule| {
                Some((vec![("schedule_id", schedule.id.as_str())], read(schedule)?))
            })
        };
        self.gauge(
            "orbit_schedule_paused",
            "1 for a schedule that makes no jobs.",
            each(|schedule| Some(f64::from(schedule.is_paused))),
        );
        self.gauge(
            "orbit_schedule_next_time_seconds",
            "When a schedule makes its next job, in seconds since 1970; without a line while it is paused.",
            each(|schedule| (!schedule.is_paused).then(|| seconds(schedule.next_time))),
        );
        self.gauge(
            "orbit_schedule_last_success_time_seconds",
            "When a schedule's last job that was completed without a dead letter ended, in seconds since 1970; 0 if there was none.",
            each(|schedule| Some(schedule.last_success_time.map_or(0.0, seconds))),
        );
        let of_each = |read: fn(&(u64, WallTime)) -> f64| {
            seen.snapshots.iter().map(move |(star, seen)| (vec![("star_id", star.as_str())], read(seen)))
        };
        self.gauge(
            "orbit_snapshots",
            "Snapshots in the vault of a Star, as far as the coordinator knows.",
            of_each(|(count, _)| *count as f64),
        );
        self.gauge(
            "orbit_snapshot_newest_time_seconds",
            "When the job of a Star's newest snapshot was created, in seconds since 1970.",
            of_each(|(_, newest)| seconds(*newest)),
        );
        self.gauge(
            "orbit_vault_bytes",
            "Bytes of the containers in the vault of a Star, as its last heartbeat said.",
            seen.vaults.iter().map(|(star, bytes)| (vec![("star_id", star.as_str())], *bytes as f64)),
        );
        let of_disks = |read: fn(&HealthSample) -> u64| {
            let disks = seen.vault_disks.iter();
            disks.map(move |(star, sample)| (vec![("star_id", star.as_str())], read(sample) as f64))
        };
        self.gauge(
            "orbit_vault_disk_available_bytes",
            "Bytes that can still be written to the disk of a Star's vault.",
            of_disks(|sample| sample.disk_available_bytes),
        );
        self.gauge(
            "orbit_vault_disk_bytes",
            "Size of the disk of a Star's vault.",
            of_disks(|sample| sample.disk_total_bytes),
        );
    }

    /// The ends of certificates; nothing without TLS.
    pub(super) fn certificates(&mut self, registry: Option<&Arc<Registry>>) {
        let Some(registry) = registry else { return };
        let known = registry.list();
        let valid = known.iter().filter(|known| !known.is_revoked);
        let ends = valid.map(|known| {
            let (role, name) = (known.identity.role.as_str(), known.identity.name.as_str());
            (vec![("role", role), ("name", name)], known.not_after as f64)
        });
        let own = registry.own_facts();
        let ends = ends.chain(own.iter().map(|own| {
            let (role, name) = (own.identity.role.as_str(), own.identity.name.as_str());
            (vec![("role", role), ("name", name)], own.not_after as f64)
        }));
        self.gauge(
            "orbit_certificate_end_time_seconds",
            "When the newest certificate of an identity ends, in seconds since 1970; only with --tls.",
            ends,
        );
    }
}

fn seconds(time: WallTime) -> f64 {
    time.seconds as f64
}
