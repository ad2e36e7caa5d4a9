//! Grids that speak TLS, as real processes: who gets in, what each may do, who is put out, and that what was promised
//! without TLS holds with it.

mod commands;
mod joining;
mod moving;
mod renewal;
mod revocation;
mod roles;
mod silence;
