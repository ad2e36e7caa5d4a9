//! Bounds of the session protocol.

/// Reports that a Star may have sent without an acknowledgement.
pub const REPORTS_UNACKED_MAX: usize = 64;
/// Batches of one scan that a Star may have sent without an acknowledgement.
pub const SCAN_BATCHES_UNACKED_MAX: usize = 8;
/// Entries in one batch of a scan.
pub const SCAN_BATCH_ENTRIES_MAX: usize = 1024;
/// Bytes of paths and link targets in one batch of a scan, except that one entry always fits.
pub const SCAN_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Scans that one Star runs at a time; further ones wait at the coordinator.
pub const SCANS_PER_STAR_MAX: usize = 4;
/// Mount points of one scan that are remembered, because the scan did not enter them.
pub const SKIPPED_MOUNTS_KEPT_MAX: usize = 256;
/// Bytes of their paths.
pub const SKIPPED_MOUNTS_BYTES_MAX: usize = 256 * 1024;
/// Items in one assignment.
pub const ASSIGNMENT_ITEMS_MAX: usize = 1024;
/// Bytes of file content in one assignment, except that one item always fits.
pub const ASSIGNMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of one large file that are on their way at a time: what a guard is charged with for it.
pub const LARGE_FILE_WINDOW_BYTES: u64 = 128 * 1024 * 1024;
/// Bytes of a large file that a Star has received and not recorded as safe, at most. A file that has received more than
/// that in one attempt has recorded progress.
pub const LARGE_FILE_UNRECORDED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Assignments that one Star holds at a time.
pub const ASSIGNMENTS_PER_STAR_MAX: usize = 8;
/// Assignments that a hello or a heartbeat may name: those worked on, and those whose reports are unacknowledged.
pub const HELD_MAX: usize = ASSIGNMENTS_PER_STAR_MAX + REPORTS_UNACKED_MAX;
/// Directories that one Star exports.
pub const ROOTS_PER_STAR_MAX: usize = 256;
/// Labels that one Star carries.
pub const LABELS_PER_STAR_MAX: usize = 64;
/// Globs to include, and as many to exclude, in one scan.
pub const SCAN_GLOBS_MAX: usize = 1024;
/// Public keys that are good at a time.
pub const VERIFICATION_KEYS_MAX: usize = 16;
/// Running pulls from one Star that a message names.
pub const LIVE_PULLS_MAX: usize = 4096;
/// Notices that a Star keeps while no session is open; the oldest go first.
pub const NOTICES_KEPT_MAX: usize = 64;
/// Bytes of the text of a notice, and of its category.
pub const NOTICE_BYTES_MAX: usize = 4096;
/// Advisories in one heartbeat.
pub const ADVISORIES_MAX: usize = 16;
/// Bytes of a text for people, such as the message of a failure. What is longer is cut where it arrives.
pub const WORDS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an address, of a version, and of the key or the value of a label.
pub const NAME_BYTES_MAX: usize = 512;
/// Bytes of a path that is opened as it is: those of a root, for example.
pub const ABSOLUTE_PATH_BYTES_MAX: usize = 4096;
/// Bytes of a path below the source of a job. A tree may be deeper than a path that is opened as it is can be long.
pub const ENTRY_PATH_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the target of a symbolic link.
pub const LINK_TARGET_BYTES_MAX: usize = 4096;
/// A size of a file, or a count of bytes: file systems count them in signed numbers of 64 bits.
pub const BYTES_MAX: u64 = i64::MAX as u64;
/// Size of an encoded hello.
pub const HELLO_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Size of an encoded session message.
pub const SESSION_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

// The small-frame guard of HTTP/2 implementations closes a connection over a few thousand unread small messages;
// whatever may be unacknowledged must stay far below that.
const _: () = assert!(LARGE_FILE_UNRECORDED_BYTES_MAX >= ASSIGNMENT_BYTES_MAX);
const _: () = assert!(REPORTS_UNACKED_MAX + SCAN_BATCHES_UNACKED_MAX * SCANS_PER_STAR_MAX < 1000);
// Roots and labels of the greatest number and length must fit a hello.
const _: () = assert!(
    ROOTS_PER_STAR_MAX * (ABSOLUTE_PATH_BYTES_MAX + 16)
        + LABELS_PER_STAR_MAX * 2 * (NAME_BYTES_MAX + 16)
        + 64 * 1024
        <= HELLO_BYTES_MAX
);
// An assignment of the longest paths and link targets must fit one message.
const _: () = assert!(ASSIGNMENT_ITEMS_MAX * (4096 + 4096 + 64) <= SESSION_MESSAGE_BYTES_MAX);
