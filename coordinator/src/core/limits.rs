//! Every bound of the coordinator in one place, with the relations between them.

use std::time::Duration;

use orbit_shared::session::limits::{
    ASSIGNMENT_ITEMS_MAX, ASSIGNMENTS_PER_STAR_MAX, NOTICES_KEPT_MAX, REPORTS_UNACKED_MAX,
    SCAN_BATCHES_UNACKED_MAX, SCANS_PER_STAR_MAX,
};

/// Messages of a watch that wait for its reader.
pub const WATCH_WAITING_MAX: usize = 64;
/// A watch whose reader takes none of them for so long is cut off.
pub const WATCH_PATIENCE: Duration = Duration::from_secs(30);
/// Items of one lane in memory, penalties apart.
pub const LANE_WINDOW_MAX: usize = 8192;
/// Below this many the lane asks the store for more.
pub const LANE_WINDOW_LOW: usize = 2048;
/// Items asked for at a time.
pub const LANE_LOAD_ITEMS: usize = 4096;
/// Items of one job that wait out a penalty. At this many its dispatch waits for them.
pub const PENALIZED_PER_JOB_MAX: usize = 100_000;
/// Items of one job that are under suspicion. Beyond this a death puts no more under it.
pub const SUSPECTS_PER_JOB_MAX: usize = 50_000;
/// Deaths of one Star's agent that are remembered.
pub const DEATHS_KEPT_MAX: usize = 64;
/// Destinations of one job.
pub const DESTINATIONS_MAX: usize = 64;
/// Globs of one job, includes and excludes each.
pub const GLOBS_MAX: usize = 1000;
/// Bytes of all globs with wildcards of one job, includes and excludes each.
pub const PATTERN_BYTES_MAX: usize = 128 * 1024;
/// Prioritizers of one job.
pub const PRIORITIZERS_MAX: usize = 16;
/// Problems of one request that are named.
pub const VIOLATIONS_MAX: usize = 100;
/// Bytes of the name of a mirror's trash.
pub const TRASH_NAME_BYTES_MAX: usize = 128;
/// Times of the day with a bandwidth of their own in one job.
pub const BANDWIDTH_WINDOWS_MAX: usize = 48;
/// Schedules.
pub const SCHEDULES_MAX: usize = 1000;
/// Times of the day of one schedule.
pub const DAILY_TIMES_MAX: usize = 48;
/// Length of one glob, of a path in a specification, and of a reason, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Length of a request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Answers that are remembered by the names of their requests.
pub const ANSWERS_MAX: usize = 10_000;
/// Bytes of those answers.
pub const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Jobs that have not ended.
pub const ACTIVE_JOBS_MAX: usize = 1000;
/// Jobs that have ended and are remembered with their items; the oldest is forgotten first.
pub const ENDED_JOBS_MAX: usize = 10_000;
/// The same, unless an operator wants another number.
pub const ENDED_JOBS_DEFAULT: usize = 1000;
/// Stars of one grid.
pub const STARS_MAX: usize = 10_000;
/// Dead letters of all jobs together.
pub const DEAD_LETTERS_MAX: usize = 200_000;
/// Dead letters of one job, unless its specification says less.
pub const DEAD_LETTERS_PER_JOB_MAX: u64 = 10_000;
/// Bulletins on the board.
pub const BULLETINS_MAX: usize = 2000;
/// Lifecycle transitions kept for each Star.
pub const STAR_HISTORY_MAX: usize = 32;
/// Health samples kept for each Star.
pub const HEALTH_SAMPLES_MAX: usize = 60;
/// Snapshots of all vaults together that are known.
pub const SNAPSHOTS_MAX: usize = 100_000;
/// How many of the last places for snapshots are only for Stars that have fewer than [`SNAPSHOTS_FEW`]: one vault cannot
/// fill the catalogue for others.
pub const SNAPSHOTS_RESERVED: usize = 20_000;
/// Snapshots of one vault that the reserved places take.
pub const SNAPSHOTS_FEW: usize = 1000;
/// Events of the driver that wait for their turn.
pub const INBOX_MAX: usize = 4096;
/// Events that one turn takes together, and commits together.
pub const TURN_EVENTS_MAX: usize = 1024;
/// Messages that wait to be sent on one session. A Star that lets more pile up is cut off and comes back.
pub const SESSION_OUTBOX_MAX: usize = 1024;

/// Heartbeats, notices and the like that one session may send in a second for long.
pub const SESSION_WORDS_PER_SECOND_MAX: u32 = 50;
/// Those that it may send at once: after a break a Star tells all that it kept.
pub const SESSION_WORDS_BURST: u32 = 256;
/// Reports, batches of scans and answers that one session may send in a second for long.
pub const SESSION_WORK_PER_SECOND_MAX: u32 = 2000;
/// Those that it may send at once.
pub const SESSION_WORK_BURST: u32 = 4000;
/// Items of one job, unless the coordinator was started with another bound.
pub const ITEMS_PER_JOB_MAX: u64 = 50_000_000;
/// Bytes of paths and link targets of one job, for each item that it may have.
pub const LISTED_BYTES_PER_ITEM: u64 = 512;
/// Items of a cancelled job that one turn removes from the store.
pub const ITEMS_REMOVED_PER_TURN: u64 = 4096;

/// Assignments of large files that one Star holds at a time: the others are for what is small.
pub const LARGE_ASSIGNMENTS_PER_STAR_MAX: usize = 4;
/// Assignments that one Star holds of one source at a time: the others are for other sources.
pub const ASSIGNMENTS_PER_SOURCE_MAX: usize = 6;

const _: () = assert!(ENDED_JOBS_DEFAULT <= ENDED_JOBS_MAX);
// All that a Star may have unacknowledged, and all that it kept while it was away, it may say at once.
const _: () = assert!(SESSION_WORDS_BURST as usize > 2 * NOTICES_KEPT_MAX);
const _: () = assert!(
    SESSION_WORK_BURST as usize > REPORTS_UNACKED_MAX + SCAN_BATCHES_UNACKED_MAX * SCANS_PER_STAR_MAX
);
const _: () = assert!(LARGE_ASSIGNMENTS_PER_STAR_MAX < ASSIGNMENTS_PER_SOURCE_MAX);
const _: () = assert!(ASSIGNMENTS_PER_SOURCE_MAX < ASSIGNMENTS_PER_STAR_MAX);
const _: () = assert!(LANE_WINDOW_LOW + LANE_LOAD_ITEMS <= LANE_WINDOW_MAX);
// A full round of assignments must not drain a window that could have been refilled before.
const _: () = assert!(LANE_WINDOW_LOW >= ASSIGNMENT_ITEMS_MAX);
// Whatever a turn may send to one Star has room in its outbox.
const _: () = assert!(SESSION_OUTBOX_MAX > 4 * ASSIGNMENTS_PER_STAR_MAX);
