//! Failures and what is known of them: penalties, dead letters, bulletins, events, health, guards and backups.

use orbit_tests::mount::PinnedFile;
use serde_json::{Value, json};

use crate::World;
use crate::book::Book;
use crate::jobs::{self, DONE, spec};

pub(crate) async fn call_all(world: &mut World) {
    penalties(world).await;
    dead_letters(world).await;
    bulletins(world).await;
    events(world).await;
    health(world).await;
    guards(world).await;
    backups(world).await;
}

fn list<'a>(answer: &'a Value, field: &str) -> &'a [Value] {
    answer[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A job of one file, whose destination is a file that cannot be replaced: it fails, and can succeed later.
async fn penalties(world: &mut World) {
    let source = world.grid.root("star-1").join("blocked");
    let blocking = world.grid.root("star-2").join("blocked");
    for (place, content) in [(&source, "content"), (&blocking, "old")] {
        std::fs::create_dir_all(place).expect("makes a directory");
        std::fs::write(place.join("file"), content).expect("writes a file");
    }
    let pinned = PinnedFile::mount(&blocking.join("file"));
    let mut spec = spec(world, "blocked");
    spec["penalty"] = json!({ "initial_delay": "3600s", "max_delay": "3600s" });
    let book = &mut world.coordinator;
    let made = book.good("JobService/CreateJob", json!({ "spec": spec })).await;
    let job = made["job"]["jobId"].clone();
    let is_penalized = |seen: &[Value]| {
        seen.last().is_some_and(|message| message["job"]["progress"]["itemsPenalized"] == "1")
    };
    book.stream("JobService/WatchJob", json!({ "job_id": job }), is_penalized).await;

    let listed = book.good("PenaltyService/ListPenalties", json!({ "job_id": job })).await;
    let penalties = list(&listed, "penalties");
    assert_eq!((penalties.len(), &penalties[0]["penaltyCount"]), (1, &json!(1)), "{listed:#}");
    assert!(penalties[0]["lastError"].as_str().is_some_and(|error| error.contains("blocked")), "{listed:#}");
    let bad = json!({ "page_size": -1, "page_token": "x" });
    book.bad("PenaltyService/ListPenalties", bad, &["page_size", "page_token"]).await;
    book.has_no_wrong_state("PenaltyService/ListPenalties", "it reads");

    let clear = json!({ "item_key": penalties[0]["itemKey"], "request_id": "clear-1" });
    let cleared = book.good("PenaltyService/ClearPenalties", clear.clone()).await;
    assert_eq!(cleared, json!({ "clearedCount": "1" }));
    book.stream("JobService/WatchJob", json!({ "job_id": job }), is_penalized).await;
    book.again("PenaltyService/ClearPenalties", clear, &cleared, "").await;
    let listed = book.good("PenaltyService/ListPenalties", json!({ "job_id": job })).await;
    assert_eq!(list(&listed, "penalties").len(), 1, "the same request cleared a later penalty: {listed:#}");
    book.bad("PenaltyService/ClearPenalties", json!({}), &["job_id"]).await;
    let bad = json!({ "item_key": "x", "request_id": "x".repeat(129) });
    book.bad("PenaltyService/ClearPenalties", bad, &["item_key", "request_id"]).await;
    book.has_no_wrong_state("PenaltyService/ClearPenalties", "it clears what there is, which may be nothing");
    book.good("JobService/CancelJob", json!({ "job_id": job })).await;
    drop(pinned);
}

async fn dead_letters(world: &mut World) {
    let packed = json!({
        "source": spec(world, "tree")["source"],
        "destinations": [{ "star_id": "star-2" }],
        "layout": "LAYOUT_PACKED",
    });
    let (packed, _) = jobs::run(world, packed).await;
    let book = &mut world.coordinator;
    let filter = json!({
        "job_id": DONE, "failure_reason": "FAILURE_REASON_PERMANENT_ERROR", "star_id": "star-2",
    });
    let listed = book.good("DeadLetterService/ListDeadLetters", filter).await;
    let letters = list(&listed, "deadLetters");
    assert_eq!(letters.len(), 1, "{listed:#}");
    let letter = letters[0].clone();
    assert!(letter["sourcePath"].as_str().is_some_and(|path| path.ends_with("/tree/fifo")), "{letter:#}");
    let bad = json!({ "failure_reason": 99, "star_id": "not a name", "item_key": "x" });
    let fields = ["failure_reason", "star_id", "item_key"];
    let mut paged = bad.clone();
    (paged["page_size"], paged["page_token"]) = (json!(-1), json!("x"));
    let all = [fields[0], fields[1], fields[2], "page_size", "page_token"];
    book.bad("DeadLetterService/ListDeadLetters", paged, &all).await;
    book.has_no_wrong_state("DeadLetterService/ListDeadLetters", "it reads");

    let got = book
        .good("DeadLetterService/GetDeadLetter", json!({ "dead_letter_id": letter["deadLetterId"] }))
        .await;
    assert_eq!(got["deadLetter"], letter);
    book.unknown("DeadLetterService/GetDeadLetter", json!({ "dead_letter_id": 4242 })).await;
    book.has_no_wrong_state("DeadLetterService/GetDeadLetter", "it reads");

    for method in ["RetryDeadLetters", "DiscardDeadLetters"] {
        let method = format!("DeadLetterService/{method}");
        book.bad(&method, json!({}), &["job_id"]).await;
        let mut named = bad.clone();
        named["request_id"] = json!("x".repeat(129));
        book.bad(&method, named, &[fields[0], fields[1], fields[2], "request_id"]).await;
    }
    let retry = json!({ "job_id": DONE, "request_id": "retry-1" });
    let retried = book.good("DeadLetterService/RetryDeadLetters", retry.clone()).await;
    assert_eq!(retried, json!({ "retriedCount": "1" }));
    // The FIFO still is one, so the dead letter comes back.
    book.stream("JobService/WatchJob", json!({ "job_id": DONE }), |_| false).await;
    book.again("DeadLetterService/RetryDeadLetters", retry, &retried, "").await;
    let got = book.good("JobService/GetJob", json!({ "job_id": DONE })).await;
    assert!(got["job"]["endTime"].is_string(), "the same request retried a later letter: {got:#}");
    book.wrong_state("DeadLetterService/RetryDeadLetters", json!({ "job_id": packed }), "stays as it is")
        .await;

    let discard = json!({ "job_id": DONE, "request_id": "discard-1" });
    let discarded = book.good("DeadLetterService/DiscardDeadLetters", discard.clone()).await;
    assert_eq!(discarded, json!({ "discardedCount": "1" }));
    book.again("DeadLetterService/DiscardDeadLetters", discard, &discarded, "").await;
    book.has_no_wrong_state(
        "DeadLetterService/DiscardDeadLetters",
        "a letter can be forgotten in every state of its job",
    );
}

async fn bulletins(world: &mut World) {
    let book = &mut world.coordinator;
    let listed = book.good("BulletinService/ListBulletins", json!({ "job_id": DONE, "limit": 1000 })).await;
    let bulletins = list(&listed, "bulletins");
    let ended = bulletins.iter().find(|bulletin| bulletin["category"] == "job");
    let ended = ended.unwrap_or_else(|| panic!("the end of job {DONE} is not told: {listed:#}"));
    assert_eq!(ended["severity"], "SEVERITY_WARNING", "{ended:#}");
    let bad = json!({ "limit": -1, "min_severity": 9 });
    book.bad("BulletinService/ListBulletins", bad, &["limit", "min_severity"]).await;
    book.has_no_wrong_state("BulletinService/ListBulletins", "it reads");

    let count = bulletins.len();
    let request = json!({ "job_id": DONE });
    let watched = book.stream("BulletinService/WatchBulletins", request, |seen| seen.len() == count).await;
    let mut expected: Vec<&Value> = bulletins.iter().collect();
    expected.sort_by_key(|bulletin| bulletin["bulletinId"].as_str().and_then(|id| id.parse::<u64>().ok()));
    let watched: Vec<&Value> = watched.iter().map(|message| &message["bulletin"]).collect();
    assert_eq!(watched, expected, "a watch begins with what is kept, oldest first");
    book.bad("BulletinService/WatchBulletins", json!({ "min_severity": 9 }), &["min_severity"]).await;
    let beyond = json!({ "after_id": 1_000_000 });
    book.lost_position("BulletinService/WatchBulletins", beyond, "POSITION_UNKNOWN").await;

    let acknowledge = json!({ "bulletin_ids": [ended["bulletinId"]], "request_id": "acknowledge-1" });
    let acknowledged = book.good("BulletinService/AcknowledgeBulletins", acknowledge.clone()).await;
    assert_eq!(acknowledged, json!({ "acknowledgedCount": "1" }));
    book.again("BulletinService/AcknowledgeBulletins", acknowledge, &acknowledged, "").await;
    let bad = json!({ "request_id": "x".repeat(129) });
    book.bad("BulletinService/AcknowledgeBulletins", bad, &["bulletin_ids", "request_id"]).await;
    book.has_no_wrong_state(
        "BulletinService/AcknowledgeBulletins",
        "bulletins that are gone are not counted",
    );
}

async fn events(world: &mut World) {
    let book = &mut world.coordinator;
    let created = json!({ "job_id": DONE, "type": "PROVENANCE_TYPE_JOB_CREATED" });
    let listed = book.good("ProvenanceService/ListEvents", created.clone()).await;
    let events = list(&listed, "events");
    assert_eq!((events.len(), &events[0]["jobId"]), (1, &json!("1")), "{listed:#}");
    event_filters(book).await;
    let time = json!("2020-01-01T00:00:00Z");
    let none = book.good("ProvenanceService/ListEvents", json!({ "job_id": DONE, "until": time })).await;
    assert_eq!(list(&none, "events"), [] as [Value; 0]);
    let bad = json!({
        "page_size": -1, "page_token": "x", "item_key": "x", "chunk_hash": "x", "star_id": "not a name", "type": 99,
        "min_bytes": 2, "max_bytes": 1, "min_duration_ms": 4, "max_duration_ms": 3,
    });
    let fields = [
        "page_size",
        "page_token",
        "item_key",
        "chunk_hash",
        "star_id",
        "type",
        "min_bytes",
        "min_duration_ms",
    ];
    book.bad("ProvenanceService/ListEvents", bad, &fields).await;
    book.has_no_wrong_state("ProvenanceService/ListEvents", "it reads");

    // The event that created the job is followed by the rest of its history.
    let request = json!({ "job_id": DONE, "after_event_id": events[0]["eventId"] });
    let is_end = |seen: &[Value]| {
        seen.last().is_some_and(|message| message["event"]["type"] == "PROVENANCE_TYPE_JOB_COMPLETED")
    };
    let watched = book.stream("ProvenanceService/WatchEvents", request, is_end).await;
    assert!(watched.iter().all(|message| message["event"]["jobId"] == "1"), "{watched:#?}");
    let bad = json!({ "star_id": "not a name", "type": 99 });
    book.bad("ProvenanceService/WatchEvents", bad, &["star_id", "type"]).await;
    let beyond = json!({ "after_event_id": 1_000_000 });
    book.lost_position("ProvenanceService/WatchEvents", beyond, "POSITION_UNKNOWN").await;
}

/// Every filter selects some of the events of a job and excludes others.
async fn event_filters(book: &mut Book) {
    let all = book.good("ProvenanceService/ListEvents", json!({ "job_id": DONE, "page_size": 1000 })).await;
    let all = list(&all, "events").to_vec();
    let number =
        |event: &Value, field: &str| event[field].as_str().map(|text| text.parse::<u64>().expect("a number"));
    let largest = all.iter().filter_map(|event| number(event, "bytes")).max().expect("some have bytes");
    let slowest = all.iter().filter_map(|event| number(event, "durationMs")).max().expect("some took time");
    let failed = all.iter().find(|event| event["error"].is_string()).expect("the FIFO failed").clone();
    let error = failed["error"].as_str().expect("it was found by it").to_owned();
    let stored = all
        .iter()
        .find(|event| event["type"] == "PROVENANCE_TYPE_FILE_COMPLETED")
        .expect("one is stored")
        .clone();
    type Matches<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let same =
        |field: &'static str, value: Value| -> Matches<'_> { Box::new(move |event| event[field] == value) };
    let cases: Vec<(Value, Matches<'_>)> = vec![
        (json!({ "event_id": stored["eventId"] }), same("eventId", stored["eventId"].clone())),
        (json!({ "type": failed["type"] }), same("type", failed["type"].clone())),
        (json!({ "star_id": stored["starId"] }), same("starId", stored["starId"].clone())),
        (json!({ "item_key": stored["itemKey"] }), same("itemKey", stored["itemKey"].clone())),
        (json!({ "source": stored["source"] }), same("source", stored["source"].clone())),
        (json!({ "destination": stored["destination"] }), same("destination", stored["destination"].clone())),
        (
            json!({ "since": failed["time"] }),
            Box::new(|event| event["time"].as_str() >= failed["time"].as_str()),
        ),
        (
            json!({ "until": failed["time"] }),
            Box::new(|event| event["time"].as_str() < failed["time"].as_str()),
        ),
        (json!({ "min_bytes": largest }), Box::new(|event| number(event, "bytes") == Some(largest))),
        (
            json!({ "min_duration_ms": slowest }),
            Box::new(|event| number(event, "durationMs") == Some(slowest)),
        ),
        (json!({ "error": error[1..] }), same("error", json!(error))),
        (json!({ "has_error": true }), Box::new(|event| event["error"].is_string())),
        (json!({ "has_error": false }), Box::new(|event| event["error"].is_null())),
    ];
    for (mut filter, is_wanted) in cases {
        filter["job_id"] = json!(DONE);
        filter["page_size"] = json!(1000);
        let listed = book.good("ProvenanceService/ListEvents", filter.clone()).await;
        let wanted: Vec<&Value> = all.iter().filter(|event| is_wanted(event)).collect();
        let found: Vec<&Value> = list(&listed, "events").iter().collect();
        assert!(found == wanted, "{filter}: {} events, not {}", found.len(), wanted.len());
        assert!(!wanted.is_empty() && wanted.len() < all.len(), "{filter} selects all or none");
        assert!(listed["nextPageToken"].is_null(), "{filter}: {listed:#}");
    }
    // A directory has 0 bytes, which is shown as none.
    for (filter, field, max) in
        [("max_bytes", "bytes", largest - 1), ("max_duration_ms", "durationMs", slowest.saturating_sub(1))]
    {
        let mut request = json!({ "job_id": DONE, "page_size": 1000 });
        request[filter] = json!(max);
        let listed = book.good("ProvenanceService/ListEvents", request).await;
        let found: Vec<&Value> =
            list(&listed, "events").iter().filter(|event| number(event, field).is_some()).collect();
        let wanted: Vec<&Value> =
            all.iter().filter(|event| number(event, field).is_some_and(|number| number <= max)).collect();
        assert_eq!(found, wanted, "{filter}");
    }
    let moved = json!({ "job_id": DONE, "type": "PROVENANCE_TYPE_CHUNK_TRANSFERRED" });
    let moved = book.good("ProvenanceService/ListEvents", moved).await;
    assert!(list(&moved, "events")[0]["context"]["chunks"].is_string(), "the context is shown: {moved:#}");
}

async fn health(world: &mut World) {
    let client = world.grid.client();
    client.wait_star("star-1", "says how it fares", |star| star.health.is_some()).await;
    let book = &mut world.coordinator;
    let listed = book.good("HealthService/ListAdvisories", json!({ "star_id": "star-1" })).await;
    let stars = list(&listed, "stars");
    assert_eq!((stars.len(), &stars[0]["starId"]), (1, &json!("star-1")), "{listed:#}");
    assert!(!list(&stars[0], "advisories").is_empty(), "{listed:#}");
    let bad = json!({ "star_id": "not a name", "page_size": -1, "page_token": "x" });
    let fields = ["page_size", "page_token", "star_id"];
    book.bad("HealthService/ListAdvisories", bad, &fields).await;
    let bad = json!({ "star_id": "not a name", "page_size": -1, "page_token": "x" });
    book.bad("HealthService/GetHealthHistory", bad, &fields).await;
    samples(book).await;
    book.has_no_wrong_state("HealthService/ListAdvisories", "it reads");

    let history = book.good("HealthService/GetHealthHistory", json!({ "star_id": "star-1" })).await;
    assert!(list(&history, "samples")[0]["sample"]["diskTotalBytes"].is_string(), "{history:#}");
    book.bad("HealthService/GetHealthHistory", json!({ "star_id": "not a name" }), &["star_id"]).await;
    book.unknown("HealthService/GetHealthHistory", json!({ "star_id": "nobody" })).await;
    book.has_no_wrong_state("HealthService/GetHealthHistory", "it reads");
}

/// The pages of a Star's samples are the whole list, in order.
async fn samples(book: &mut Book) {
    let mut request = json!({ "star_id": "star-1", "page_size": 1 });
    let mut seen = Vec::new();
    let mut has_pages = false;
    while !has_pages {
        seen.clear();
        request["page_token"] = json!("");
        loop {
            let page = book.good("HealthService/GetHealthHistory", request.clone()).await;
            assert!(list(&page, "samples").len() <= 1, "{page:#}");
            seen.extend(list(&page, "samples").to_vec());
            request["page_token"] = page["nextPageToken"].clone();
            if request["page_token"].is_null() {
                break;
            }
            has_pages = true;
        }
    }
    let whole = book.good("HealthService/GetHealthHistory", json!({ "star_id": "star-1" })).await;
    assert!(list(&whole, "samples").starts_with(&seen[..1]) && seen.len() > 1, "{whole:#}");
    assert!(whole["nextPageToken"].is_null(), "all samples that are kept are one page");
    assert_eq!(seen, list(&whole, "samples")[..seen.len()]);
}

async fn guards(world: &mut World) {
    let book = &mut world.coordinator;
    let listed = book.good("BackpressureService/ListGuards", json!({ "page_size": 1 })).await;
    let guards = list(&listed, "guards");
    assert_eq!((guards.len(), &guards[0]["starId"]), (1, &json!("star-1")), "{listed:#}");
    let next = json!({ "page_token": listed["nextPageToken"] });
    let rest = book.good("BackpressureService/ListGuards", next).await;
    assert_eq!(list(&rest, "guards").len(), 2, "{rest:#}");
    let bad = json!({ "page_size": 1001, "page_token": "x" });
    book.bad("BackpressureService/ListGuards", bad, &["page_size", "page_token"]).await;
    book.has_no_wrong_state("BackpressureService/ListGuards", "it reads");

    let limit = json!({ "star_id": "star-3", "max_object_count": 7, "request_id": "limit-1" });
    let limited = book.good("BackpressureService/SetGuardLimits", limit.clone()).await;
    assert_eq!(limited["guard"]["maxObjectCount"], "7", "{limited:#}");
    book.again("BackpressureService/SetGuardLimits", limit, &limited, "").await;
    let bad = json!({
        "star_id": "not a name", "max_object_count": 0, "max_byte_size": -1, "request_id": "x".repeat(129),
    });
    let fields = ["star_id", "max_object_count", "max_byte_size", "request_id"];
    book.bad("BackpressureService/SetGuardLimits", bad, &fields).await;

    let pause = json!({ "star_id": "star-3", "reason": "a test", "request_id": "guard-1" });
    let paused = book.good("BackpressureService/PauseGuard", pause.clone()).await;
    assert_eq!(
        (&paused["guard"]["isPaused"], &paused["guard"]["pauseReason"]),
        (&json!(true), &json!("a test"))
    );
    book.again("BackpressureService/PauseGuard", pause, &paused, "").await;
    let resume = json!({ "star_id": "star-3", "request_id": "guard-2" });
    let resumed = book.good("BackpressureService/ResumeGuard", resume.clone()).await;
    assert_eq!(
        (&resumed["guard"]["isPaused"], &resumed["guard"]["isAccepting"]),
        (&Value::Null, &json!(true))
    );
    book.again("BackpressureService/ResumeGuard", resume, &resumed, "").await;
    for method in ["PauseGuard", "ResumeGuard"] {
        let bad = json!({ "star_id": "not a name", "request_id": "x".repeat(129) });
        book.bad(&format!("BackpressureService/{method}"), bad, &["star_id", "request_id"]).await;
    }
    for method in ["SetGuardLimits", "PauseGuard", "ResumeGuard"] {
        let method = format!("BackpressureService/{method}");
        book.unknown(&method, json!({ "star_id": "nobody" })).await;
        book.has_no_wrong_state(&method, "a guard takes it in every state of its Star, connected or not");
    }
}

async fn backups(world: &mut World) {
    let backups = world.grid.data_directory().join("backups");
    let book = &mut world.coordinator;
    let request = json!({ "name": "first", "request_id": "backup-1" });
    let made = book.stream("BackupService/CreateBackup", request.clone(), |_| false).await;
    let [begun, done] = &made[..] else { panic!("{made:#?}") };
    let path = backups.join("first");
    assert_eq!((&begun["path"], &done["path"]), (&json!(path.to_str()), &json!(path.to_str())));
    assert_eq!((&begun["isComplete"], &done["isComplete"]), (&Value::Null, &json!(true)));
    assert!(path.join("magnetar.redb").is_file());
    book.again("BackupService/CreateBackup", request, done, "").await;
    book.wrong_state("BackupService/CreateBackup", json!({ "name": "first" }), "already").await;
    book.bad(
        "BackupService/CreateBackup",
        json!({ "name": "../out", "request_id": "x".repeat(129) }),
        &["name", "request_id"],
    )
    .await;
    book.bad("BackupService/CreateBackup", json!({ "request_id": "x".repeat(129) }), &["request_id"]).await;
}
