//! What a Star and the coordinator say to each other on a session, as both sides' cores see it.
//!
//! The wire form stands in `orbit/v1/session.proto`; only the conversions know it. Both directions are bounded by the
//! protocol itself: a Star has at most [`limits::REPORTS_UNACKED_MAX`] reports and [`limits::SCAN_BATCHES_UNACKED_MAX`]
//! batches of a scan without an acknowledgement, so neither side ever has to drop a message.

mod coordinator;
pub mod limits;
mod star;

pub use crate::health_monitor::AdvisoryKind;
pub use coordinator::*;
pub use star::*;
