//! ScheduleService: a schedule that starts at once, from its first job to its end.

use serde_json::{Value, json};

use crate::World;
use crate::book::Book;
use crate::jobs;

pub(crate) async fn call_all(world: &mut World) {
    let spec = jobs::spec(world, "whole");
    let book = &mut world.coordinator;
    let request = json!({ "spec": spec, "times": { "interval": "3600s" }, "request_id": "schedule-1" });
    let made = book.good("ScheduleService/CreateSchedule", request.clone()).await;
    assert_eq!(made["schedule"]["scheduleId"], "1", "{made:#}");
    book.again("ScheduleService/CreateSchedule", request, &made, "/schedule/scheduleId").await;
    let bad = json!({
        "spec": { "source": { "star_id": "nobody", "path": "/x" }, "destinations": spec["destinations"] },
        "times": { "interval": "1s" },
        "request_id": "x".repeat(129),
    });
    let fields = ["spec.source.star_id", "times.interval", "request_id"];
    book.bad("ScheduleService/CreateSchedule", bad, &fields).await;
    book.bad("ScheduleService/CreateSchedule", json!({}), &["spec", "times"]).await;
    book.has_no_wrong_state(
        "ScheduleService/CreateSchedule",
        "a job waits for Stars that are away; only the bound on schedules refuses",
    );

    let got = book.good("ScheduleService/GetSchedule", json!({ "schedule_id": 1 })).await;
    assert_eq!(got["schedule"]["times"], json!({ "interval": "3600s" }), "{got:#}");
    assert!(got["schedule"]["lastJobId"].is_string(), "an interval begins at once: {got:#}");
    book.has_no_wrong_state("ScheduleService/GetSchedule", "it reads");
    let listed = book.good("ScheduleService/ListSchedules", json!({})).await;
    assert_eq!(listed["schedules"], json!([got["schedule"]]), "{listed:#}");
    let bad = json!({ "page_size": -1, "page_token": "x" });
    book.bad("ScheduleService/ListSchedules", bad, &["page_size", "page_token"]).await;
    book.has_no_wrong_state("ScheduleService/ListSchedules", "it reads");

    let pause = json!({ "schedule_id": 1, "reason": "a test", "request_id": "pause-schedule-1" });
    let paused = book.good("ScheduleService/PauseSchedule", pause.clone()).await;
    assert_eq!(
        (&paused["schedule"]["isPaused"], &paused["schedule"]["stateReason"]),
        (&json!(true), &json!("a test"))
    );
    book.again("ScheduleService/PauseSchedule", pause, &paused, "").await;
    book.has_no_wrong_state(
        "ScheduleService/PauseSchedule",
        "one that is paused stays so, for the new reason",
    );
    let run = json!({ "schedule_id": 1, "request_id": "run-1" });
    let ran = book.good("ScheduleService/RunSchedule", run.clone()).await;
    assert!(ran["job"]["jobId"].is_string(), "{ran:#}");
    book.again("ScheduleService/RunSchedule", run, &ran, "/job/jobId").await;
    let bad = json!({ "schedule_id": 1, "request_id": "x".repeat(129) });
    book.bad("ScheduleService/RunSchedule", bad, &["request_id"]).await;
    book.has_no_wrong_state("ScheduleService/RunSchedule", "one that is paused is run by hand all the same");
    let resume = json!({ "schedule_id": 1, "request_id": "resume-schedule-1" });
    let resumed = book.good("ScheduleService/ResumeSchedule", resume.clone()).await;
    assert!(resumed["schedule"]["nextTime"].is_string(), "{resumed:#}");
    book.again("ScheduleService/ResumeSchedule", resume, &resumed, "/schedule/scheduleId").await;
    book.has_no_wrong_state("ScheduleService/ResumeSchedule", "one that is not paused stays as it is");

    update(book, &spec).await;

    let delete = json!({ "schedule_id": 1, "request_id": "delete-schedule-1" });
    let deleted = book.good("ScheduleService/DeleteSchedule", delete.clone()).await;
    book.again("ScheduleService/DeleteSchedule", delete, &deleted, "").await;
    book.has_no_wrong_state("ScheduleService/DeleteSchedule", "its jobs go on");
    for method in ["GetSchedule", "PauseSchedule", "ResumeSchedule", "RunSchedule", "DeleteSchedule"] {
        book.unknown(&format!("ScheduleService/{method}"), json!({ "schedule_id": 1 })).await;
    }
    for method in ["PauseSchedule", "ResumeSchedule", "DeleteSchedule"] {
        let bad = json!({ "schedule_id": 1, "request_id": "x".repeat(129) });
        book.bad(&format!("ScheduleService/{method}"), bad, &["request_id"]).await;
    }
}

/// A schedule is changed; a change based on an earlier revision is refused.
async fn update(book: &mut Book, spec: &Value) {
    const METHOD: &str = "ScheduleService/UpdateSchedule";
    let request = |times: Value, revision: u64, name: &str| {
        json!({
            "schedule_id": 1, "spec": spec, "times": times, "expected_revision": revision, "request_id": name,
        })
    };
    let daily = request(json!({ "daily_times": ["02:30"] }), 1, "update-1");
    let updated = book.good(METHOD, daily.clone()).await;
    assert_eq!(updated["schedule"]["revision"], "2", "{updated:#}");
    assert_eq!(updated["schedule"]["times"], json!({ "dailyTimes": ["02:30"] }), "{updated:#}");
    // The job that was made by hand may end meanwhile, which changes other fields.
    book.again(METHOD, daily, &updated, "/schedule/revision").await;
    let other = json!({ "interval": "7200s" });
    book.stolen_name(METHOD, request(other.clone(), 2, "update-1")).await;
    book.wrong_state(METHOD, request(other.clone(), 1, "update-2"), "has revision 2").await;
    let bad = json!({
        "schedule_id": 1,
        "spec": { "source": { "star_id": "nobody", "path": "/x" }, "destinations": spec["destinations"] },
        "times": { "interval": "1s" },
        "request_id": "x".repeat(129),
    });
    book.bad(METHOD, bad, &["request_id", "spec.source.star_id", "times.interval", "expected_revision"])
        .await;
    book.bad(METHOD, json!({ "schedule_id": 1 }), &["times", "spec", "expected_revision"]).await;
    let mut unknown = request(other, 1, "update-3");
    unknown["schedule_id"] = json!(9);
    book.unknown(METHOD, unknown).await;
}
