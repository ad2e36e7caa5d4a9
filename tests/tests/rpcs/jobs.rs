//! JobService: a whole job, one that is slow enough to be controlled, and all errors.

use serde_json::{Value, json};

use crate::World;

/// A job from star-1 to star-2.
pub(crate) fn spec(world: &World, path: &str) -> Value {
    let place = |star: &str| {
        let path = world.grid.root(star).join(path);
        json!({ "star_id": star, "path": path.to_str().expect("text") })
    };
    json!({ "source": place("star-1"), "destinations": [place("star-2")] })
}

/// A job that moves next to nothing during a test.
pub(crate) fn slow_spec(world: &World, path: &str) -> Value {
    let mut spec = spec(world, path);
    spec["max_bytes_per_second"] = json!(1000);
    spec
}

/// Whether the last message shows a job that has ended.
pub(crate) fn has_ended(seen: &[Value]) -> bool {
    seen.last().is_some_and(|message| message["job"]["endTime"].is_string())
}

fn id(answer: &Value) -> u64 {
    answer["job"]["jobId"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .unwrap_or_else(|| panic!("no job in {answer:#}"))
}

/// Creates a job and waits for its end. Returns its number and its result.
pub(crate) async fn run(world: &mut World, spec: Value) -> (u64, Value) {
    let made = world.coordinator.good("JobService/CreateJob", json!({ "spec": spec })).await;
    let job = id(&made);
    let seen = world.coordinator.stream("JobService/WatchJob", json!({ "job_id": job }), |_| false).await;
    assert!(has_ended(&seen), "the watch of a job ends with the job: {seen:#?}");
    (job, seen.last().expect("a job is shown")["job"].clone())
}

/// Job 1 ends with one dead letter, of the FIFO in its tree.
pub(crate) const DONE: u64 = 1;

pub(crate) async fn call_all(world: &mut World) {
    create(world).await;
    look(world).await;
    items(world).await;
    steer(world).await;
}

async fn create(world: &mut World) {
    let request = json!({ "spec": spec(world, "tree"), "request_id": "create-1" });
    let bad = json!({
        "source": { "star_id": "nobody", "path": "/x" },
        "destinations": [{ "star_id": "star-2", "path": "relative" }],
        "max_bytes_per_second": -1,
        "prioritizers": [99],
    });
    let bad_fields = [
        "spec.source.star_id",
        "spec.destinations[0].path",
        "spec.max_bytes_per_second",
        "spec.prioritizers[0]",
    ];
    let tree = spec(world, "tree");
    let book = &mut world.coordinator;
    let made = book.good("JobService/CreateJob", request.clone()).await;
    assert_eq!((id(&made), &made["job"]["spec"]["source"]["starId"]), (DONE, &json!("star-1")));
    book.again("JobService/CreateJob", request.clone(), &made, "/job/jobId").await;
    let mut other = request;
    other["spec"]["source"]["path"] = json!("/another");
    book.stolen_name("JobService/CreateJob", other).await;
    book.bad(
        "JobService/CreateJob",
        json!({ "spec": bad.clone(), "request_id": "x".repeat(129) }),
        &[bad_fields[0], bad_fields[1], bad_fields[2], bad_fields[3], "request_id"],
    )
    .await;
    book.bad("JobService/CreateJob", json!({ "request_id": "x".repeat(129) }), &["spec", "request_id"]).await;
    // An unreadable field does not prevent the others from being named.
    let unreadable = json!({
        "destinations": [{ "star_id": "a b", "path": "/x/../y" }, { "star_id": "star-2", "path": "relative" }],
        "exclude": [""],
        "penalty": { "initial_delay": "-1s" },
    });
    let fields = [
        "spec.source",
        "spec.destinations[0].star_id",
        "spec.destinations[0].path",
        "spec.destinations[1].path",
        "spec.exclude[0]",
        "spec.penalty.initial_delay",
    ];
    book.bad("JobService/CreateJob", json!({ "spec": unreadable }), &fields).await;
    book.has_no_wrong_state(
        "JobService/CreateJob",
        "a job waits for Stars that are away; only the bound on jobs refuses",
    );

    let planned = book.good("JobService/PlanJob", json!({ "spec": tree })).await;
    assert!(planned["entries"].as_str().is_some_and(|entries| entries != "0"), "{planned:#}");
    assert_eq!(planned["entriesNotCarried"], "1", "the FIFO: {planned:#}");
    book.bad("JobService/PlanJob", json!({ "spec": bad }), &bad_fields).await;
}

async fn look(world: &mut World) {
    let book = &mut world.coordinator;
    let watched = book.stream("JobService/WatchJob", json!({ "job_id": DONE }), |_| false).await;
    let last = &watched.last().expect("a job is shown")["job"];
    assert_eq!(last["state"], "JOB_STATE_PARTIALLY_COMPLETED", "{last:#}");
    book.unknown("JobService/WatchJob", json!({ "job_id": 4242 })).await;
    book.has_no_wrong_state("JobService/WatchJob", "a job that has ended is shown once");

    let got = book.good("JobService/GetJob", json!({ "job_id": DONE })).await;
    assert_eq!(got["job"]["progress"]["itemsDead"], "1", "{got:#}");
    assert_eq!(got["job"], *last, "the last message of a watch is the job as it is");
    book.unknown("JobService/GetJob", json!({ "job_id": 4242 })).await;
    book.has_no_wrong_state("JobService/GetJob", "it reads");

    let listed =
        book.good("JobService/ListJobs", json!({ "states": ["JOB_STATE_PARTIALLY_COMPLETED"] })).await;
    assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(1), "{listed:#}");
    let none = book.good("JobService/ListJobs", json!({ "states": ["JOB_STATE_FAILED"] })).await;
    assert_eq!(none, json!({}));
    let bad = json!({ "page_size": -1, "page_token": "x", "states": ["JOB_STATE_FAILED", 99, 0] });
    book.bad("JobService/ListJobs", bad, &["page_size", "page_token", "states[1]", "states[2]"]).await;
    book.has_no_wrong_state("JobService/ListJobs", "it reads");
}

async fn items(world: &mut World) {
    let book = &mut world.coordinator;
    let request = json!({ "job_id": DONE, "states": ["ITEM_STATE_DEAD"], "page_size": 1000 });
    let listed = book.good("JobService/ListItems", request).await;
    let items = listed["items"].as_array().expect("items");
    assert_eq!(items.len(), 1, "{listed:#}");
    assert_eq!((&items[0]["path"], &items[0]["kind"]), (&json!("fifo"), &json!("ENTRY_KIND_FIFO")));
    let bad = json!({ "job_id": DONE, "page_size": 1001, "page_token": "jobs-00", "states": [77] });
    book.bad("JobService/ListItems", bad, &["page_size", "page_token", "states[0]"]).await;
    book.unknown("JobService/ListItems", json!({ "job_id": 4242 })).await;
    book.has_no_wrong_state("JobService/ListItems", "it reads");

    let explained = book.good("JobService/ExplainItem", json!({ "item_key": items[0]["itemKey"] })).await;
    assert_eq!(explained["deadLetter"]["failureReason"], "FAILURE_REASON_PERMANENT_ERROR", "{explained:#}");
    book.bad("JobService/ExplainItem", json!({ "item_key": "1/0" }), &["item_key"]).await;
    book.unknown("JobService/ExplainItem", json!({ "item_key": "4242/0/0" })).await;
    book.has_no_wrong_state("JobService/ExplainItem", "it reads");
}

async fn steer(world: &mut World) {
    let slow = slow_spec(world, "slow");
    let book = &mut world.coordinator;
    let made = book.good("JobService/CreateJob", json!({ "spec": slow })).await;
    let job = id(&made);
    let state = |answer: &Value| answer["job"]["state"].clone();

    let pause = json!({ "job_id": job, "reason": "a test", "request_id": "pause-1" });
    let paused = book.good("JobService/PauseJob", pause.clone()).await;
    assert_eq!(
        (state(&paused), &paused["job"]["stateReason"]),
        (json!("JOB_STATE_PAUSED"), &json!("a test"))
    );
    book.again("JobService/PauseJob", pause.clone(), &paused, "/job/jobId").await;
    let resume = json!({ "job_id": job, "request_id": "resume-1" });
    let resumed = book.good("JobService/ResumeJob", resume.clone()).await;
    assert_ne!(state(&resumed), "JOB_STATE_PAUSED", "{resumed:#}");
    book.again("JobService/ResumeJob", resume, &resumed, "/job/jobId").await;
    // A pause that arrives late and for the second time must not undo a later request.
    book.again("JobService/PauseJob", pause, &paused, "/job/jobId").await;
    let got = book.good("JobService/GetJob", json!({ "job_id": job })).await;
    assert_ne!(state(&got), "JOB_STATE_PAUSED", "{got:#}");
    book.stolen_name("JobService/PauseJob", json!({ "job_id": DONE, "request_id": "pause-1" })).await;

    let cancel = json!({ "job_id": job, "reason": "enough", "request_id": "cancel-1" });
    let cancelled = book.good("JobService/CancelJob", cancel.clone()).await;
    assert_eq!(
        (state(&cancelled), &cancelled["job"]["stateReason"]),
        (json!("JOB_STATE_CANCELLED"), &json!("enough"))
    );
    book.again("JobService/CancelJob", cancel, &cancelled, "").await;
    for method in ["PauseJob", "ResumeJob", "CancelJob"] {
        let method = format!("JobService/{method}");
        book.unknown(&method, json!({ "job_id": 4242 })).await;
        book.bad(&method, json!({ "job_id": job, "request_id": "x".repeat(129) }), &["request_id"]).await;
        book.wrong_state(&method, json!({ "job_id": DONE }), "has ended already").await;
    }
}

/// Calls that need a Star that has left.
pub(crate) async fn call_absent(world: &mut World, star: &str) {
    let mut spec = spec(world, "tree");
    let root = world.grid.root(star);
    spec["source"] = json!({ "star_id": star, "path": root.to_str().expect("text") });
    let book = &mut world.coordinator;
    book.wrong_state("JobService/PlanJob", json!({ "spec": spec }), "is not connected").await;
}
