//! What can go wrong for an operator, in sentences that say what to do next. Never a debug dump.

use std::error::Error as _;
use std::fmt::Write as _;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::client::ANSWER_TIMEOUT;
use crate::outcome::{Outcome, UNREACHABLE, USAGE};
use crate::output::human;
use crate::words::{flag, said};

/// Why a command could not be carried out.
#[derive(Debug)]
pub enum CliError {
    /// The command line asks for something that makes no sense.
    Usage(String),
    /// There is no coordinator at the address, or the connection to it was lost.
    Unreachable {
        /// What the system says, in one line.
        problem: String,
    },
    /// The coordinator said no.
    Refused(Box<Status>),
    /// Something on this machine failed.
    Failed(String),
    /// Nobody reads standard output any more, as after `| head`.
    OutputClosed,
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        // A status that the coordinator sent has no source; one that stands for a broken connection has.
        match status.source() {
            Some(source) => Self::unreachable(source),
            None => Self::Refused(Box::new(status)),
        }
    }
}

impl CliError {
    /// From whatever the transport says; its innermost cause is the one that a person understands.
    pub(crate) fn unreachable(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self::Unreachable { problem: innermost.to_string() }
    }

    /// The same for a command that brings its own coordinator: then there is no address to look at.
    pub(crate) fn within_this_process(self) -> Self {
        match self {
            Self::Unreachable { problem } => Self::Failed(format!(
                "the coordinator in this process has stopped: {problem}; --log info says more"
            )),
            Self::Usage(_) | Self::Refused(_) | Self::Failed(_) | Self::OutputClosed => self,
        }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Unreachable { .. } => UNREACHABLE,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument => USAGE,
                Code::Unavailable => UNREACHABLE,
                _ => Outcome::Failed.code(),
            },
            Self::Failed(_) => Outcome::Failed.code(),
            Self::OutputClosed => Outcome::Completed.code(),
        }
    }

    /// Whether the same may work a little later: the connection broke, the coordinator is on its way up or down, or it cut
    /// off who did not read.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(status) => matches!(status.code(), Code::Unavailable | Code::Aborted),
            Self::Usage(_) | Self::Failed(_) | Self::OutputClosed => false,
        }
    }

    /// The same for a program: the gRPC code, the reason, the message and the details, as the HTTP face has them. `None` when there is
    /// nothing to say.
    pub(crate) fn to_json(&self, url: &str) -> Option<serde_json::Value> {
        let message = self.render(url)?;
        let (code, reason) = match self {
            Self::Usage(_) => ("INVALID_ARGUMENT".to_owned(), "USAGE".to_owned()),
            Self::Unreachable { .. } => ("UNAVAILABLE".to_owned(), "UNREACHABLE".to_owned()),
            Self::Failed(_) => ("UNKNOWN".to_owned(), "FAILED".to_owned()),
            Self::Refused(status) => {
                let info = status.get_details_error_info();
                (code_name(status.code()), info.map(|info| info.reason).unwrap_or_default())
            }
            Self::OutputClosed => return None,
        };
        let mut details = serde_json::Map::new();
        if let Self::Refused(status) = self {
            let violations =
                status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
            let violations = violations.iter().map(|violation| {
                serde_json::json!({ "field": violation.field, "description": violation.description })
            });
            details.insert("violations".to_owned(), violations.collect());
            if let Some(delay) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
                details.insert("retryAfter".to_owned(), format!("{}s", delay.as_secs_f64()).into());
            }
        }
        let error = serde_json::json!({
            "code": code, "reason": reason, "message": message, "details": details,
        });
        Some(serde_json::json!({ "error": error }))
    }

    /// The text for standard error, of one or a few lines; `None` when there is nothing to say. `url` is where the
    /// coordinator should have been.
    pub fn render(&self, url: &str) -> Option<String> {
        match self {
            Self::Usage(text) | Self::Failed(text) => Some(text.clone()),
            Self::Unreachable { problem } => Some(format!(
                "no coordinator answers at {url}: {problem}\n\
                 Start one with `orbit-coordinator --data-dir DIR`, or say where it is with --coordinator URL, \
                 ORBIT_COORDINATOR or `orbit context use NAME`."
            )),
            Self::Refused(status) => Some(render_status(status, url)),
            Self::OutputClosed => None,
        }
    }
}

/// A code as clients spell it: `NOT_FOUND`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() && code != Code::Ok {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn render_status(status: &Status, url: &str) -> String {
    let message = sentence(status.message());
    match status.code() {
        Code::InvalidArgument => render_violations(status),
        Code::NotFound => render_not_found(status.message()),
        Code::ResourceExhausted => match status.get_details_retry_info().and_then(|info| info.retry_delay) {
            Some(delay) => format!("{message}\nTry again in {}.", human::duration(delay)),
            None => message,
        },
        Code::Unavailable => {
            format!(
                "the coordinator at {url} cannot serve this now: {message}\nTry again, or name another one with --coordinator."
            )
        }
        Code::Unimplemented => format!(
            "the coordinator at {url} does not know this request; it may be of another version than this orbit, {}.",
            env!("CARGO_PKG_VERSION")
        ),
        Code::Unauthenticated | Code::PermissionDenied => format!("not allowed: {message}"),
        Code::DeadlineExceeded | Code::Cancelled => format!(
            "the coordinator at {url} did not answer within {}: {message}",
            human::duration(ANSWER_TIMEOUT)
        ),
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted | Code::OutOfRange => message,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
            format!("the coordinator at {url} failed: {message}\nIts log says more.")
        }
    }
}

fn render_violations(status: &Status) -> String {
    let violations =
        status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    if violations.is_empty() {
        return sentence(status.message());
    }
    let mut text = "the request is not acceptable:".to_owned();
    for violation in violations {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n  {}: {}",
            human::plain(&flag(&violation.field)),
            human::plain(&said(&violation.description))
        );
    }
    text
}

/// What is not there, and the command that lists what is. The coordinator's own hint names an RPC instead.
fn render_not_found(message: &str) -> String {
    let lists = [
        ("dead letter", "orbit dead-letters ls"),
        ("item", "orbit job items JOB"),
        ("job", "orbit job ls"),
        ("there is no star ", "orbit identity ls"),
        ("there is no operator ", "orbit identity ls"),
        ("there is no viewer ", "orbit identity ls"),
        ("Star", "orbit star ls"),
        ("schedule", "orbit schedule ls"),
        ("snapshot", "orbit snapshot ls"),
    ];
    let what = message.split(';').next().unwrap_or_default();
    match lists.into_iter().find(|(noun, _)| what.contains(noun)) {
        Some((_, list)) => format!("{}\n`{list}` shows those that there are.", sentence(what)),
        None => sentence(message),
    }
}

fn sentence(message: &str) -> String {
    let message = human::plain(&said(message));
    if message.is_empty() {
        return "it gave no reason.".to_owned();
    }
    if message.ends_with(['.', '!', '?']) { message } else { format!("{message}.") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    const URL: &str = "http://127.0.0.1:7100";

    fn render(status: Status) -> String {
        CliError::from(status).render(URL).unwrap()
    }

    #[test]
    fn every_violation_stands_on_a_line_of_its_own() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("spec.source.path", "is \"a\"; an absolute path is needed");
        details.add_bad_request_violation("spec.destinations", "is empty");
        let status = Status::with_error_details(Code::InvalidArgument, "two fields", details);
        let error = CliError::from(status);
        assert_eq!(error.code(), USAGE);
        assert_eq!(
            error.render(URL).unwrap(),
            "the request is not acceptable:\n  SRC: is \"a\"; an absolute path is needed\n  DST: is empty"
        );
    }

    #[test]
    fn what_is_not_found_comes_with_where_to_look() {
        let text = render(Status::not_found("there is no job 7; ListJobs shows those there are"));
        assert_eq!(text, "there is no job 7.\n`orbit job ls` shows those that there are.");
        assert!(render(Status::not_found("there is no Star nas")).contains("orbit star ls"));
        assert!(render(Status::not_found("there is no item 7/0/1")).contains("orbit job items"));
    }

    #[test]
    fn a_full_coordinator_says_when_to_come_back() {
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(Duration::from_millis(2500)));
        let status = Status::with_error_details(Code::ResourceExhausted, "1000 jobs run", details);
        assert_eq!(render(status), "1000 jobs run.\nTry again in 2.5 s.");
    }

    #[test]
    fn a_coordinator_that_is_unavailable_counts_as_unreachable() {
        let error = CliError::from(Status::unavailable("not the leader"));
        assert_eq!((error.code(), error.is_passing()), (UNREACHABLE, true));
        assert!(
            error
                .render(URL)
                .unwrap()
                .starts_with("the coordinator at http://127.0.0.1:7100 cannot serve this now")
        );
    }

    #[test]
    fn control_characters_of_a_message_do_not_reach_the_terminal() {
        assert_eq!(render(Status::failed_precondition("a\u{1b}[2Jb")), "a\\x1b[2Jb.");
    }

    #[test]
    fn an_error_as_json_has_the_code_the_reason_and_what_was_wrong() {
        let mut details = ErrorDetails::new();
        details.set_error_info("NOT_FOUND", "orbit.v1", []);
        let status = Status::with_error_details(
            Code::NotFound,
            "there is no job 7; ListJobs shows those there are",
            details,
        );
        let json = CliError::from(status).to_json(URL).unwrap();
        assert_eq!(
            (&json["error"]["code"], &json["error"]["reason"]),
            (&"NOT_FOUND".into(), &"NOT_FOUND".into())
        );
        assert!(json["error"]["message"].as_str().unwrap().contains("`orbit job ls`"), "{json}");
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("times.daily_times[0]", "is no time");
        let status = Status::with_error_details(Code::InvalidArgument, "bad", details);
        let error = CliError::from(status);
        assert!(error.render(URL).unwrap().contains("--at: is no time"));
        let json = error.to_json(URL).unwrap();
        assert_eq!(json["error"]["details"]["violations"][0]["field"], "times.daily_times[0]");
        assert_eq!(CliError::Usage("so".to_owned()).to_json(URL).unwrap()["error"]["reason"], "USAGE");
        assert_eq!(CliError::OutputClosed.to_json(URL), None);
    }

    #[test]
    fn a_closed_output_is_silent_and_no_failure() {
        assert_eq!((CliError::OutputClosed.render(URL), CliError::OutputClosed.code()), (None, 0));
    }
}
