//! Limits of the session protocol.

use crate::semantic::SEMANTIC_LINES_MAX;

/// Maximum number of unacknowledged reports of a Star.
pub const REPORTS_UNACKED_MAX: usize = 64;
/// Maximum number of unacknowledged batches of one scan.
pub const SCAN_BATCHES_UNACKED_MAX: usize = 8;
/// Maximum number of entries in one batch of a scan.
pub const SCAN_BATCH_ENTRIES_MAX: usize = 1024;
/// Maximum total length of paths and link targets in one batch of a scan, in bytes, except that one entry always fits.
pub const SCAN_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Maximum number of scans that one Star runs at a time. Further ones wait at the coordinator.
pub const SCANS_PER_STAR_MAX: usize = 4;
/// Maximum number of skipped mount points that are remembered for one scan.
pub const SKIPPED_MOUNTS_KEPT_MAX: usize = 256;
/// Maximum total length of their paths, in bytes.
pub const SKIPPED_MOUNTS_BYTES_MAX: usize = 256 * 1024;
/// Maximum number of items in one assignment.
pub const ASSIGNMENT_ITEMS_MAX: usize = 1024;
/// Maximum total size of file content in one assignment, in bytes, except that one item always fits.
pub const ASSIGNMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Maximum number of bytes of one large file in flight: what a guard is charged for it.
pub const LARGE_FILE_WINDOW_BYTES: u64 = 128 * 1024 * 1024;
/// Maximum number of bytes of a large file that a Star has received and not recorded as safe. A file that has received
/// more than that in one attempt has recorded progress.
pub const LARGE_FILE_UNRECORDED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Maximum number of assignments that one Star holds at a time.
pub const ASSIGNMENTS_PER_STAR_MAX: usize = 8;
/// Maximum number of assignments in a hello or a heartbeat: those worked on, and those with unacknowledged reports.
pub const HELD_MAX: usize = ASSIGNMENTS_PER_STAR_MAX + REPORTS_UNACKED_MAX;
/// Maximum number of directories that one Star exports.
pub const ROOTS_PER_STAR_MAX: usize = 256;
/// Maximum number of labels of one Star.
pub const LABELS_PER_STAR_MAX: usize = 64;
/// Maximum number of include globs, and of exclude globs, in one scan.
pub const SCAN_GLOBS_MAX: usize = 1024;
/// Maximum number of public keys that are valid at a time.
pub const VERIFICATION_KEYS_MAX: usize = 16;
/// Maximum number of running pulls from one Star in a message.
pub const LIVE_PULLS_MAX: usize = 4096;
/// Maximum number of notices that a Star keeps while no session is open. The oldest are dropped.
pub const NOTICES_KEPT_MAX: usize = 64;
/// Maximum length of the text of a notice, and of its category, in bytes.
pub const NOTICE_BYTES_MAX: usize = 4096;
/// Maximum number of advisories in one heartbeat.
pub const ADVISORIES_MAX: usize = 16;
/// Maximum length of a text for people, such as the message of a failure, in bytes. The receiver cuts longer ones.
pub const WORDS_BYTES_MAX: usize = 16 * 1024;
/// Maximum length of an address, of a version, and of the key or the value of a label, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// Maximum length of a path that is opened in one call, such as that of a root, in bytes.
pub const ABSOLUTE_PATH_BYTES_MAX: usize = 4096;
/// Maximum length of a path below the source of a job, in bytes. A tree can be deeper than the longest path that can be
/// opened in one call.
pub const ENTRY_PATH_BYTES_MAX: usize = 64 * 1024;
/// Maximum length of the target of a symbolic link, in bytes.
pub const LINK_TARGET_BYTES_MAX: usize = 4096;
/// Maximum size of a file and of a byte count: file systems use signed 64-bit numbers.
pub const BYTES_MAX: u64 = i64::MAX as u64;
/// Maximum size of an encoded hello, in bytes.
pub const HELLO_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Maximum size of an encoded session message, in bytes.
pub const SESSION_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

// Implementations of HTTP/2 close a connection with a few thousand unread small messages; the number of unacknowledged
// messages must stay far below that.
const _: () = assert!(LARGE_FILE_UNRECORDED_BYTES_MAX >= ASSIGNMENT_BYTES_MAX);
const _: () = assert!(REPORTS_UNACKED_MAX + SCAN_BATCHES_UNACKED_MAX * SCANS_PER_STAR_MAX < 1000);
// The maximum number of roots and labels of the maximum length must fit into a hello.
const _: () = assert!(
    ROOTS_PER_STAR_MAX * (ABSOLUTE_PATH_BYTES_MAX + 16)
        + LABELS_PER_STAR_MAX * 2 * (NAME_BYTES_MAX + 16)
        + SEMANTIC_LINES_MAX * (NAME_BYTES_MAX + 16)
        + 64 * 1024
        <= HELLO_BYTES_MAX
);
// An assignment of items with the longest paths and link targets must fit into one message.
const _: () = assert!(ASSIGNMENT_ITEMS_MAX * (4096 + 4096 + 64) <= SESSION_MESSAGE_BYTES_MAX);
