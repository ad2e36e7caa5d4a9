//! The grid as its operators meet it: real programs, real ports, real files, from outside only.

mod backups;
mod cookbook;
mod copy;
mod crash;
mod dead_letters;
mod departure;
mod fuzz;
mod guards;
mod mirror;
mod plans;
mod refusals;
mod schedules;
mod settings;
mod telemetry;
mod three_processes;
mod tutorial;
mod vault;
mod vault_faults;
