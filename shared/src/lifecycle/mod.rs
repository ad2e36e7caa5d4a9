//! The lifecycle of a Star from the view of the grid: known, working, draining, gone.
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
//! The states follow in this order, with one exception: a Star that drains and registers again is Registered, and its
//! drain is cancelled. Shutdown is final; a Star that comes back later begins a new lifecycle. Whether a Star can be
//! reached, and whether an operator wants it to get work, are separate states.
//!
//! The Star runs the state machine. The coordinator keeps a mirror of it, updated by [`StarLifecycle::apply_remote`],
//! which refuses transitions that the machine does not have.

mod star;
mod state;
#[cfg(test)]
mod tests;

pub use star::{DrainBlockers, EVENTS_MAX, NotAccepting, StarLifecycle};
pub use state::{LifecycleEvent, LifecycleState, REASON_BYTES_MAX, TransitionRefused, check_transition};
