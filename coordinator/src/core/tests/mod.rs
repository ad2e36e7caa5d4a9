//! Tests of the core, by situation, in a world without clocks, disks and networks.

mod answers;
mod comparing;
mod failures;
mod grid;
mod jobs;
mod plans;
mod recovery;
mod seeded;
mod space;
mod stalls;
mod stars;
mod vaults;
mod world;
mod yields;
