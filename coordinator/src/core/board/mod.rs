//! The board: what was said to operators and counts as unread or read, durable with the state that it speaks of.
//!
//! Parts say what they have to say to the turn ([`Saying`]); the board takes it up in order. Reports of one kind about one job
//! are one bulletin with a count and some examples: a thousand files that went the same way are one piece of news.

use std::collections::BTreeMap;

use orbit_shared::bulletin::{Bulletin, BulletinBoard, Posted};
use orbit_shared::words::JobId;

use super::change::Change;
use super::limits::BULLETINS_MAX;
use super::saying::{Kind, Notice, Saying};
use super::turn::Turn;

/// Paths that a bulletin names beside the first.
const EXAMPLES_MAX: usize = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Board {
    board: BulletinBoard,
    /// Bulletins that count reports of one kind, of jobs that have not ended.
    groups: BTreeMap<(JobId, Kind), Group>,
}

/// A bulletin that stands for several reports.
#[derive(Debug)]
struct Group {
    bulletin: u64,
    /// What the first report said.
    first: String,
    /// Paths: of dead letters those of the others, of changed files the first one too.
    examples: Vec<String>,
    count: u64,
}

impl Board {
    /// The board as it is in the store.
    pub(super) fn recover(bulletins: Vec<Bulletin>, next_id: u64) -> Self {
        let board = BulletinBoard::restore(BULLETINS_MAX, bulletins, next_id);
        Self { board, groups: BTreeMap::new() }
    }

    /// What is on it.
    pub(super) fn shown(&self) -> &BulletinBoard {
        &self.board
    }

    /// Takes up what was said since it did so last.
    pub(super) fn take_up(&mut self, turn: &mut Turn) {
        for saying in std::mem::take(&mut turn.sayings) {
            match saying {
                Saying::Post(notice) => {
                    self.post(turn, &notice);
                }
                Saying::Count { kind, job, notice, example } => {
                    self.count(turn, (job, kind), notice, example);
                }
                Saying::EndCounts(job) => self.end_counts(job),
                Saying::Resolve { severity, source, category, wordings } => {
                    let is_it = |bulletin: &&&Bulletin| {
                        bulletin.severity == severity
                            && bulletin.category == category
                            && !bulletin.is_acknowledged
                            && wordings.iter().any(|wording| wording.fits(&bulletin.message))
                    };
                    let said = self.board.by_source(&source);
                    let said: Vec<u64> = said.iter().filter(is_it).map(|bulletin| bulletin.id).collect();
                    self.acknowledge(turn, &said);
                }
                Saying::Settle { job, category } => {
                    let said = self.board.by_job(job).into_iter();
                    let said = said.filter(|bulletin| bulletin.category == category);
                    let said: Vec<u64> = said.map(|bulletin| bulletin.id).collect();
                    self.acknowledge(turn, &said);
                }
                Saying::Forget { before, max } => {
                    let gone = self.board.remove_before(before, max);
                    turn.changes.extend(gone.into_iter().map(Change::RemoveBulletin));
                }
            }
        }
        self.check();
    }

    /// Acknowledges bulletins; gives how many were not before.
    pub(super) fn acknowledge(&mut self, turn: &mut Turn, ids: &[u64]) -> u64 {
        let acknowledged = self.board.acknowledge(ids);
        for &id in &acknowledged {
            self.keep(turn, id);
        }
        acknowledged.len() as u64
    }

    fn post(&mut self, turn: &mut Turn, notice: &Notice) -> u64 {
        let Notice { severity, source, category, job, message } = notice;
        let Posted { id, evicted, .. } =
            self.board.post(turn.now, *severity, source, category, *job, message);
        self.keep(turn, id);
        if let Some(evicted) = evicted {
            turn.changes.push(Change::RemoveBulletin(evicted));
        }
        id
    }

    /// Makes durable how a bulletin stands. One that had to make room at once is not there.
    fn keep(&self, turn: &mut Turn, id: u64) {
        if let Some(bulletin) = self.board.bulletin(id) {
            turn.changes.push(Change::PutBulletin(bulletin.clone()));
        }
    }

    fn count(&mut self, turn: &mut Turn, key: (JobId, Kind), notice: Notice, example: String) {
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
            if group.examples.len() < EXAMPLES_MAX {
                group.examples.push(example.clone());
            }
            let (id, message) = (group.bulletin, group.words(key));
            if self.board.amend(turn.now, id, &message) {
                return self.keep(turn, id);
            }
        }
        let examples = match key.1 {
            Kind::Letters(_) => Vec::new(),
            Kind::Changed => vec![example],
        };
        let mut group = Group { bulletin: 0, first: notice.message.clone(), examples, count: 1 };
        group.bulletin = self.post(turn, &Notice { message: group.words(key), ..notice });
        self.groups.insert(key, group);
    }

    fn end_counts(&mut self, job: JobId) {
        self.groups.retain(|(of, _), _| *of != job);
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let (held, capacity) = (self.board.len(), self.board.capacity());
        assert!(held <= capacity, "{held} bulletins are on a board for {capacity}");
        assert!(
            held as u64 <= self.board.next_id(),
            "{held} bulletins have ids below {}",
            self.board.next_id()
        );
    }

    /// The same for what would take a pass over everything.
    pub(super) fn check_all(&self) {
        for (key, group) in &self.groups {
            assert!(group.bulletin < self.board.next_id(), "{key:?} counts on a bulletin to come: {group:?}");
            assert!(
                group.count >= group.examples.len() as u64,
                "{key:?} has more examples than reports: {group:?}"
            );
        }
    }
}

impl Group {
    fn words(&self, (job, kind): (JobId, Kind)) -> String {
        let examples = self.examples.join(", ");
        match kind {
            Kind::Letters(_) if self.count == 1 => self.first.clone(),
            Kind::Letters(_) => format!(
                "{}; {} more items of job {job} for the same reason, among them {examples}; `orbit dead-letters ls --job {job}` shows all",
                self.first,
                self.count - 1,
            ),
            Kind::Changed => format!(
                "{}, among them {examples}; the next run copies them again. For a version of one moment, stop what writes to them, or copy \
                 from a snapshot of the file system",
                changed_words(self.count),
            ),
        }
    }
}

/// How many files changed while they were read.
pub(super) fn changed_words(count: u64) -> String {
    match count {
        1 => "1 file changed while it was read and is stored as it was read".to_owned(),
        _ => format!("{count} files changed while they were read and are stored as they were read"),
    }
}
