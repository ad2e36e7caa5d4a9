//! Every call with grpcurl or curl in the documents is valid: the method exists and its request has those fields, or
//! the path is a route.

use std::sync::LazyLock;

use orbit_tests::grid::Grid;
use orbit_tests::http::Http;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::documents;
use super::snippets::{self, Code};

/// Methods that servers have besides `orbit.v1`, by the standards of gRPC.
const STANDARD_METHODS: [&str; 2] = ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"];
/// Flags of grpcurl that take a value.
const FLAGS_WITH_VALUE: [&str; 7] = ["-d", "-H", "-max-time", "-import-path", "-cacert", "-cert", "-key"];
/// Minimum number of calls in the documents. Fewer mean that they are not found any more.
const CALLS_MIN: usize = 40;

static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(orbit_proto::FILE_DESCRIPTOR_SET).expect("the build compiled the descriptors")
});

/// The problem of a call by grpcurl.
fn grpcurl_problem(words: &[String]) -> Option<String> {
    let (mut data, mut places) = (None, Vec::new());
    let mut rest = words.iter().skip(1).map(String::as_str);
    while let Some(word) = rest.next() {
        if FLAGS_WITH_VALUE.contains(&word) {
            let value = rest.next();
            data = if word == "-d" { value } else { data };
        } else if !word.starts_with('-') {
            places.push(word);
        }
    }
    match places.as_slice() {
        [_, "list"] => None,
        [_, "list" | "describe", symbol] => (!is_symbol(symbol)).then(|| format!("there is no {symbol}")),
        [_, method] if STANDARD_METHODS.contains(method) => None,
        [_, method] => match input_of(method) {
            None => Some(format!("there is no method {method}")),
            Some(input) => data.and_then(|data| request_problem(input, data)),
        },
        _ => Some("it names no address and method".to_owned()),
    }
}

fn is_symbol(name: &str) -> bool {
    DESCRIPTORS.get_message_by_name(name).is_some()
        || DESCRIPTORS.get_enum_by_name(name).is_some()
        || DESCRIPTORS.services().any(|service| service.full_name() == name)
        || input_of(&name.replacen("Service.", "Service/", 1)).is_some()
}

fn input_of(method: &str) -> Option<MessageDescriptor> {
    let (service, method) = method.split_once('/')?;
    let service = DESCRIPTORS.services().find(|known| known.full_name() == service)?;
    service.methods().find(|known| known.name() == method).map(|method| method.input())
}

/// Unknown fields are errors for the parser, as they are for grpcurl.
fn request_problem(input: MessageDescriptor, json: &str) -> Option<String> {
    let mut parser = serde_json::Deserializer::from_str(json);
    let parsed = DynamicMessage::deserialize(input, &mut parser).map(drop);
    parsed.and_then(|()| parser.end()).err().map(|error| error.to_string())
}

#[test]
fn every_call_with_grpcurl_in_the_documents_is_one_that_is_answered() {
    let mut problems = Vec::new();
    let mut count = 0;
    for (document, text) in documents() {
        for snippet in snippets::commands(&text) {
            // A name alone is a name.
            let is_call =
                snippet.words.first().is_some_and(|word| word == "grpcurl") && snippet.words.len() > 1;
            if !is_call {
                continue;
            }
            count += 1;
            if let Some(problem) = grpcurl_problem(&snippet.words) {
                let command = snippet.words.join(" ");
                problems.push(format!("{}:{}: {command}\n{problem}", document.display(), snippet.line));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= CALLS_MIN, "only {count} calls were found");
}

#[test]
fn a_method_or_a_field_that_does_not_exist_is_found() {
    let said = |line: &str| grpcurl_problem(&super::shell::commands(line)[0]);
    for right in [
        "grpcurl -plaintext a:1 list",
        "grpcurl -plaintext a:1 describe orbit.v1.JobSpec",
        "grpcurl -plaintext a:1 grpc.health.v1.Health/Check",
        "grpcurl -d '{\"job_id\": 1}' a:1 orbit.v1.JobService/GetJob",
        "grpcurl -d '{\"jobId\": \"1\"}' a:1 orbit.v1.JobService/GetJob",
    ] {
        assert_eq!(said(right), None, "{right}");
    }
    for wrong in [
        "grpcurl -plaintext a:1",
        "grpcurl a:1 describe orbit.v1.Nothing",
        "grpcurl a:1 orbit.v1.JobService/Get",
        "grpcurl -d '{\"job\": 1}' a:1 orbit.v1.JobService/GetJob",
        "grpcurl -d '{\"job_id\": 1' a:1 orbit.v1.JobService/GetJob",
    ] {
        assert!(said(wrong).is_some(), "{wrong}");
    }
}

/// The path in a curl command, or in code such as `GET /api/jobs`, without its query.
fn path_of(code: &Code) -> Vec<String> {
    let path = |text: &str| text.split(['?', ' ']).next().unwrap_or_default().to_owned();
    let of_url = |word: &str| {
        let rest = word.split_once("://127.0.0.1:7180").map(|(_, rest)| rest)?;
        Some(if rest.is_empty() { "/".to_owned() } else { path(rest) })
    };
    match code {
        Code::Span(text) => {
            let named = text.strip_prefix("GET ").or_else(|| text.strip_prefix("POST ")).unwrap_or(text);
            let is_path = named.starts_with("/api/") || named != text;
            if is_path { vec![path(named)] } else { of_url(text).into_iter().collect() }
        }
        Code::Block(_, text) => {
            let words = text.lines().filter(|line| line.contains("curl ")).flat_map(str::split_whitespace);
            words.filter_map(|word| of_url(word.trim_matches(['\'', '"']))).collect()
        }
    }
}

/// Whether a path matches a route: a part in braces, in either of them, is one segment. The last one of a route can be
/// several, as in an item's key.
fn is_of_form(path: &str, route: &str) -> bool {
    let (path, route): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), route.split('/').collect());
    let is_like =
        |(one, other): (&&str, &&str)| one == other || one.starts_with('{') || other.starts_with('{');
    let is_open = route.last().is_some_and(|last| *last == "{item_key}");
    (path.len() == route.len() || is_open && path.len() > route.len()) && path.iter().zip(&route).all(is_like)
}

#[tokio::test]
async fn every_path_in_the_documents_is_a_route() {
    let grid = Grid::start(&[]).await;
    let http = Http::new(grid.http_address());
    let document = http.get("/api/openapi.json").await.json();
    let routes: Vec<String> =
        document["paths"].as_object().expect("an OpenAPI document has paths").keys().cloned().collect();
    let (mut count, mut unknown) = (0, Vec::new());
    for (document, text) in documents() {
        for (line, code) in snippets::code(&text) {
            for path in path_of(&code) {
                count += 1;
                let is_route = routes.iter().any(|route| is_of_form(&path, route));
                // A path outside of the API is simply requested.
                if !is_route && (path.starts_with("/api/") || http.get(&path).await.status != 200) {
                    unknown.push(format!("{}:{line}: {path}", document.display()));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(count >= CALLS_MIN, "only {count} paths were found");
}

#[test]
fn a_path_fits_a_route_by_its_segments() {
    for (path, is_so) in [
        ("/api/items/1/0/7", true),
        ("/api/items/{item_key}", true),
        ("/api/items", false),
        ("/api/item/1", false),
    ] {
        assert_eq!(is_of_form(path, "/api/items/{item_key}"), is_so, "{path}");
    }
    assert!(is_of_form("/api/jobs/3/pause", "/api/jobs/{job_id}/pause"));
    assert!(!is_of_form("/api/jobs/3/pause", "/api/jobs/{job_id}"));
}
