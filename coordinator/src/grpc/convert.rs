//! Between the core's words and the wire's, for what only the coordinator's API carries.

use orbit_proto::convert::{duration_to_wire, lifecycle_to_wire, timestamp_from_wire, timestamp_to_wire};
use orbit_proto::v1;
use orbit_shared::backpressure::BackpressureState;
use orbit_shared::bulletin::{Bulletin, Severity};
use orbit_shared::dead_letter::{DeadLetterEntry, FailureKind};
use orbit_shared::entry::{Entry, EntryKind, display_path};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::{Now, WallTime};
use orbit_shared::words::{ItemId, JobId, StarId};

use super::job_spec;
use crate::core::{
    ACTOR, Core, Gate, ItemEnd, ItemPlace, ItemView, JobState, JobView, Liveness, Location, PenaltyView,
    Star, TimedSample, Violation,
};
use crate::store::StoredItem;

/// A Star's name from a request.
pub(super) fn star_id(field: &str, text: String) -> Result<StarId, Violation> {
    StarId::new(text).map_err(|error| Violation::new(field, error.to_string()))
}

/// A Star's name from a filter, where empty means any.
pub(super) fn star_filter(text: String) -> Result<Option<StarId>, Violation> {
    named_star_filter("star_id", text)
}

/// The same of a field with another name.
pub(super) fn named_star_filter(field: &str, text: String) -> Result<Option<StarId>, Violation> {
    if text.is_empty() { Ok(None) } else { star_id(field, text).map(Some) }
}

/// An item's key from a filter, where empty means any.
pub(super) fn item_filter(text: &str) -> Result<Option<ItemId>, Violation> {
    if text.is_empty() { Ok(None) } else { item_id(text).map(Some) }
}

/// An item's key from a request.
pub(super) fn item_id(text: &str) -> Result<ItemId, Violation> {
    text.parse()
        .map_err(|error: orbit_shared::words::ItemKeyError| Violation::new("item_key", error.to_string()))
}

/// A job.
pub(crate) fn job(view: JobView) -> v1::Job {
    let record = view.record;
    let state = record.state();
    let bytes_stored = view.tally.bytes_stored + view.bytes_in_flight;
    v1::Job {
        job_id: record.id.0,
        state: job_state(state).into(),
        progress: Some(v1::JobProgress {
            items_total: view.tally.total,
            items_stored: view.tally.stored,
            items_skipped: view.tally.skipped,
            items_penalized: view.penalized,
            items_in_flight: view.in_flight,
            items_dead: view.tally.dead,
            items_vanished: view.tally.vanished,
            items_changed_while_read: view.tally.changed,
            bytes_total: view.tally.bytes_total,
            bytes_stored: view.tally.bytes_stored.max(bytes_stored.min(view.tally.bytes_total)),
            bytes_transferred: view.tally.bytes_transferred + view.bytes_in_flight,
            bytes_deduplicated: view.tally.bytes_deduplicated,
            bytes_per_second: view.bytes_per_second,
            estimated_remaining: view.remaining.map(duration_to_wire),
            entries_deleted: record.deleted(),
        }),
        create_time: Some(timestamp_to_wire(record.create_time)),
        end_time: record.end.as_ref().map(|end| timestamp_to_wire(end.time)),
        state_reason: view.reason,
        unmatched_globs: record.unmatched_globs(),
        deletion_problem: record.deletion_problem(),
        skipped_mounts: record.scan.skipped_mounts.count,
        skipped_mount_examples: record.scan.skipped_mounts.examples(),
        created_by: record.created_by.clone(),
        snapshot_ids: record.snapshots.iter().flatten().map(ToString::to_string).collect(),
        spec: Some(job_spec::to_wire(record.spec)),
    }
}

pub(super) fn location(location: Location) -> v1::Location {
    let raw_path = match std::str::from_utf8(&location.path) {
        Ok(_) => Vec::new(),
        Err(_) => location.path.clone(),
    };
    v1::Location {
        star_id: location.star_id.into(),
        path: display_path(&location.path),
        raw_path: raw_path.into(),
        snapshot_id: String::new(),
    }
}

fn job_state(state: JobState) -> v1::JobState {
    match state {
        JobState::Scanning => v1::JobState::Scanning,
        JobState::Running => v1::JobState::Running,
        JobState::Paused => v1::JobState::Paused,
        JobState::Completed => v1::JobState::Completed,
        JobState::PartiallyCompleted => v1::JobState::PartiallyCompleted,
        JobState::Failed => v1::JobState::Failed,
        JobState::Cancelled => v1::JobState::Cancelled,
    }
}

/// A job state from a filter.
pub(super) fn job_state_filter(index: usize, value: i32) -> Result<JobState, Violation> {
    match v1::JobState::try_from(value) {
        Ok(v1::JobState::Scanning) => Ok(JobState::Scanning),
        Ok(v1::JobState::Running) => Ok(JobState::Running),
        Ok(v1::JobState::Paused) => Ok(JobState::Paused),
        Ok(v1::JobState::Completed) => Ok(JobState::Completed),
        Ok(v1::JobState::PartiallyCompleted) => Ok(JobState::PartiallyCompleted),
        Ok(v1::JobState::Failed) => Ok(JobState::Failed),
        Ok(v1::JobState::Cancelled) => Ok(JobState::Cancelled),
        Ok(v1::JobState::Unspecified) | Err(_) => {
            Err(Violation::new(format!("states[{index}]"), format!("{value} is no job state")))
        }
    }
}

/// An item state from a filter.
pub(super) fn item_state_filter(index: usize, value: i32) -> Result<v1::ItemState, Violation> {
    let state = v1::ItemState::try_from(value).ok().filter(|state| *state != v1::ItemState::Unspecified);
    state.ok_or_else(|| Violation::new(format!("states[{index}]"), format!("{value} is no item state")))
}

/// About how many bytes an item has in an answer: its path stands in it twice at most.
pub(super) fn item_weight(stored: &StoredItem) -> usize {
    2 * stored.entry.path.len() + 128
}

/// An item, from what the store and the core know of it.
pub(super) fn item(stored: &StoredItem, view: Option<&ItemView>, star: &StarId) -> v1::Item {
    let entry = &stored.entry;
    let (state, attempts) = item_state(stored, view);
    v1::Item {
        item_key: stored.id.to_string(),
        path: display_path(&entry.path),
        raw_path: entry.path.clone().into(),
        kind: entry_kind(&entry.kind).into(),
        size_bytes: entry.size(),
        star_id: star.to_string(),
        state: state.into(),
        attempts,
    }
}

fn item_state(stored: &StoredItem, view: Option<&ItemView>) -> (v1::ItemState, u32) {
    if let Some(end) = stored.end {
        let state = match end.end {
            ItemEnd::Stored => v1::ItemState::Stored,
            ItemEnd::Skipped => v1::ItemState::Skipped,
            ItemEnd::Dead => v1::ItemState::Dead,
        };
        return (state, end.attempts);
    }
    match view.map(|view| &view.place) {
        Some(ItemPlace::InFlight { .. }) => (v1::ItemState::InFlight, 0),
        Some(ItemPlace::Penalized { attempts, .. }) => (v1::ItemState::Penalized, *attempts),
        Some(ItemPlace::Elsewhere { attempts }) => (v1::ItemState::Queued, *attempts),
        None => (v1::ItemState::Queued, 0),
    }
}

pub(super) fn entry_kind(kind: &EntryKind) -> v1::EntryKind {
    match kind {
        EntryKind::File { .. } => v1::EntryKind::File,
        EntryKind::Directory => v1::EntryKind::Directory,
        EntryKind::Symlink { .. } => v1::EntryKind::Symlink,
        EntryKind::Fifo => v1::EntryKind::Fifo,
        EntryKind::Socket => v1::EntryKind::Socket,
        EntryKind::CharacterDevice => v1::EntryKind::CharacterDevice,
        EntryKind::BlockDevice => v1::EntryKind::BlockDevice,
        EntryKind::Unreadable { .. } => v1::EntryKind::Unreadable,
    }
}

/// A gate.
pub(super) fn gate(gate: Gate) -> v1::Gate {
    match gate {
        Gate::JobState => v1::Gate::JobState,
        Gate::Lifecycle => v1::Gate::Lifecycle,
        Gate::Liveness => v1::Gate::Liveness,
        Gate::Cordon => v1::Gate::Cordon,
        Gate::Guard => v1::Gate::Guard,
        Gate::Penalty => v1::Gate::Penalty,
        Gate::Bandwidth => v1::Gate::Bandwidth,
        Gate::Order => v1::Gate::Order,
        Gate::Yield => v1::Gate::Yield,
    }
}

/// A Star.
pub(crate) fn star(core: &Core, now: Now, star: &Star) -> v1::Star {
    let record = &star.record;
    let history = record.history.iter().map(|event| v1::StarTransition {
        time: Some(timestamp_to_wire(event.at)),
        from: lifecycle_to_wire(event.from).into(),
        to: lifecycle_to_wire(event.to).into(),
        reason: event.reason.clone(),
    });
    let roots = record
        .roots
        .iter()
        .map(|root| v1::Root { path: display_path(&root.path), is_read_only: root.is_read_only });
    v1::Star {
        star_id: record.star_id.to_string(),
        instance_id: record.instance.map(|id| id.to_string()).unwrap_or_default(),
        epoch: record.epoch.0,
        state: lifecycle_to_wire(star.state()).into(),
        liveness: liveness(star.liveness).into(),
        is_cordoned: record.is_cordoned,
        data_address: record.data_address.clone(),
        roots: roots.collect(),
        labels: record.labels.clone().into_iter().collect(),
        active_tasks: u32::try_from(core.held_count(star)).unwrap_or(u32::MAX),
        is_drained: core.is_drained(star),
        health: star.samples.back().map(|timed| timed.sample.into()),
        advisories: star.advisories.iter().cloned().map(v1::Advisory::from).collect(),
        history: history.collect(),
        drain_blockers: core.drain_blockers(star, now),
        yields: core.yields_of(&record.star_id),
        drain_warnings: core.departure_warnings(star),
        vault_bytes: star.vault_bytes,
        vault_health: star.vault_sample.map(Into::into),
        semantic_rules: record.semantic_rules.clone(),
        version: star.version.clone(),
    }
}

fn liveness(liveness: Liveness) -> v1::Liveness {
    match liveness {
        Liveness::Alive => v1::Liveness::Alive,
        Liveness::Suspect => v1::Liveness::Suspect,
        Liveness::Lost => v1::Liveness::Lost,
    }
}

/// A sample with its time.
pub(super) fn timed_sample(timed: &TimedSample) -> v1::TimedHealthSample {
    v1::TimedHealthSample { time: Some(timestamp_to_wire(timed.time)), sample: Some(timed.sample.into()) }
}

/// A Star's guard.
pub(super) fn guard(core: &Core, star: &Star) -> v1::Guard {
    let BackpressureState {
        object_count, byte_size, max_object_count, max_byte_size, is_backpressured, ..
    } = star.guard.state();
    v1::Guard {
        star_id: star.record.star_id.to_string(),
        object_count,
        byte_size,
        max_object_count,
        max_byte_size,
        is_accepting: !is_backpressured,
        is_paused: star.guard.is_paused(),
        pause_reason: core.pause_reason(star),
    }
}

/// A bulletin.
pub(crate) fn bulletin(bulletin: &Bulletin) -> v1::Bulletin {
    let severity = match bulletin.severity {
        Severity::Info => v1::Severity::Info,
        Severity::Warning => v1::Severity::Warning,
        Severity::Error => v1::Severity::Error,
    };
    v1::Bulletin {
        bulletin_id: bulletin.id,
        time: Some(timestamp_to_wire(bulletin.time)),
        severity: severity.into(),
        star_id: bulletin.source.clone(),
        category: bulletin.category.clone(),
        job_id: bulletin.job_id.map_or(0, |job| job.0),
        message: bulletin.message.clone(),
        repeat_count: bulletin.repeat_count.saturating_sub(1),
        is_acknowledged: bulletin.is_acknowledged,
    }
}

/// A severity from a filter; none for every severity.
pub(super) fn severity_filter(value: i32) -> Result<Option<Severity>, Violation> {
    match v1::Severity::try_from(value) {
        Ok(v1::Severity::Unspecified) => Ok(None),
        Ok(v1::Severity::Info) => Ok(Some(Severity::Info)),
        Ok(v1::Severity::Warning) => Ok(Some(Severity::Warning)),
        Ok(v1::Severity::Error) => Ok(Some(Severity::Error)),
        Err(_) => Err(Violation::new("min_severity", format!("{value} is no severity"))),
    }
}

/// A dead letter, with the Stars of its job's places.
pub(super) fn dead_letter(letter: &DeadLetterEntry, source: Option<&StarId>) -> v1::DeadLetter {
    let at = |star: Option<&StarId>, path: &Option<Vec<u8>>| match (star, path) {
        (Some(star), Some(path)) => format!("{star}:{}", display_path(path)),
        (None, Some(path)) => display_path(path),
        (_, None) => String::new(),
    };
    v1::DeadLetter {
        dead_letter_id: letter.dead_letter_id,
        item_key: letter.item_key.clone(),
        job_id: letter.job_id.0,
        failure_reason: failure_reason(letter.failure_reason.kind()).into(),
        attempts: letter.attempts,
        last_error: letter.last_error.clone(),
        first_fail_time: Some(timestamp_to_wire(letter.first_failed_at)),
        last_fail_time: Some(timestamp_to_wire(letter.last_failed_at)),
        source_path: at(source, &letter.source_path),
        dest_path: at(letter.star_id.as_ref(), &letter.dest_path),
        star_id: letter.star_id.as_ref().map(StarId::to_string).unwrap_or_default(),
        redrive_count: u32::try_from(letter.deaths().saturating_sub(1)).unwrap_or(u32::MAX),
    }
}

fn failure_reason(kind: FailureKind) -> v1::FailureReason {
    match kind {
        FailureKind::RetriesExhausted => v1::FailureReason::RetriesExhausted,
        FailureKind::PermanentError => v1::FailureReason::PermanentError,
        FailureKind::ChecksumMismatch => v1::FailureReason::ChecksumMismatch,
        FailureKind::SourceMissing => v1::FailureReason::SourceMissing,
        FailureKind::DestinationError => v1::FailureReason::DestinationError,
        FailureKind::DataCorruption => v1::FailureReason::DataCorruption,
    }
}

/// A failure reason from a filter; none for any.
pub(super) fn failure_filter(value: i32) -> Result<Option<FailureKind>, Violation> {
    match v1::FailureReason::try_from(value) {
        Ok(v1::FailureReason::Unspecified) => Ok(None),
        Ok(v1::FailureReason::RetriesExhausted) => Ok(Some(FailureKind::RetriesExhausted)),
        Ok(v1::FailureReason::PermanentError) => Ok(Some(FailureKind::PermanentError)),
        Ok(v1::FailureReason::ChecksumMismatch) => Ok(Some(FailureKind::ChecksumMismatch)),
        Ok(v1::FailureReason::SourceMissing) => Ok(Some(FailureKind::SourceMissing)),
        Ok(v1::FailureReason::DestinationError) => Ok(Some(FailureKind::DestinationError)),
        Ok(v1::FailureReason::DataCorruption) => Ok(Some(FailureKind::DataCorruption)),
        Err(_) => Err(Violation::new("failure_reason", format!("{value} is no failure reason"))),
    }
}

/// A penalty.
pub(super) fn penalty(view: PenaltyView) -> v1::Penalty {
    v1::Penalty {
        item_key: view.item.to_string(),
        job_id: view.item.job.0,
        penalty_count: view.count,
        retry_time: Some(timestamp_to_wire(view.retry_time)),
        last_error: view.last_error,
    }
}

/// An event.
pub(crate) fn event(event: ProvenanceEvent) -> v1::ProvenanceEvent {
    let mut context = event.context;
    let actor = context.remove(ACTOR).unwrap_or_default();
    v1::ProvenanceEvent {
        event_id: event.event_id,
        time: Some(timestamp_to_wire(event.time)),
        r#type: provenance_type(event.event_type).into(),
        job_id: event.job_id.map_or(0, |job| job.0),
        star_id: event.star_id.map(String::from).unwrap_or_default(),
        chunk_hash: event.chunk_hash.map(|hash| hash.to_string()).unwrap_or_default(),
        source: event.source.unwrap_or_default(),
        destination: event.destination.unwrap_or_default(),
        bytes: event.bytes.unwrap_or(0),
        duration_ms: event.duration_ms.unwrap_or(0),
        error: event.error.unwrap_or_default(),
        item_key: event.item.map(|item| item.to_string()).unwrap_or_default(),
        actor,
        context: context.into_iter().collect(),
    }
}

/// The wire's numbers of the taxonomy follow its order, from 1.
fn provenance_type(event_type: ProvenanceType) -> v1::ProvenanceType {
    let index = ProvenanceType::ALL.iter().position(|other| *other == event_type);
    let number = index.and_then(|index| i32::try_from(index + 1).ok());
    number.and_then(|number| v1::ProvenanceType::try_from(number).ok()).unwrap_or_default()
}

/// An event type from a filter; none for every type.
pub(super) fn provenance_filter(value: i32) -> Result<Option<ProvenanceType>, Violation> {
    let bad = || Violation::new("type", format!("{value} is no provenance type"));
    match usize::try_from(value) {
        Ok(0) => Ok(None),
        Ok(number) => ProvenanceType::ALL.get(number - 1).copied().map(Some).ok_or_else(bad),
        Err(_) => Err(bad()),
    }
}

/// A time from a filter.
pub(super) fn time_filter(
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Result<Option<WallTime>, Violation> {
    let read = time.map(|time| timestamp_from_wire(field, &time)).transpose();
    read.map_err(|error| Violation::new(error.field, error.problem))
}

/// A job from a filter.
pub(super) fn job_filter(job: Option<u64>) -> Option<JobId> {
    job.map(JobId)
}

/// An entry's path for an explanation.
pub(super) fn shown(entry: &Entry) -> String {
    display_path(&entry.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provenance_type_has_the_number_that_bears_its_name() {
        for event_type in ProvenanceType::ALL {
            let wire = provenance_type(event_type);
            let name = format!("PROVENANCE_TYPE_{}", event_type.as_str().to_uppercase());
            assert_eq!(wire.as_str_name(), name);
            assert_eq!(provenance_filter(wire.into()).expect("a type"), Some(event_type));
        }
    }
}
