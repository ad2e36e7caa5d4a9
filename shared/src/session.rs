//! The messages between a Star and the coordinator on a session, as both sides' cores use them.
//!
//! Their wire format is in `orbit/v1/session.proto`; only the conversions use it. The protocol limits both directions:
//! a Star has at most [`limits::REPORTS_UNACKED_MAX`] reports and [`limits::SCAN_BATCHES_UNACKED_MAX`] batches of a
//! scan unacknowledged, so neither side ever has to drop a message.

mod coordinator;
pub mod limits;
mod star;

pub use crate::health_monitor::AdvisoryKind;
pub use coordinator::*;
pub use star::*;
