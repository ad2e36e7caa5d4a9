//! `/api`: filters and pages as in gRPC, canonical JSON, errors with code, reason and advice, and access control.

use orbit_proto::{json, v1};
use orbit_tests::deadline::eventually;
use orbit_tests::grid::Grid;
use orbit_tests::http::Http;
use orbit_tests::tree::plant_files;
use serde_json::{Value, json};

#[tokio::test]
async fn http_shows_what_grpc_shows() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (client, http) = (grid.client(), Http::new(grid.http_address()));
    plant_files(&grid.root("star-1").join("tree"), 30, 2000, 1);
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(job_id).await;

    let job = client.jobs().get_job(v1::GetJobRequest { job_id }).await.expect("a job").into_inner();
    assert_eq!(
        http.json(&format!("/api/jobs/{job_id}")).await,
        json::of_message("orbit.v1.GetJobResponse", &job)
    );
    let jobs = client.jobs().list_jobs(v1::ListJobsRequest::default()).await.expect("jobs").into_inner();
    assert_eq!(http.json("/api/jobs").await, json::of_message("orbit.v1.ListJobsResponse", &jobs));
    let completed = http.json("/api/jobs?states=completed,failed").await;
    assert_eq!(completed["jobs"][0]["state"], "JOB_STATE_COMPLETED");
    assert_eq!(http.json("/api/jobs?states=running&states=paused").await, json!({}));

    let star = http.json("/api/stars/star-1").await;
    assert_eq!(star["star"]["starId"], "star-1");
    assert_eq!(star["star"]["state"], "STAR_STATE_SCHEDULED");
    let guards = http.json("/api/guards").await;
    assert_eq!(guards["guards"].as_array().expect("guards").len(), 2);
    assert_eq!(http.json("/api/penalties?job_id=1").await, json!({}));
    assert_eq!(http.json("/api/dead-letters?failure_reason=source-missing").await, json!({}));
    eventually("a health sample", async || {
        let history = http.json("/api/stars/star-2/health").await;
        history["samples"].is_array().then_some(())
    })
    .await;
    assert!(http.json("/api/advisories").await["stars"].is_array());

    let events =
        http.json(&format!("/api/provenance?job_id={job_id}&type=file_completed&page_size=1000")).await;
    let events = events["events"].as_array().expect("events").clone();
    let all = client.events_of(job_id, v1::ProvenanceType::FileCompleted).await;
    assert!(events.len() == all.len() && all.len() >= 30, "{events:#?}");
    let item = events[0]["itemKey"].as_str().expect("an item").to_owned();
    let lineage = http.json(&format!("/api/provenance?item_key={item}")).await;
    assert!(lineage["events"].as_array().expect("events").iter().all(|event| event["itemKey"] == item[..]));
    let explained = http.json(&format!("/api/items/{item}")).await;
    assert_eq!(explained["item"]["state"], "ITEM_STATE_STORED");
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (client, http) = (grid.client(), Http::new(grid.http_address()));
    plant_files(&grid.root("star-1").join("tree"), 25, 100, 1);
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(job_id).await;
    let (mut keys, mut token) = (Vec::new(), String::new());
    loop {
        let page = http.json(&format!("/api/jobs/{job_id}/items?pageSize=10&page_token={token}")).await;
        let items = page["items"].as_array().expect("items").clone();
        assert!(items.len() <= 10);
        keys.extend(items.iter().map(|item| item["itemKey"].to_string()));
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            break;
        }
    }
    let all: Vec<String> =
        client.all_items(job_id).await.iter().map(|item| format!("\"{}\"", item.item_key)).collect();
    assert_eq!(keys, all);
}

/// Checks the parts of an error, and returns it.
fn refusal(answered: &orbit_tests::http::Answered, status: u16, code: &str) -> Value {
    assert_eq!(answered.status, status, "{}", answered.text);
    let error = answered.json()["error"].clone();
    assert_eq!(error["code"], code, "{error}");
    for field in ["reason", "message", "advice"] {
        assert!(error[field].as_str().is_some_and(|text| text.len() > 3), "no {field} in {error}");
    }
    error
}

#[tokio::test]
async fn a_refusal_has_code_reason_problem_and_advice() {
    let grid = Grid::start(&["star-1"]).await;
    let http = Http::new(grid.http_address());
    let error = refusal(&http.get("/api/jobs/7").await, 404, "NOT_FOUND");
    assert!(error["message"].as_str().expect("text").contains("job 7"), "{error}");
    refusal(&http.get("/api/stars/star-9").await, 404, "NOT_FOUND");
    refusal(&http.get("/api/no/such/thing").await, 404, "NOT_FOUND");
    refusal(
        &http.send("DELETE", "/api/jobs/7", &[("content-type", "application/json")], "").await,
        405,
        "UNIMPLEMENTED",
    );

    let bad =
        http.get("/api/bulletins?severity=error&min_severity=loud&job_id=x&limit=5000&since=noon").await;
    let error = refusal(&bad, 400, "INVALID_ARGUMENT");
    let fields: Vec<&str> = error["violations"]
        .as_array()
        .expect("violations")
        .iter()
        .filter_map(|one| one["field"].as_str())
        .collect();
    assert_eq!(fields, ["severity", "min_severity", "job_id", "since"], "{error}");
    assert!(
        error["violations"][0]["description"].as_str().expect("text").contains("min_severity"),
        "{error}"
    );
    // What only the service can know comes from the service.
    let error = refusal(&http.get("/api/bulletins?limit=5000").await, 400, "INVALID_ARGUMENT");
    assert_eq!(error["violations"][0]["field"], "limit", "{error}");

    let error =
        refusal(&http.post("/api/jobs/1/pause", &json!({ "raeson": "x" })).await, 400, "INVALID_ARGUMENT");
    assert!(error["message"].as_str().expect("text").contains("reason"), "{error}");
    refusal(&http.post("/api/jobs", &json!({})).await, 400, "INVALID_ARGUMENT");
    refusal(&http.post("/api/dead-letters/retry", &json!({})).await, 400, "INVALID_ARGUMENT");
    refusal(&http.post("/api/jobs/1/pause", &json!({})).await, 404, "NOT_FOUND");
    let drained = http.post("/api/stars/star-1/drain", &json!({ "reason": "test" })).await;
    assert_eq!(drained.status, 200, "{}", drained.text);
    assert_eq!(drained.json()["star"]["state"], "STAR_STATE_DRAINING");
    refusal(
        &http.post("/api/stars/star-1/drain", &json!({ "deadline": "soon" })).await,
        400,
        "INVALID_ARGUMENT",
    );
}

#[tokio::test]
async fn a_job_is_made_paused_resumed_and_cancelled_over_http() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let http = Http::new(grid.http_address());
    plant_files(&grid.root("star-1").join("tree"), 20, 100_000, 1);
    let spec = json::of_message(
        "orbit.v1.JobSpec",
        &v1::JobSpec { max_bytes_per_second: 50_000, ..grid.copy_spec("tree", "star-1", &["star-2"]) },
    );
    let body = json!({ "spec": spec, "request_id": "once" });
    let made = http.post("/api/jobs", &body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let id = made.json()["job"]["jobId"].as_str().expect("a number").to_owned();
    assert_eq!(http.post("/api/jobs", &body).await.json()["job"]["jobId"], id[..], "sent twice, made twice");
    let paused = http.post(&format!("/api/jobs/{id}/pause"), &json!({ "reason": "lunch" })).await.json();
    assert_eq!(
        (&paused["job"]["state"], &paused["job"]["stateReason"]),
        (&json!("JOB_STATE_PAUSED"), &json!("lunch"))
    );
    let resumed = http.post(&format!("/api/jobs/{id}/resume"), &json!({})).await.json();
    assert_ne!(resumed["job"]["state"], "JOB_STATE_PAUSED");
    let cancelled = http.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.json();
    assert_eq!(cancelled["job"]["state"], "JOB_STATE_CANCELLED");
    let again = http.post(&format!("/api/jobs/{id}/pause"), &json!({})).await;
    refusal(&again, 409, "FAILED_PRECONDITION");
    let limits = http.post("/api/guards/star-2/limits", &json!({ "maxObjectCount": "17" })).await.json();
    assert_eq!(limits["guard"]["maxObjectCount"], "17");
}

#[tokio::test]
async fn pages_of_other_sites_and_foreign_names_are_kept_out() {
    let grid = Grid::start_with(&[], &["--http-host", "orbit.example.com"]).await;
    let (address, http) = (grid.http_address().to_owned(), Http::new(grid.http_address()));
    let json = ("content-type", "application/json");
    let post = async |headers: &[(&str, &str)]| {
        http.send("POST", "/api/bulletins/acknowledge", headers, "{\"bulletin_ids\": [1]}").await
    };
    assert_eq!(post(&[json]).await.status, 200);
    let own = format!("http://{address}");
    assert_eq!(post(&[json, ("origin", &own)]).await.status, 200);
    let foreign = post(&[json, ("origin", "http://evil.example.com")]).await;
    assert_eq!(refusal(&foreign, 403, "PERMISSION_DENIED")["reason"], "ORIGIN_FOREIGN");
    let form = post(&[("content-type", "text/plain")]).await;
    assert_eq!(refusal(&form, 415, "INVALID_ARGUMENT")["reason"], "NOT_JSON");
    assert_eq!(post(&[json, ("sec-fetch-site", "cross-site")]).await.status, 403);

    let named = async |host: &str, path: &str| http.send("GET", path, &[("host", host)], "").await;
    assert_eq!(named("orbit.example.com", "/api/jobs").await.status, 200);
    let rebound = named("evil.example.com", "/api/jobs").await;
    let error = refusal(&rebound, 403, "PERMISSION_DENIED");
    assert!(error["advice"].as_str().expect("text").contains("--http-host evil.example.com"), "{error}");
    assert_eq!(named("evil.example.com", "/").await.status, 403);
    assert_eq!(named("evil.example.com", "/api/events").await.status, 403);
    assert_eq!(named("evil.example.com", "/healthz").await.status, 200);
}

#[tokio::test]
async fn the_console_is_served_whole_with_a_strict_policy_and_from_here_only() {
    let grid = Grid::start(&[]).await;
    let http = Http::new(grid.http_address());
    let mut wanted = vec!["/".to_owned()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(path) = wanted.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answered = http.get(&path).await;
        assert_eq!(answered.status, 200, "{path}");
        let policy = answered.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answered.header("x-content-type-options"), "nosniff");
        let tag = answered.header("etag").to_owned();
        assert_eq!(http.send("GET", &path, &[("if-none-match", &tag)], "").await.status, 304, "{path}");
        for piece in answered.text.split(['"', '\'', '(', ')', ' ']) {
            let is_elsewhere =
                piece.starts_with("http://") || piece.starts_with("https://") || piece.starts_with("//");
            let is_name = piece.starts_with("http://www.w3.org/") || piece.starts_with("http://HOST");
            let is_comment = piece.trim_matches('/').is_empty() || !piece.contains('.');
            assert!(!is_elsewhere || is_name || is_comment, "{path} fetches {piece}");
            if piece.starts_with("/console/") || piece.starts_with("/favicon") {
                wanted.push(piece.to_owned());
            } else if let Some(name) = piece.strip_prefix("./").filter(|_| path.ends_with(".js")) {
                wanted.push(format!("/console/{name}"));
            }
        }
        assert!(!answered.text.contains("innerHTML") && !answered.text.contains("eval("), "{path}");
    }
    assert!(seen.len() >= 14, "{seen:?}");
    assert_eq!(http.get("/readyz").await.text, "ready\n");
    assert_eq!(http.get("/healthz").await.text, "ok\n");
}
