//! Runs programs to their end and then until their result is on the disk.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::measure::{Meter, sync};

/// When a program, and its result, were complete, by the meter's clock; and the last one's output.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) wall: Duration,
    pub(super) synced: Duration,
    pub(super) output: String,
}

/// Runs commands concurrently until all have ended. `false` marks those whose standard output is already redirected.
pub(super) fn run(
    meter: &mut Meter,
    commands: Vec<(&'static str, Command, bool)>,
    others: &[(&'static str, u32)],
    directory: &Path,
) -> Result<Done, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let said = directory.join("output");
    let complained = directory.join("errors");
    let (output, errors) = (File::create(&said).map_err(failed)?, File::create(&complained).map_err(failed)?);
    let mut children = Vec::new();
    let mut shown = Vec::new();
    for (role, mut command, is_output_ours) in commands {
        if is_output_ours {
            command.stdout(output.try_clone().map_err(failed)?);
        }
        command.stderr(errors.try_clone().map_err(failed)?);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        shown.push(format!("{command:?}"));
        children.push((role, child));
        // The command holds its ends of pipes and sockets open; the other side waits until they are closed.
        drop(command);
    }
    meter.follow(&mut children, others).map_err(failed)?;
    let wall = meter.elapsed();
    sync(directory).map_err(failed)?;
    let synced = meter.elapsed();
    for ((_, child), command) in children.iter_mut().zip(shown) {
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            let errors = std::fs::read_to_string(&complained).unwrap_or_default();
            return Err(format!("{command} failed with {status}:\n{errors}"));
        }
    }
    let mut output = String::new();
    File::open(&said).and_then(|mut file| file.read_to_string(&mut output)).map_err(failed)?;
    Ok(Done { wall, synced, output })
}

/// As [`run`], for one command without input.
pub(super) fn run_one(
    meter: &mut Meter,
    role: &'static str,
    mut command: Command,
    others: &[(&'static str, u32)],
    directory: &Path,
) -> Result<Done, String> {
    command.stdin(Stdio::null());
    run(meter, vec![(role, command, true)], others, directory)
}
