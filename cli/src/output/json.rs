//! Messages of `orbit.v1` as canonical proto3 JSON: the form that `grpcurl -emit-defaults` prints, on one line.
//!
//! Fields at their default are written out, so that a script can read `itemsDead` without asking whether it is there.

use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};

use crate::errors::CliError;
use crate::vocabulary::DESCRIPTORS;

/// A generated message that knows its name. The generated code itself does not.
pub(crate) trait WireMessage: Message {
    /// Its full name.
    const NAME: &'static str;
}

macro_rules! wire_messages {
    ($($message:ident),* $(,)?) => {
        $(impl WireMessage for orbit_proto::v1::$message {
            const NAME: &'static str = concat!("orbit.v1.", stringify!($message));
        })*
    };
}

wire_messages!(
    AcknowledgeBulletinsResponse,
    CancelJobResponse,
    ClearPenaltiesResponse,
    CollectGarbageResponse,
    DeleteScheduleResponse,
    DeleteSnapshotResponse,
    CreateBackupResponse,
    CordonStarResponse,
    CreateJobResponse,
    CreateScheduleResponse,
    CreateTokenResponse,
    DiscardDeadLettersResponse,
    DrainStarResponse,
    ExplainItemResponse,
    GetDeadLetterResponse,
    GetHealthHistoryResponse,
    GetJobResponse,
    GetSnapshotResponse,
    GetStarResponse,
    ListAdvisoriesResponse,
    ListBulletinsResponse,
    ListDeadLettersResponse,
    ListEventsResponse,
    ListGuardsResponse,
    ListIdentitiesResponse,
    ListTokensResponse,
    ListItemsResponse,
    ListJobsResponse,
    ListPenaltiesResponse,
    ListSnapshotEntriesResponse,
    ListSchedulesResponse,
    GetScheduleResponse,
    ListSnapshotsResponse,
    ListStarsResponse,
    PauseGuardResponse,
    PauseJobResponse,
    PauseScheduleResponse,
    ResumeScheduleResponse,
    RevokeIdentityResponse,
    RevokeTokenResponse,
    RotateGrantKeyResponse,
    RunScheduleResponse,
    PlanJobResponse,
    PruneSnapshotsResponse,
    RemoveStarResponse,
    RestoreSnapshotResponse,
    ResumeGuardResponse,
    ResumeJobResponse,
    RetryDeadLettersResponse,
    ScheduleStarResponse,
    ScrubVaultResponse,
    SetGuardLimitsResponse,
    ShutdownStarResponse,
    UncordonStarResponse,
    UndeleteSnapshotResponse,
    UpdateScheduleResponse,
    WatchBulletinsResponse,
    WatchEventsResponse,
    WatchJobResponse,
    WatchStarsResponse,
);

/// The message as one line of JSON.
pub(crate) fn render<M: WireMessage>(message: &M) -> Result<String, CliError> {
    value(message).map(|value| value.to_string())
}

/// The message as a JSON value.
pub(crate) fn value<M: WireMessage>(message: &M) -> Result<serde_json::Value, CliError> {
    let failed = |problem: String| CliError::Failed(format!("cannot show {} as JSON: {problem}", M::NAME));
    let descriptor = DESCRIPTORS
        .get_message_by_name(M::NAME)
        .ok_or_else(|| failed("it is not in the descriptors".to_owned()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| failed(error.to_string()))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::{
        GetJobResponse, Job, JobProgress, JobSpec, JobState, ListGuardsResponse, Location,
    };
    use prost_types::{Duration, Timestamp};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_becomes_canonical_json() {
        let job = Job {
            job_id: 7,
            state: JobState::PartiallyCompleted.into(),
            spec: Some(JobSpec {
                source: Some(Location {
                    star_id: "s".into(),
                    path: "/a".into(),
                    raw_path: vec![0xff].into(),
                    snapshot_id: String::new(),
                }),
                ..JobSpec::default()
            }),
            progress: Some(JobProgress {
                items_total: u64::MAX,
                estimated_remaining: Some(Duration { seconds: 1, nanos: 500_000_000 }),
                ..JobProgress::default()
            }),
            create_time: Some(Timestamp { seconds: 0, nanos: 0 }),
            ..Job::default()
        };
        let value = value(&GetJobResponse { job: Some(job) }).unwrap();
        let job = &value["job"];
        assert_eq!(job["jobId"], json!("7"));
        assert_eq!(job["state"], json!("JOB_STATE_PARTIALLY_COMPLETED"));
        assert_eq!(job["createTime"], json!("1970-01-01T00:00:00Z"));
        assert_eq!(job["progress"]["itemsTotal"], json!("18446744073709551615"));
        assert_eq!(job["progress"]["itemsDead"], json!("0"));
        assert_eq!(job["progress"]["estimatedRemaining"], json!("1.500s"));
        assert_eq!(job["spec"]["source"]["rawPath"], json!("/w=="));
        assert_eq!(job["endTime"], json!(null), "a time that is not set is left out");
    }

    #[test]
    fn an_empty_list_is_written_out_on_one_line() {
        let text = render(&ListGuardsResponse::default()).unwrap();
        assert_eq!(text, r#"{"guards":[],"nextPageToken":""}"#);
    }

    #[test]
    fn every_message_that_is_shown_is_in_the_descriptors() {
        fn check<M: WireMessage + Default>() {
            assert!(value(&M::default()).is_ok(), "{}", M::NAME);
        }
        check::<WatchJob>();
        check::<orbit_proto::v1::ExplainItemResponse>();
        check::<orbit_proto::v1::ListAdvisoriesResponse>();
        check::<orbit_proto::v1::WatchEventsResponse>();
    }

    type WatchJob = orbit_proto::v1::WatchJobResponse;
}
