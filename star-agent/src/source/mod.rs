//! The sending side of the data plane: reads files once, cuts them into chunks, and sends these to a destination that
//! holds a capability for them.
//!
//! It keeps no state between fetches. A destination with an older version of a file first requests hashes and then the
//! ranges that it lacks, so a source never holds content while it waits for an answer.

pub(crate) mod buffers;
mod clones;
mod held;
pub(crate) mod origin;
pub(crate) mod pace;
pub(crate) mod packer;
pub(crate) mod read;
pub(crate) mod serve;
pub(crate) mod slots;

pub use crate::grpc::transfer_server::{TransferServer, tune};
