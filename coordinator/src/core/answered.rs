//! Answers that are remembered by the names of their requests: a request whose answer was lost may be sent again, gets
//! the same answer, and changes nothing a second time.
//!
//! An answer is durable with the changes that it speaks of. A refusal changed nothing, so it is not remembered, and the
//! same request may succeed later. The memory is bounded; the oldest answer is forgotten first. Jobs and
//! schedules are made once by another way: their records bear the names of their requests, and what was asked for.

use std::collections::BTreeMap;

use orbit_shared::words::{JobId, StarId};
use serde::{Deserialize, Serialize};

use super::event::{Answer, Command};
use super::limits::{ANSWERS_BYTES_MAX, ANSWERS_MAX};
use super::refusal::Refusal;
use super::{Change, Core, Turn};

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
    fn bytes(&self) -> usize {
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

/// All answers that are remembered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_number: BTreeMap<u64, AnswerRecord>,
    numbers: BTreeMap<(String, String), u64>,
    bytes: usize,
}

impl Answers {
    pub(super) fn recover(records: Vec<AnswerRecord>) -> Self {
        let mut answers = Self::default();
        for record in records {
            answers.put(record);
        }
        answers
    }

    fn next_number(&self) -> u64 {
        self.by_number.last_key_value().map_or(1, |(number, _)| number + 1)
    }

    fn named(&self, request: &RequestName) -> Option<&AnswerRecord> {
        let number = self.numbers.get(&(request.method.clone(), request.id.clone()))?;
        self.by_number.get(number)
    }

    fn put(&mut self, record: AnswerRecord) {
        let name = (record.request.method.clone(), record.request.id.clone());
        self.numbers.insert(name, record.number);
        self.bytes += record.bytes();
        self.by_number.insert(record.number, record);
    }

    /// Forgets the oldest answer when there are too many; gives its number.
    fn make_room(&mut self) -> Option<u64> {
        if self.by_number.len() <= ANSWERS_MAX && self.bytes <= ANSWERS_BYTES_MAX {
            return None;
        }
        let (number, record) = self.by_number.pop_first()?;
        self.bytes -= record.bytes();
        self.numbers.remove(&(record.request.method, record.request.id));
        Some(number)
    }
}

impl Core {
    /// The result of an earlier request, if it is remembered.
    ///
    /// # Errors
    /// Its name belongs to another request.
    pub fn answered(&self, request: &RequestName) -> Result<Option<&Answered>, Refusal> {
        match self.answers.named(request) {
            Some(record) if record.request.digest != request.digest => {
                Err(Refusal::name_used(&request.id, &request.method, ""))
            }
            record => Ok(record.map(|record| &record.answered)),
        }
    }

    /// Executes a command unless it was executed under this name before.
    pub(super) fn execute_once(
        &mut self,
        turn: &mut Turn,
        request: RequestName,
        command: Command,
    ) -> Result<Answer, Refusal> {
        if let Some(answered) = self.answered(&request)? {
            return Ok(match answered {
                Answered::Job(job) => Answer::Job(*job),
                Answered::Star(star) => Answer::Star(star.clone()),
                Answered::Schedule(schedule) => Answer::Schedule(*schedule),
                Answered::Count(count) => Answer::Count(*count),
                // What is told is not the answer of a command, and no method is both.
                Answered::Done | Answered::Told(_) => Answer::Done,
            });
        }
        let answer = self.execute(turn, command)?;
        let answered = match &answer {
            Answer::Job(job) => Answered::Job(*job),
            Answer::Star(star) => Answered::Star(star.clone()),
            Answer::Schedule(schedule) => Answered::Schedule(*schedule),
            Answer::Count(count) => Answered::Count(*count),
            Answer::Done | Answer::Plan(_) | Answer::Vault(_) => Answered::Done,
        };
        self.remember(turn, request, answered);
        Ok(answer)
    }

    /// Remembers the result of a request.
    pub(super) fn remember(&mut self, turn: &mut Turn, request: RequestName, answered: Answered) {
        if self.answers.named(&request).is_some() {
            return;
        }
        let record = AnswerRecord { number: self.answers.next_number(), request, answered };
        turn.changes.push(Change::PutAnswer(Box::new(record.clone())));
        self.answers.put(record);
        while let Some(number) = self.answers.make_room() {
            turn.changes.push(Change::RemoveAnswer(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, told: usize) -> AnswerRecord {
        let request = RequestName { method: "M".to_owned(), id: number.to_string(), digest: number };
        AnswerRecord { number, request, answered: Answered::Told(vec![0; told]) }
    }

    fn put(answers: &mut Answers, record: AnswerRecord) -> Vec<u64> {
        answers.put(record);
        std::iter::from_fn(|| answers.make_room()).collect()
    }

    #[test]
    fn the_oldest_answers_make_room_by_count_and_by_size() {
        let mut answers = Answers::default();
        for number in 1..=ANSWERS_MAX as u64 {
            assert_eq!(put(&mut answers, record(number, 0)), Vec::<u64>::new());
        }
        let number = answers.next_number();
        assert_eq!(put(&mut answers, record(number, 0)), [1]);
        assert!(answers.named(&record(1, 0).request).is_none());
        assert!(answers.named(&record(2, 0).request).is_some());
        let number = answers.next_number();
        let gone = put(&mut answers, record(number, ANSWERS_BYTES_MAX));
        assert_eq!((answers.by_number.len(), answers.numbers.len(), answers.bytes), (0, 0, 0));
        assert_eq!(gone.last(), Some(&number));
    }
}
