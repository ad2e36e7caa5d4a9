//! Answers that are remembered by the names of their requests: a request whose answer was lost may be sent again, gets
//! the same answer, and changes nothing a second time.
//!
//! An answer is durable with the changes that it speaks of. A refusal changed nothing, so it is not remembered, and the
//! same request may succeed later. The memory is bounded; the oldest answer is forgotten first. Jobs and
//! schedules are made once by another way: their records bear the names of their requests, and what was asked for.

use std::collections::BTreeMap;

use super::change::Change;
use super::limits::{ANSWERS_BYTES_MAX, ANSWERS_MAX};
use super::records::{AnswerRecord, Answered, RequestName};
use super::refusal::Refusal;
use super::turn::Turn;

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

impl Answers {
    /// The result of an earlier request, if it is remembered.
    ///
    /// # Errors
    /// Its name belongs to another request.
    pub(super) fn answered(&self, request: &RequestName) -> Result<Option<&Answered>, Refusal> {
        match self.named(request) {
            Some(record) if record.request.digest != request.digest => {
                Err(Refusal::name_used(&request.id, &request.method, ""))
            }
            record => Ok(record.map(|record| &record.answered)),
        }
    }

    /// Remembers the result of a request.
    pub(super) fn remember(&mut self, turn: &mut Turn, request: RequestName, answered: Answered) {
        if self.named(&request).is_some() {
            return;
        }
        let record = AnswerRecord { number: self.next_number(), request, answered };
        turn.changes.push(Change::PutAnswer(Box::new(record.clone())));
        self.put(record);
        while let Some(number) = self.make_room() {
            turn.changes.push(Change::RemoveAnswer(number));
        }
        self.check();
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let (count, bytes) = (self.by_number.len(), self.bytes);
        assert_eq!(count, self.numbers.len(), "answers against the names of their requests");
        assert!(
            count <= ANSWERS_MAX && bytes <= ANSWERS_BYTES_MAX,
            "{count} answers of {bytes} bytes are kept"
        );
    }

    /// The same for what would take a pass over everything.
    pub(super) fn check_all(&self) {
        let bytes: usize = self.by_number.values().map(AnswerRecord::bytes).sum();
        assert_eq!(bytes, self.bytes, "bytes of all answers");
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
