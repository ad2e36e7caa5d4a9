//! Faults: what breaks, for how long, and how it is repaired. The healing phase ends all of them.

use orbit_shared::health_monitor::AdvisoryKind;
use orbit_star::core::Event as StarEvent;

use super::World;
use super::agenda::{Happening, Mending};
use super::coordinator::CrashPoint;
use super::disk::DiskTrouble;

impl World {
    /// Begins a random fault.
    pub(super) fn break_something(&mut self) {
        if self.is_healing {
            return;
        }
        let next_ms = self.chance.between(1, self.scenario.trouble_every_ms);
        self.agenda.add(self.now_ms + next_ms, Happening::Trouble);
        let star = self.chance.index(self.stars.len());
        let troubles = self.scenario.troubles.clone();
        match self.chance.below(14) {
            0 if troubles.coordinator_crashes => {
                if self.chance.percent(30) {
                    self.crash_coordinator();
                } else {
                    self.coordinator.crash = Some(self.chance.pick(&CrashPoint::ALL));
                }
            }
            1 if troubles.star_crashes => self.kill_star(star, false),
            2 if troubles.power_losses => self.kill_star(star, true),
            3 if troubles.freezes => self.freeze(star),
            4 if troubles.signals => self.signal(star),
            5 if troubles.breaks => {
                let links = self.network.links_of(star);
                for link in links {
                    self.note(format_args!("link {link} breaks"));
                    self.cut_link(link, false, false);
                }
            }
            6 if troubles.partitions => {
                let is_up = self.chance.percent(50);
                self.note(format_args!("star-{} is cut off, upwards: {is_up}", star + 1));
                self.hold_session(star, is_up);
                self.mend_later(Mending::Session { star, is_up }, 30_000);
            }
            7 if troubles.data_partitions => {
                let other = self.chance.index(self.stars.len());
                self.note(format_args!("star-{} and star-{} lose each other", star + 1, other + 1));
                self.network.is_data_cut.insert((star.min(other), star.max(other)), star != other);
                self.mend_later(Mending::Data { star, other }, 10_000);
            }
            8 if troubles.disks => {
                let trouble =
                    self.chance.pick(&[DiskTrouble::Full, DiskTrouble::WritesFail, DiskTrouble::SyncsFail]);
                self.note(format_args!("the disk of star-{} has {trouble:?}", star + 1));
                self.stars[star].disk.trouble = Some(trouble);
                self.mend_later(Mending::Disk { star }, 5_000);
            }
            9 if troubles.sources => {
                let changed = self.stars[star].tree.change(&mut self.chance);
                self.note(format_args!("the source of star-{} changes: {changed:?}", star + 1));
                self.is_source_changed = true;
            }
            10 if troubles.clocks => {
                let skew_ms = self.chance.between(0, 7_200_000) as i64 - 3_600_000;
                self.note(format_args!("the coordinator's wall clock jumps to {skew_ms} ms"));
                self.coordinator.wall_skew_ms = skew_ms;
            }
            11 if troubles.health => {
                let kinds = [
                    AdvisoryKind::DiskCritical,
                    AdvisoryKind::ErrorRateHigh,
                    AdvisoryKind::DiskWarning,
                    AdvisoryKind::Healthy,
                ];
                self.stars[star].advisory = self.chance.pick(&kinds);
            }
            _ => {}
        }
    }

    fn mend_later(&mut self, mending: Mending, within_ms: u64) {
        let after_ms = self.chance.between(1, within_ms);
        self.agenda.add(self.now_ms + after_ms, Happening::Mending(mending));
    }

    /// Stops a Star's process; often its machine loses its network as well.
    fn signal(&mut self, star: usize) {
        if self.chance.percent(50) {
            for link in self.network.links_of(star) {
                self.cut_link(link, false, false);
            }
        }
        let at_ms = self.now_ms + self.chance.between(0, 100);
        let (process, event) = (self.stars[star].process, Box::new(StarEvent::SignalReceived));
        self.agenda.add(at_ms, Happening::StarInbox { star, process, event });
    }

    fn freeze(&mut self, star: usize) {
        if self.stars[star].core.is_none() || self.stars[star].is_frozen {
            return;
        }
        self.note(format_args!("star-{} is stopped", star + 1));
        self.stars[star].is_frozen = true;
        for link in self.network.links_of(star) {
            self.agenda.add(self.now_ms + 20_000, Happening::KeepaliveEnded { link });
        }
        let for_ms = self.chance.between(1, 25_000);
        self.agenda.add(self.now_ms + for_ms, Happening::Thaw { star });
    }

    /// Repairs something.
    pub(super) fn mend(&mut self, mending: Mending) {
        match mending {
            Mending::Disk { star } => self.stars[star].disk.trouble = None,
            Mending::Session { star, is_up } => self.release_session(star, is_up),
            Mending::Data { star, other } => {
                self.network.is_data_cut.remove(&(star.min(other), star.max(other)));
            }
        }
    }

    /// Repairs everything, for the rest of the run.
    pub(super) fn heal(&mut self) {
        self.note(format_args!("everything heals"));
        self.is_healing = true;
        self.coordinator.crash = None;
        self.network.is_data_cut.clear();
        for star in 0..self.stars.len() {
            self.stars[star].disk.trouble = None;
            self.stars[star].advisory = AdvisoryKind::Healthy;
            self.thaw(star);
            self.release_session(star, true);
            self.release_session(star, false);
        }
    }
}
