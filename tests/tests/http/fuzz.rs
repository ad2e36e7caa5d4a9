//! Every route handles any path, query and body: it succeeds, or is refused with JSON that has a text, and the
//! coordinator continues.

use orbit_tests::grid::Grid;
use orbit_tests::http::{Answered, Http};
use orbit_tests::random::Random;
use serde_json::{Value, json};

const ROUNDS: usize = 12;
/// Texts in the place of a value, in their form in a URL.
const TEXTS: [&str; 22] = [
    "",
    "1",
    "star-1",
    "18446744073709551616",
    "-1",
    "%00",
    "%FF%FE",
    "%2F..%2F..%2Fetc",
    "..",
    "true",
    "error",
    "2026-11-25T18:00:00Z",
    "9999-99-99",
    "-3.5s",
    "1e309",
    "%E2%80%AE",
    "%3Cscript%3E",
    "a,b,,c",
    "%25s%25n",
    "1/0/18446744073709551615",
    "ffffffffffffffffffffffffffffffff",
    "%7B%22a%22%3A1%7D",
];

fn pick<'a, T: ?Sized>(random: &mut Random, from: &[&'a T]) -> &'a T {
    from[random.below(from.len() as u64) as usize]
}

fn value(random: &mut Random, depth: u32) -> Value {
    match random.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.number()),
        2 => json!(-1),
        3 => json!(true),
        4 => json!(pick(random, &TEXTS)),
        5 => json!(1e300),
        6 => json!([value(random, depth - 1), value(random, depth - 1)]),
        _ => json!({ "starId": value(random, depth - 1), "path": value(random, depth - 1) }),
    }
}

fn assert_sound(asked: &str, answered: &Answered) {
    assert!(answered.status < 500, "{asked}: {} {}", answered.status, answered.text);
    if answered.status != 200 {
        assert!(
            answered.header("content-type").starts_with("application/json"),
            "{asked}: {}",
            answered.text
        );
        let error = &answered.json()["error"];
        assert!(error["message"].is_string() && error["advice"].is_string(), "{asked}: {error}");
    }
}

#[tokio::test]
async fn every_request_is_answered_or_refused_with_a_text() {
    let mut grid = Grid::start(&["star-1"]).await;
    let http = Http::new(grid.http_address());
    let document = http.json("/api/openapi.json").await;
    let mut random = Random::announced("HTTP requests");
    for (path, item) in document["paths"].as_object().expect("paths") {
        if path == "/api/events" {
            continue;
        }
        for (verb, operation) in item.as_object().expect("verbs") {
            let parameters = operation["parameters"].as_array().expect("parameters");
            let names: Vec<&str> = parameters.iter().filter_map(|one| one["name"].as_str()).collect();
            let fields =
                operation["requestBody"]["content"]["application/json"]["schema"]["properties"].as_object();
            let fields: Vec<&str> = fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            for _ in 0..ROUNDS {
                let mut asked = path.clone();
                for name in &names {
                    asked = asked.replace(&format!("{{{name}}}"), pick(&mut random, &TEXTS));
                }
                let words = [&names[..], &["nonsense", "%00", ""]].concat();
                if verb == "get" {
                    let query: Vec<String> = (0..random.below(4))
                        .map(|_| format!("{}={}", pick(&mut random, &words), pick(&mut random, &TEXTS)))
                        .collect();
                    asked = format!("{asked}?{}", query.join("&"));
                    assert_sound(&asked, &http.get(&asked).await);
                } else {
                    let mut body = json!({});
                    for name in &fields {
                        if random.below(2) == 0 {
                            body[*name] = value(&mut random, 3);
                        }
                    }
                    let asked_of = format!("{asked} {body}");
                    assert_sound(&asked_of, &http.post(&asked, &body).await);
                }
            }
        }
    }
    let large = "x".repeat(2 * 1024 * 1024);
    let refused = http.post("/api/jobs/1/pause", &json!({ "reason": large })).await;
    assert_eq!(refused.status, 413, "{}", refused.text);
    assert_sound("a large body", &refused);
    let deep = "[".repeat(100_000);
    let json = [("content-type", "application/json")];
    let refused = http.send("POST", "/api/jobs", &json, &deep).await;
    assert_sound("a deep body", &refused);
    assert!(grid.coordinator().is_running());
    assert_eq!(http.get("/readyz").await.status, 200);
    let said = grid.coordinator().errors();
    assert!(!said.contains("a bug"), "{said}");
}
