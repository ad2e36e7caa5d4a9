//! The ten data-flow patterns of Orbit Grid, and the types that both sides of its wire use.
//!
//! Everything here is pure: no clock, no randomness, no network, no runtime. Time is passed in as [`time::Now`]. The
//! owner of an instance of a pattern decides where it is stored and when its advice is acted on. The exception is
//! [`container`], a file format, which reads and writes files.

pub mod backpressure;
pub mod bulletin;
pub mod capability;
pub mod chunk_hash;
pub mod comparison;
pub mod container;
pub mod dead_letter;
pub mod entry;
pub mod filter;
pub mod health_monitor;
pub mod integration;
pub mod lifecycle;
pub mod penalization;
pub mod plant;
pub mod prioritizer;
pub mod provenance;
pub mod quantity;
pub mod ref_count;
pub mod retention;
pub mod semantic;
pub mod session;
pub mod sweep;
pub mod time;
pub mod trace_context;
pub mod vault_call;
pub mod words;
