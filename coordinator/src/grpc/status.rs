//! Refusals as gRPC statuses with details that programs can read: the one place where a status is made.

use orbit_proto::convert::ConvertError;
use orbit_shared::bulletin::truncate_visibly;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::core::{CloseReason, Refusal, Violation};
use crate::store::StoreError;

const DOMAIN: &str = "orbit.v1";
/// Bytes of a status message; each may take three in a header.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Bytes of a violation's field or description, and of all violations of one answer.
const VIOLATION_BYTES_MAX: usize = 512;
const VIOLATIONS_BYTES_MAX: usize = 4096;

/// The status of a refusal.
pub(crate) fn refused(refusal: Refusal) -> Status {
    let message = refusal.to_string();
    let mut details = ErrorDetails::new();
    details.set_error_info(refusal.reason(), DOMAIN, []);
    let code = match refusal {
        Refusal::NotFound { .. } => Code::NotFound,
        Refusal::Invalid(violations) => {
            details.set_bad_request(bounded(violations));
            Code::InvalidArgument
        }
        Refusal::WrongState { .. } => Code::FailedPrecondition,
        Refusal::Full { retry_after, .. } => {
            details.set_retry_info(Some(retry_after));
            Code::ResourceExhausted
        }
        Refusal::Damaged { .. } => Code::DataLoss,
        Refusal::Unavailable { .. } => {
            details.set_retry_info(Some(std::time::Duration::from_secs(1)));
            Code::Unavailable
        }
    };
    Status::with_error_details(code, truncate_visibly(&message, MESSAGE_BYTES_MAX), details)
}

/// As many violations as fit. A status travels in the headers of HTTP/2, which a client takes up to 16 KiB: one that is
/// larger breaks the connection instead of saying what is wrong.
fn bounded(violations: Vec<Violation>) -> Vec<FieldViolation> {
    let count = violations.len();
    let mut left = VIOLATIONS_BYTES_MAX;
    let mut fields = Vec::new();
    for violation in violations {
        let field = truncate_visibly(&violation.field, VIOLATION_BYTES_MAX);
        let description = truncate_visibly(&violation.description, VIOLATION_BYTES_MAX);
        let Some(rest) = left.checked_sub(field.len() + description.len()) else { break };
        left = rest;
        fields.push(FieldViolation::new(field, description));
    }
    if fields.len() < count {
        let more = format!("{} more fields are bad; mend these first", count - fields.len());
        fields.push(FieldViolation::new("", more));
    }
    fields
}

/// The status of a store that cannot be read. The cause goes to the log; callers can do nothing about it.
pub(super) fn store_failed(error: &StoreError) -> Status {
    tracing::error!(%error, "the store cannot be read");
    internal("STORE_FAILED", "the coordinator cannot read its store; see its log")
}

/// A fault of the coordinator itself.
pub(crate) fn internal(reason: &str, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, []);
    Status::with_error_details(Code::Internal, truncate_visibly(message, MESSAGE_BYTES_MAX), details)
}

/// The status with which a session ends.
pub(super) fn closed(reason: &CloseReason) -> Status {
    let (code, name) = match reason {
        CloseReason::NameTaken { .. } => (Code::AlreadyExists, "NAME_TAKEN"),
        CloseReason::Superseded { .. } => (Code::Aborted, "SUPERSEDED"),
        CloseReason::TooManyStars { .. } => (Code::ResourceExhausted, "FULL"),
        CloseReason::Removed { .. } => (Code::FailedPrecondition, "REMOVED"),
        CloseReason::ProtocolViolated { .. } => (Code::InvalidArgument, "PROTOCOL_VIOLATED"),
    };
    let mut details = ErrorDetails::new();
    details.set_error_info(name, DOMAIN, []);
    Status::with_error_details(code, truncate_visibly(&reason.to_string(), MESSAGE_BYTES_MAX), details)
}

/// The status with which streams end when the coordinator stops.
pub(crate) fn stopping() -> Status {
    refused(Refusal::Unavailable { problem: "the coordinator is stopping".to_owned() })
}

/// The status of a field that cannot be converted.
pub(super) fn unconvertible(error: ConvertError) -> Status {
    refused(Refusal::invalid(error.field, error.problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_is_wrong_the_answer_fits_into_headers() {
        let long = "€".repeat(50_000);
        let violations: Vec<Violation> =
            (0..3000).map(|index| Violation::new(format!("field-{index}"), long.clone())).collect();
        let status = refused(Refusal::Invalid(violations));
        let in_headers = 3 * status.message().len() + status.details().len() * 4 / 3;
        assert!(in_headers < 12 * 1024, "{in_headers} bytes");
        let details = status.get_details_bad_request().expect("the bad fields");
        let last = details.field_violations.last().expect("one at least");
        assert!(last.description.contains("more fields are bad"), "{last:?}");
    }

    #[test]
    fn a_few_bad_fields_are_all_named_whole() {
        let violations =
            vec![Violation::new("spec.source", "is missing"), Violation::new("spec.mode", "is 9")];
        let status = refused(Refusal::Invalid(violations));
        let details = status.get_details_bad_request().expect("the bad fields");
        let fields: Vec<&str> = details.field_violations.iter().map(|field| field.field.as_str()).collect();
        assert_eq!(fields, ["spec.source", "spec.mode"]);
    }
}
