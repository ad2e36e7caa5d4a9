//! Requests from what HTTP carries: the fields of a message from a path and a query, or from a body of JSON.
//!
//! Every bad parameter is named in one answer, and one that does not exist is told which ones do.

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::core::Violation;

/// Parameters of one query; more than any request has fields, repeated ones included.
const PARAMETERS_MAX: usize = 1100;

/// A request from the fields that a path names and the parameters of a query.
pub(crate) fn from_query(
    input: &MessageDescriptor,
    path: &[(String, String)],
    query: &[(String, String)],
) -> Result<DynamicMessage, Vec<Violation>> {
    let mut fields = Map::new();
    let mut violations = Vec::new();
    if query.len() > PARAMETERS_MAX {
        let problem = format!("has {} parameters, may have {PARAMETERS_MAX}", query.len());
        return Err(vec![Violation::new("query", problem)]);
    }
    for (name, text) in path {
        add(input, &mut fields, name, text, &mut violations);
    }
    for (name, text) in query {
        if path.iter().any(|(taken, _)| field_of(input, name).is_some_and(|field| field.name() == taken)) {
            violations.push(Violation::new(name, "is given by the path; leave it out of the query"));
        } else {
            add(input, &mut fields, name, text, &mut violations);
        }
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    read(input, Value::Object(fields))
}

/// A request from a body of JSON and the fields that the path names.
pub(crate) fn from_body(
    input: &MessageDescriptor,
    path: &[(String, String)],
    body: &[u8],
) -> Result<DynamicMessage, Vec<Violation>> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let parsed: Value = serde_json::from_slice(body).map_err(|error| {
        vec![Violation::new("body", format!("is no JSON: {error}; send an object such as {{}}"))]
    })?;
    let Value::Object(mut fields) = parsed else {
        return Err(vec![Violation::new("body", "must be a JSON object")]);
    };
    let mut violations = Vec::new();
    for name in fields.keys() {
        match field_of(input, name) {
            None => violations.push(unknown(input, name)),
            Some(field) if path.iter().any(|(taken, _)| taken == field.name()) => {
                violations.push(Violation::new(name, "is given by the path; leave it out of the body"));
            }
            Some(_) => {}
        }
    }
    for (name, text) in path {
        add(input, &mut fields, name, text, &mut violations);
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    read(input, Value::Object(fields))
}

fn read(input: &MessageDescriptor, fields: Value) -> Result<DynamicMessage, Vec<Violation>> {
    DynamicMessage::deserialize(input.clone(), fields)
        .map_err(|error| vec![Violation::new("body", format!("does not fit {}: {error}", input.name()))])
}

/// Puts one parameter among the fields, in its JSON form.
fn add(
    input: &MessageDescriptor,
    fields: &mut Map<String, Value>,
    name: &str,
    text: &str,
    violations: &mut Vec<Violation>,
) {
    let Some(field) = field_of(input, name).filter(is_parameter) else {
        violations.push(unknown(input, name));
        return;
    };
    // A list may also be written with commas, where no value can have one.
    let texts: Vec<&str> =
        if field.is_list() && field.kind() != Kind::String { text.split(',').collect() } else { vec![text] };
    for text in texts {
        let value = match value(&field, text) {
            Ok(value) => value,
            Err(problem) => {
                violations.push(Violation::new(name, problem));
                return;
            }
        };
        let alone = if field.is_list() { Value::Array(vec![value.clone()]) } else { value.clone() };
        let tried = Value::Object(Map::from_iter([(field.name().to_owned(), alone)]));
        if let Err(error) = DynamicMessage::deserialize(input.clone(), tried) {
            violations.push(Violation::new(name, format!("is {text:?}: {error}{}", hint(&field))));
            return;
        }
        match fields.entry(field.name()).or_insert(Value::Null) {
            Value::Array(list) => list.push(value),
            slot @ Value::Null => *slot = if field.is_list() { Value::Array(vec![value]) } else { value },
            _ => {
                violations.push(Violation::new(name, "is given twice, and takes one value"));
                return;
            }
        }
    }
}

fn value(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    match field.kind() {
        Kind::Bool => match text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(format!("is {text:?}, must be true or false")),
        },
        Kind::Enum(names) => enum_value(&names, text),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// An enum's value by its number, its name, or its name without the prefix, in any case: `SEVERITY_ERROR` is `error`.
fn enum_value(names: &EnumDescriptor, text: &str) -> Result<Value, String> {
    let wanted = text.trim().to_uppercase().replace('-', "_");
    let prefix = prefix_of(names);
    let is_wanted = |name: &str| name == wanted || name.strip_prefix(&prefix) == Some(&wanted);
    let mut values = names.values();
    if let Some(found) = values.find(|value| is_wanted(value.name()) || text.parse() == Ok(value.number())) {
        return Ok(Value::String(found.name().to_owned()));
    }
    let known: Vec<String> = enum_names(names).collect();
    Err(format!("is {text:?}, must be one of {}", known.join(", ")))
}

/// The short names of an enum that mean something, in lower case.
pub(crate) fn enum_names(names: &EnumDescriptor) -> impl Iterator<Item = String> {
    let prefix = prefix_of(names);
    let meant: Vec<_> = names.values().filter(|value| value.number() != 0).collect();
    meant.into_iter().map(move |value| value.name().trim_start_matches(&prefix).to_lowercase())
}

/// What every value's name begins with, by the name of the value 0: `SEVERITY_` of `SEVERITY_UNSPECIFIED`.
fn prefix_of(names: &EnumDescriptor) -> String {
    let zero = names.default_value();
    zero.name().strip_suffix("UNSPECIFIED").unwrap_or_default().to_owned()
}

fn hint(field: &FieldDescriptor) -> &'static str {
    match field.kind() {
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            "; write a time as 2026-11-25T18:00:00Z"
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => {
            "; write a duration as 90s"
        }
        _ => "",
    }
}

fn field_of(input: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    input.get_field_by_name(name).or_else(|| input.get_field_by_json_name(name))
}

/// Whether a field has a form of one word, which a query can carry.
pub(crate) fn is_parameter(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) => {
            !field.is_list()
                && ["google.protobuf.Timestamp", "google.protobuf.Duration"].contains(&message.full_name())
        }
        _ => true,
    }
}

fn unknown(input: &MessageDescriptor, name: &str) -> Violation {
    let known: Vec<String> =
        input.fields().filter(is_parameter).map(|field| field.name().to_owned()).collect();
    let problem = match known.is_empty() {
        true => "is not known, and there are no parameters here".to_owned(),
        false => format!("is not known; there are {}", known.join(", ")),
    };
    Violation::new(name, problem)
}

#[cfg(test)]
mod tests {
    use orbit_proto::{json, v1};
    use prost::Message as _;

    use super::*;

    fn message(name: &str) -> MessageDescriptor {
        json::descriptors().get_message_by_name(&format!("orbit.v1.{name}")).expect("a message")
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn bulletins(query: &[(&str, &str)]) -> Result<v1::ListBulletinsRequest, Vec<Violation>> {
        let read = from_query(&message("ListBulletinsRequest"), &[], &pairs(query))?;
        Ok(v1::ListBulletinsRequest::decode(&*read.encode_to_vec()).expect("the same message"))
    }

    #[test]
    fn parameters_of_every_kind_become_fields() {
        let read = bulletins(&[
            ("min_severity", "warning"),
            ("starId", "star-1"),
            ("job_id", "7"),
            ("since", "2026-11-25T18:00:00Z"),
            ("limit", "10"),
        ]);
        let read = read.expect("good parameters");
        assert_eq!(read.min_severity(), v1::Severity::Warning);
        assert_eq!((&*read.star_id, read.job_id, read.limit), ("star-1", Some(7), 10));
        assert_eq!(read.since.expect("a time").seconds, 1_795_629_600);
    }

    #[test]
    fn enums_are_known_by_each_of_their_names() {
        for name in ["SEVERITY_ERROR", "error", "Error", "3"] {
            let read = bulletins(&[("min_severity", name)]).expect("a severity");
            assert_eq!(read.min_severity(), v1::Severity::Error, "{name}");
        }
        let jobs = from_query(&message("ListJobsRequest"), &[], &pairs(&[("states", "running,paused")]));
        let read = v1::ListJobsRequest::decode(&*jobs.expect("two states").encode_to_vec()).expect("decodes");
        assert_eq!(read.states, [v1::JobState::Running as i32, v1::JobState::Paused as i32]);
    }

    #[test]
    fn every_bad_parameter_is_named_in_one_answer() {
        let bad = [
            ("severity", "error"),
            ("min_severity", "loud"),
            ("job_id", "seven"),
            ("since", "noon"),
            ("limit", "99999999999"),
        ];
        let violations = bulletins(&bad).expect_err("bad parameters");
        let named: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, bad.map(|(name, _)| name));
        assert!(violations[0].description.contains("min_severity, star_id"), "{violations:?}");
        assert!(violations[1].description.contains("info, warning, error"), "{violations:?}");
        assert!(violations[3].description.contains("2026-11-25T18:00:00Z"), "{violations:?}");
    }

    #[test]
    fn one_value_cannot_be_given_twice_nor_the_path_contradicted() {
        assert!(bulletins(&[("job_id", "1"), ("job_id", "2")]).is_err());
        let path = pairs(&[("star_id", "star-1")]);
        let get = message("GetStarRequest");
        assert!(from_query(&get, &path, &pairs(&[("starId", "star-2")])).is_err());
        assert!(from_body(&get, &path, b"{\"star_id\": \"star-2\"}").is_err());
        assert!(from_body(&get, &path, b"").is_ok());
    }

    #[test]
    fn a_body_is_an_object_with_known_fields() {
        let acknowledge = message("AcknowledgeBulletinsRequest");
        for bad in ["[]", "{", "{\"ids\": [1]}", "{\"bulletin_ids\": \"x\"}", "\u{0}"] {
            assert!(from_body(&acknowledge, &[], bad.as_bytes()).is_err(), "{bad}");
        }
        let read = from_body(&acknowledge, &[], b"{\"bulletinIds\": [\"1\", 2]}").expect("two numbers");
        let read = v1::AcknowledgeBulletinsRequest::decode(&*read.encode_to_vec()).expect("decodes");
        assert_eq!(read.bulletin_ids, [1, 2]);
    }

    proptest::proptest! {
        #[test]
        fn any_query_is_read_or_refused(name in "[a-z_]{0,12}|job_id|since|states|page_size", text in "\\PC{0,24}") {
            for input in ["ListBulletinsRequest", "ListEventsRequest", "ListJobsRequest", "ListSnapshotsRequest"] {
                let _ = from_query(&message(input), &[], &[(name.clone(), text.clone())]);
            }
        }
    }
}
