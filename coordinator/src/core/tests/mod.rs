//! Tests of the core, by situation, in a world without clocks, disks and networks.

mod actors;
mod answers;
mod bad_star;
mod catalogue;
mod comparing;
mod content_events;
mod failures;
mod grid;
mod heals;
mod history;
mod identity;
mod jobs;
mod last_copies;
mod letters;
mod mounts;
mod plans;
mod poison;
mod recovery;
mod schedule_edits;
mod schedules;
mod seeded;
mod shares;
mod space;
mod stalls;
mod stars;
mod store;
mod sweeps;
mod vaults;
mod versions;
mod world;
mod yields;

/// A specification with these globs.
pub(super) fn spec_of_globs(include: Vec<String>, exclude: Vec<String>) -> super::JobSpec {
    super::JobSpec { include, exclude, ..world::spec("star-1", &["star-2"]) }
}
