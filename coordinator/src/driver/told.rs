//! What is told of changes once they are durable: log lines about jobs and bulletins, and spans of jobs and assignments.
//!
//! The core knows nothing of it: it changes records, and this is made of them. Identifiers of spans follow from the job's
//! record ([`JobRecord::trace`]), times are those at which the driver acted. A span is recorded when it ends. An assignment
//! that was given out before this process started leaves none of this process.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orbit_shared::bulletin::{Bulletin, Severity, SharedBulletinBoard};
use orbit_shared::entry::display_path;
use orbit_shared::session::Assignment;
use orbit_shared::time::WallTime;
use orbit_shared::trace_context::TraceContext;
use orbit_shared::words::{AssignmentId, JobId, StarId};
use orbit_telemetry::{EndedSpan, Kind, Spans};
use tracing::{error, info, warn};

use crate::core::{Change, JobRecord, JobState, Recovered};

/// The category of bulletins that say how a job ended.
const ENDS_OF_JOBS: &str = "job";

/// What has begun and was not told to its end, and where spans go.
pub(super) struct Told {
    spans: Spans,
    /// Jobs that have not ended, with their spans: the record of a job may be written again after its end, which is told
    /// once.
    open_jobs: BTreeMap<JobId, TraceContext>,
    /// As many as there are live assignments; none where spans go nowhere.
    assignments: BTreeMap<AssignmentId, Given>,
    /// The newest bulletin that was told. One that repeats is not told again.
    last_bulletin: u64,
    /// The board that readers see.
    board: SharedBulletinBoard,
}

/// A change of the board.
enum Boarded {
    Put(Bulletin),
    Gone(u64),
}

struct Given {
    job: JobId,
    star: StarId,
    source: StarId,
    items: usize,
    context: TraceContext,
    parent: Option<TraceContext>,
    since: WallTime,
}

/// Things to tell once the changes that they were found in are durable.
#[derive(Default)]
pub(super) struct Telling {
    begun: Vec<JobRecord>,
    ended: Vec<JobRecord>,
    bulletins: Vec<Bulletin>,
    boarded: Vec<Boarded>,
    spans: Vec<EndedSpan>,
}

impl Told {
    /// As of a coordinator that has just recovered. `board` shows what was recovered.
    pub(super) fn new(spans: Spans, recovered: &Recovered, board: SharedBulletinBoard) -> Self {
        let open = recovered.jobs.iter().filter(|job| job.end.is_none()).map(|job| (job.id, job.trace()));
        let last_bulletin = recovered.bulletins.iter().map(|bulletin| bulletin.id).max();
        let last_bulletin = last_bulletin.unwrap_or_default();
        Self { spans, open_jobs: open.collect(), assignments: BTreeMap::new(), last_bulletin, board }
    }

    /// The board that readers see.
    pub(super) fn board(&self) -> &SharedBulletinBoard {
        &self.board
    }

    /// Finds what there is to tell of these changes.
    pub(super) fn look(&mut self, changes: &[Change], now: WallTime) -> Telling {
        let mut telling = Telling::default();
        for change in changes {
            match change {
                Change::PutJob(record) => self.look_at_job(record, &mut telling),
                Change::ForgetJob(id) => {
                    self.open_jobs.remove(id);
                }
                Change::RemoveAssignment(id) => {
                    let given = self.assignments.remove(id);
                    telling.spans.extend(given.map(|given| assignment_span(*id, &given, now)));
                }
                Change::PutBulletin(bulletin) => {
                    telling.boarded.push(Boarded::Put(bulletin.clone()));
                    // That a job has ended is told of its record, with more.
                    if bulletin.id > self.last_bulletin && bulletin.category != ENDS_OF_JOBS {
                        telling.bulletins.push(bulletin.clone());
                    }
                    self.last_bulletin = self.last_bulletin.max(bulletin.id);
                }
                Change::RemoveBulletin(id) => telling.boarded.push(Boarded::Gone(*id)),
                Change::ClearQueue(_)
                | Change::RemoveItems { .. }
                | Change::PutEntry { .. }
                | Change::Enqueue { .. }
                | Change::Dequeue { .. }
                | Change::PutEnd { .. }
                | Change::RemoveEnd(_)
                | Change::PutPenalty { .. }
                | Change::RemovePenalty(_)
                | Change::PutDeadLetter(_)
                | Change::RemoveDeadLetter(_)
                | Change::PutAssignment(_)
                | Change::PutStar(_)
                | Change::RemoveStar(_)
                | Change::PutSnapshot(_)
                | Change::RemoveSnapshot(_)
                | Change::PutSchedule(_)
                | Change::RemoveSchedule(_)
                | Change::PutAnswer(_)
                | Change::RemoveAnswer(_)
                | Change::PutCounters(_)
                | Change::PutGrid(_)
                | Change::PutLastEvent(_) => {}
            }
        }
        telling
    }

    fn look_at_job(&mut self, record: &JobRecord, telling: &mut Telling) {
        if record.end.is_none() {
            if self.open_jobs.insert(record.id, record.trace()).is_none() {
                telling.begun.push(record.clone());
            }
        } else if self.open_jobs.remove(&record.id).is_some() {
            telling.ended.push(record.clone());
        }
    }

    /// The changes are durable. Gives the jobs that have ended by them.
    pub(super) fn tell(&self, telling: Telling) -> impl Iterator<Item = JobId> + use<> {
        let Telling { begun, ended, bulletins, boarded, spans } = telling;
        for change in boarded {
            match change {
                Boarded::Put(bulletin) => self.board.follow(bulletin),
                Boarded::Gone(id) => self.board.forget(id),
            }
        }
        begun.iter().for_each(log_begin);
        // Before the span of their job: a collector that has the job's span has got all that are within it.
        spans.into_iter().for_each(|span| self.spans.record(span));
        for record in &ended {
            log_end(record);
            if let Some(span) = job_span(record).filter(|_| self.spans.is_on()) {
                self.spans.record(span);
            }
        }
        bulletins.iter().for_each(log_bulletin);
        ended.into_iter().map(|record| record.id)
    }

    /// An assignment is given out.
    pub(super) fn given(&mut self, assignment: &Assignment, star: &StarId, now: WallTime) {
        let Some(context) = assignment.trace.filter(|_| self.spans.is_on()) else { return };
        let given = Given {
            job: assignment.job,
            star: star.clone(),
            source: assignment.source_star.clone(),
            items: assignment.items.len(),
            context,
            parent: self.open_jobs.get(&assignment.job).copied(),
            since: now,
        };
        self.assignments.insert(assignment.id, given);
    }
}

/// A job that is new, or goes on because dead letters are tried again.
fn log_begin(record: &JobRecord) {
    let source = &record.spec.source;
    info!(
        job = record.id.0,
        star = source.star_id.as_str(),
        path = display_path(&source.path),
        destinations = destinations(record),
        trace = format!("{:032x}", record.trace().trace_id()),
        "a job has begun"
    );
}

fn log_end(record: &JobRecord) {
    let Some(end) = &record.end else { return };
    let (job, tally) = (record.id.0, record.tally());
    let (stored, skipped, dead) = (tally.stored, tally.skipped, tally.dead);
    match end.state {
        JobState::Failed => error!(job, stored, skipped, dead, "a job has failed: {}", end.reason),
        JobState::PartiallyCompleted => {
            warn!(job, stored, skipped, dead, "a job has ended without some items: {}", end.reason);
        }
        JobState::Scanning
        | JobState::Running
        | JobState::Paused
        | JobState::Completed
        | JobState::Cancelled => info!(job, stored, skipped, dead, "a job has ended: {}", end.reason),
    }
}

fn log_bulletin(notice: &Bulletin) {
    let (bulletin, star, category) = (notice.id, notice.source.as_str(), notice.category.as_str());
    // Left out of the line where it concerns none.
    let job = notice.job_id.map(|job| job.0);
    match notice.severity {
        Severity::Info => info!(bulletin, star, category, job, "{}", notice.message),
        Severity::Warning => warn!(bulletin, star, category, job, "{}", notice.message),
        Severity::Error => error!(bulletin, star, category, job, "{}", notice.message),
    }
}

fn destinations(record: &JobRecord) -> String {
    let stars: Vec<&str> = record.spec.destinations.iter().map(|place| place.star_id.as_str()).collect();
    stars.join(",")
}

fn job_span(record: &JobRecord) -> Option<EndedSpan> {
    let end = record.end.as_ref()?;
    let tally = record.tally();
    let problem = match end.state {
        JobState::PartiallyCompleted | JobState::Failed => Some(end.reason.clone()),
        JobState::Scanning
        | JobState::Running
        | JobState::Paused
        | JobState::Completed
        | JobState::Cancelled => None,
    };
    Some(EndedSpan {
        name: "job",
        kind: Kind::Internal,
        context: record.trace(),
        parent: record.spec.caller.map(TraceContext::span_id),
        start: system_time(record.create_time),
        end: system_time(end.time),
        fields: vec![
            ("orbit.job", record.id.0.into()),
            ("orbit.source", record.spec.source.star_id.as_str().into()),
            ("orbit.destinations", destinations(record).into()),
            ("orbit.items", tally.total.into()),
            ("orbit.items_dead", tally.dead.into()),
            ("orbit.bytes_transferred", tally.bytes_transferred.into()),
            ("orbit.end", end.reason.as_str().into()),
        ],
        problem,
    })
}

fn assignment_span(id: AssignmentId, given: &Given, now: WallTime) -> EndedSpan {
    EndedSpan {
        name: "assignment",
        kind: Kind::Internal,
        context: given.context,
        parent: given.parent.map(TraceContext::span_id),
        start: system_time(given.since),
        end: system_time(now),
        fields: vec![
            ("orbit.job", given.job.0.into()),
            ("orbit.assignment", id.0.into()),
            ("orbit.source", given.source.as_str().into()),
            ("orbit.star", given.star.as_str().into()),
            ("orbit.items", (given.items as u64).into()),
        ],
        problem: None,
    }
}

/// Times before 1970 are shown as 1970: no clock that runs says so.
fn system_time(time: WallTime) -> SystemTime {
    let nanos = u64::try_from(time.as_nanos().max(0)).unwrap_or(u64::MAX);
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

#[cfg(test)]
pub(crate) mod tests {
    use orbit_shared::penalization::PenaltyConfig;
    use orbit_shared::prioritizer::PrioritizerKind;
    use orbit_shared::words::Layout;

    use super::*;
    use crate::core::{JobEnd, JobSpec, Location, ScanRecord, Tally};

    pub(crate) fn record(id: u64, end: Option<JobState>) -> JobRecord {
        let place = Location { star_id: StarId::new("star-1").unwrap(), path: b"/d".to_vec() };
        let spec = JobSpec {
            source: place.clone(),
            destinations: vec![place],
            include: Vec::new(),
            exclude: Vec::new(),
            prioritizers: PrioritizerKind::DEFAULT_CHAIN.to_vec(),
            penalty: PenaltyConfig::default(),
            max_bytes_per_second: 0,
            dead_letter_max: 10,
            layout: Layout::Files,
            snapshot: None,
            tags: Vec::new(),
            limits: orbit_shared::filter::FileLimits::default(),
            is_one_file_system: false,
            bandwidth_windows: Vec::new(),
            caller: None,
            mirror: None,
            paths: Vec::new(),
            compares_content: false,
        };
        JobRecord {
            id: JobId(id),
            spec,
            request_id: String::new(),
            create_time: WallTime::from_unix_ms(id),
            pause: None,
            scan: ScanRecord::default(),
            tallies: vec![Tally::default()],
            end: end.map(|state| JobEnd { state, time: WallTime::from_unix_ms(9), reason: "so".to_owned() }),
            snapshots: Vec::new(),
            seal_failures: std::collections::BTreeMap::new(),
            sweeps: Vec::new(),
            created_by: String::new(),
            removed_before: None,
            is_forgotten: false,
            sweeps_voided: 0,
            run_of: None,
            deleted_before: 0,
        }
    }

    fn put(id: u64, end: Option<JobState>) -> Change {
        Change::PutJob(Box::new(record(id, end)))
    }

    fn bulletin(id: u64, repeat_count: u64) -> Change {
        Change::PutBulletin(Bulletin {
            id,
            time: WallTime::UNIX_EPOCH,
            first_time: WallTime::UNIX_EPOCH,
            source: "star-1".to_owned(),
            category: "disk".to_owned(),
            severity: Severity::Warning,
            message: "full".to_owned(),
            job_id: None,
            repeat_count,
            is_acknowledged: false,
        })
    }

    /// How many begin, end, and how many bulletins are told.
    fn counts(told: &mut Told, changes: &[Change]) -> [usize; 3] {
        let telling = told.look(changes, WallTime::UNIX_EPOCH);
        [telling.begun.len(), telling.ended.len(), telling.bulletins.len()]
    }

    #[test]
    fn a_job_begins_once_and_ends_once_however_often_its_record_is_written() {
        let mut told = Told::new(Spans::default(), &Recovered::default(), SharedBulletinBoard::new(10));
        assert_eq!(counts(&mut told, &[put(1, None), put(1, None)]), [1, 0, 0]);
        assert_eq!(counts(&mut told, &[put(1, Some(JobState::PartiallyCompleted))]), [0, 1, 0]);
        assert_eq!(counts(&mut told, &[put(1, Some(JobState::PartiallyCompleted))]), [0, 0, 0]);
        // Its dead letters are tried again.
        assert_eq!(counts(&mut told, &[put(1, None)]), [1, 0, 0]);
        assert_eq!(counts(&mut told, &[put(1, Some(JobState::Completed))]), [0, 1, 0]);
    }

    #[test]
    fn what_was_recovered_has_begun_already_and_what_had_ended_is_not_told_again() {
        let jobs = vec![record(1, None), record(2, Some(JobState::Completed))];
        let mut told = Told::new(
            Spans::default(),
            &Recovered { jobs, ..Recovered::default() },
            SharedBulletinBoard::new(10),
        );
        assert_eq!(counts(&mut told, &[put(1, None), put(2, Some(JobState::Completed))]), [0, 0, 0]);
        assert_eq!(counts(&mut told, &[put(1, Some(JobState::Failed))]), [0, 1, 0]);
    }

    #[test]
    fn a_bulletin_is_told_when_it_is_new_and_not_when_it_repeats() {
        let mut told = Told::new(Spans::default(), &Recovered::default(), SharedBulletinBoard::new(10));
        assert_eq!(counts(&mut told, &[bulletin(1, 1), bulletin(1, 2), bulletin(2, 1)]), [0, 0, 2]);
        assert_eq!(counts(&mut told, &[bulletin(1, 3), bulletin(2, 2)]), [0, 0, 0]);
    }

    #[test]
    fn readers_see_a_bulletin_when_its_turn_is_durable_and_not_before() {
        let board = SharedBulletinBoard::new(10);
        let mut told = Told::new(Spans::default(), &Recovered::default(), board.clone());
        let telling = told.look(&[bulletin(1, 1), bulletin(1, 2), bulletin(2, 1)], WallTime::UNIX_EPOCH);
        assert!(board.is_empty());
        assert_eq!(told.tell(telling).count(), 0);
        let repeats: Vec<u64> = board.recent(9).iter().map(|bulletin| bulletin.repeat_count).collect();
        assert_eq!((repeats, board.counts().posted), (vec![1, 2], 3));
        let telling = told.look(&[Change::RemoveBulletin(1)], WallTime::UNIX_EPOCH);
        assert_eq!(told.tell(telling).count(), 0);
        assert_eq!(board.len(), 1);
    }

    #[test]
    fn a_retried_job_keeps_its_trace_and_a_caller_is_its_parent() {
        let (one, other) = (record(1, None), record(2, None));
        assert_eq!(one.trace(), record(1, Some(JobState::Completed)).trace());
        assert_ne!(one.trace().trace_id(), other.trace().trace_id());
        let caller = TraceContext::root(b"caller");
        let mut asked = record(3, Some(JobState::Failed));
        asked.spec.caller = Some(caller);
        let span = job_span(&asked).unwrap();
        assert_eq!((span.context.trace_id(), span.parent), (caller.trace_id(), Some(caller.span_id())));
        assert_eq!(span.problem.as_deref(), Some("so"));
    }
}
