//! The wire of Orbit Grid: the generated types of `orbit.v1`, and the conversions between the wire and the words of
//! `orbit-shared`.
//!
//! Generated types are named only here and in the `grpc` modules of the programs. Everything else speaks
//! `orbit-shared`.

pub mod codec;
pub mod convert;
pub mod json;

/// The generated types and services of `orbit.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[allow(clippy::disallowed_types, clippy::large_futures, clippy::too_many_lines)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/orbit.v1.rs"));
}

/// The compiled descriptors of every file of `orbit.v1` and its imports, with comments; what reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orbit_descriptor.bin"));
