//! What a Star says.

use orbit_shared::bulletin::{Severity, truncate_visibly};
use orbit_shared::comparison::Unchanged;
use orbit_shared::health_monitor::HealthSample;
use orbit_shared::semantic::SEMANTIC_LINES_MAX;
use orbit_shared::session::{
    AdvisoryKind, AdvisoryNotice, ChunkCounts, Failure, FailureCause, Fault, Heartbeat, Hello, ItemOutcome,
    ItemResult, Notice, Report, Root, RootSpace, ScanBatch, StarMessage, limits,
};
use orbit_shared::words::AssignmentId;

use super::{
    assignment_ids_to_wire, counted, grid_from_wire, grid_to_wire, lifecycle_from_wire, lifecycle_message,
    lifecycle_to_wire, star_id_from_wire, uuid_from_wire,
};
use crate::convert::entry::{absolute_path, confined_path};
use crate::convert::vault::{vault_answer_from_wire, vault_answer_to_wire};
use crate::convert::{
    ConvertError, bounded, count, duration_from_wire, duration_to_wire, file_size, required, short,
    unknown_enum, words,
};
use crate::v1;
use crate::v1::connect_request::Message;

impl From<StarMessage> for v1::ConnectRequest {
    fn from(message: StarMessage) -> Self {
        let message = match message {
            StarMessage::Hello(hello) => Message::Hello(hello.into()),
            StarMessage::Heartbeat(heartbeat) => Message::Heartbeat(heartbeat.into()),
            StarMessage::Report(report) => Message::Report(report.into()),
            StarMessage::ScanBatch(batch) => Message::ScanBatch(batch.into()),
            StarMessage::LifecycleChanged { state, reason } => {
                Message::LifecycleChanged(lifecycle_message(state, reason))
            }
            StarMessage::DrainRequested { reason } => {
                Message::DrainRequested(v1::SessionDrainRequest { reason })
            }
            StarMessage::Compared { request, unchanged } => Message::Compared(v1::SessionCompared {
                request_id: request,
                unchanged: unchanged.into_bytes().into(),
            }),
            StarMessage::VaultAnswered { request, answer } => {
                Message::VaultAnswered(vault_answer_to_wire(request, answer))
            }
            StarMessage::DamageFound { chunks, problem } => {
                Message::DamageFound(v1::SessionDamageFound { chunks, problem })
            }
            StarMessage::Noticed(notice) => Message::Noticed(v1::SessionNotice {
                severity: severity_to_wire(notice.severity).into(),
                category: notice.category,
                text: notice.text,
            }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::ConnectRequest> for StarMessage {
    type Error = ConvertError;

    fn try_from(wire: v1::ConnectRequest) -> Result<Self, ConvertError> {
        Ok(match required("message", wire.message)? {
            Message::Hello(hello) => Self::Hello(hello.try_into().map_err(within("hello"))?),
            Message::Heartbeat(heartbeat) => {
                Self::Heartbeat(heartbeat.try_into().map_err(within("heartbeat"))?)
            }
            Message::Report(report) => Self::Report(report.try_into().map_err(within("report"))?),
            Message::ScanBatch(batch) => Self::ScanBatch(batch.try_into().map_err(within("scan_batch"))?),
            Message::LifecycleChanged(changed) => Self::LifecycleChanged {
                state: lifecycle_from_wire("lifecycle_changed.state", changed.state)?,
                reason: words(&changed.reason),
            },
            Message::DrainRequested(request) => Self::DrainRequested { reason: words(&request.reason) },
            Message::Compared(compared) => {
                if compared.unchanged.len() > limits::SCAN_BATCH_ENTRIES_MAX.div_ceil(8) {
                    return Err(ConvertError::new(
                        "compared.unchanged",
                        "is about more entries than can be asked for",
                    ));
                }
                let unchanged = Unchanged::from_bytes(compared.unchanged.into());
                Self::Compared { request: compared.request_id, unchanged }
            }
            Message::VaultAnswered(answered) => {
                let (request, answer) = vault_answer_from_wire(answered).map_err(within("vault_answered"))?;
                Self::VaultAnswered { request, answer }
            }
            Message::DamageFound(found) => {
                Self::DamageFound { chunks: count(found.chunks), problem: words(&found.problem) }
            }
            Message::Noticed(noticed) => Self::Noticed(noticed.try_into().map_err(within("noticed"))?),
        })
    }
}

impl TryFrom<v1::SessionNotice> for Notice {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionNotice) -> Result<Self, ConvertError> {
        let severity = match v1::Severity::try_from(wire.severity) {
            Ok(v1::Severity::Info) => Severity::Info,
            Ok(v1::Severity::Warning) => Severity::Warning,
            Ok(v1::Severity::Error) => Severity::Error,
            Ok(v1::Severity::Unspecified) | Err(_) => return Err(unknown_enum("severity", wire.severity)),
        };
        let cut = |text: &str| truncate_visibly(text, limits::NOTICE_BYTES_MAX);
        Ok(Self { severity, category: cut(&wire.category), text: cut(&wire.text) })
    }
}

fn severity_to_wire(severity: Severity) -> v1::Severity {
    match severity {
        Severity::Info => v1::Severity::Info,
        Severity::Warning => v1::Severity::Warning,
        Severity::Error => v1::Severity::Error,
    }
}

fn within(outer: &'static str) -> impl Fn(ConvertError) -> ConvertError {
    move |error| error.within(outer)
}

impl From<Hello> for v1::SessionHello {
    fn from(hello: Hello) -> Self {
        Self {
            star_id: hello.star_id.into(),
            identity: hello.identity.into_bytes().to_vec().into(),
            instance: hello.instance.into_bytes().to_vec().into(),
            data_address: hello.data_address,
            roots: hello.roots.into_iter().map(Into::into).collect(),
            labels: hello.labels.into_iter().collect(),
            version: hello.version,
            held: assignment_ids_to_wire(hello.held),
            lifecycle: lifecycle_to_wire(hello.lifecycle).into(),
            knows_begun: hello.begun.is_some(),
            begun: assignment_ids_to_wire(hello.begun.unwrap_or_default()),
            grid: grid_to_wire(hello.grid),
            semantic_rules: hello.semantic_rules,
        }
    }
}

impl TryFrom<v1::SessionHello> for Hello {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionHello) -> Result<Self, ConvertError> {
        if wire.labels.len() > limits::LABELS_PER_STAR_MAX {
            let problem = format!("has more than {} labels", limits::LABELS_PER_STAR_MAX);
            return Err(ConvertError::new("labels", problem));
        }
        let roots = bounded("roots", wire.roots, limits::ROOTS_PER_STAR_MAX)?;
        let held = bounded("held", wire.held, limits::HELD_MAX)?;
        let begun = bounded("begun", wire.begun, limits::HELD_MAX)?;
        Ok(Self {
            star_id: star_id_from_wire("star_id", wire.star_id)?,
            identity: uuid_from_wire("identity", &wire.identity)?,
            instance: uuid_from_wire("instance", &wire.instance)?,
            data_address: short("data_address", wire.data_address)?,
            roots: roots.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            labels: wire.labels.into_iter().map(label).collect::<Result<_, _>>()?,
            version: short("version", wire.version)?,
            held: held.into_iter().map(AssignmentId).collect(),
            lifecycle: lifecycle_from_wire("lifecycle", wire.lifecycle)?,
            begun: wire.knows_begun.then(|| begun.into_iter().map(AssignmentId).collect()),
            grid: grid_from_wire("grid", &wire.grid)?,
            semantic_rules: bounded("semantic_rules", wire.semantic_rules, SEMANTIC_LINES_MAX)?
                .into_iter()
                .map(|rule| short("semantic_rules", rule))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn label((key, value): (String, String)) -> Result<(String, String), ConvertError> {
    Ok((short("labels", key)?, short("labels", value)?))
}

impl From<Root> for v1::SessionRoot {
    fn from(root: Root) -> Self {
        Self { path: root.path.into(), is_read_only: root.is_read_only }
    }
}

impl TryFrom<v1::SessionRoot> for Root {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionRoot) -> Result<Self, ConvertError> {
        if wire.path.len() > limits::ABSOLUTE_PATH_BYTES_MAX {
            return Err(ConvertError::new("roots.path", "is longer than a path can be"));
        }
        Ok(Self { path: absolute_path("roots.path", wire.path)?, is_read_only: wire.is_read_only })
    }
}

impl From<Heartbeat> for v1::SessionHeartbeat {
    fn from(heartbeat: Heartbeat) -> Self {
        let progress = |(id, bytes_moved): (AssignmentId, u64)| v1::AssignmentProgress {
            assignment_id: id.0,
            bytes_moved,
        };
        let space = |space: RootSpace| v1::RootSpace {
            path: space.path.into(),
            available_bytes: space.available_bytes,
        };
        Self {
            lifecycle: lifecycle_to_wire(heartbeat.lifecycle).into(),
            active_tasks: heartbeat.active_tasks,
            served_pulls: heartbeat.served_pulls,
            sample: heartbeat.sample.map(Into::into),
            advisories: heartbeat.advisories.into_iter().map(Into::into).collect(),
            progress: heartbeat.progress.into_iter().map(progress).collect(),
            root_space: heartbeat.root_space.into_iter().map(space).collect(),
            vault_bytes: heartbeat.vault_bytes,
            vault_sample: heartbeat.vault_sample.map(Into::into),
        }
    }
}

impl TryFrom<v1::SessionHeartbeat> for Heartbeat {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionHeartbeat) -> Result<Self, ConvertError> {
        let advisories = bounded("advisories", wire.advisories, limits::ADVISORIES_MAX)?;
        let progress = bounded("progress", wire.progress, limits::HELD_MAX)?;
        let root_space = bounded("root_space", wire.root_space, limits::ROOTS_PER_STAR_MAX)?;
        Ok(Self {
            lifecycle: lifecycle_from_wire("lifecycle", wire.lifecycle)?,
            active_tasks: wire.active_tasks,
            served_pulls: wire.served_pulls,
            sample: wire.sample.map(Into::into),
            advisories: advisories.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            progress: progress
                .into_iter()
                .map(|one| (AssignmentId(one.assignment_id), count(one.bytes_moved)))
                .collect(),
            root_space: root_space.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            vault_bytes: wire.vault_bytes.map(count),
            vault_sample: wire.vault_sample.map(Into::into),
        })
    }
}

impl TryFrom<v1::RootSpace> for RootSpace {
    type Error = ConvertError;

    fn try_from(wire: v1::RootSpace) -> Result<Self, ConvertError> {
        let path = absolute_path("root_space.path", wire.path)?;
        Ok(Self { path, available_bytes: count(wire.available_bytes) })
    }
}

impl From<HealthSample> for v1::HealthSample {
    fn from(sample: HealthSample) -> Self {
        Self {
            disk_available_bytes: sample.disk_available_bytes,
            disk_total_bytes: sample.disk_total_bytes,
            throughput_bytes_per_sec: sample.throughput_bytes_per_sec,
            error_count: sample.error_count,
            total_operations: sample.total_operations,
        }
    }
}

impl From<v1::HealthSample> for HealthSample {
    /// What only the Star's own monitor needs does not travel, and is as in a Star at rest.
    fn from(wire: v1::HealthSample) -> Self {
        Self {
            disk_available_bytes: count(wire.disk_available_bytes),
            disk_total_bytes: count(wire.disk_total_bytes),
            throughput_bytes_per_sec: count(wire.throughput_bytes_per_sec),
            error_count: count(wire.error_count),
            total_operations: count(wire.total_operations),
            ..Self::default()
        }
    }
}

impl From<AdvisoryNotice> for v1::Advisory {
    fn from(notice: AdvisoryNotice) -> Self {
        let kind = match notice.kind {
            AdvisoryKind::Healthy => v1::AdvisoryType::Healthy,
            AdvisoryKind::VaultIncomplete => v1::AdvisoryType::VaultIncomplete,
            AdvisoryKind::VaultReadOnly => v1::AdvisoryType::VaultReadOnly,
            AdvisoryKind::DiskCritical => v1::AdvisoryType::DiskCritical,
            AdvisoryKind::DiskWarning => v1::AdvisoryType::DiskWarning,
            AdvisoryKind::DiskExhaustionPredicted => v1::AdvisoryType::DiskExhaustionPredicted,
            AdvisoryKind::ThroughputLow => v1::AdvisoryType::ThroughputLow,
            AdvisoryKind::ErrorRateHigh => v1::AdvisoryType::ErrorRateHigh,
        };
        Self {
            r#type: kind.into(),
            message: notice.message,
            predicted_seconds: notice.predicted_seconds.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Advisory> for AdvisoryNotice {
    type Error = ConvertError;

    fn try_from(wire: v1::Advisory) -> Result<Self, ConvertError> {
        let kind = match v1::AdvisoryType::try_from(wire.r#type) {
            Ok(v1::AdvisoryType::Healthy) => AdvisoryKind::Healthy,
            Ok(v1::AdvisoryType::VaultIncomplete) => AdvisoryKind::VaultIncomplete,
            Ok(v1::AdvisoryType::VaultReadOnly) => AdvisoryKind::VaultReadOnly,
            Ok(v1::AdvisoryType::DiskCritical) => AdvisoryKind::DiskCritical,
            Ok(v1::AdvisoryType::DiskWarning) => AdvisoryKind::DiskWarning,
            Ok(v1::AdvisoryType::DiskExhaustionPredicted) => AdvisoryKind::DiskExhaustionPredicted,
            Ok(v1::AdvisoryType::ThroughputLow) => AdvisoryKind::ThroughputLow,
            Ok(v1::AdvisoryType::ErrorRateHigh) => AdvisoryKind::ErrorRateHigh,
            Ok(v1::AdvisoryType::Unspecified) | Err(_) => {
                return Err(unknown_enum("advisories.type", wire.r#type));
            }
        };
        // On the wire 0 is both "not predicted" and "now"; only one kind of advisory predicts.
        let is_prediction = kind == AdvisoryKind::DiskExhaustionPredicted;
        Ok(Self {
            kind,
            message: words(&wire.message),
            predicted_seconds: is_prediction.then_some(count(wire.predicted_seconds)),
        })
    }
}

impl From<Report> for v1::SessionReport {
    fn from(report: Report) -> Self {
        Self {
            number: report.number,
            assignment_id: report.assignment.0,
            outcomes: report.outcomes.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::SessionReport> for Report {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionReport) -> Result<Self, ConvertError> {
        let outcomes = bounded("outcomes", wire.outcomes, limits::ASSIGNMENT_ITEMS_MAX)?;
        Ok(Self {
            number: counted("number", wire.number)?,
            assignment: AssignmentId(wire.assignment_id),
            outcomes: outcomes
                .into_iter()
                .map(|outcome| outcome.try_into().map_err(within("outcomes")))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<ItemOutcome> for v1::ItemOutcome {
    fn from(outcome: ItemOutcome) -> Self {
        use v1::item_outcome::Result as Wire;
        let result = match outcome.result {
            ItemResult::Stored {
                size,
                bytes_transferred,
                bytes_deduplicated,
                duration,
                is_changed,
                chunks,
            } => Wire::Stored(v1::ItemStored {
                size_bytes: size,
                transferred_bytes: bytes_transferred,
                deduplicated_bytes: bytes_deduplicated,
                duration: Some(duration_to_wire(duration)),
                is_changed_while_read: is_changed,
                chunks: (chunks != ChunkCounts::default()).then(|| chunks.into()),
            }),
            ItemResult::Skipped => Wire::Skipped(v1::ItemSkipped {}),
            ItemResult::Failed(failure) => Wire::Failed(failure.into()),
        };
        Self { sequence: outcome.sequence, result: Some(result) }
    }
}

impl TryFrom<v1::ItemOutcome> for ItemOutcome {
    type Error = ConvertError;

    fn try_from(wire: v1::ItemOutcome) -> Result<Self, ConvertError> {
        use v1::item_outcome::Result as Wire;
        let result = match required("result", wire.result)? {
            Wire::Stored(stored) => {
                let duration = required("stored.duration", stored.duration)?;
                ItemResult::Stored {
                    size: file_size("stored.size_bytes", stored.size_bytes)?,
                    bytes_transferred: file_size("stored.transferred_bytes", stored.transferred_bytes)?,
                    bytes_deduplicated: file_size("stored.deduplicated_bytes", stored.deduplicated_bytes)?,
                    duration: duration_from_wire("stored.duration", &duration)?,
                    is_changed: stored.is_changed_while_read,
                    chunks: stored.chunks.map(Into::into).unwrap_or_default(),
                }
            }
            Wire::Skipped(v1::ItemSkipped {}) => ItemResult::Skipped,
            Wire::Failed(failure) => ItemResult::Failed(failure.try_into().map_err(within("failed"))?),
        };
        Ok(Self { sequence: wire.sequence, result })
    }
}

impl From<ChunkCounts> for v1::ItemChunks {
    fn from(chunks: ChunkCounts) -> Self {
        Self {
            transferred_count: chunks.transferred,
            deduplicated_count: chunks.deduplicated,
            packed_count: chunks.packed,
            packed_bytes: chunks.packed_bytes,
        }
    }
}

impl From<v1::ItemChunks> for ChunkCounts {
    fn from(wire: v1::ItemChunks) -> Self {
        Self {
            transferred: count(wire.transferred_count),
            deduplicated: count(wire.deduplicated_count),
            packed: count(wire.packed_count),
            packed_bytes: count(wire.packed_bytes),
        }
    }
}

impl From<Failure> for v1::ItemFailure {
    fn from(failure: Failure) -> Self {
        let cause = match failure.cause {
            FailureCause::Transient => v1::FailureCause::Transient,
            FailureCause::Permanent => v1::FailureCause::Permanent,
            FailureCause::ChecksumMismatch => v1::FailureCause::ChecksumMismatch,
            FailureCause::SourceMissing => v1::FailureCause::SourceMissing,
            FailureCause::DestinationError => v1::FailureCause::DestinationError,
            FailureCause::DataCorruption => v1::FailureCause::DataCorruption,
            FailureCause::InTheWay => v1::FailureCause::InTheWay,
        };
        let fault = match failure.fault {
            Fault::Item => v1::Fault::Item,
            Fault::Source => v1::Fault::Source,
            Fault::Destination => v1::Fault::Destination,
            Fault::Link => v1::Fault::Link,
        };
        Self { cause: cause.into(), fault: fault.into(), message: failure.message }
    }
}

impl TryFrom<v1::ItemFailure> for Failure {
    type Error = ConvertError;

    fn try_from(wire: v1::ItemFailure) -> Result<Self, ConvertError> {
        let cause = match v1::FailureCause::try_from(wire.cause) {
            Ok(v1::FailureCause::Transient) => FailureCause::Transient,
            Ok(v1::FailureCause::Permanent) => FailureCause::Permanent,
            Ok(v1::FailureCause::ChecksumMismatch) => FailureCause::ChecksumMismatch,
            Ok(v1::FailureCause::SourceMissing) => FailureCause::SourceMissing,
            Ok(v1::FailureCause::DestinationError) => FailureCause::DestinationError,
            Ok(v1::FailureCause::DataCorruption) => FailureCause::DataCorruption,
            Ok(v1::FailureCause::InTheWay) => FailureCause::InTheWay,
            Ok(v1::FailureCause::Unspecified) | Err(_) => return Err(unknown_enum("cause", wire.cause)),
        };
        let fault = match v1::Fault::try_from(wire.fault) {
            Ok(v1::Fault::Item) => Fault::Item,
            Ok(v1::Fault::Source) => Fault::Source,
            Ok(v1::Fault::Destination) => Fault::Destination,
            Ok(v1::Fault::Link) => Fault::Link,
            Ok(v1::Fault::Unspecified) | Err(_) => return Err(unknown_enum("fault", wire.fault)),
        };
        Ok(Self { cause, fault, message: words(&wire.message) })
    }
}

impl From<ScanBatch> for v1::SessionScanBatch {
    fn from(batch: ScanBatch) -> Self {
        Self {
            scan_id: batch.scan,
            number: batch.number,
            entries: batch.entries.into_iter().map(Into::into).collect(),
            is_last: batch.is_last,
            failure: batch.failure.map(Into::into),
            matched: batch.matched,
            skipped_mounts: batch.skipped_mounts.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::SessionScanBatch> for ScanBatch {
    type Error = ConvertError;

    fn try_from(wire: v1::SessionScanBatch) -> Result<Self, ConvertError> {
        if wire.failure.is_some() && !wire.is_last {
            return Err(ConvertError::new("is_last", "is false although the scan has failed"));
        }
        let entries = bounded("entries", wire.entries, limits::SCAN_BATCH_ENTRIES_MAX)?;
        Ok(Self {
            scan: wire.scan_id,
            number: counted("number", wire.number)?,
            entries: entries
                .into_iter()
                .map(|entry| entry.try_into().map_err(within("entries")))
                .collect::<Result<_, _>>()?,
            is_last: wire.is_last,
            failure: wire.failure.map(TryInto::try_into).transpose().map_err(within("failure"))?,
            matched: bounded("matched", wire.matched, 3 * limits::SCAN_GLOBS_MAX)?,
            skipped_mounts: bounded("skipped_mounts", wire.skipped_mounts, limits::SCAN_BATCH_ENTRIES_MAX)?
                .into_iter()
                .map(|path| confined_path("skipped_mounts", path))
                .collect::<Result<_, _>>()?,
        })
    }
}
