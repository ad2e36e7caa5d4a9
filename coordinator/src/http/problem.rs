//! Refusals as HTTP: a status, and a body of JSON with the gRPC code, the reason, the message and what to do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::meters::code_name;

/// The HTTP status that says the same.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// What somebody who reads a code can do.
fn advice(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument | Code::OutOfRange => {
            "mend what `violations` names and send the request again; /api/openapi.json describes every parameter"
        }
        Code::NotFound => "ask the list for what there is; it may have ended, been retried or been removed",
        Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => {
            "look at its present state, which does not allow this, and choose what it allows"
        }
        Code::ResourceExhausted => "wait as long as `retryAfter` says, then send the same request again",
        Code::Unavailable => "wait a moment, then send the same request again",
        Code::Unauthenticated | Code::PermissionDenied => "use an identity whose role allows this",
        Code::DeadlineExceeded | Code::Cancelled => "send the same request again",
        Code::Unimplemented => "use a version that serves this",
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => "look at the coordinator's log",
    }
}

/// A refusal of a service, over HTTP.
pub(crate) fn of_status(status: &Status) -> Response {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| &info.reason);
    let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
    let retry_after = details.retry_info().and_then(|info| info.retry_delay);
    let violations: Vec<Value> = violations
        .iter()
        .map(|violation| json!({ "field": violation.field, "description": violation.description }))
        .collect();
    let mut error = json!({
        "code": code_name(status.code()),
        "reason": reason,
        "message": status.message(),
        "advice": advice(status.code()),
        "violations": violations,
    });
    if let Some(delay) = retry_after {
        error["retryAfter"] = json!(format!("{}s", delay.as_secs_f64()));
    }
    let mut response = (http_status(status.code()), Json(json!({ "error": error }))).into_response();
    if let Some(delay) = retry_after {
        let seconds = delay.as_secs_f64().ceil().max(1.0) as u64;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A refusal of the HTTP face itself.
pub(crate) fn refuse(status: StatusCode, reason: &str, message: &str, advice: &str) -> Response {
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        _ => Code::InvalidArgument,
    };
    let error = json!({
        "code": code_name(code),
        "reason": reason,
        "message": message,
        "advice": advice,
        "violations": [],
    });
    (status, Json(json!({ "error": error }))).into_response()
}
