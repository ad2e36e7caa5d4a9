//! Every bound of the coordinator in one place, with the relations between them.

use std::time::Duration;

use orbit_shared::session::limits::{ASSIGNMENT_ITEMS_MAX, ASSIGNMENTS_PER_STAR_MAX};

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
/// Destinations of one job.
pub const DESTINATIONS_MAX: usize = 64;
/// Globs of one job, includes and excludes each.
pub const GLOBS_MAX: usize = 1000;
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
pub const ENDED_JOBS_MAX: usize = 1000;
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
/// Events of the driver that wait for their turn.
pub const INBOX_MAX: usize = 4096;
/// Events that one turn takes together, and commits together.
pub const TURN_EVENTS_MAX: usize = 1024;
/// Messages that wait to be sent on one session. A Star that lets more pile up is cut off and comes back.
pub const SESSION_OUTBOX_MAX: usize = 1024;

const _: () = assert!(LANE_WINDOW_LOW + LANE_LOAD_ITEMS <= LANE_WINDOW_MAX);
// A full round of assignments must not drain a window that could have been refilled before.
const _: () = assert!(LANE_WINDOW_LOW >= ASSIGNMENT_ITEMS_MAX);
// Whatever a turn may send to one Star has room in its outbox.
const _: () = assert!(SESSION_OUTBOX_MAX > 4 * ASSIGNMENTS_PER_STAR_MAX);
