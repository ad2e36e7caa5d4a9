//! The HTTP interface, from outside: the same facts as over gRPC, errors with advice, a stream that can be resumed,
//! documented metrics, and a correct description of the API.

mod api;
mod document;
mod events;
mod fuzz;
mod metrics;
mod openapi;
