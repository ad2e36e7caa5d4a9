//! Refusals as gRPC statuses with details that programs can read: the one place where a status is made.

use orbit_proto::convert::ConvertError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::core::{CloseReason, Refusal};
use crate::store::StoreError;

const DOMAIN: &str = "orbit.v1";

/// The status of a refusal.
pub(super) fn refused(refusal: Refusal) -> Status {
    let message = refusal.to_string();
    let mut details = ErrorDetails::new();
    details.set_error_info(refusal.reason(), DOMAIN, []);
    let code = match refusal {
        Refusal::NotFound { .. } => Code::NotFound,
        Refusal::Invalid(violations) => {
            let fields =
                violations.into_iter().map(|wrong| FieldViolation::new(wrong.field, wrong.description));
            details.set_bad_request(fields.collect::<Vec<_>>());
            Code::InvalidArgument
        }
        Refusal::WrongState { .. } => Code::FailedPrecondition,
        Refusal::Full { retry_after, .. } => {
            details.set_retry_info(Some(retry_after));
            Code::ResourceExhausted
        }
        Refusal::Unavailable { .. } => {
            details.set_retry_info(Some(std::time::Duration::from_secs(1)));
            Code::Unavailable
        }
    };
    Status::with_error_details(code, message, details)
}

/// The status of a store that cannot be read. The cause goes to the log; callers can do nothing about it.
pub(super) fn store_failed(error: &StoreError) -> Status {
    tracing::error!(%error, "the store cannot be read");
    internal("STORE_FAILED", "the coordinator cannot read its store; see its log")
}

/// A fault of the coordinator itself.
pub(super) fn internal(reason: &str, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, []);
    Status::with_error_details(Code::Internal, message, details)
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
    Status::with_error_details(code, reason.to_string(), details)
}

/// The status with which streams end when the coordinator stops.
pub(super) fn stopping() -> Status {
    refused(Refusal::Unavailable { problem: "the coordinator is stopping".to_owned() })
}

/// The status of a field that cannot be converted.
pub(super) fn unconvertible(error: ConvertError) -> Status {
    refused(Refusal::invalid(error.field, error.problem))
}
