//! `orbit snapshot cat`: content comes from the Star itself, verified chunk by chunk; the coordinator only grants the
//! right.

use std::io::{self, Write as _};

use orbit_proto::v1::GetReadGrantRequest;
use orbit_star::reader::{ReadGrant, read_file};

use super::resolve;
use crate::client::Client;
use crate::errors::CliError;
use crate::output::Output;

pub(super) async fn run(snapshot: &str, path: &str, client: &Client, output: Output) -> Result<(), CliError> {
    if output.is_json() {
        let problem = "a file's content is no JSON; leave --json out, or see `orbit snapshot show`";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let snapshot_id = resolve(snapshot, client).await?;
    let request = GetReadGrantRequest { snapshot_id: snapshot_id.clone() };
    let grant = client.vaults().get_read_grant(request).await?.into_inner();
    let failed = |problem: String| CliError::Failed(format!("{path} of snapshot {snapshot_id}: {problem}"));
    let bad = |_| failed("the coordinator granted something malformed".to_owned());
    let grant = ReadGrant {
        address: grant.data_address,
        token: grant.token,
        job: orbit_shared::words::JobId(grant.job_id),
        source_path: grant.source_path.into_bytes(),
        reader: grant.destination_star_id.parse().map_err(bad)?,
        snapshot: snapshot_id.parse().map_err(|_| failed("that is no snapshot's name".to_owned()))?,
    };
    let mut stdout = io::stdout().lock();
    let mut is_closed = false;
    let write = |bytes: &[u8]| match stdout.write_all(bytes) {
        Ok(()) => Ok(()),
        Err(error) => {
            is_closed = error.kind() == io::ErrorKind::BrokenPipe;
            Err(format!("cannot write to standard output: {error}"))
        }
    };
    let read = read_file(grant, path.trim_start_matches('/').as_bytes(), client.network(), write).await;
    match read {
        Ok(()) => stdout.flush().map_err(|error| failed(error.to_string())),
        Err(_) if is_closed => Err(CliError::OutputClosed),
        Err(problem) => Err(failed(problem)),
    }
}
