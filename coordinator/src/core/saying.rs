//! What the parts of the core have to say to operators. A turn collects it in order, and the board takes it up at the end of
//! each step.

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::FailureKind;
use orbit_shared::time::WallTime;
use orbit_shared::words::JobId;

/// A bulletin that is to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) severity: Severity,
    /// The Star that it comes from, or the coordinator.
    pub(super) source: String,
    pub(super) category: String,
    pub(super) job: Option<JobId>,
    pub(super) message: String,
}

/// Kinds of reports of which all of one job are one bulletin, with a count and examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Dead letters with the same reason.
    Letters(FailureKind),
    /// Files that changed while they were read.
    Changed,
}

/// How the message of a bulletin is recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wording {
    /// By how it begins.
    Begins(String),
    /// By how it ends.
    Ends(String),
    /// By something in it.
    Has(String),
}

impl Wording {
    /// Whether a message has it.
    pub(super) fn fits(&self, message: &str) -> bool {
        match self {
            Self::Begins(text) => message.starts_with(text),
            Self::Ends(text) => message.ends_with(text),
            Self::Has(text) => message.contains(text),
        }
    }
}

/// One thing to say, or to take back.
#[derive(Debug)]
pub(super) enum Saying {
    /// Post a bulletin.
    Post(Notice),
    /// Post a bulletin, or count one more on the one about the same kind and job.
    Count {
        /// The kind.
        kind: Kind,
        /// The job.
        job: JobId,
        /// The bulletin, if it is the first.
        notice: Notice,
        /// The path that it is about.
        example: String,
    },
    /// A job has ended: what is reported of it later stands for itself.
    EndCounts(JobId),
    /// What was said and does not hold any more is acknowledged.
    Resolve {
        /// Its severity.
        severity: Severity,
        /// Its source.
        source: String,
        /// Its category.
        category: String,
        /// Its wording is one of these.
        wordings: Vec<Wording>,
    },
    /// All of one job and category is acknowledged.
    Settle {
        /// The job.
        job: JobId,
        /// The category.
        category: &'static str,
    },
    /// What is older is removed, except errors that are not acknowledged; at most `max` of it.
    Forget {
        /// Than this.
        before: WallTime,
        /// How many at most.
        max: usize,
    },
}
