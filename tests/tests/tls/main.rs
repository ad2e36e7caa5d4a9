//! Grids with TLS, as real processes: who is admitted, what each role may do, revocation, and that guarantees without
//! TLS hold with it too.

mod commands;
mod joining;
mod moving;
mod renewal;
mod revocation;
mod roles;
mod silence;
