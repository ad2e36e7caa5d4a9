//! The life of a Star as the grid sees it: known, working, finishing, gone.
//!
//! ```text
//!             new           on_scheduled          on_draining         on_shutdown
//!              |                 |                     |                   |
//!              v                 v                     v                   v
//!          Registered -----> Scheduled -----------> Draining ---------> Shutdown
//!              ^   |             |                  |                      ^
//!              |   +-------------+---- by force ----|----------------------+
//!              +----------- register_again ---------+
//! ```
//!
//! A life goes forward, with one exception: a Star that drains and registers again is Registered, its drain cancelled.
//! Shutdown is final; a Star that comes back later begins a new life. Whether a Star can be reached, and whether an
//! operator wants it to get work, are other questions with answers of their own.
//!
//! The Star runs the machine. The coordinator keeps a mirror of it, moved by [`StarLifecycle::apply_remote`], which
//! refuses what the machine could not have done.

mod star;
mod state;
#[cfg(test)]
mod tests;

pub use star::{DrainBlockers, EVENTS_MAX, NotAccepting, StarLifecycle};
pub use state::{LifecycleEvent, LifecycleState, REASON_BYTES_MAX, TransitionRefused, check_transition};
