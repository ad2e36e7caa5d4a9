//! What a job would do, as the wire has it.

use std::time::Duration;

use orbit_proto::convert::duration_to_wire;
use orbit_proto::v1;
use orbit_shared::entry::display_path;
use orbit_shared::sweep::SweepInfo;

use super::convert::location;
use crate::core::{Planned, PlannedPlace};

/// A plan.
pub(super) fn planned(planned: Planned) -> v1::PlanJobResponse {
    v1::PlanJobResponse {
        entries: planned.entries,
        bytes: planned.bytes,
        entries_not_carried: planned.uncarried,
        not_carried_examples: planned.uncarried_examples,
        destinations: planned.places.into_iter().map(place).collect(),
        skipped_mounts: planned.skipped_mounts.count,
        skipped_mount_examples: planned.skipped_mounts.examples(),
    }
}

fn place(place: PlannedPlace) -> v1::PlannedDestination {
    let after = |available: u64| {
        let (available, moved) = (i64::try_from(available), i64::try_from(place.moved_bytes));
        available.unwrap_or(i64::MAX).saturating_sub(moved.unwrap_or(i64::MAX))
    };
    let duration = place.bytes_per_second.map(|rate| Duration::from_secs(place.moved_bytes.div_ceil(rate)));
    v1::PlannedDestination {
        destination: Some(location(place.place)),
        items_to_move: place.moved,
        bytes_to_move: place.moved_bytes,
        items_unchanged: place.unchanged,
        bytes_unchanged: place.unchanged_bytes,
        is_compared: place.is_compared,
        examples: place.examples,
        available_bytes: place.available_bytes,
        available_bytes_after: place.available_bytes.map(after),
        estimated_duration: duration.map(duration_to_wire),
        held_by: place.held.unwrap_or_default(),
        deletion: place.deletion.as_ref().map(deletion),
    }
}

fn deletion(sweep: &SweepInfo) -> v1::PlannedDeletion {
    v1::PlannedDeletion {
        entries: sweep.extra,
        bytes: sweep.extra_bytes,
        entries_found: sweep.found,
        is_refused: sweep.is_refused,
        examples: sweep.examples.iter().map(|path| display_path(path)).collect(),
        problem: sweep.problem.clone(),
    }
}
