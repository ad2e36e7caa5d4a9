//! Changes of a schedule: another specification, other times. Its number, its history and its pause stay.
//!
//! An edit replaces both as a whole, and names the revision that it was made from. If the schedule has another revision by
//! then, the edit is refused, so that two operators cannot undo each other's work without noticing. Jobs hold a copy of the
//! specification that they began with, so only later jobs follow an edit.

use orbit_shared::bulletin::Severity;
use orbit_shared::chunk_hash::ChunkHash;

use super::Schedules;
use crate::core::notices::COORDINATOR;
use crate::core::records::{JobSpec, ScheduleEdit, ScheduleRecord, ScheduleTimes};
use crate::core::refusal::Refusal;
use crate::core::turn::Turn;

impl ScheduleRecord {
    /// Whether the request that created it asked for this.
    pub(super) fn was_created_with(&self, spec: &JobSpec, times: &ScheduleTimes) -> bool {
        match self.edits {
            0 => self.spec.is_same_request(spec) && self.times == *times,
            _ => self.created_as == Some(digest(spec, times)),
        }
    }

    /// Notes what it was created with, before that is changed for the first time.
    fn note_created_as(&mut self) {
        if self.edits == 0 {
            self.created_as = Some(digest(&self.spec, &self.times));
        }
    }
}

/// Tells what is asked for from other things. The caller's span differs with each call and asks for nothing.
fn digest(spec: &JobSpec, times: &ScheduleTimes) -> u64 {
    let asked = (JobSpec { caller: None, ..spec.clone() }, times);
    let encoded = rmp_serde::to_vec(&asked).expect("it has no maps with unserializable keys");
    let ChunkHash(hash) = ChunkHash::of(&encoded);
    hash.iter().take(8).fold(0, |digest, &byte| digest << 8 | u64::from(byte))
}

impl Schedules {
    /// Replaces the specification and the times of a schedule by those of an edit that was checked.
    pub(in crate::core) fn update(&mut self, turn: &mut Turn, edit: ScheduleEdit) -> Result<u64, Refusal> {
        let ScheduleEdit { schedule: id, spec, times, expected_revision, violations } = edit;
        assert!(violations.is_empty(), "an edit of schedule {id} with {violations:?} is made");
        let mut record = self.known(id)?;
        if expected_revision != record.revision() {
            let who = match record.edited_by.as_str() {
                "" => "somebody",
                actor => actor,
            };
            let problem = format!(
                "schedule {id} has revision {}, and this edit was made from revision {expected_revision}: {who} has changed the schedule since. Read it again and repeat the edit",
                record.revision()
            );
            return Err(Refusal::WrongState { problem });
        }
        let is_other_time = record.times != times;
        if !is_other_time && record.spec.is_same_request(&spec) {
            return Ok(id);
        }
        if is_other_time {
            set_next_time(turn, &mut record, &times);
        }
        record.note_created_as();
        record.spec = spec;
        record.times = times;
        record.edits = record.edits.saturating_add(1);
        record.edited_by = turn.actor.clone().unwrap_or_default();
        let message = format!("schedule {id} was changed and has revision {} now", record.revision());
        turn.post((Severity::Info, COORDINATOR, "schedule"), None, &message);
        self.keep(turn, record);
        Ok(id)
    }
}

/// Sets the next of the new times. A time of before that has come already still makes its job, at the end of this turn.
fn set_next_time(turn: &mut Turn, record: &mut ScheduleRecord, times: &ScheduleTimes) {
    let is_due = record.pause.is_none() && record.next_time <= turn.now.wall;
    if !is_due {
        record.next_time = times.next(turn.now.wall, turn.now.wall);
        return;
    }
    // Which times have passed, the times of before say; the new ones count from now. The editor did not let them pass.
    let editor = turn.actor.take();
    record.say_missed(turn);
    turn.actor = editor;
    record.next_time = turn.now.wall;
}
