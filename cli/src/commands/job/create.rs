//! `orbit job create`, and the specification that `copy` makes in the same way.

use std::path::Path;

use orbit_proto::v1::{
    Compare, CreateJobRequest, GetJobResponse, JobSpec, Layout, Location, MirrorPolicy, Mode, PenaltyPolicy,
};
use orbit_shared::trace_context::{TRACEPARENT, TraceContext};
use prost::bytes::Bytes;
use tonic::Request;

use super::{view, watch};
use crate::args::{CreateArgs, MirrorArgs, SelectionArgs, SpecArgs};
use crate::client::{Client, request_id};
use crate::commands::{Places, note_dead_letters};
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::parse::paths::paths_of_list;

/// The specification of a copy with what the command line selects; everything else is left to the coordinator's
/// defaults.
pub(crate) fn spec(
    source: Location,
    destinations: Vec<Location>,
    selection: SelectionArgs,
    mirror: MirrorArgs,
    (local, output): (Option<&Path>, Output),
) -> Result<JobSpec, CliError> {
    let SelectionArgs {
        include,
        exclude,
        files_from,
        checksum,
        one_file_system,
        min_size,
        max_size,
        max_age,
        min_age,
        bwlimit,
        bwlimit_at,
        prioritizer,
        max_penalties,
        initial_delay,
        max_delay,
        backoff_factor,
    } = selection;
    let paths = match files_from {
        Some(list) => listed(&list, &source, (local, output))?,
        None => Vec::new(),
    };
    let has_penalty =
        max_penalties.is_some() || initial_delay.is_some() || max_delay.is_some() || backoff_factor.is_some();
    let penalty = PenaltyPolicy {
        initial_delay,
        max_delay,
        backoff_factor: backoff_factor.unwrap_or_default(),
        max_penalties,
    };
    Ok(JobSpec {
        source: Some(source),
        destinations,
        layout: Layout::Files.into(),
        mode: if mirror.mirror { Mode::Mirror } else { Mode::Copy }.into(),
        include,
        exclude,
        paths,
        compare: if checksum { Compare::Content } else { Compare::Unspecified }.into(),
        prioritizers: prioritizer,
        penalty: has_penalty.then_some(penalty),
        max_bytes_per_second: bwlimit.unwrap_or_default(),
        dead_letter_max: 0,
        tags: Vec::new(),
        one_file_system,
        min_size_bytes: min_size.unwrap_or_default(),
        max_size_bytes: max_size,
        min_modify_time: max_age,
        max_modify_time: min_age,
        bandwidth_windows: bwlimit_at,
        mirror: mirror.mirror.then(|| MirrorPolicy {
            max_delete_percent: mirror.max_delete,
            trash_directory: mirror.trash.unwrap_or_default(),
        }),
    })
}

/// The paths below the source that a file names.
pub(crate) fn listed(
    list: &Path,
    source: &Location,
    (local, output): (Option<&Path>, Output),
) -> Result<Vec<Bytes>, CliError> {
    let base = if source.raw_path.is_empty() { source.path.as_bytes() } else { &source.raw_path };
    let list = paths_of_list(list, base, local)?;
    list.notes.iter().for_each(|note| output.note(note));
    Ok(list.paths.into_iter().map(Into::into).collect())
}

/// What a command line asks for.
pub(crate) fn spec_of(args: SpecArgs, output: Output) -> Result<JobSpec, CliError> {
    let spec = spec(args.source, args.destinations, args.selection, args.mirror, (None, output))?;
    Ok(JobSpec {
        layout: args.layout.unwrap_or(spec.layout),
        dead_letter_max: args.dead_letter_max.unwrap_or_default(),
        tags: args.tag,
        ..spec
    })
}

pub(super) async fn run(args: CreateArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    let spec = Some(spec_of(args.spec, output)?);
    let request = CreateJobRequest { spec, request_id: args.request_id.unwrap_or_else(request_id) };
    let answer = client.jobs().create_job(within_trace(request)).await?.into_inner();
    let job_id = answer.job.as_ref().map(|job| job.job_id).unwrap_or_default();
    if !args.wait {
        output.answer(&answer, |_| format!("job {job_id}\n`orbit job watch {job_id}` follows it."))?;
        return Ok(Outcome::Completed);
    }
    wait_for(job_id, client, output).await
}

/// The request as part of the trace that the caller of this program is in, which `TRACEPARENT` names as it does for other
/// programs. One that cannot be read is none.
fn within_trace(request: CreateJobRequest) -> Request<CreateJobRequest> {
    let mut request = Request::new(request);
    let caller = std::env::var("TRACEPARENT").ok().and_then(|text| TraceContext::parse(&text).ok());
    if let Some(value) = caller.and_then(|caller| caller.to_string().parse().ok()) {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    request
}

/// Follows a job that was just created to its end, and says how it went.
pub(crate) async fn wait_for(job_id: u64, client: &Client, output: Output) -> Result<Outcome, CliError> {
    output.note(&format!("job {job_id}"));
    let Some(job) = watch::follow_with_progress(job_id, client, output).await? else {
        return Ok(Outcome::Interrupted);
    };
    note_dead_letters(&job, Places::OnStars, client, output).await?;
    let outcome = Outcome::of(&job).unwrap_or(Outcome::Failed);
    output.answer(&GetJobResponse { job: Some(job) }, |answer| {
        answer.job.as_ref().map(view::summary).unwrap_or_default()
    })?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    #[test]
    fn a_specification_leaves_to_the_coordinator_what_was_not_asked_for() {
        let spec = spec(
            Location::default(),
            vec![Location::default()],
            SelectionArgs::default(),
            MirrorArgs::default(),
            (None, Output::new(false, Color::Never)),
        )
        .unwrap();
        assert_eq!((spec.penalty, spec.max_bytes_per_second, spec.prioritizers.len()), (None, 0, 0));
    }

    #[test]
    fn one_setting_of_the_penalties_does_not_set_the_others() {
        let selection = SelectionArgs { max_penalties: Some(2), ..SelectionArgs::default() };
        let penalty = spec(
            Location::default(),
            Vec::new(),
            selection,
            MirrorArgs::default(),
            (None, Output::new(false, Color::Never)),
        )
        .unwrap()
        .penalty
        .unwrap();
        assert_eq!(
            (penalty.max_penalties, penalty.initial_delay, penalty.backoff_factor),
            (Some(2), None, 0.0)
        );
    }
}
