//! Why a request is refused, in terms of what the caller can do about it.

use std::fmt;
use std::time::Duration;

/// One field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, as in the proto: `spec.destinations[1].path`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub description: String,
}

impl Violation {
    /// A violation.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// A refused request. It has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such thing.
    NotFound {
        /// What was looked for, for example `job 7`.
        what: String,
    },
    /// Fields are wrong; all that are, are named.
    Invalid(Vec<Violation>),
    /// The name of a request was given to another request before.
    NameUsed {
        /// Which, and what to do.
        problem: String,
    },
    /// Not in this state.
    WrongState {
        /// What is so, and what would have to be.
        problem: String,
    },
    /// A bound is reached.
    Full {
        /// Which, and what to do.
        problem: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// What was asked for is there and damaged.
    Damaged {
        /// What, and how it shows.
        problem: String,
    },
    /// The coordinator cannot do it now.
    Unavailable {
        /// Why.
        problem: String,
    },
}

impl Refusal {
    /// Refuses with `Invalid` for one field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, description)])
    }

    /// Refuses a request whose name belongs to another one of the same method.
    pub fn name_used(id: &str, method: &str, made: &str) -> Self {
        let problem = format!(
            "request_id {id:?} was used for another {method} before{made}; give each request a request_id that no other has"
        );
        Self::NameUsed { problem }
    }

    /// The same for a request whose fields have other names.
    pub fn with_fields(self, name: impl Fn(&str) -> String) -> Self {
        let Self::Invalid(mut violations) = self else { return self };
        for violation in &mut violations {
            violation.field = name(&violation.field);
        }
        Self::Invalid(violations)
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Invalid(_) => "INVALID_FIELD",
            Self::NameUsed { .. } => "REQUEST_ID_USED",
            Self::WrongState { .. } => "WRONG_STATE",
            Self::Full { .. } => "FULL",
            Self::Damaged { .. } => "DATA_CORRUPTION",
            Self::Unavailable { .. } => "UNAVAILABLE",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { what } => write!(f, "there is no {what}"),
            Self::Invalid(violations) => {
                for (index, violation) in violations.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{}: {}", violation.field, violation.description)?;
                }
                Ok(())
            }
            Self::NameUsed { problem }
            | Self::WrongState { problem }
            | Self::Full { problem, .. }
            | Self::Damaged { problem }
            | Self::Unavailable { problem } => f.write_str(problem),
        }
    }
}
