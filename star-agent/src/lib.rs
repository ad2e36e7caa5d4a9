//! The Star of Orbit Grid: the agent on every machine that reads, sends, receives, verifies and stores.
//!
//! [`start`] runs one Star. A process can run several, since there is no global state. `core` decides, `driver`
//! executes.

mod assembly;
pub mod checkpoints;
pub mod chunker;
pub mod config;
pub mod content;
pub mod core;
pub mod driver;
pub mod failures;
pub mod grpc;
pub mod health;
pub mod health_flags;
pub mod in_force;
pub mod leftovers;
pub mod limits;
pub mod meters;
pub mod packed;
pub mod plane;
pub mod reader;
pub mod roots;
pub mod scan;
pub mod server;
pub mod sink;
pub mod source;
mod sweep;
pub mod tls;
pub mod transfer;
pub mod vault;
pub mod vault_calls;
pub mod vault_tool;

pub use config::{StarFlags, StarOptions};
pub use driver::ExitReport;
pub use server::{Drainer, StarError, StarHandle, start};
