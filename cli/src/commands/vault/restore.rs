//! `orbit snapshot restore`.

use orbit_proto::v1::{Compare, RestoreSnapshotRequest};

use super::meant_path;
use super::name::named;
use crate::args::RestoreArgs;
use crate::client::{Client, request_id};
use crate::commands::job;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

pub(super) async fn run(args: RestoreArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    let named = named(&args.snapshot, client, output).await?;
    let path = meant_path(&named.id, &named.below(&args.path), client).await?;
    let request = RestoreSnapshotRequest {
        snapshot_id: named.id,
        destination: Some(args.destination),
        path: String::new(),
        raw_path: path.into(),
        compare: if args.no_checksum { Compare::Metadata } else { Compare::Content }.into(),
        include: args.include,
        exclude: args.exclude,
        request_id: args.request_id.unwrap_or_else(request_id),
        max_bytes_per_second: args.bwlimit.unwrap_or_default(),
    };
    let answer = client.vaults().restore_snapshot(request).await?.into_inner();
    let job_id = answer.job.as_ref().map(|job| job.job_id).unwrap_or_default();
    if !args.wait {
        output.answer(&answer, |_| format!("job {job_id}\n`orbit job watch {job_id}` follows it."))?;
        return Ok(Outcome::Completed);
    }
    job::wait_for(job_id, client, output).await
}
