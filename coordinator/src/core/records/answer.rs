//! Answers that are remembered.

use orbit_shared::words::{JobId, StarId};
use serde::{Deserialize, Serialize};

/// The caller's name for a request, and what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestName {
    /// What was called.
    pub method: String,
    /// The caller's text.
    pub id: String,
    /// A digest of the whole request: the same name must not be given to another one.
    pub digest: u64,
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answered {
    /// It concerned this job.
    Job(JobId),
    /// It concerned this Star.
    Star(StarId),
    /// It concerned this schedule.
    Schedule(u64),
    /// It changed so many things.
    Count(u64),
    /// It is done.
    Done,
    /// The answer to a question to a vault or the disk, in a form that only the asker can read.
    Told(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// An answer that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// Grows with each answer.
    pub number: u64,
    /// The request.
    pub request: RequestName,
    /// The answer.
    pub answered: Answered,
}

impl AnswerRecord {
    /// Bytes that it takes in memory.
    pub(in crate::core) fn bytes(&self) -> usize {
        let told = match &self.answered {
            Answered::Told(told) => told.len(),
            Answered::Job(_)
            | Answered::Star(_)
            | Answered::Schedule(_)
            | Answered::Count(_)
            | Answered::Done => 0,
        };
        size_of::<Self>() + self.request.id.len() + told
    }
}
