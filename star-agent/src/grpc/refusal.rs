//! Errors of the data plane as gRPC statuses with machine-readable details.

use std::time::Duration;

use orbit_shared::bulletin::truncate_visibly;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

const DOMAIN: &str = "orbit.v1";
/// Maximum length of a status message, in bytes; longer ones are cut. Each byte can take three in a header, and headers
/// have at most 16 KiB. A longer message would break the connection, and all other pulls on it.
pub(super) const STATUS_TEXT_BYTES_MAX: usize = 2048;

/// An error with a machine-readable reason and a text.
pub(super) fn refused(code: Code, reason: &str, text: &str) -> Status {
    with_details(code, text, ErrorDetails::with_error_info(reason, DOMAIN, []))
}

/// As [`refused`], for a request that may work a little later.
pub(super) fn refused_for_now(code: Code, reason: &str, text: &str, retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    details.set_retry_info(Some(retry_after));
    with_details(code, text, details)
}

/// A request with bad fields, all of which are named.
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
