//! Who asked for which change: one log line for each call of a method that only an operator may call, with its outcome. It is a layer
//! under both faces, so no method can be forgotten; what the core does for the call carries the same actor.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use orbit_identity::{Peer, PlainPeer, Role};
use orbit_proto::json;
use orbit_shared::bulletin::truncate_visibly;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use tonic::Code;

use super::counted::follow;
use super::{REQUEST_BYTES_MAX, access, status};
use crate::actor::Actor;

/// What the log shows of a request at most, in bytes.
const TARGET_BYTES_MAX: usize = 256;
/// Before a message on the wire: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Secrets, and what says nothing about the target.
const LEFT_OUT: [&str; 4] = ["token", "certificate_request", "request_id", "page_token"];

/// Tells of a call, unless it only looks.
pub(super) async fn tell(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if !access::is_change(&path) {
        return next.run(request).await;
    }
    let peers =
        (request.extensions().get::<Peer>().cloned(), request.extensions().get::<PlainPeer>().copied());
    let actor = actor(peers).await;
    let (parts, body) = request.into_parts();
    // Every such method takes one message.
    let body = match axum::body::to_bytes(body, REQUEST_BYTES_MAX + PREFIX_BYTES).await {
        Ok(body) => body,
        Err(error) => return refused(&path, &actor, &error.to_string()),
    };
    let target = target(&path, &body);
    let response = actor.clone().act(next.run(Request::from_parts(parts, Body::from(body)))).await;
    follow(response, move |code| log(&path, &actor, &target, code))
}

fn refused(path: &str, actor: &Actor, problem: &str) -> Response {
    log(path, actor, "", Code::OutOfRange);
    let text = format!("the request cannot be read, or has more than {REQUEST_BYTES_MAX} bytes: {problem}");
    status::internal_text(Code::OutOfRange, "REQUEST_UNREADABLE", &text).into_http()
}

fn log(path: &str, actor: &Actor, target: &str, outcome: Code) {
    let method = path.rsplit_once(".").map_or(path, |(_, method)| method);
    let (actor, role, outcome) = (actor.name.as_str(), actor.role.as_str(), word(outcome));
    tracing::info!(actor, role, method, on = target, outcome, "a change was asked for");
}

/// The code as clients spell it.
fn word(code: Code) -> String {
    let mut word = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() && code != Code::Ok {
            word.push('_');
        }
        word.push(letter.to_ascii_uppercase());
    }
    word
}

/// Who asks. Over HTTP it was determined where the request came in.
async fn actor((secured, plain): (Option<Peer>, Option<PlainPeer>)) -> Actor {
    if let Some(actor) = Actor::current() {
        return actor;
    }
    match secured {
        Some(Peer { facts: Some(facts), .. }) => Actor::certified(&facts.identity),
        // Somebody who joins.
        Some(Peer { address, facts: None }) => {
            Actor { name: format!("address:{}", address.ip()), role: Role::Viewer }
        }
        None => Actor::plain(plain, Role::Operator).await,
    }
}

/// What a call is about: the fields of its request that are set, one after the other.
fn target(path: &str, body: &Bytes) -> String {
    let decoded = || {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let service = json::descriptors().get_service_by_name(service)?;
        let method = service.methods().find(|known| known.name() == method)?;
        DynamicMessage::decode(method.input(), body.get(PREFIX_BYTES..)?).ok()
    };
    let Some(message) = decoded() else { return "unreadable".to_owned() };
    let mut text = String::new();
    describe(&message, &mut text);
    truncate_visibly(&text, TARGET_BYTES_MAX)
}

/// Adds the fields of a message. Of one within it, those that name a thing.
fn describe(message: &DynamicMessage, text: &mut String) {
    for field in message.descriptor().fields() {
        if LEFT_OUT.contains(&field.name()) || !message.has_field(&field) || text.len() > TARGET_BYTES_MAX {
            continue;
        }
        let value = message.get_field(&field);
        let shown = match value.as_ref() {
            Value::List(values) => {
                let shown: Vec<String> = values.iter().take(4).map(|value| show(value, &field)).collect();
                if values.len() > shown.len() {
                    format!("{} and {} more", shown.join(","), values.len() - shown.len())
                } else {
                    shown.join(",")
                }
            }
            value => show(value, &field),
        };
        if shown.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(field.name());
        text.push('=');
        text.push_str(&shown);
    }
}

fn show(value: &Value, field: &prost_reflect::FieldDescriptor) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Bool(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::EnumNumber(number) => {
            let kind = field.kind();
            let name = kind.as_enum().and_then(|of| of.get_value(*number));
            name.map_or_else(|| number.to_string(), |name| name.name().to_owned())
        }
        Value::Message(inner) => show_message(inner),
        Value::Bytes(_) | Value::List(_) | Value::Map(_) => String::new(),
    }
}

/// A text that changes neither a terminal nor the order of what is written beside it.
fn printable(text: &str) -> String {
    let changes_order = |letter| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || changes_order(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

fn show_message(message: &DynamicMessage) -> String {
    let descriptor = message.descriptor();
    let text = |name: &str| {
        let value = message.get_field_by_name(name)?;
        value.as_str().map(printable)
    };
    match descriptor.full_name() {
        "orbit.v1.Location" => {
            format!("{}:{}", text("star_id").unwrap_or_default(), text("path").unwrap_or_default())
        }
        name if name.starts_with("orbit.v1.") => {
            let mut shown = String::new();
            describe_places(message, &descriptor, &mut shown);
            shown
        }
        // Times and durations.
        _ => json::of_dynamic(message)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default(),
    }
}

/// Of a specification its places: the rest is in the record of what it made.
fn describe_places(message: &DynamicMessage, descriptor: &MessageDescriptor, text: &mut String) {
    for name in ["source", "destinations"] {
        let Some(field) = descriptor.get_field_by_name(name) else { continue };
        let value = message.get_field(&field);
        let shown = match value.as_ref() {
            Value::List(values) => {
                values.iter().take(4).map(|value| show(value, &field)).collect::<Vec<_>>().join(",")
            }
            value => show(value, &field),
        };
        if !text.is_empty() {
            text.push_str(" -> ");
        }
        text.push_str(&shown);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::{Arc, Mutex};

    use orbit_proto::v1;
    use orbit_telemetry::Spans;
    use tokio_util::sync::CancellationToken;
    use tonic::service::Routes;
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;
    use crate::core::CoreConfig;
    use crate::driver::{Driver, GrantKeys, Inbox};
    use crate::grpc::Faces;
    use crate::keep::Backups;
    use crate::meters::Meters;
    use crate::provenance_log::ProvenanceLog;
    use crate::store::EmbeddedStore;

    fn framed(message: &impl prost::Message) -> Bytes {
        let mut bytes = vec![0; PREFIX_BYTES];
        bytes.extend(message.encode_to_vec());
        bytes.into()
    }

    #[test]
    fn a_target_names_things_and_no_secret() {
        let place = |star: &str| v1::Location {
            star_id: star.to_owned(),
            path: "/d\u{202e}".to_owned(),
            ..v1::Location::default()
        };
        let spec = v1::JobSpec {
            source: Some(place("a")),
            destinations: vec![place("b"), place("c")],
            ..v1::JobSpec::default()
        };
        let request = v1::CreateJobRequest { spec: Some(spec), request_id: "secret".to_owned() };
        let text = target("/orbit.v1.JobService/CreateJob", &framed(&request));
        assert!(text.starts_with("spec=a:/d") && text.contains(" -> b:/d"), "{text}");
        assert!(!text.contains("secret") && !text.contains('\u{202e}'), "{text}");
        let request =
            v1::JoinRequest { token: "orbit-join-x".to_owned(), name: "n".to_owned(), ..Default::default() };
        assert_eq!(target("/orbit.v1.IdentityService/Join", &framed(&request)), "name=n");
        let request = v1::RevokeIdentityRequest { role: 2, name: "n".to_owned(), ..Default::default() };
        let text = target("/orbit.v1.IdentityService/RevokeIdentity", &framed(&request));
        assert_eq!(text, "role=ROLE_OPERATOR name=n");
        assert_eq!(
            target("/orbit.v1.JobService/CreateJob", &Bytes::from_static(b"\0\0\0\0\x01\xff")),
            "unreadable"
        );
    }

    /// Keeps the fields of the audit's lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

    struct Fields<'a>(&'a mut BTreeMap<String, String>);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == module_path!().trim_end_matches("::tests")
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut fields = BTreeMap::new();
            event.record(&mut Fields(&mut fields));
            self.0.lock().unwrap().push(fields);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    /// A coordinator within this process, whose methods are called.
    async fn services(directory: &std::path::Path, stop: &CancellationToken) -> (Routes, Inbox) {
        let store = Arc::new(EmbeddedStore::open(&directory.join("store")).unwrap());
        let provenance = Arc::new(ProvenanceLog::open(&directory.join("events"), u64::MAX).unwrap());
        let meters = Arc::new(Meters::new());
        let keys = GrantKeys::open(directory).unwrap();
        let (config, spans) = (CoreConfig::default(), Spans::default());
        let recovered =
            Driver::recover(config, store.clone(), provenance.clone(), keys, meters.clone(), spans);
        let (driver, inbox) = recovered.unwrap();
        tokio::spawn(driver.run(stop.clone()));
        let backups = Arc::new(Backups { directory: directory.join("backups"), count_max: 0 });
        let (inbox, stop) = (inbox.clone(), stop.clone());
        let faces =
            Faces { inbox: inbox.clone(), store, provenance, backups, meters, identities: None, stop };
        (super::super::routes(&faces).await.unwrap(), inbox)
    }

    #[tokio::test]
    async fn every_method_that_changes_something_leaves_a_line_that_says_who_asked() {
        let (directory, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let (services, _) = services(directory.path(), &stop).await;
        let lines = Lines::default();
        let _guard = tracing::subscriber::set_default(lines.clone());
        let alice = Actor { name: "operator:alice".to_owned(), role: Role::Operator };
        let methods: Vec<&str> = access::methods().collect();
        for path in &methods {
            if path.ends_with("Connect") {
                continue;
            }
            let request = Request::post(*path)
                .header("content-type", "application/grpc")
                .body(Body::from(framed(&v1::ListJobsRequest::default())))
                .unwrap();
            let mut router = services.clone().into_axum_router();
            let answered = alice.clone().act(tower::Service::call(&mut router, request)).await.unwrap();
            // A watch has no end; its answer is dropped.
            if access::is_change(path) {
                axum::body::to_bytes(answered.into_body(), usize::MAX).await.unwrap();
            }
        }
        stop.cancel();
        let lines = lines.0.lock().unwrap();
        let told: BTreeSet<&str> = lines.iter().map(|line| line["method"].as_str()).collect();
        let changes = methods.iter().filter(|path| access::is_change(path));
        let changes: BTreeSet<&str> = changes.map(|path| path.rsplit_once('.').unwrap().1).collect();
        assert_eq!(told, changes);
        assert_eq!(lines.len(), changes.len(), "one line for each call");
        assert!(changes.len() > 30, "{changes:?}");
        for line in lines.iter() {
            assert_eq!((line["actor"].as_str(), line["role"].as_str()), ("operator:alice", "operator"));
            assert!(
                line["outcome"].chars().all(|letter| letter.is_ascii_uppercase() || letter == '_'),
                "{line:?}"
            );
        }
        let outcome = |method: &str| {
            lines.iter().find(|line| line["method"] == method).map(|line| line["outcome"].clone()).unwrap()
        };
        assert_eq!(outcome("JobService/CreateJob"), "INVALID_ARGUMENT");
        assert_eq!(outcome("IdentityService/RotateGrantKey"), "OK");
    }

    #[test]
    fn an_outcome_is_spelt_as_clients_do() {
        assert_eq!(word(Code::Ok), "OK");
        assert_eq!(word(Code::FailedPrecondition), "FAILED_PRECONDITION");
    }
}
