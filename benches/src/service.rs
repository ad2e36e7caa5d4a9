//! The cost of an idle grid, and how soon it begins a small job.

use std::fs;
use std::path::Path;
use std::time::Duration;

use orbit_proto::v1;
use orbit_tests::client::Client;

use crate::measure::{now, resident_bytes};
use crate::peers::{DESTINATION, GridSession, SOURCE, Session as _};
use crate::programs::Programs;

/// Time after which a Star has finished all work of its start.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// Number of small jobs, one after the other; the median counts.
const JOBS: usize = 5;
const FILE_BYTES: usize = 4096;
const LOOK_INTERVAL: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(10);

/// The results.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// Resident memory of the larger of two Stars without work.
    pub(crate) idle_star_bytes: u64,
    /// From a request for a job with one small file until its first bytes are at the destination, sorted.
    pub(crate) first_bytes: Vec<Duration>,
}

/// Starts a grid in `directory` and measures it.
pub(crate) fn measure(programs: &Programs, directory: &Path) -> Result<Service, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let source = directory.join("small");
    fs::create_dir_all(&source).map_err(failed)?;
    fs::write(source.join("file"), [b'.'; FILE_BYTES]).map_err(failed)?;
    let mut grid = GridSession::begin(programs, &source, directory)?;
    // There is no event to wait for: nothing is to happen.
    #[expect(clippy::disallowed_methods, reason = "what is measured is a time without work")]
    std::thread::sleep(SETTLE_TIME);
    let resident = [SOURCE, DESTINATION].map(|role| resident_bytes(grid.process(role)).unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let client = {
        // A client is bound to the runtime in which it is made.
        let _inside = runtime.enter();
        Client::new(grid.address())
    };
    let mut first_bytes = Vec::new();
    for job in 0..JOBS {
        let place = grid.place().join(job.to_string());
        first_bytes.push(runtime.block_on(first_byte(&client, &source, &place))?);
    }
    first_bytes.sort_unstable();
    grid.end();
    Ok(Service { idle_star_bytes: resident.into_iter().max().unwrap_or_default(), first_bytes })
}

async fn first_byte(client: &Client, source: &Path, place: &Path) -> Result<Duration, String> {
    let at = |star: &str, path: &Path| v1::Location {
        star_id: star.to_owned(),
        path: path.display().to_string(),
        ..v1::Location::default()
    };
    let spec = v1::JobSpec {
        source: Some(at(SOURCE, source)),
        destinations: vec![at(DESTINATION, place)],
        ..v1::JobSpec::default()
    };
    let start = now();
    let job = client.create(spec).await;
    while !has_bytes(place) {
        if start.elapsed() > PATIENCE {
            return Err(format!("a small job wrote nothing within {} s", PATIENCE.as_secs()));
        }
        // There is no notification of the destination's disk; reading a directory costs little.
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let taken = start.elapsed();
    client.wait_end(job).await;
    Ok(taken)
}

/// Whether a directory has a file that is not empty, under any name.
fn has_bytes(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.flat_map(|entry| entry.metadata()).any(|metadata| metadata.is_file() && metadata.len() > 0)
}
