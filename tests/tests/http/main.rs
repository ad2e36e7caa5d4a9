//! The HTTP face, from outside: the same facts as over gRPC, refusals that say what to do, a stream that resumes, metrics
//! that are documented, and a document of the API that tells the truth.

mod api;
mod document;
mod events;
mod fuzz;
mod metrics;
mod openapi;
