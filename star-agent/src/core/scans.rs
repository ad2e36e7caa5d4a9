//! The scans that run now, and which of their batches the coordinator has stored.

use std::collections::BTreeMap;

use orbit_shared::session::{Failure, FailureCause, Fault, ScanBatch, ScanRequest, StarMessage, limits};

use super::Effect;

const BATCHES_UNACKED_MAX: u64 = limits::SCAN_BATCHES_UNACKED_MAX as u64;

#[derive(Debug, Default)]
struct ActiveScan {
    run: u64,
    sent: u64,
    acknowledged: u64,
    is_last_sent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Scans {
    active: BTreeMap<u64, ActiveScan>,
    /// Number of the last scan.
    last_run: u64,
}

impl Scans {
    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    pub(super) fn start(&mut self, request: ScanRequest, effects: &mut Vec<Effect>) {
        if self.active.contains_key(&request.scan) {
            let text = format!("scan {} is already under way", request.scan);
            return effects.push(Effect::Log { is_warning: true, text });
        }
        if self.active.len() >= limits::SCANS_PER_STAR_MAX {
            return effects.push(Effect::Send(StarMessage::ScanBatch(too_many(request.scan))));
        }
        self.last_run += 1;
        self.active.insert(request.scan, ActiveScan { run: self.last_run, ..ActiveScan::default() });
        effects.push(Effect::StartScan { run: self.last_run, request });
    }

    /// A batch of a scan that was stopped meanwhile is dropped.
    pub(super) fn send(&mut self, run: u64, batch: ScanBatch, effects: &mut Vec<Effect>) {
        let Some(scan) = self.active.get_mut(&batch.scan).filter(|scan| scan.run == run) else { return };
        assert_eq!(batch.number, scan.sent + 1, "batches of scan {} are numbered in order", batch.scan);
        assert!(!scan.is_last_sent, "nothing follows the last batch of scan {}", batch.scan);
        scan.sent = batch.number;
        scan.is_last_sent = batch.is_last;
        effects.push(Effect::Send(StarMessage::ScanBatch(batch)));
    }

    pub(super) fn acknowledge(&mut self, id: u64, number: u64, effects: &mut Vec<Effect>) {
        let Some(scan) = self.active.get_mut(&id) else { return };
        // A batch that was never sent cannot be safe: a peer's mistake must not create credit.
        let number = number.min(scan.sent);
        let count = number.saturating_sub(scan.acknowledged);
        scan.acknowledged += count;
        if scan.is_last_sent && scan.acknowledged == scan.sent {
            effects.push(Effect::StopScan { run: scan.run });
            self.active.remove(&id);
        } else if count > 0 {
            effects.push(Effect::GrantScanCredit { run: scan.run, count });
        }
    }

    pub(super) fn cancel(&mut self, id: u64, effects: &mut Vec<Effect>) {
        let stopped = self.active.remove(&id);
        effects.extend(stopped.map(|scan| Effect::StopScan { run: scan.run }));
    }

    pub(super) fn stop_all(&mut self, effects: &mut Vec<Effect>) {
        let stopped = std::mem::take(&mut self.active);
        effects.extend(stopped.into_values().map(|scan| Effect::StopScan { run: scan.run }));
    }

    pub(super) fn check(&self) {
        assert!(self.active.len() <= limits::SCANS_PER_STAR_MAX, "too many scans: {self:?}");
        for (id, scan) in &self.active {
            assert!(scan.acknowledged <= scan.sent, "scan {id} has more safe than sent: {self:?}");
            let unacknowledged = scan.sent - scan.acknowledged;
            assert!(unacknowledged <= BATCHES_UNACKED_MAX, "scan {id} ran ahead of its credit: {self:?}");
        }
    }
}

fn too_many(scan: u64) -> ScanBatch {
    let message =
        format!("this Star runs {} scans already, the most it does at a time", limits::SCANS_PER_STAR_MAX);
    let failure = Failure { cause: FailureCause::Transient, fault: Fault::Source, message };
    ScanBatch {
        scan,
        number: 1,
        entries: Vec::new(),
        is_last: true,
        failure: Some(failure),
        matched: Vec::new(),
        skipped_mounts: Vec::new(),
    }
}
