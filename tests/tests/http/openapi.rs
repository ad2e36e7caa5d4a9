//! `/api/openapi.json`: well-formed, complete, and each route answers as described.

use std::collections::BTreeSet;

use orbit_proto::v1;
use orbit_tests::grid::Grid;
use orbit_tests::http::Http;
use orbit_tests::tree::plant_files;
use serde_json::{Value, json};

/// Every `$ref` in a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == "$ref") {
                    Some(target) => drop(found.insert(target.to_owned())),
                    None => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Checks that a value has only what its schema allows.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(target) = schema["$ref"].as_str() {
        let named = document.pointer(target.trim_start_matches('#')).expect("a reference leads somewhere");
        return check(document, named, value, place);
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().for_each(|schema| check(document, schema, value, place));
    }
    match schema["type"].as_str().unwrap_or("any") {
        "object" => {
            let fields = value.as_object().unwrap_or_else(|| panic!("{place} is {value}, and no object"));
            for (name, value) in fields {
                let place = format!("{place}.{name}");
                let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                match known {
                    Some(known) => check(document, known, value, &place),
                    None => assert!(schema.get("properties").is_none(), "{place} is not described"),
                }
            }
        }
        "array" => {
            let items = value.as_array().unwrap_or_else(|| panic!("{place} is {value}, and no array"));
            items.iter().for_each(|item| check(document, &schema["items"], item, &format!("{place}[]")));
        }
        "string" => {
            let text = value.as_str().unwrap_or_else(|| panic!("{place} is {value}, and no string"));
            if let Some(names) = schema["enum"].as_array() {
                assert!(names.contains(value), "{place} is {text}, not among {names:?}");
            }
            if schema["format"] == "uint64" {
                text.parse::<u64>().unwrap_or_else(|_| panic!("{place} is {text}, and no number"));
            }
        }
        "integer" | "number" => assert!(value.is_number(), "{place} is {value}, and no number"),
        "boolean" => assert!(value.is_boolean(), "{place} is {value}, and neither true nor false"),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_well_formed_and_its_texts_are_there() {
    let grid = Grid::start(&[]).await;
    let document = Http::new(grid.http_address()).json("/api/openapi.json").await;
    assert_eq!(document["openapi"], "3.0.3");
    let mut targets = BTreeSet::new();
    references(&document, &mut targets);
    assert!(targets.len() > 20, "{targets:?}");
    for target in &targets {
        let named = document.pointer(target.trim_start_matches('#'));
        assert!(named.is_some_and(Value::is_object), "{target} leads nowhere");
    }
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (verb, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(operations.insert(id.clone()), "{id} is there twice");
            assert!(
                operation["summary"].as_str().is_some_and(|text| text.len() > 10),
                "{verb} {path} says nothing"
            );
            let mut in_path = BTreeSet::new();
            for parameter in operation["parameters"].as_array().expect("parameters") {
                assert!(
                    parameter["description"].as_str().is_some_and(|text| text.len() > 5),
                    "{id}: {parameter}"
                );
                if parameter["in"] == "path" {
                    assert_eq!(parameter["required"], true, "{id}: {parameter}");
                    in_path.insert(parameter["name"].as_str().expect("a name").to_owned());
                }
            }
            let braces: BTreeSet<String> = path
                .split('{')
                .skip(1)
                .filter_map(|part| part.split_once('}'))
                .map(|(name, _)| name.to_owned())
                .collect();
            assert_eq!(in_path, braces, "{path}");
            assert_eq!(verb == "post", operation.get("requestBody").is_some(), "{verb} {path}");
        }
    }
    for needed in [
        "ListBulletins",
        "ListStars",
        "GetStar",
        "ListJobs",
        "GetJob",
        "ListDeadLetters",
        "ListGuards",
        "ListPenalties",
        "ListEvents",
        "StreamEvents",
        "GetMetrics",
    ] {
        assert!(operations.contains(needed), "{needed} is missing");
    }
}

#[tokio::test]
async fn every_route_answers_as_described() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (client, http) = (grid.client(), Http::new(grid.http_address()));
    plant_files(&grid.root("star-1").join("tree"), 5, 3000, 1);
    let packed = client.create(grid.packed_spec("tree", "star-1", &["star-2"])).await;
    client.wait_end(packed).await;
    let snapshot = client.all_snapshots().await[0].snapshot_id.clone();
    let missing = "0".repeat(32);
    let daily = v1::ScheduleTimes { interval: None, daily_times: vec!["02:00".to_owned()] };
    let schedule = v1::CreateScheduleRequest {
        spec: Some(grid.copy_spec("tree", "star-1", &["star-2"])),
        times: Some(daily),
        ..v1::CreateScheduleRequest::default()
    };
    client.schedules().create_schedule(schedule).await.expect("a schedule can be made");
    let document = http.json("/api/openapi.json").await;
    for (path, item) in document["paths"].as_object().expect("paths") {
        if path == "/api/events" {
            // It never ends; it has its own tests.
            continue;
        }
        let asked = path
            .replace("{job_id}", "1")
            .replace("{schedule_id}", "1")
            .replace("{star_id}", "star-2")
            .replace("{item_key}", "1/0/1")
            .replace("{dead_letter_id}", "1")
            // Resources that later routes read must still exist.
            .replace("{snapshot_id}", if path.ends_with("/delete") { &missing } else { &snapshot })
            .replace("{chunk_hash}", &"ab".repeat(32));
        for (verb, operation) in item.as_object().expect("operations") {
            let answered = match verb.as_str() {
                "get" => http.get(&asked).await,
                _ => http.post(&asked, &json!({})).await,
            };
            let is_refused = answered.status != 200;
            let kind = answered.header("content-type");
            assert!(answered.status < 500, "{verb} {asked}: {}", answered.text);
            let described = match is_refused {
                false => operation["responses"]["200"]["content"].as_object().expect("a kind of content"),
                true => {
                    operation["responses"]["default"]["content"].as_object().expect("a refusal has content")
                }
            };
            let (named, content) = described.iter().next().expect("one kind of content");
            assert!(kind.starts_with(named), "{verb} {asked} is {kind}, described as {named}");
            if named == "application/json" {
                check(&document, &content["schema"], &answered.json(), &format!("{verb} {asked}"));
            }
            // A test in which routes only fail would prove little, so those that read must succeed. This grid has no
            // TLS, so it has no identities and no tokens.
            let may_refuse = verb == "post"
                || path.contains("{dead_letter_id}")
                || matches!(path.as_str(), "/api/identities" | "/api/tokens");
            assert!(!is_refused || may_refuse, "{verb} {asked}: {}", answered.text);
            let no_route = is_refused
                && ["NO_ROUTE", "WRONG_METHOD"]
                    .contains(&answered.json()["error"]["reason"].as_str().unwrap_or_default());
            assert!(!no_route, "{verb} {asked} is no route");
        }
    }
}
