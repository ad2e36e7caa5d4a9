//! Uses a packed store and prints what it acknowledges: `orbit-vault-driver DIR`. Tests kill it at any point.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = PathBuf::from(std::env::args_os().nth(1).expect("a directory"));
    match orbit_tests::vault::drive(&dir, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What was acknowledged before is what counts.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}
