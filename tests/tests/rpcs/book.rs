//! Records the calls on one server and their cases: the record is complete if every RPC has every case, or a reason why
//! it has none.

use std::collections::{BTreeMap, BTreeSet};

use orbit_tests::client::{bad_fields, reason};
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::call::Caller;
use crate::reflection;

/// The cases in which an RPC is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// With good input.
    Good,
    /// With input that is always refused.
    Bad,
    /// In a state that does not allow it.
    WrongState,
    /// Again with the same `request_id`.
    Again,
}

/// Prefixes of RPCs that change nothing.
const READING: [&str; 8] = ["Get", "List", "Watch", "Explain", "Locate", "Plan", "Check", "ServerReflection"];
/// Streams whose messages have their own numbers, by which a repeated one is recognized.
const NUMBERED: [&str; 2] = ["Connect", "Pull"];
/// Requests with a key, by which a repeated one is recognized.
const KEYED: [&str; 2] = ["Join", "Renew"];

/// The record; see the module.
pub(crate) struct Book {
    caller: Caller,
    services: Vec<String>,
    cases: BTreeMap<String, BTreeSet<Case>>,
    reasons: BTreeMap<(String, Case), &'static str>,
}

/// A method of `orbit.v1` can be named without the package.
fn full(method: &str) -> String {
    if method.contains('.') { method.to_owned() } else { format!("orbit.v1.{method}") }
}

impl Book {
    /// A record for the server at an address, which reflection describes.
    pub(crate) async fn open(address: &str) -> Self {
        let channel = Caller::connect(address).await;
        let (services, pool) = reflection::describe(channel.clone()).await;
        let caller = Caller::new(channel, pool);
        Self { caller, services, cases: BTreeMap::new(), reasons: BTreeMap::new() }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn channel(&self) -> Channel {
        self.caller.channel()
    }

    pub(crate) fn services(&self) -> &[String] {
        &self.services
    }

    fn note(&mut self, method: &str, case: Case) {
        self.cases.entry(full(method)).or_default().insert(case);
    }

    /// Good input with one answer.
    pub(crate) async fn good(&mut self, method: &str, request: Value) -> Value {
        let mut answers = self.stream(method, request.clone(), |_| false).await;
        assert_eq!(answers.len(), 1, "{method} {request}: {answers:#?}");
        answers.remove(0)
    }

    /// Good input, with answers until the end or until there are enough.
    pub(crate) async fn stream(
        &mut self,
        method: &str,
        request: Value,
        is_enough: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        self.note(method, Case::Good);
        let answer = self.caller.call(&full(method), std::slice::from_ref(&request), is_enough).await;
        answer.end.unwrap_or_else(|status| panic!("{method} {request}: {status:?}"));
        answer.messages
    }

    async fn refused(&self, method: &str, request: &Value) -> Status {
        let answer = self.caller.call(&full(method), std::slice::from_ref(request), |_| false).await;
        let status = answer.end.expect_err(&format!("{method} {request} must be refused"));
        assert!(answer.messages.is_empty(), "{method} {request}: {:#?} before {status}", answer.messages);
        *status
    }

    /// Input with exactly these bad fields, all of which must be named.
    pub(crate) async fn bad(&mut self, method: &str, request: Value, fields: &[&str]) {
        self.note(method, Case::Bad);
        let status = self.refused(method, &request).await;
        assert_bad(&status, fields);
    }

    /// A request for something that does not exist.
    pub(crate) async fn unknown(&mut self, method: &str, request: Value) {
        self.note(method, Case::Bad);
        let status = self.refused(method, &request).await;
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::NotFound, "NOT_FOUND".to_owned()),
            "{method} {request}"
        );
    }

    /// The state does not allow it, and the error has a text that contains `text`.
    pub(crate) async fn wrong_state(&mut self, method: &str, request: Value, text: &str) {
        self.note(method, Case::WrongState);
        let status = self.refused(method, &request).await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{method} {request}: {status:?}");
        assert_eq!(reason(&status), "WRONG_STATE", "{method} {request}");
        assert!(status.message().contains(text), "{method} {request}: {text:?} is not in {status:?}");
    }

    /// A watch cannot continue at its reader's position.
    pub(crate) async fn lost_position(&mut self, method: &str, request: Value, lost: &str) {
        self.note(method, Case::WrongState);
        let status = self.refused(method, &request).await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, lost), "{method} {request}");
        let metadata = status.get_details_error_info().expect("details").metadata;
        for number in ["last_position", "oldest_available", "newest_available", "resume_at"] {
            let number =
                metadata.get(number).unwrap_or_else(|| panic!("{method}: no {number} in {metadata:?}"));
            assert!(number.parse::<u64>().is_ok(), "{method}: {metadata:?}");
        }
    }

    /// Repeats a request with a `request_id`: the answer must be the same at `pointer` (completely if that is empty).
    /// Another request with that id must be refused.
    pub(crate) async fn again(&mut self, method: &str, request: Value, before: &Value, pointer: &str) {
        assert!(request["request_id"].is_string(), "{method} {request} has no name");
        self.note(method, Case::Again);
        let answers = self.stream(method, request.clone(), |_| false).await;
        let after = answers.last().unwrap_or_else(|| panic!("{method} {request}: no answer"));
        let parts = (before.pointer(pointer), after.pointer(pointer));
        assert!(parts.0.is_some() && parts.0 == parts.1, "{method} {request}: {before:#}, then {after:#}");
    }

    /// Another request gets the id of one that was answered.
    pub(crate) async fn stolen_name(&mut self, method: &str, request: Value) {
        assert!(request["request_id"].is_string(), "{method} {request} has no name");
        let refused = self.refused(method, &request).await;
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::AlreadyExists, "REQUEST_ID_USED"),
            "{refused:?}"
        );
    }

    /// Records a case that is made by other means than one call with JSON.
    pub(crate) fn good_by_hand(&mut self, method: &str) {
        self.note(method, Case::Good);
    }

    /// As [`Self::good_by_hand`], for a repeated request.
    pub(crate) fn again_by_hand(&mut self, method: &str) {
        self.note(method, Case::Again);
    }

    /// As [`Self::good_by_hand`], for a refused request.
    pub(crate) fn bad_by_hand(&mut self, method: &str) {
        self.note(method, Case::Bad);
    }

    /// As [`Self::good_by_hand`], for a wrong state.
    pub(crate) fn wrong_state_by_hand(&mut self, method: &str) {
        self.note(method, Case::WrongState);
    }

    /// An RPC that is not refused in any state of the grid.
    pub(crate) fn has_no_wrong_state(&mut self, method: &str, why: &'static str) {
        self.reasons.insert((full(method), Case::WrongState), why);
    }

    /// An RPC whose request cannot be bad.
    pub(crate) fn has_no_bad_input(&mut self, method: &str, why: &'static str) {
        self.reasons.insert((full(method), Case::Bad), why);
    }

    /// Every served RPC has every case, or a reason why not, and every RPC that changes something takes a `request_id`
    /// and was repeated with it.
    pub(crate) fn assert_complete(&self) {
        let mut missing = Vec::new();
        let mut known = BTreeSet::new();
        for service in &self.services {
            let service =
                self.caller.pool().get_service_by_name(service).expect("what is listed is described");
            for method in service.methods() {
                let path = format!("{}/{}", service.full_name(), method.name());
                let has = |case: Case| self.cases.get(&path).is_some_and(|cases| cases.contains(&case));
                for case in [Case::Good, Case::Bad, Case::WrongState] {
                    match (has(case), self.reasons.contains_key(&(path.clone(), case))) {
                        (true, false) | (false, true) => {}
                        (true, true) => {
                            missing.push(format!("{path} has a case {case:?} and a reason against it"));
                        }
                        (false, false) => missing.push(format!("{path} has no case {case:?}")),
                    }
                }
                let is_reading = READING.iter().any(|word| method.name().starts_with(word))
                    || NUMBERED.contains(&method.name())
                    || KEYED.contains(&method.name());
                let takes_name = method.input().get_field_by_name("request_id").is_some();
                if is_reading == takes_name {
                    missing.push(format!(
                        "{path}: changes something: {}, takes a request_id: {takes_name}",
                        !is_reading
                    ));
                }
                if takes_name && !has(Case::Again) {
                    missing.push(format!("{path} was not called again with the same request_id"));
                }
                known.insert(path);
            }
        }
        let called = self.cases.keys().chain(self.reasons.keys().map(|(path, _)| path));
        missing
            .extend(called.filter(|path| !known.contains(*path)).map(|path| format!("{path} is not served")));
        assert!(missing.is_empty(), "{}", missing.join("\n"));
        assert!(known.len() > 1, "next to nothing is served: {known:?}");
    }
}

/// An error names exactly these fields.
pub(crate) fn assert_bad(status: &Status, fields: &[&str]) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(reason(status), "INVALID_FIELD", "{status:?}");
    let named: BTreeSet<String> = bad_fields(status).into_iter().collect();
    let expected: BTreeSet<String> = fields.iter().map(|&field| field.to_owned()).collect();
    assert_eq!(named, expected, "{status:?}");
    let details = status.get_details_bad_request().expect("the bad fields");
    assert!(details.field_violations.iter().all(|violation| !violation.description.is_empty()), "{status:?}");
}
