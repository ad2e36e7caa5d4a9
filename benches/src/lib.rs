//! Shared parts of the benchmarks: a tree that does not exist, and the coordinator's core without anything around it.

pub mod core_alone;
pub mod tree;
