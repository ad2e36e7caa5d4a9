//! Trees to move: every unusual kind of entry of a file system, from a seed, and a comparison of two trees.

mod compare;
mod plant;

pub use compare::{Node, NodeKind, differences, inventory};
pub use plant::{plant_files, plant_odd_tree};
