//! The gRPC interfaces of a Star. Only the modules below use generated types.

mod pull_body;
pub mod pull_stream;
mod refusal;
pub mod session;
pub mod transfer;
pub mod transfer_client;
pub mod transfer_server;
