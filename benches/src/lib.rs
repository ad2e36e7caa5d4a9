//! What the measuring programs share: a tree that exists nowhere, and the coordinator's core without anything around it.

pub mod core_alone;
pub mod tree;
