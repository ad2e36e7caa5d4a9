//! Refusals as gRPC statuses with details that programs can read: the one place where a status is made.

use std::time::Duration;

use orbit_identity::{Identity, Refused, TokenError};
use orbit_proto::convert::ConvertError;
use orbit_shared::bulletin::truncate_visibly;
use orbit_shared::words::StarId;
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
        Refusal::NameUsed { .. } => Code::AlreadyExists,
        Refusal::WrongState { .. } => Code::FailedPrecondition,
        Refusal::Full { retry_after, .. } => {
            details.set_retry_info(Some(retry_after));
            Code::ResourceExhausted
        }
        Refusal::Damaged { .. } => Code::DataLoss,
        Refusal::Unavailable { .. } => {
            details.set_retry_info(Some(Duration::from_secs(1)));
            Code::Unavailable
        }
    };
    Status::with_error_details(code, truncate_visibly(&message, MESSAGE_BYTES_MAX), details)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refused(refusal)
    }
}

impl From<Violation> for Status {
    fn from(violation: Violation) -> Self {
        refused(Refusal::Invalid(vec![violation]))
    }
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
    with_reason(Code::Internal, reason, message)
}

/// Somebody without a certificate called what asks for one.
pub(super) fn no_identity() -> Status {
    let message = "this call needs a certificate of this grid; an operator makes a join token with `orbit token create`, or \
                   `orbit-coordinator token create` on the coordinator's machine, and `orbit join` takes it";
    with_reason(Code::Unauthenticated, "NO_IDENTITY", message)
}

/// Somebody called what is for others.
pub(super) fn not_allowed(path: &str, caller: &str, needed: &str) -> Status {
    let method = path.trim_start_matches('/');
    let message = format!(
        "{caller} may not call {method}, which is for {needed}; use an identity whose role allows it"
    );
    with_reason(Code::PermissionDenied, "ROLE_NOT_ALLOWED", &message)
}

/// A Star says that it is another one than its certificate does.
pub(super) fn another_star(holder: &Identity, says: &StarId) -> Status {
    let message = format!(
        "the certificate is that of {holder}, and the session is for Star {says}; start it as {}, or let {says} join with \
         a join token and a vault of its own",
        holder.name
    );
    with_reason(Code::PermissionDenied, "STAR_MISMATCH", &message)
}

/// The registry of identities refuses.
pub(super) fn identity_refused(why: &Refused) -> Status {
    let message = why.to_string();
    let (code, reason) = match why {
        Refused::Token(TokenError::Files(_)) | Refused::Ledger(_) | Refused::Authority(_) => {
            tracing::error!(error = %why, "the identities of the grid cannot be read or written");
            return internal(
                "IDENTITY_FAILED",
                "the coordinator cannot write down what it gave; see its log",
            );
        }
        Refused::Token(_) => (Code::PermissionDenied, "TOKEN_UNKNOWN"),
        Refused::TokenEnded => (Code::PermissionDenied, "TOKEN_ENDED"),
        Refused::UnknownToken(_) => (Code::NotFound, "NOT_FOUND"),
        Refused::TokenSpent { .. } => return refused(Refusal::WrongState { problem: message }),
        Refused::TokenExpired => (Code::PermissionDenied, "TOKEN_EXPIRED"),
        Refused::TokenUsed => (Code::PermissionDenied, "TOKEN_USED"),
        Refused::TokenRevoked(_) => (Code::PermissionDenied, "TOKEN_REVOKED"),
        Refused::TokenMakerRevoked(_) => (Code::PermissionDenied, "TOKEN_REVOKED"),
        Refused::Revoked(_) => (Code::PermissionDenied, "IDENTITY_REVOKED"),
        Refused::NotInLedger(_) => (Code::PermissionDenied, "IDENTITY_UNKNOWN"),
        Refused::OtherKey(_) => (Code::PermissionDenied, "OTHER_KEY"),
        Refused::Expired(_) => (Code::Unauthenticated, "CERTIFICATE_EXPIRED"),
        Refused::NameTaken(_) => (Code::AlreadyExists, "NAME_TAKEN"),
        Refused::Unknown(_) => (Code::NotFound, "NOT_FOUND"),
        Refused::Invalid(_) => return refused(Refusal::invalid("ttl", message)),
        Refused::WrongName { .. } | Refused::NoName => return refused(Refusal::invalid("name", message)),
        Refused::Request(_) => return refused(Refusal::invalid("certificate_request", message)),
    };
    with_reason(code, reason, &message)
}

fn with_reason(code: Code, reason: &str, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, []);
    Status::with_error_details(code, truncate_visibly(message, MESSAGE_BYTES_MAX), details)
}

/// A status with a reason of its own.
pub(super) fn internal_text(code: Code, reason: &str, message: &str) -> Status {
    with_reason(code, reason, message)
}

/// The status with which a session ends.
pub(super) fn closed(reason: &CloseReason) -> Status {
    let (code, name) = match reason {
        CloseReason::NameTaken { .. } => (Code::AlreadyExists, "NAME_TAKEN"),
        CloseReason::Superseded { .. } => (Code::Aborted, "SUPERSEDED"),
        CloseReason::TooManyStars { .. } => (Code::ResourceExhausted, "FULL"),
        CloseReason::OtherGrid { .. } => (Code::FailedPrecondition, "OTHER_GRID"),
        CloseReason::StoreLost { .. } => (Code::Unavailable, "STORE_LOST"),
        CloseReason::Removed { .. } => (Code::FailedPrecondition, "REMOVED"),
        CloseReason::ProtocolViolated { .. } => (Code::InvalidArgument, "PROTOCOL_VIOLATED"),
    };
    with_reason(code, name, &reason.to_string())
}

/// A watch that cannot go on where its reader is.
#[derive(Debug)]
pub(super) struct Lost {
    /// What is watched, in the singular: `bulletin`.
    pub(super) what: &'static str,
    /// The field of the request that takes a position.
    pub(super) field: &'static str,
    /// What the reader has.
    pub(super) position: u64,
    /// The oldest behind it that is kept.
    pub(super) oldest: u64,
    /// The newest there is.
    pub(super) newest: u64,
    /// The position from which a watch gets all that is kept behind the reader's, and perhaps what it has.
    pub(super) resume_at: u64,
}

impl Lost {
    fn status(&self, reason: &str, message: &str) -> Status {
        let mut details = ErrorDetails::new();
        let numbers = [
            ("last_position", self.position),
            ("oldest_available", self.oldest),
            ("newest_available", self.newest),
            ("resume_at", self.resume_at),
        ];
        let metadata = numbers.map(|(name, number)| (name.to_owned(), number.to_string()));
        details.set_error_info(reason, DOMAIN, metadata);
        Status::with_error_details(Code::OutOfRange, message, details)
    }

    /// What follows the reader's position was removed, or some of it.
    pub(super) fn gone(&self) -> Status {
        let Self { what, field, position, oldest, resume_at, .. } = self;
        let message = format!(
            "some of what came after {what} {position} was removed before it was sent; of the rest the oldest is \
             {oldest}. Watch again with {field} {resume_at} to get all that is kept, and pass over what you have"
        );
        self.status("POSITION_GONE", &message)
    }

    /// The reader's position was never given here.
    pub(super) fn unknown(&self) -> Status {
        let Self { what, field, position, newest, .. } = self;
        let message = format!(
            "there is no {what} {position}; the newest is {newest}. The position is of another grid, or later than the \
             backup that this one was restored from. Watch again with {field} 0"
        );
        self.status("POSITION_UNKNOWN", &message)
    }
}

/// The end of a watch that was not read, with the field that takes a position and what was read last.
pub(super) fn not_read(patience: Duration, resumed_by: Option<(&str, u64)>) -> Status {
    let mut details = ErrorDetails::new();
    let reason = "READER_TOO_SLOW";
    match resumed_by {
        Some((_, last)) => {
            details.set_error_info(reason, DOMAIN, [("last_position".to_owned(), last.to_string())]);
        }
        None => {
            details.set_error_info(reason, DOMAIN, []);
        }
    }
    let next = match resumed_by {
        Some((field, last)) => format!("watch again with {field} {last}, which was sent last"),
        None => "watch again, which begins with the present state".to_owned(),
    };
    let message = format!("the messages of this watch were not read for {} s; {next}", patience.as_secs());
    Status::with_error_details(Code::Aborted, message, details)
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
