//! What the tests of whole programs are made of: a grid of real processes, its clients, trees of every odd kind, and a
//! comparison that forgives nothing.
//!
//! Nothing here waits for time to pass where there is an event to wait for; every wait has a deadline and says what it
//! waited for.

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
