//! The ten data-flow patterns of Orbit Grid, and the types that both sides of its wire use.
//!
//! Start here to read the documentation of the workspace. `ARCHITECTURE.md` shows the whole, and how one job travels through it.
//!
//! | Pattern | Module | Owner of its instances |
//! |---|---|---|
//! | Penalization: failed items wait, failing places yield | [`penalization`] | coordinator |
//! | Dead-letter queue: items that were given up | [`dead_letter`] | coordinator |
//! | Backpressure: what a destination may hold | [`backpressure`] | coordinator |
//! | Reference counting and collection of chunks | [`ref_count`] | vault of a Star |
//! | Health monitor: samples become advisories | [`health_monitor`] | Star |
//! | Container packing: many chunks in few files | [`container`] | vault of a Star |
//! | Typed provenance: what happened, in typed events | [`provenance`] | coordinator |
//! | Bulletin board: what an operator must know | [`bulletin`] | coordinator |
//! | Prioritizers: the order of dispatch, also by content ([`semantic`]) | [`prioritizer`] | coordinator |
//! | Star lifecycle: the states of a Star | [`lifecycle`] | both |
//!
//! [`integration`] connects the patterns. [`session`] has the messages between coordinator and Star, [`words`] the names
//! of things.
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
