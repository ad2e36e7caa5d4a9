//! Refusals of the data plane as gRPC statuses with details that programs can read.

use std::time::Duration;

use orbit_shared::bulletin::truncate_visibly;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

const DOMAIN: &str = "orbit.v1";
/// Bytes of a status message; each may take three in a header, and a header has 16 KiB. A longer one would break the
/// connection, and with it the pulls beside the one that is refused.
pub(super) const STATUS_TEXT_BYTES_MAX: usize = 2048;

/// A refusal with a reason for programs and a text for people.
pub(super) fn refused(code: Code, reason: &str, text: &str) -> Status {
    with_details(code, text, ErrorDetails::with_error_info(reason, DOMAIN, []))
}

/// The same for what may work a little later.
pub(super) fn refused_for_now(code: Code, reason: &str, text: &str, retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    details.set_retry_info(Some(retry_after));
    with_details(code, text, details)
}

/// A request with bad fields; all that are bad are named.
pub(super) fn bad_fields(fields: Vec<(&'static str, String)>) -> Status {
    let texts: Vec<String> = fields.iter().map(|(field, problem)| format!("{field}: {problem}")).collect();
    let mut details = ErrorDetails::with_error_info("INVALID_FIELD", DOMAIN, []);
    details.set_bad_request(
        fields.into_iter().map(|(field, problem)| FieldViolation::new(field, problem)).collect::<Vec<_>>(),
    );
    with_details(Code::InvalidArgument, &texts.join("; "), details)
}

fn with_details(code: Code, text: &str, details: ErrorDetails) -> Status {
    Status::with_error_details(code, truncate_visibly(text, STATUS_TEXT_BYTES_MAX), details)
}
