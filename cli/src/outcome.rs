//! What the program exits with.

use orbit_proto::v1::{Job, JobState};

/// The command line or a request was wrong.
pub(crate) const USAGE: u8 = 2;
/// No coordinator answered.
pub(crate) const UNREACHABLE: u8 = 5;
/// A signal ended the wait for a job that goes on; 128 and the number of SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// The text in `--help` that says the same.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  completed
  1  failed
  2  the command line or the request is wrong
  3  partially completed: each missing item is listed on standard error
  4  cancelled
  5  the coordinator cannot be reached
  130  interrupted while waiting for a job that goes on";

/// How a command that ran to its end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All that was asked for is done.
    Completed,
    /// It could not be done.
    Failed,
    /// Done except for items that are dead letters.
    PartiallyCompleted,
    /// Cancelled by an operator or a signal.
    Cancelled,
    /// A signal ended the wait; the job goes on.
    Interrupted,
}

impl Outcome {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Failed => 1,
            Self::PartiallyCompleted => 3,
            Self::Cancelled => 4,
            Self::Interrupted => INTERRUPTED,
        }
    }

    /// How an ended job went; `None` while it goes on.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        match job.state() {
            JobState::Unspecified | JobState::Scanning | JobState::Running | JobState::Paused => None,
            JobState::Completed => Some(Self::Completed),
            JobState::PartiallyCompleted => Some(Self::PartiallyCompleted),
            JobState::Failed => Some(Self::Failed),
            JobState::Cancelled => Some(Self::Cancelled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_exit_code() {
        let outcomes = [
            Outcome::Completed,
            Outcome::Failed,
            Outcome::PartiallyCompleted,
            Outcome::Cancelled,
            Outcome::Interrupted,
        ];
        for code in outcomes.map(Outcome::code).into_iter().chain([USAGE, UNREACHABLE]) {
            let is_named =
                EXIT_CODES_HELP.lines().any(|line| line.trim_start().starts_with(&format!("{code}  ")));
            assert!(is_named, "{code}");
        }
    }

    #[test]
    fn a_job_has_an_outcome_once_it_has_ended() {
        let outcome = |state| Outcome::of(&Job { state: i32::from(state), ..Job::default() });
        assert_eq!(outcome(JobState::Paused), None);
        assert_eq!(outcome(JobState::PartiallyCompleted), Some(Outcome::PartiallyCompleted));
        assert_eq!(outcome(JobState::Cancelled), Some(Outcome::Cancelled));
    }
}
