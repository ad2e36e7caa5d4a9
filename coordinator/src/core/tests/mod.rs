//! Tests of the core, by situation, in a world without clocks, disks and networks.

mod answers;
mod comparing;
mod failures;
mod grid;
mod jobs;
mod plans;
mod recovery;
mod schedules;
mod seeded;
mod space;
mod stalls;
mod stars;
mod sweeps;
mod vaults;
mod world;
mod yields;
