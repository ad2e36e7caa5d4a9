//! Records: plain data, which the store keeps and the faces show. Nothing is decided here.

mod answer;
mod job;
mod mounts;
mod planned;
mod schedule;
mod snapshot;
mod star;
mod sweep;

pub use answer::{AnswerRecord, Answered, RequestName};
pub use job::{JobEnd, JobRecord, JobSpec, JobState, Location, ScanRecord, Tally};
pub(super) use job::{ListedAgain, destination_number};
pub use planned::{Planned, PlannedPlace};
pub use schedule::{ScheduleEdit, ScheduleRecord, ScheduleTimes};
pub use snapshot::SnapshotRecord;
pub use star::StarRecord;
pub use sweep::{MirrorPolicy, SweepRecord};
