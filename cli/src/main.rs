//! `orbit`: the operator's command. Everything it does stands in the library of this crate.

use std::process::ExitCode;

/// Every item of every job passes through a few dozen small allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orbit_program::memory::return_freed_soon();
    orbit_cli::main()
}
