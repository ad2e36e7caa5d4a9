//! Questions that jobs and plans ask in the same way: what a destination has of a batch, and what a mirror would delete there.

use std::sync::Arc;

use orbit_shared::capability::Capability;
use orbit_shared::comparison::Comparison;
use orbit_shared::entry::Entry;
use orbit_shared::session::{CoordinatorMessage, ScanRequest};
use orbit_shared::sweep::SweepRequest;
use orbit_shared::vault_call::VaultCall;
use orbit_shared::words::JobId;

use super::asks::{Asks, Purpose};
use crate::core::event::{Action, SessionId};
use crate::core::records::{JobSpec, Location};
use crate::core::stars::{Stars, star_gate};
use crate::core::turn::Turn;

/// Questions that one Star has unanswered.
const COMPARISONS_PER_STAR_MAX: usize = 32;

/// Which sweep it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct SweepName {
    pub(in crate::core) job: JobId,
    pub(in crate::core) destination: u32,
    pub(in crate::core) operation: u64,
    pub(in crate::core) is_plan: bool,
}

impl Asks {
    /// The session on which a destination can be asked what it has, if it can.
    pub(in crate::core) fn may_compare(&self, stars: &Stars, place: &Location) -> Option<SessionId> {
        let star = stars.get(&place.star_id)?;
        let is_held = star_gate(&place.star_id, "the destination", Some(star)).is_some();
        let is_busy = self.count(&place.star_id, Purpose::is_comparison) >= COMPARISONS_PER_STAR_MAX;
        star.session.filter(|_| !is_held && !is_busy && !star.record.is_cordoned)
    }

    /// Asks a destination what it has; gives the question's number.
    pub(in crate::core) fn send_comparison(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        place: &Location,
        entries: &[Arc<Entry>],
        purpose: Purpose,
    ) -> u64 {
        assert!(purpose.is_comparison(), "{purpose:?} compares nothing");
        let request = self.expect(turn.now, session, &place.star_id, purpose);
        let comparison = Comparison { path: place.path.clone(), entries: entries.to_vec() };
        let message = CoordinatorMessage::Compare { request, comparison };
        turn.actions.push(Action::Send { session, message });
        request
    }

    /// Asks a destination to sweep, if it and the source are there. Whether it was asked. `skipped_mounts` are the mount points of
    /// the source that were not entered.
    pub(in crate::core) fn send_sweep(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        (spec, skipped_mounts): (&JobSpec, Vec<Vec<u8>>),
        name: SweepName,
        purpose: Purpose,
    ) -> bool {
        let mirror = spec.mirror.as_ref().expect("only a mirror is swept");
        let place = &spec.destinations[name.destination as usize];
        let Some((session, source_address)) = may_sweep(stars, &spec.source, place) else { return false };
        let request = self.expect(turn.now, session, &place.star_id, purpose);
        let sweep = SweepRequest {
            scan: ScanRequest {
                scan: 0,
                job: name.job,
                path: place.path.clone(),
                include: spec.include.clone(),
                exclude: spec.all_excluded(),
                paths: spec.listed_paths(),
                resume_after: None,
                snapshot: None,
                limits: spec.limits,
                is_one_file_system: spec.is_one_file_system,
                trace: None,
            },
            destination: name.destination,
            operation: name.operation,
            is_plan: name.is_plan,
            trash: mirror.trash.clone(),
            max_delete_percent: mirror.max_delete_percent,
            source_star: spec.source.star_id.clone(),
            source_address,
            source_path: spec.source.path.clone(),
            token: String::new(),
            skipped_mounts,
        };
        let capability = Capability {
            job: name.job,
            source_star: spec.source.star_id.clone(),
            source_path: spec.source.path.clone(),
            destination_star: place.star_id.clone(),
            snapshot: None,
            is_for_chunks: false,
            max_bytes_per_second: 0,
            // It asks what there is, and reads nothing.
            filter: spec.read_filter(),
        };
        let call = VaultCall::Sweep(Box::new(sweep));
        turn.actions.push(Action::SignedCall { session, request, call, capability });
        true
    }
}

/// The destination's session and the source's data plane, if both can take part in a sweep now.
fn may_sweep(stars: &Stars, source: &Location, place: &Location) -> Option<(SessionId, String)> {
    let (source, destination) = (stars.get(&source.star_id)?, stars.get(&place.star_id)?);
    source.session.filter(|_| destination.accepts_work())?;
    Some((destination.session?, source.record.data_address.clone()))
}
