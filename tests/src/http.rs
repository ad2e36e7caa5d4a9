//! A client of the coordinator's HTTP interface: requests, answers as JSON, and the stream of events.

use std::collections::VecDeque;

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::bytes::Bytes;
use serde_json::Value;
use tonic::codegen::http::{HeaderMap, Request};

use crate::deadline::within;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Http {
    address: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// The answer of a server.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answered {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// A header, empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers are text"))
    }
}

impl Http {
    /// For a server at `host:port`.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Answered {
        self.send("GET", path, &[], "").await
    }

    /// The JSON of a GET request that must succeed.
    pub async fn json(&self, path: &str) -> Value {
        let answered = self.get(path).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.text);
        answered.json()
    }

    /// Sends a POST request.
    pub async fn post(&self, path: &str, body: &Value) -> Answered {
        self.send("POST", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    /// Sends any request.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        let response = within(path, self.client.request(self.request(method, path, headers, body))).await;
        let response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (parts, body) = response.into_parts();
        let collected = within(path, body.collect()).await.expect("an answer arrives whole");
        let text = String::from_utf8(collected.to_bytes().to_vec()).expect("answers are text");
        Answered { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// Reads events, from now on or after an id.
    pub async fn events(&self, query: &str, last_event_id: Option<&str>) -> Events {
        let path = format!("/api/events{query}");
        let headers: Vec<(&str, &str)> = last_event_id.map(|id| ("last-event-id", id)).into_iter().collect();
        let response = within(&path, self.client.request(self.request("GET", &path, &headers, ""))).await;
        let response = response.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(response.status(), 200, "{path}");
        Events { body: response.into_body(), text: String::new(), read: VecDeque::new() }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::from(body.to_owned())).expect("a request of a test is well formed")
    }
}

/// One server-sent event.
#[derive(Debug, Clone)]
pub struct SentEvent {
    /// The id with which a reader continues after it.
    pub id: String,
    /// Its kind.
    pub name: String,
    /// Its content.
    pub data: Value,
}

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    body: hyper::body::Incoming,
    text: String,
    read: VecDeque<SentEvent>,
}

impl Events {
    /// The next event, or `None` at the end.
    pub async fn next(&mut self) -> Option<SentEvent> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(event);
            }
            let frame = within("an event", self.body.frame()).await?.ok()?;
            let Ok(bytes) = frame.into_data() else { continue };
            self.text.push_str(std::str::from_utf8(&bytes).expect("events are text"));
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                self.read.extend(parse(event));
                self.text = rest.to_owned();
            }
        }
    }

    /// The next event of a kind that meets a condition.
    pub async fn wait(&mut self, name: &str, is_so: impl Fn(&Value) -> bool) -> SentEvent {
        within(&format!("a {name} event"), async {
            loop {
                let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
                if event.name == name && is_so(&event.data) {
                    return event;
                }
            }
        })
        .await
    }
}

impl Events {
    /// Waits for a comment line, before which no event may come.
    pub async fn wait_comment(&mut self) {
        within("a sign of life", async {
            loop {
                let frame =
                    self.body.frame().await.expect("the stream goes on").expect("the stream is whole");
                let Ok(bytes) = frame.into_data() else { continue };
                assert!(bytes.starts_with(b":"), "{:?}", String::from_utf8_lossy(&bytes));
                return;
            }
        })
        .await;
    }
}

fn parse(text: &str) -> Option<SentEvent> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let data = serde_json::from_str(field("data:")?).expect("an event carries JSON");
    Some(SentEvent { id: field("id:")?.to_owned(), name: field("event:")?.to_owned(), data })
}
