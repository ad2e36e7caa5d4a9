//! The names that operators, scripts and dashboards hold on to. Taking one away, or changing what it means, breaks them;
//! this table is meant to be added to.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Calls of each service; `S` after a name is a server stream, `B` a stream both ways.
const SERVICES: &[(&str, &str)] = &[
    (
        "JobService",
        "CreateJob GetJob ListJobs WatchJob:S PauseJob ResumeJob CancelJob PlanJob ListItems ExplainItem",
    ),
    (
        "StarService",
        "RegisterStar ListStars GetStar WatchStars:S ScheduleStar DrainStar ShutdownStar CordonStar \
         UncordonStar RemoveStar",
    ),
    ("BackpressureService", "ListGuards SetGuardLimits PauseGuard ResumeGuard"),
    ("PenaltyService", "ListPenalties ClearPenalties"),
    ("DeadLetterService", "ListDeadLetters GetDeadLetter RetryDeadLetters DiscardDeadLetters"),
    ("BulletinService", "ListBulletins WatchBulletins:S AcknowledgeBulletins"),
    ("ProvenanceService", "ListEvents WatchEvents:S"),
    ("HealthService", "ListAdvisories GetHealthHistory"),
    (
        "VaultService",
        "ListSnapshots GetSnapshot DeleteSnapshot RestoreSnapshot ListContainers LocateChunk CollectGarbage \
         ScrubVault",
    ),
    ("SessionService", "Connect:B"),
    ("IdentityService", "Join Renew CreateToken ListIdentities RevokeIdentity"),
];

/// Fields of each message: a name, and its type where one is promised.
const MESSAGES: &[(&str, &str)] = &[
    (
        "Job",
        "job_id:uint64 spec:JobSpec state:JobState progress:JobProgress create_time:Timestamp end_time:Timestamp \
         state_reason:string",
    ),
    ("Location", "star_id:string path:string"),
    (
        "JobSpec",
        "source:Location destinations:Location[] layout:Layout mode:Mode include:string[] exclude:string[] \
         prioritizers:Prioritizer[] penalty:PenaltyPolicy max_bytes_per_second dead_letter_max",
    ),
    ("PenaltyPolicy", "initial_delay:Duration max_delay:Duration backoff_factor max_penalties"),
    ("CreateJobRequest", "spec:JobSpec request_id:string"),
    (
        "JobProgress",
        "items_total:uint64 items_stored:uint64 items_skipped:uint64 items_penalized:uint64 \
         items_in_flight:uint64 items_dead:uint64 bytes_total:uint64 bytes_stored:uint64 \
         bytes_transferred:uint64 bytes_deduplicated:uint64 bytes_per_second:uint64 \
         estimated_remaining:Duration",
    ),
    (
        "Star",
        "star_id:string instance_id:string epoch:uint64 state:StarState liveness:Liveness is_cordoned:bool \
         data_address:string roots:Root[] labels active_tasks is_drained:bool health:HealthSample \
         advisories:Advisory[] history:StarTransition[] drain_blockers:string[]",
    ),
    ("StarTransition", "time:Timestamp from:StarState to:StarState reason:string"),
    (
        "HealthSample",
        "disk_available_bytes:uint64 disk_total_bytes:uint64 throughput_bytes_per_sec:uint64 \
         error_count:uint64 total_operations:uint64",
    ),
    ("Advisory", "type:AdvisoryType message:string predicted_seconds"),
    (
        "Guard",
        "star_id:string object_count:uint64 byte_size:uint64 max_object_count:uint64 max_byte_size:uint64 \
         is_accepting:bool is_paused:bool pause_reason:string",
    ),
    (
        "DeadLetter",
        "dead_letter_id:uint64 item_key:string job_id:uint64 failure_reason:FailureReason attempts \
         last_error:string first_fail_time:Timestamp last_fail_time:Timestamp source_path:string \
         dest_path:string",
    ),
    ("CollectGarbageRequest", "star_id:string plan_only:bool"),
    (
        "Snapshot",
        "snapshot_id:string star_id:string job_id:uint64 source:Location create_time:Timestamp tags:string[] \
         is_partial:bool entry_count:uint64 total_bytes:uint64",
    ),
    ("ListDeadLettersRequest", "job_id failure_reason:FailureReason star_id:string item_key:string"),
    ("RetryDeadLettersRequest", "job_id failure_reason:FailureReason star_id:string item_key:string"),
    (
        "Bulletin",
        "bulletin_id:uint64 time:Timestamp severity:Severity star_id:string category:string job_id:uint64 \
         message:string repeat_count is_acknowledged:bool",
    ),
    (
        "ListBulletinsRequest",
        "min_severity:Severity star_id:string category:string job_id after_id:uint64 since:Timestamp limit",
    ),
    (
        "ProvenanceEvent",
        "event_id:uint64 time:Timestamp type:ProvenanceType job_id:uint64 star_id:string chunk_hash:string \
         source:string destination:string bytes:uint64 duration_ms error:string",
    ),
];

/// Values of each enum, without the prefix that its name gives.
const ENUMS: &[(&str, &str, &str)] = &[
    ("JobState", "JOB_STATE_", "SCANNING RUNNING PAUSED COMPLETED PARTIALLY_COMPLETED FAILED CANCELLED"),
    ("Layout", "LAYOUT_", "FILES PACKED"),
    ("Mode", "MODE_", "COPY MIRROR"),
    (
        "Prioritizer",
        "PRIORITIZER_",
        "SEMANTIC SMALLEST_FIRST LARGEST_FIRST OLDEST_FIRST NEWEST_FIRST FEWEST_RETRIES",
    ),
    ("StarState", "STAR_STATE_", "REGISTERED SCHEDULED DRAINING SHUTDOWN"),
    ("Liveness", "LIVENESS_", "ALIVE SUSPECT LOST"),
    (
        "AdvisoryType",
        "ADVISORY_TYPE_",
        "HEALTHY DISK_CRITICAL DISK_WARNING DISK_EXHAUSTION_PREDICTED THROUGHPUT_LOW ERROR_RATE_HIGH",
    ),
    (
        "FailureReason",
        "FAILURE_REASON_",
        "RETRIES_EXHAUSTED PERMANENT_ERROR CHECKSUM_MISMATCH SOURCE_MISSING DESTINATION_ERROR DATA_CORRUPTION",
    ),
    ("Severity", "SEVERITY_", "INFO WARNING ERROR"),
    (
        "ProvenanceType",
        "PROVENANCE_TYPE_",
        "CHUNK_CREATED CHUNK_DEDUPLICATED CHUNK_TRANSFERRED CHUNK_VERIFIED CHUNK_HEALED CHUNK_PENALIZED \
         CHUNK_DEAD_LETTERED CHUNK_PACKED FILE_RENAMED FILE_SKIPPED FILE_STARTED FILE_COMPLETED JOB_CREATED \
         JOB_RESUMED JOB_COMPLETED JOB_FAILED STAR_REGISTERED STAR_SCHEDULED STAR_DRAINING STAR_DEREGISTERED",
    ),
];

fn files() -> Vec<FileDescriptorProto> {
    let set =
        FileDescriptorSet::decode(orbit_proto::FILE_DESCRIPTOR_SET).expect("the compiled descriptors decode");
    set.file.into_iter().filter(|file| file.package() == "orbit.v1").collect()
}

#[test]
fn every_service_has_its_calls() {
    let files = files();
    let mut calls = BTreeMap::new();
    for service in files.iter().flat_map(|file| &file.service) {
        let methods = service.method.iter().map(|method| {
            match (method.client_streaming(), method.server_streaming()) {
                (false, false) => method.name().to_owned(),
                (false, true) => format!("{}:S", method.name()),
                (true, true) => format!("{}:B", method.name()),
                (true, false) => format!("{}:C", method.name()),
            }
        });
        calls.insert(service.name().to_owned(), methods.collect::<BTreeSet<_>>());
    }
    assert!(calls.contains_key("TransferService"), "a Star serves TransferService");
    let missing: Vec<String> = SERVICES
        .iter()
        .flat_map(|(service, methods)| methods.split_whitespace().map(move |method| (service, method)))
        .filter(|(service, method)| !calls.get(**service).is_some_and(|found| found.contains(*method)))
        .map(|(service, method)| format!("{service}.{method}"))
        .collect();
    assert!(missing.is_empty(), "missing calls: {missing:?}");
}

#[test]
fn every_message_has_its_fields() {
    let files = files();
    let mut fields: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for message in files.iter().flat_map(|file| &file.message_type) {
        let own = message.field.iter().map(|field| (field.name(), type_of(field)));
        fields.insert(message.name(), own.collect());
    }
    let mut wrong = Vec::new();
    for (message, promised) in MESSAGES {
        for field in promised.split_whitespace() {
            let (name, kind) = field.split_once(':').map_or((field, None), |(name, kind)| (name, Some(kind)));
            match fields.get(message).and_then(|own| own.get(name)) {
                None => wrong.push(format!("{message}.{name} is missing")),
                Some(found) if kind.is_some_and(|kind| kind != found) => {
                    wrong.push(format!(
                        "{message}.{name} is {found}, promised is {}",
                        kind.unwrap_or_default()
                    ));
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_enum_has_its_values() {
    let files = files();
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in files.iter().flat_map(|file| &file.enum_type) {
        values.insert(one.name(), one.value.iter().map(|value| value.name()).collect());
    }
    let mut missing = Vec::new();
    for (name, prefix, promised) in ENUMS {
        for value in promised.split_whitespace().map(|value| format!("{prefix}{value}")) {
            if !values.get(name).is_some_and(|own| own.contains(value.as_str())) {
                missing.push(format!("{name}.{value}"));
            }
        }
    }
    assert!(missing.is_empty(), "missing values: {missing:?}");
}

/// Every list can be paged in the same way, except bulletins, which are followed by number.
#[test]
fn every_list_pages_alike() {
    let files = files();
    let messages: BTreeMap<&str, BTreeSet<&str>> = files
        .iter()
        .flat_map(|file| &file.message_type)
        .map(|message| (message.name(), message.field.iter().map(|field| field.name()).collect()))
        .collect();
    let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    for method in methods.filter(|method| method.name().starts_with("List")) {
        if ["ListBulletins", "ListAdvisories"].contains(&method.name()) {
            continue;
        }
        let has = |message: String, field: &str| {
            messages.get(message.as_str()).is_some_and(|own| own.contains(field))
        };
        for field in ["page_size", "page_token"] {
            assert!(has(format!("{}Request", method.name()), field), "{} has no {field}", method.name());
        }
        assert!(has(format!("{}Response", method.name()), "next_page_token"), "{}", method.name());
    }
}

/// A call that changes something can be sent again under the same name.
#[test]
fn every_changing_call_takes_a_request_id() {
    let files = files();
    // A request to join or renew has a key, by which a repeated one is recognized.
    let reads = [
        "Get",
        "List",
        "Watch",
        "Explain",
        "Plan",
        "Locate",
        "Connect",
        "Pull",
        "JoinRequest",
        "RenewRequest",
    ];
    let messages: BTreeMap<&str, bool> = files
        .iter()
        .flat_map(|file| &file.message_type)
        .map(|message| (message.name(), message.field.iter().any(|field| field.name() == "request_id")))
        .collect();
    let services =
        files.iter().flat_map(|file| &file.service).filter(|service| service.name() != "TransferService");
    for method in services.flat_map(|service| &service.method) {
        let request = format!("{}Request", method.name());
        if reads.iter().any(|read| request.starts_with(read)) {
            continue;
        }
        assert_eq!(messages.get(request.as_str()), Some(&true), "{request} has no request_id");
    }
}

fn type_of(field: &prost_types::FieldDescriptorProto) -> String {
    let base = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().rsplit('.').next().unwrap_or_default().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    if field.label() == Label::Repeated { format!("{base}[]") } else { base }
}
