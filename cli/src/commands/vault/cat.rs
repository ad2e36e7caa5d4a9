//! `orbit snapshot cat`: content comes from the Star itself, verified chunk by chunk; the coordinator only grants the
//! right.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::time::Duration;

use orbit_proto::v1::GetReadGrantRequest;
use orbit_shared::entry::display_path;
use orbit_star::reader::{ReadGrant, read_on};
use tokio::time::Instant;

use super::meant_path;
use super::name::named;
use crate::client::Client;
use crate::errors::CliError;
use crate::output::Output;

/// A read that breaks off sooner did not break off because its grant has ended.
const GRANT_AGE_MIN: Duration = Duration::from_secs(60);

pub(super) async fn run(
    snapshot: &str,
    path: &[u8],
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    if output.is_json() {
        let problem = "a file's content is no JSON; leave --json out, or see `orbit snapshot show`";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let named = named(snapshot, client, output).await?;
    let path = named.below(path);
    if path.is_empty() {
        return Err(CliError::Usage("name the file: `orbit snapshot cat SNAPSHOT PATH`".to_owned()));
    }
    let snapshot_id = named.id;
    let path = meant_path(&snapshot_id, &path, client).await?;
    let failed = |problem: String| {
        CliError::Failed(format!("{} of snapshot {snapshot_id}: {problem}", display_path(&path)))
    };
    let mut stdout = io::stdout().lock();
    let is_closed = Cell::new(false);
    let mut write = |bytes: &[u8]| match stdout.write_all(bytes) {
        Ok(()) => Ok(()),
        Err(error) => {
            is_closed.set(error.kind() == io::ErrorKind::BrokenPipe);
            Err(format!("cannot write to standard output: {error}"))
        }
    };
    let mut offset = 0;
    loop {
        let (before, since) = (offset, Instant::now());
        let grant = granted(&snapshot_id, client)
            .await?
            .ok_or_else(|| failed("the coordinator granted something malformed".to_owned()))?;
        match read_on(grant, &path, &mut offset, client.network()?, &mut write).await {
            Ok(()) => break,
            Err(_) if is_closed.get() => return Err(CliError::OutputClosed),
            // Its grant has ended; the content of a snapshot does not change, so it goes on under the next.
            Err(_) if offset > before && since.elapsed() >= GRANT_AGE_MIN => {}
            Err(problem) => return Err(failed(problem)),
        }
    }
    stdout.flush().map_err(|error| failed(error.to_string()))
}

/// The right to read a snapshot, as the coordinator grants it; `None` if its answer is malformed.
async fn granted(snapshot_id: &str, client: &Client) -> Result<Option<ReadGrant>, CliError> {
    let request = GetReadGrantRequest { snapshot_id: snapshot_id.to_owned() };
    let grant = client.vaults().get_read_grant(request).await?.into_inner();
    let (Ok(reader), Ok(snapshot)) = (grant.destination_star_id.parse(), snapshot_id.parse()) else {
        return Ok(None);
    };
    Ok(Some(ReadGrant {
        address: grant.data_address,
        token: grant.token,
        job: orbit_shared::words::JobId(grant.job_id),
        source_path: grant.source_path.into_bytes(),
        reader,
        snapshot,
    }))
}
