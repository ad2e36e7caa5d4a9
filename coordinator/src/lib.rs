//! The coordinator of Orbit Grid: plans, dispatches and records. Data never passes through it.
//!
//! [`core`] decides and does nothing else; [`store`] makes durable; [`turns`] says when what may follow from a decision;
//! `driver` is the one task in which they meet;
//! `grpc` is how Stars and operators reach it, and `http` shows operators the same. [`start`] puts them together in this process.

mod actor;
mod backup;
pub mod config;
pub mod core;
mod driver;
mod grpc;
mod http;
mod keep;
mod meters;
pub mod provenance_log;
mod server;
pub mod store;
mod tls;
pub mod token_tool;
pub mod turns;

pub use config::HttpRole;
pub use driver::DriverError;
pub use grpc::ServeError;
pub use server::{CoordinatorHandle, CoordinatorOptions, StartError, start};
pub use tls::{CERTIFICATE_VALIDITY_DEFAULT, TlsOptions};
