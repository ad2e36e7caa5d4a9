//! `orbit`: the operator's command. Everything it does stands in the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    orbit_cli::main()
}
