//! Files that changed while they were read, each time that they were. They are stored as they were read; that is said once
//! for each job, with a count and examples, because such a file is perhaps no version that its source ever had.

use orbit_shared::bulletin::Severity;
use orbit_shared::words::ItemId;

use super::notices::display_location;
use super::{Change, Core, Turn};

/// Category of these bulletins.
const CATEGORY: &str = "changed-while-read";
/// Paths that a bulletin names.
const EXAMPLES_MAX: usize = 3;

/// What was said about the files of a job that changed while they were read.
#[derive(Debug)]
pub struct ChangedNotice {
    bulletin: u64,
    examples: Vec<String>,
    count: u64,
}

impl ChangedNotice {
    fn words(&self) -> String {
        format!(
            "{}, among them {}; the next run copies them again. For a version of one moment, stop what writes to them, or copy \
             from a snapshot of the file system",
            changed_words(self.count),
            self.examples.join(", ")
        )
    }
}

/// How many files changed while they were read.
pub(super) fn changed_words(count: u64) -> String {
    match count {
        1 => "1 file changed while it was read and is stored as it was read".to_owned(),
        _ => format!("{count} files changed while they were read and are stored as they were read"),
    }
}

impl Core {
    /// Counts a file that changed while it was read, and says so together with the others of its job.
    pub(super) fn item_changed(&mut self, turn: &mut Turn, item: ItemId, path: &[u8]) {
        self.tally(item, |tally| tally.changed += 1);
        let Some(job) = self.jobs.get_mut(&item.job) else { return };
        let Some(live) = &mut job.live else { return };
        let star = job.record.spec.source.star_id.clone();
        let path = display_location(&job.record.spec.source, path);
        if let Some(notice) = &mut live.changed_said {
            notice.count += 1;
            if notice.examples.len() < EXAMPLES_MAX {
                notice.examples.push(path.clone());
            }
            let (id, message) = (notice.bulletin, notice.words());
            if self.board.amend(turn.now, id, &message) {
                if let Some(bulletin) = self.board.bulletin(id) {
                    turn.changes.push(Change::PutBulletin(bulletin.clone()));
                }
                return;
            }
        }
        let mut notice = ChangedNotice { bulletin: 0, examples: vec![path], count: 1 };
        let message = notice.words();
        let posted =
            self.board.post(turn.now, Severity::Warning, star.as_str(), CATEGORY, Some(item.job), &message);
        self.keep_posted(turn, posted);
        notice.bulletin = posted.id;
        if let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) {
            live.changed_said = Some(notice);
        }
    }
}
