//! A model of a Star's scan: walks the tree in order, one batch at a time, as far as its credit allows.

use orbit_shared::session::{Failure, FailureCause, Fault, ScanBatch, ScanRequest, limits};
use orbit_star::core::Event;

use super::World;
use super::agenda::Happening;

/// A running scan.
#[derive(Debug)]
pub struct ActiveScan {
    request: ScanRequest,
    after: Option<Vec<u8>>,
    number: u64,
    credit: u64,
    is_planned: bool,
    is_over: bool,
}

impl World {
    /// Begins a scan.
    pub(super) fn start_scan(&mut self, star: usize, run: u64, request: ScanRequest) {
        let after = request.resume_after.clone();
        let credit = limits::SCAN_BATCHES_UNACKED_MAX as u64;
        let scan = ActiveScan { request, after, number: 0, credit, is_planned: false, is_over: false };
        self.stars[star].scans.insert(run, scan);
        self.plan_scan(star, run);
    }

    /// Gives a scan more credit.
    pub(super) fn grant_credit(&mut self, star: usize, run: u64, count: u64) {
        if let Some(scan) = self.stars[star].scans.get_mut(&run) {
            scan.credit += count;
            assert!(scan.credit <= limits::SCAN_BATCHES_UNACKED_MAX as u64, "credit is bounded: {scan:?}");
        }
        self.plan_scan(star, run);
    }

    fn plan_scan(&mut self, star: usize, run: u64) {
        let at_ms = self.now_ms + self.chance.between(0, self.scenario.work_max_ms);
        let process = self.stars[star].process;
        let Some(scan) = self.stars[star].scans.get_mut(&run) else { return };
        if scan.is_planned || scan.is_over || scan.credit == 0 {
            return;
        }
        scan.is_planned = true;
        self.agenda.add(at_ms, Happening::ScanStep { star, process, run });
    }

    /// A scan sends one batch.
    pub(super) fn scan_step(&mut self, star: usize, process: u32, run: u64) {
        if self.stars[star].process != process {
            return;
        }
        let is_frozen = self.stars[star].is_frozen;
        let owner = &mut self.stars[star];
        let Some(scan) = owner.scans.get_mut(&run) else { return };
        scan.is_planned = false;
        if is_frozen {
            return self.plan_scan(star, run);
        }
        let breaks_off = !self.is_healing && self.scenario.troubles.scans && self.chance.percent(8);
        let limit = self.chance.between(1, self.scenario.batch_max) as usize;
        let (entries, is_last) = owner.tree.walk(scan.after.as_deref(), limit);
        scan.number += 1;
        scan.credit -= 1;
        let batch = if breaks_off {
            let message = "the disk does not answer".to_owned();
            let failure = Failure { cause: FailureCause::Transient, fault: Fault::Source, message };
            ScanBatch {
                scan: scan.request.scan,
                number: scan.number,
                entries: Vec::new(),
                is_last: true,
                failure: Some(failure),
                matched: Vec::new(),
                skipped_mounts: Vec::new(),
            }
        } else {
            scan.after = entries.last().map(|entry| entry.path.clone()).or(scan.after.take());
            ScanBatch {
                scan: scan.request.scan,
                number: scan.number,
                entries,
                is_last,
                failure: None,
                matched: Vec::new(),
                skipped_mounts: Vec::new(),
            }
        };
        scan.is_over = batch.is_last;
        self.post_to_star(star, process, Event::ScanBatchProduced { run, batch });
        self.plan_scan(star, run);
    }
}
