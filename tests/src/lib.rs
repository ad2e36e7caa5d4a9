//! The parts of tests of whole programs: a grid of real processes, its clients, trees with every unusual kind of entry,
//! and an exact comparison of trees.
//!
//! Nothing here sleeps if there is an event to wait for. Every wait has a deadline and names what it waits for.

pub mod browser;
pub mod client;
pub mod cluster;
pub mod deadline;
pub mod fuzz;
pub mod grid;
pub mod grpcurl;
pub mod http;
pub mod idle;
pub mod mount;
pub mod network;
pub mod process;
pub mod programs;
pub mod random;
pub mod recipes;
pub mod secured;
pub mod settled;
pub mod simulation;
pub mod strace;
pub mod stranger;
pub mod tree;
pub mod vault;
