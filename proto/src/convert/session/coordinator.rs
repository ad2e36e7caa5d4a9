//! What the coordinator says.

use std::sync::Arc;

use bytes::Bytes;
use orbit_shared::comparison::Comparison;
use orbit_shared::filter::FileLimits;
use orbit_shared::session::{
    AssignedItem, Assignment, CoordinatorMessage, Keys, LivePull, RenewedGrant, ScanRequest, limits,
};
use orbit_shared::time::WallTime;
use orbit_shared::trace_context::TraceContext;
use orbit_shared::words::{AssignmentId, Epoch, JobId};

use super::{
    assignment_ids_to_wire, grid_from_wire, grid_to_wire, lifecycle_from_wire, lifecycle_message,
    star_id_from_wire,
};
use crate::convert::entry::{absolute_path, confined_path};
use crate::convert::vault::{
    layout_from_wire, layout_to_wire, optional_snapshot_id, snapshot_id_to_wire, vault_call_from_wire,
    vault_call_to_wire,
};
use crate::convert::{
    ConvertError, bounded, duration_from_wire, duration_to_wire, required, timestamp_from_wire,
    timestamp_to_wire,
};
use crate::v1;
use crate::v1::connect_response::Message;

impl From<CoordinatorMessage> for v1::ConnectResponse {
    fn from(message: CoordinatorMessage) -> Self {
        let message = match message {
            CoordinatorMessage::Welcome { epoch, heartbeat_interval, lease, kept, grid } => {
                Message::Welcome(v1::SessionWelcome {
                    epoch: epoch.0,
                    heartbeat_interval: Some(duration_to_wire(heartbeat_interval)),
                    lease: Some(duration_to_wire(lease)),
                    kept: assignment_ids_to_wire(kept),
                    grid: grid_to_wire(grid),
                })
            }
            CoordinatorMessage::VerificationKeys(keys) => Message::VerificationKeys(keys_to_wire(keys)),
            CoordinatorMessage::SetLifecycle { state, reason } => {
                Message::SetLifecycle(lifecycle_message(state, reason))
            }
            CoordinatorMessage::Assign(assignment) => Message::Assign(assignment.into()),
            CoordinatorMessage::Withdraw { assignment, is_job_over } => {
                Message::Withdraw(v1::SessionWithdraw { assignment_id: assignment.0, is_job_over })
            }
            CoordinatorMessage::JobEnded { job } => Message::JobEnded(v1::SessionJobEnded { job_id: job.0 }),
            CoordinatorMessage::StartScan(scan) => Message::StartScan(scan.into()),
            CoordinatorMessage::ScanAcknowledged { scan, number } => {
                Message::ScanAcknowledged(v1::SessionScanAcknowledgement { scan_id: scan, number })
            }
            CoordinatorMessage::CancelScan { scan } => {
                Message::CancelScan(v1::SessionCancelScan { scan_id: scan })
            }
            CoordinatorMessage::ReportsAcknowledged { number } => {
                Message::ReportsAcknowledged(v1::SessionReportAcknowledgement { number })
            }
            CoordinatorMessage::Compare { request, comparison } => {
                let entries = comparison.entries.into_iter().map(|entry| Arc::unwrap_or_clone(entry).into());
                Message::Compare(v1::SessionComparison {
                    request_id: request,
                    path: comparison.path.into(),
                    entries: entries.collect(),
                })
            }
            CoordinatorMessage::CallVault { request, call } => {
                Message::CallVault(vault_call_to_wire(request, call))
            }
        };
        Self { message: Some(message) }
    }
}

fn keys_to_wire(keys: Keys) -> v1::SessionKeys {
    let grant =
        |grant: RenewedGrant| v1::SessionGrant { assignment_id: grant.assignment.0, token: grant.token };
    let pull = |pull: LivePull| v1::SessionLivePull {
        job_id: pull.job.0,
        destination_star_id: pull.destination.into(),
    };
    v1::SessionKeys {
        public_keys: keys.public.into_iter().map(Bytes::from).collect(),
        grants: keys.grants.into_iter().map(grant).collect(),
        live_pulls: keys.live.into_iter().map(pull).collect(),
    }
}

fn keys_from_wire(wire: v1::SessionKeys) -> Result<Keys, ConvertError> {
    let public = bounded("public_keys", wire.public_keys, limits::VERIFICATION_KEYS_MAX)?;
    let grants = bounded("grants", wire.grants, limits::HELD_MAX)?;
    let live = bounded("live_pulls", wire.live_pulls, limits::LIVE_PULLS_MAX)?;
    let grant = |grant: v1::SessionGrant| RenewedGrant {
        assignment: AssignmentId(grant.assignment_id),
        token: grant.token,
    };
    let pull = |pull: v1::SessionLivePull| {
        let destination = star_id_from_wire("live_pulls.destination_star_id", pull.destination_star_id)?;
        Ok(LivePull { job: JobId(pull.job_id), destination })
    };
    Ok(Keys {
        public: public.into_iter().map(Vec::from).collect(),
        grants: grants.into_iter().map(grant).collect(),
        live: live.into_iter().map(pull).collect::<Result<_, ConvertError>>()?,
    })
}

impl TryFrom<v1::ConnectResponse> for CoordinatorMessage {
    type Error = ConvertError;

    fn try_from(wire: v1::ConnectResponse) -> Result<Self, ConvertError> {
        Ok(match required("message", wire.message)? {
            Message::Welcome(welcome) => {
                welcome_from_wire(welcome).map_err(|error| error.within("welcome"))?
            }
            Message::VerificationKeys(keys) => Self::VerificationKeys(
                keys_from_wire(keys).map_err(|error| error.within("verification_keys"))?,
            ),
            Message::SetLifecycle(lifecycle) => Self::SetLifecycle {
                state: lifecycle_from_wire("set_lifecycle.state", lifecycle.state)?,
                reason: lifecycle.reason,
            },
            Message::Assign(assignment) => {
                Self::Assign(assignment.try_into().map_err(|error: ConvertError| error.within("assign"))?)
            }
            Message::Withdraw(withdraw) => Self::Withdraw {
                assignment: AssignmentId(withdraw.assignment_id),
                is_job_over: withdraw.is_job_over,
            },
            Message::JobEnded(ended) => Self::JobEnded { job: JobId(ended.job_id) },
            Message::StartScan(scan) => {
                Self::StartScan(scan.try_into().map_err(|error: ConvertError| error.within("start_scan"))?)
            }
            Message::ScanAcknowledged(acknowledgement) => {
                Self::ScanAcknowledged { scan: acknowledgement.scan_id, number: acknowledgement.number }
            }
            Message::CancelScan(cancel) => Self::CancelScan { scan: cancel.scan_id },
            Message::ReportsAcknowledged(acknowledgement) => {
                Self::ReportsAcknowledged { number: acknowledgement.number }
            }
            Message::Compare(asked) => {
                let (request, comparison) =
                    comparison_from_wire(asked).map_err(|error| error.within("compare"))?;
                Self::Compare { request, comparison }
            }
            Message::CallVault(called) => {
                let (request, call) =
                    vault_call_from_wire(called).map_err(|error| error.within("call_vault"))?;
                Self::CallVault { request, call }
            }
        })
    }
}

fn welcome_from_wire(wire: v1::SessionWelcome) -> Result<CoordinatorMessage, ConvertError> {
    let heartbeat_interval = required("heartbeat_interval", wire.heartbeat_interval)?;
    let heartbeat_interval = duration_from_wire("heartbeat_interval", &heartbeat_interval)?;
    if heartbeat_interval.is_zero() {
        return Err(ConvertError::new("heartbeat_interval", "is zero"));
    }
    let lease = duration_from_wire("lease", &required("lease", wire.lease)?)?;
    if lease < heartbeat_interval {
        return Err(ConvertError::new("lease", "is shorter than the heartbeat interval"));
    }
    let kept = bounded("kept", wire.kept, limits::HELD_MAX)?;
    Ok(CoordinatorMessage::Welcome {
        epoch: Epoch(wire.epoch),
        heartbeat_interval,
        lease,
        kept: kept.into_iter().map(AssignmentId).collect(),
        grid: grid_from_wire("grid", &wire.grid)?,
    })
}

fn optional_time(
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Result<Option<WallTime>, ConvertError> {
    time.map(|time| timestamp_from_wire(field, &time)).transpose()
}

fn comparison_from_wire(wire: v1::SessionComparison) -> Result<(u64, Comparison), ConvertError> {
    let entries = bounded("entries", wire.entries, limits::SCAN_BATCH_ENTRIES_MAX)?;
    let entries = entries.into_iter().map(|entry| Ok(Arc::new(entry.try_into()?)));
    let entries = entries.collect::<Result<_, ConvertError>>().map_err(|error| error.within("entries"))?;
    Ok((wire.request_id, Comparison { path: absolute_path("path", wire.path)?, entries }))
}

impl From<Assignment> for v1::SessionAssignment {
    fn from(assignment: Assignment) -> Self {
        Self {
            assignment_id: assignment.id.0,
            job_id: assignment.job.0,
            destination: assignment.destination,
            source_star_id: assignment.source_star.into(),
            source_address: assignment.source_address,
            source_path: assignment.source_path.into(),
            destination_path: assignment.destination_path.into(),
            token: assignment.token,
            items: assignment.items.into_iter().map(Into::into).collect(),
            is_check_only: assignment.is_check_only,
            layout: layout_to_wire(assignment.layout).into(),
            source_snapshot_id: snapshot_id_to_wire(assignment.source_snapshot),
            keeps_directory_times: assignment.keeps_directory_times,
            compares_content: assignment.compares_content,
            trace_parent: trace_to_wire(assignment.trace),
        }
    }
}

impl TryFrom<v1::SessionAssignment> for Assignment {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionAssignment) -> Result<Self, ConvertError> {
        let items = bounded("items", wire.items, limits::ASSIGNMENT_ITEMS_MAX)?;
        if items.is_empty() {
            return Err(ConvertError::new("items", "is empty: such an assignment would never end"));
        }
        // A packed destination is the vault, which has no path.
        let destination_path = match wire.destination_path {
            path if path.is_empty() => Vec::new(),
            path => absolute_path("destination_path", path)?,
        };
        Ok(Self {
            id: AssignmentId(wire.assignment_id),
            job: JobId(wire.job_id),
            destination: wire.destination,
            source_star: star_id_from_wire("source_star_id", wire.source_star_id)?,
            source_address: wire.source_address,
            source_path: absolute_path("source_path", wire.source_path)?,
            destination_path,
            token: wire.token,
            items: items.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            is_check_only: wire.is_check_only,
            layout: layout_from_wire("layout", wire.layout)?,
            source_snapshot: optional_snapshot_id("source_snapshot_id", &wire.source_snapshot_id)?,
            keeps_directory_times: wire.keeps_directory_times,
            compares_content: wire.compares_content,
            trace: trace_from_wire(&wire.trace_parent),
        })
    }
}

impl From<AssignedItem> for v1::AssignedItem {
    fn from(item: AssignedItem) -> Self {
        Self { sequence: item.sequence, entry: Some(item.entry.into()) }
    }
}

impl TryFrom<v1::AssignedItem> for AssignedItem {
    type Error = ConvertError;

    fn try_from(wire: v1::AssignedItem) -> Result<Self, ConvertError> {
        let entry = required("items.entry", wire.entry)?;
        let entry = entry.try_into().map_err(|error: ConvertError| error.within("items.entry"))?;
        Ok(Self { sequence: wire.sequence, entry })
    }
}

impl From<ScanRequest> for v1::SessionScan {
    fn from(scan: ScanRequest) -> Self {
        Self {
            scan_id: scan.scan,
            job_id: scan.job.0,
            path: scan.path.into(),
            include: scan.include,
            exclude: scan.exclude,
            resume_after: scan.resume_after.map(Bytes::from),
            snapshot_id: snapshot_id_to_wire(scan.snapshot),
            min_size_bytes: scan.limits.min_size,
            max_size_bytes: scan.limits.max_size,
            min_modify_time: scan.limits.modified_after.map(timestamp_to_wire),
            max_modify_time: scan.limits.modified_before.map(timestamp_to_wire),
            trace_parent: trace_to_wire(scan.trace),
            paths: scan.paths.into_iter().map(Bytes::from).collect(),
            one_file_system: scan.is_one_file_system,
        }
    }
}

impl TryFrom<v1::SessionScan> for ScanRequest {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionScan) -> Result<Self, ConvertError> {
        Ok(Self {
            scan: wire.scan_id,
            job: JobId(wire.job_id),
            path: absolute_path("path", wire.path)?,
            include: bounded("include", wire.include, limits::SCAN_GLOBS_MAX)?,
            exclude: bounded("exclude", wire.exclude, limits::SCAN_GLOBS_MAX)?,
            resume_after: wire.resume_after.map(|path| confined_path("resume_after", path)).transpose()?,
            snapshot: optional_snapshot_id("snapshot_id", &wire.snapshot_id)?,
            limits: FileLimits {
                min_size: wire.min_size_bytes,
                max_size: wire.max_size_bytes,
                modified_after: optional_time("min_modify_time", wire.min_modify_time)?,
                modified_before: optional_time("max_modify_time", wire.max_modify_time)?,
            },
            trace: trace_from_wire(&wire.trace_parent),
            paths: bounded("paths", wire.paths, limits::SCAN_GLOBS_MAX)?
                .into_iter()
                .map(|path| confined_path("paths", path))
                .collect::<Result<_, _>>()?,
            is_one_file_system: wire.one_file_system,
        })
    }
}

fn trace_to_wire(trace: Option<TraceContext>) -> String {
    trace.map(|trace| trace.to_string()).unwrap_or_default()
}

/// One that cannot be read is none: no work fails because of how it is watched.
fn trace_from_wire(text: &str) -> Option<TraceContext> {
    TraceContext::parse(text).ok()
}
