//! `/api/openapi.json`: what there is, made of the route table and the descriptors, so that it cannot say anything else
//! than what is served. The texts are the comments of the protos.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use bytes::Bytes;
use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::call::Rpc;
use super::query::{enum_names, is_parameter};
use super::routes::{ROUTES, Route, Verb, path_fields};

/// The document as JSON. It is made once.
pub(crate) fn text() -> Bytes {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    TEXT.get_or_init(|| Bytes::from(document().to_string())).clone()
}

/// The document, OpenAPI 3.0.3.
fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let verb = match route.verb {
            Verb::Get => "get",
            Verb::Post => "post",
        };
        let operation = operation(route, &mut schemas);
        paths.entry(route.path.replace("{*", "{")).or_default().insert(verb.to_owned(), operation);
    }
    for (path, operation) in by_hand() {
        paths.entry(path.to_owned()).or_default().insert("get".to_owned(), operation);
    }
    let mut components = schemas.finish();
    components.insert("Error".to_owned(), error_schema());
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Orbit Grid",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What orbit.v1 serves over gRPC, as canonical proto3 JSON. Fields that have their default \
                value are left out of answers; 64-bit numbers are strings.",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": components },
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let rpc = Rpc::of(route);
    let named: BTreeSet<&str> = path_fields(route.path).collect();
    let input = rpc.input();
    let parameters: Vec<Value> = input
        .fields()
        .filter(is_parameter)
        .filter(|field| named.contains(field.name()) || route.verb == Verb::Get)
        .map(|field| {
            let is_of_path = named.contains(field.name());
            json!({
                "name": field.name(),
                "in": if is_of_path { "path" } else { "query" },
                "required": is_of_path,
                "description": comment(&field.parent_file(), field.path()),
                "schema": parameter_schema(&field),
            })
        })
        .collect();
    let method = rpc.method();
    let description = comment(&method.parent_file(), method.path());
    let summary = description.split_once(". ").map_or(&*description, |(first, _)| first);
    let mut operation = json!({
        "operationId": route.method,
        "tags": [route.service],
        "summary": summary.trim_end_matches('.'),
        "description": description,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": comment_of(&rpc.output()),
                "content": { "application/json": { "schema": schemas.message(&rpc.output()) } },
            },
            "default": {
                "description": "A refusal.",
                "content": { "application/json": { "schema": reference("Error") } },
            },
        },
    });
    if route.verb == Verb::Post {
        // The fields that the path names are not taken from the body as well.
        let rest: Map<String, Value> = input
            .fields()
            .filter(|field| !named.contains(field.name()))
            .map(|field| (field.json_name().to_owned(), schemas.field(&field)))
            .collect();
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": {
                "type": "object", "properties": rest, "additionalProperties": false,
            } } },
        });
    }
    operation
}

/// What is served beside the table.
fn by_hand() -> Vec<(&'static str, Value)> {
    let answers = |kind: &str, schema: Value, words: &str| json!({ "200": { "description": words, "content": { kind: { "schema": schema } } } });
    let text = json!({ "type": "string" });
    let operation = |id: &str, summary: &str, parameters: Value, responses: Value| json!({ "operationId": id, "tags": ["Http"], "summary": summary, "parameters": parameters, "responses": responses });
    let topics: Vec<&str> = super::frame::Topic::ALL.iter().map(|(name, _)| *name).collect();
    let sample = json!({ "type": "object", "properties": {
        "time": { "type": "string", "format": "date-time" },
        "bytesPerSecond": { "type": "string", "format": "uint64" },
        "itemsDone": { "type": "string", "format": "uint64" },
    } });
    vec![
        (
            "/api/events",
            operation(
                "StreamEvents",
                "What changes, as server-sent events",
                json!([
                    { "name": "topics", "in": "query", "required": false, "style": "form", "explode": false,
                      "description": "What to hear of; all of it if it is left out.",
                      "schema": { "type": "array", "items": { "type": "string", "enum": topics } } },
                    { "name": "last_event_id", "in": "query", "required": false,
                      "description": "Go on after this id; the same as the header Last-Event-ID.",
                      "schema": { "type": "string" } },
                ]),
                answers("text/event-stream", text.clone(), "The stream."),
            ),
        ),
        (
            "/api/throughput",
            operation(
                "GetThroughput",
                "The throughput of the last half hour",
                json!([]),
                answers(
                    "application/json",
                    json!({ "type": "object", "properties": {
                        "intervalSeconds": { "type": "integer" },
                        "samples": { "type": "array", "items": sample },
                    } }),
                    "The samples, oldest first.",
                ),
            ),
        ),
        (
            "/api/openapi.json",
            operation(
                "GetOpenApi",
                "This document",
                json!([]),
                answers("application/json", json!({ "type": "object" }), "This document."),
            ),
        ),
        (
            "/metrics",
            operation(
                "GetMetrics",
                "All metrics in the text format of Prometheus",
                json!([]),
                answers("text/plain", text.clone(), "The metrics."),
            ),
        ),
        (
            "/healthz",
            operation(
                "GetHealth",
                "Whether the process runs",
                json!([]),
                answers("text/plain", text.clone(), "It runs."),
            ),
        ),
        (
            "/readyz",
            operation(
                "GetReady",
                "Whether the coordinator answers; 503 if not",
                json!([]),
                answers("text/plain", text, "It answers."),
            ),
        ),
    ]
}

/// The schemas that are referred to, each made once.
#[derive(Default)]
struct Schemas {
    made: BTreeMap<String, Value>,
}

impl Schemas {
    fn finish(self) -> Map<String, Value> {
        self.made.into_iter().collect()
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        match message.full_name() {
            "google.protobuf.Timestamp" => return json!({ "type": "string", "format": "date-time" }),
            "google.protobuf.Duration" => return json!({ "type": "string", "pattern": "^-?[0-9.]+s$" }),
            _ => {}
        }
        let name = message.name().to_owned();
        if !self.made.contains_key(&name) {
            // Before its fields, since a message may contain itself.
            self.made.insert(name.clone(), Value::Null);
            let properties: Map<String, Value> =
                message.fields().map(|field| (field.json_name().to_owned(), self.field(&field))).collect();
            let schema = json!({
                "type": "object", "description": comment_of(message), "properties": properties,
            });
            self.made.insert(name.clone(), schema);
        }
        reference(&name)
    }

    fn enumeration(&mut self, names: &EnumDescriptor) -> Value {
        let name = names.name().to_owned();
        if !self.made.contains_key(&name) {
            let values: Vec<String> = names.values().map(|value| value.name().to_owned()).collect();
            let schema = json!({
                "type": "string", "description": comment(&names.parent_file(), names.path()), "enum": values,
            });
            self.made.insert(name.clone(), schema);
        }
        reference(&name)
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let one = |schemas: &mut Self, field: &FieldDescriptor| match field.kind() {
            Kind::Message(message) => schemas.message(&message),
            Kind::Enum(names) => schemas.enumeration(&names),
            kind => scalar(&kind),
        };
        let schema = if field.is_map() {
            let entry = field.kind();
            let value = entry.as_message().map(MessageDescriptor::map_entry_value_field);
            let value = value.map_or(json!({}), |value| one(self, &value));
            json!({ "type": "object", "additionalProperties": value })
        } else if field.is_list() {
            json!({ "type": "array", "items": one(self, field) })
        } else {
            one(self, field)
        };
        described(schema, &comment(&field.parent_file(), field.path()))
    }
}

/// A schema with words of its own; beside a reference nothing else may stand.
fn described(mut schema: Value, words: &str) -> Value {
    if schema.get("$ref").is_some() {
        return json!({ "allOf": [schema], "description": words });
    }
    schema["description"] = json!(words);
    schema
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => json!({ "type": "string", "format": "byte" }),
        Kind::Double => json!({ "type": "number", "format": "double" }),
        Kind::Float => json!({ "type": "number", "format": "float" }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
        Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "format": "int64", "minimum": 0 }),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": "string", "format": "int64" }),
        Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
        Kind::Message(_) | Kind::Enum(_) => json!({}),
    }
}

fn parameter_schema(field: &FieldDescriptor) -> Value {
    let one = match field.kind() {
        Kind::Enum(names) => json!({ "type": "string", "enum": enum_names(&names).collect::<Vec<_>>() }),
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            json!({ "type": "string", "format": "date-time" })
        }
        Kind::Message(_) => json!({ "type": "string" }),
        kind => scalar(&kind),
    };
    if field.is_list() { json!({ "type": "array", "items": one }) } else { one }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "A refusal.",
        "properties": { "error": { "type": "object", "properties": {
            "code": { "type": "string", "description": "The gRPC code, for example NOT_FOUND." },
            "reason": { "type": "string", "description": "The reason, for programs." },
            "message": { "type": "string", "description": "What is wrong, for people." },
            "advice": { "type": "string", "description": "What to do." },
            "retryAfter": { "type": "string", "description": "When to try again; absent if that does not help." },
            "violations": { "type": "array", "items": { "type": "object", "properties": {
                "field": { "type": "string" }, "description": { "type": "string" },
            } } },
        } } },
    })
}

fn comment_of(message: &MessageDescriptor) -> String {
    let text = comment(&message.parent_file(), message.path());
    if text.is_empty() { message.name().to_owned() } else { text }
}

/// The comment in front of an element, as one paragraph.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let text = location.map(|location| location.leading_comments()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
