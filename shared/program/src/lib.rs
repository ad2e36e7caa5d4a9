//! What every program of Orbit Grid does at its start and end, and the parts of the system that it uses for itself.
//!
//! Settings, log output and exit codes are the same in all programs because they come from here. Unlike `orbit-shared`,
//! this crate reads clocks and files and changes settings of the process. It decides nothing about data.

pub mod clock;
pub mod memory;
pub mod open_files;
pub mod private_files;
pub mod settings;
pub mod signals;
pub mod start;
