//! Every bound of the data plane, and how the bounds depend on each other.
//!
//! Together they keep the memory of a busy Star well under 200 MiB, whatever the sizes of files and trees are.

use std::time::Duration;

use orbit_shared::session::limits::{
    ASSIGNMENT_ITEMS_MAX, LARGE_FILE_UNRECORDED_BYTES_MAX, LARGE_FILE_WINDOW_BYTES,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// No chunk is smaller, except the last one of a range.
pub const CHUNK_MIN_BYTES: usize = 16 * KIB;
/// What cuts aim at.
pub const CHUNK_AVERAGE_BYTES: usize = 64 * KIB;
/// No chunk is larger.
pub const CHUNK_MAX_BYTES: usize = 256 * KIB;

/// Payload of one response message that a source aims at, and the window it reads large files through.
pub const PARCEL_BYTES: usize = MIB;
/// Frames of one response message.
pub const PARCEL_FRAMES_MAX: usize = 256;
/// A file up to this size always travels inside one message.
pub const SMALL_FILE_BYTES_MAX: usize = 512 * KIB;
/// Frames, one for each range, of content that always travels inside one message.
pub const FRAMES_PER_SMALL_FILE_MAX: usize = 64;
/// Encoded size of one message of the data plane, either way.
pub const MESSAGE_BYTES_MAX: usize = 4 * MIB;
/// Chunk names in one response message.
pub const PARCEL_NAMES_MAX: usize = 8 * 1024;
/// Chunk names in one frame that carries hashes only.
pub const HASHES_PER_FRAME_MAX: usize = 1024;

/// Part of a large file that is fetched by itself.
pub const SEGMENT_BYTES: u64 = 32 * MIB as u64;
/// Content of a large file that is written before it is synced and written down how far the file has come.
pub const CHECKPOINT_BYTES: u64 = 32 * MIB as u64;
/// Content of a large file that is not covered by a checkpoint; what comes beyond that waits. After a kill no more of a
/// file is sent again, and what was on its way.
pub const UNRECORDED_BYTES_MAX: u64 = 64 * MIB as u64;
/// Segments of one assignment that are in flight at a time.
pub const SEGMENTS_IN_FLIGHT_MAX: usize = 4;
/// Chunks that one segment can have.
pub const SEGMENT_CHUNKS_MAX: usize = SEGMENT_BYTES as usize / CHUNK_MIN_BYTES + 1;
/// Ranges of one fetch: every other chunk of a segment.
pub const RANGES_PER_FETCH_MAX: usize = SEGMENT_CHUNKS_MAX / 2 + 1;
/// Fetches in one request message.
pub const FETCHES_PER_REQUEST_MAX: usize = 256;
/// Fetches that one pull may have unanswered.
pub const FETCHES_PENDING_MAX: usize = 2 * ASSIGNMENT_ITEMS_MAX;
/// Clones of files that change while they are read, which one served pull holds at a time.
pub const CLONES_PER_PULL_MAX: usize = 64;
/// A file that is larger by its size is as large as that.
pub const HELD_SIZE_MAX: u64 = 64 * KIB as u64;
/// Content of a file whose size says nothing.
pub const HELD_BYTES_MAX: usize = 8 * MIB;
/// Bytes of unanswered fetches that one source holds for one pull.
pub const FETCHES_PENDING_BYTES_MAX: usize = 6 * MIB;

/// Pulls that one Star serves at a time.
pub const PULLS_SERVED_MAX: usize = 64;
/// Those of one peer among them: far more than an honest one opens, also after a restart that left some behind.
pub const PULLS_SERVED_PER_PEER_MAX: usize = 16;
/// A served pull that has been idle for less is not ended for a new one of another peer.
pub const PULL_IDLE_SPARED: Duration = Duration::from_secs(10);
/// Jobs of one served pull that read and hash at a time.
pub const READ_JOBS_PER_PULL_MAX: usize = 2;
/// Jobs of all served pulls that read and hash at a time.
pub const READ_JOBS_MAX: usize = 24;
/// The same for pulls of jobs with a bandwidth limit: theirs wait for their turns, and must not keep others from reading.
pub const PACED_READ_JOBS_MAX: usize = 16;
/// Fetches of small files, and of small parts, that one job answers.
pub const FETCHES_PER_READ_JOB_MAX: usize = 64;
/// Response messages that one served pull holds ready.
pub const PARCELS_READY_MAX: usize = 1;
/// Buffers of response messages that are kept for the next ones, over all served pulls: what two pulls have under way.
pub const PARCEL_BUFFERS_KEPT_MAX: usize = 2 * (READ_JOBS_PER_PULL_MAX + PARCELS_READY_MAX + 1);

/// Assignments that one Star works on at a time, those of large files apart; further ones wait.
pub const PULLS_MAX: usize = 4;
/// Those of one source among them.
pub const PULLS_PER_SOURCE_MAX: usize = 3;
/// Assignments of large files that one Star works on at a time.
pub const LARGE_PULLS_MAX: usize = 3;
/// Those of one source among them.
pub const LARGE_PULLS_PER_SOURCE_MAX: usize = 2;
/// Jobs of one pull that verify and write at a time.
pub const WRITE_JOBS_MAX: usize = 3;
/// Old files that are indexed or used as a basis at a time, over all assignments.
pub const BASES_MAX: usize = 8;
/// Small files with an older version that one pull works on at a time.
pub const BASES_IN_FLIGHT_MAX: usize = 64;
/// Chunks of one file that are remembered as unchanged until all of it is known to be; a file of more is written again, from
/// the old one.
pub const SAME_CHUNKS_MAX: usize = 512 * 1024;
/// Size up to which an old file is indexed whole; in a larger one chunks are looked for only near their place.
pub const BASIS_BYTES_MAX: u64 = 2048 * MIB as u64;
/// Listings that are compared with what is there at a time; further ones wait.
pub const COMPARISONS_MAX: usize = 2;
/// Written items after which a round of syncing and publishing begins.
pub const PUBLISH_ITEMS: usize = 512;
/// Written bytes after which a round of syncing and publishing begins.
pub const PUBLISH_BYTES: u64 = 64 * MIB as u64;
/// Files, or directories, up to which each is synced by itself; more of them take one sync of the file system.
pub const SYNC_EACH_MAX: usize = 4;

/// Streams that share one connection.
pub const STREAMS_PER_CONNECTION_MAX: usize = 2;
/// Connections kept to one source.
pub const CONNECTIONS_PER_SOURCE_MAX: usize =
    (PULLS_PER_SOURCE_MAX + LARGE_PULLS_PER_SOURCE_MAX).div_ceil(STREAMS_PER_CONNECTION_MAX);
/// Sources to which connections are kept.
pub const SOURCES_CONNECTED_MAX: usize = 64;
/// HTTP/2 frames of the data plane.
pub const HTTP2_FRAME_BYTES: u32 = MIB as u32;
/// What a destination lets a source send ahead on one stream.
pub const STREAM_WINDOW_BYTES: u32 = 16 * MIB as u32;
/// What a destination lets a source send ahead on one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 32 * MIB as u32;
/// Streams that a client may open on one connection to a Star.
pub const SERVED_STREAMS_PER_CONNECTION_MAX: u32 = 16;
/// What a Star lets a client send ahead on one stream: requests are small.
pub const SERVED_STREAM_WINDOW_BYTES: u32 = 2 * MIB as u32;

/// A pull or a send that moves nothing for so long has failed.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A served pull that asks for nothing for so long is ended. A destination may be hashing a large old file meanwhile;
/// whether it lives at all, keepalive tells much sooner.
pub const IDLE_PULL_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a connection may take to be made, and a pull to be opened.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is probed.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long the answer to a probe may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Jobs and paths of which it is remembered in which file system the job began.
pub const PINS_MAX: usize = 4096;
/// Directory handles that one walk keeps open.
pub const DIRECTORY_HANDLES_MAX: usize = 32;
/// Names of one directory that are held sorted at a time; a larger directory is listed again for the next part.
pub const LISTED_NAMES_MAX: usize = 128 * 1024;
/// Entries of one directory that are looked at in one go.
pub const LISTED_BLOCK_MAX: usize = 1024;
/// Directories that are listed ahead of the walk.
pub const LISTINGS_AHEAD_MAX: usize = 8;
/// Times that a directory is listed again when that failed for a while only.
pub const LISTING_RETRIES_MAX: u32 = 5;
/// The wait before the first of them; it doubles with each.
pub const LISTING_RETRY_MIN: Duration = Duration::from_millis(200);
/// Entries in the first batch of a scan, so that dispatch starts early. Later ones double up to the session's limit.
pub const FIRST_SCAN_BATCH_ENTRIES: usize = 64;
/// A batch of a scan that is not full leaves after so long.
pub const SCAN_BATCH_AGE_MAX: Duration = Duration::from_millis(500);
/// A scan that finds nothing to send says so after so long, lest it be taken for one that hangs.
pub const SCAN_SILENCE_MAX: Duration = Duration::from_secs(5);

// The chunker of the wire must be one that the fastcdc crate can run.
const _: () = assert!(CHUNK_MIN_BYTES < CHUNK_AVERAGE_BYTES && CHUNK_AVERAGE_BYTES < CHUNK_MAX_BYTES);
// A checkpoint begins before what is written must wait for it.
const _: () = assert!(CHECKPOINT_BYTES < UNRECORDED_BYTES_MAX);
// A window always holds more than one chunk, or a large file would never be cut.
const _: () = assert!(PARCEL_BYTES >= 2 * CHUNK_MAX_BYTES);
// A full parcel and a small file after it, with all their chunk names, fit one message.
const _: () = assert!(PARCEL_BYTES + SMALL_FILE_BYTES_MAX + PARCEL_FRAMES_MAX * 4096 <= MESSAGE_BYTES_MAX);
// Names of chunks, of some 40 bytes each, fit one message beside a full payload.
const _: () = assert!(
    PARCEL_BYTES + SMALL_FILE_BYTES_MAX + PARCEL_FRAMES_MAX * 256 + PARCEL_NAMES_MAX * 64
        <= MESSAGE_BYTES_MAX
);
// A batch of fetches of the longest paths fits one message.
const _: () = assert!(FETCHES_PER_REQUEST_MAX * (4096 + 256) <= MESSAGE_BYTES_MAX);
// An assignment of the longest paths can be asked for at once.
const _: () = assert!(ASSIGNMENT_ITEMS_MAX * (4096 + 256) <= FETCHES_PENDING_BYTES_MAX);
// Streams that are not read must not freeze the others on their connection.
const _: () =
    assert!(STREAMS_PER_CONNECTION_MAX * STREAM_WINDOW_BYTES as usize <= CONNECTION_WINDOW_BYTES as usize);
const _: () = assert!(
    SERVED_STREAMS_PER_CONNECTION_MAX as usize * SERVED_STREAM_WINDOW_BYTES as usize
        <= CONNECTION_WINDOW_BYTES as usize
);
// What all pulls may have received and not yet written stays far below 200 MiB, and so does what is read to be sent.
const _: () = assert!(
    (PULLS_MAX + LARGE_PULLS_MAX)
        * (STREAM_WINDOW_BYTES as usize + (WRITE_JOBS_MAX + 1) * (PARCEL_BYTES + SMALL_FILE_BYTES_MAX))
        <= 160 * MIB
);
// No source and no kind of file takes every slot.
const _: () = assert!(PULLS_PER_SOURCE_MAX < PULLS_MAX && LARGE_PULLS_PER_SOURCE_MAX < LARGE_PULLS_MAX);
// A peer never needs more than its share, and its share leaves places for others.
const _: () = assert!(2 * (PULLS_PER_SOURCE_MAX + LARGE_PULLS_PER_SOURCE_MAX) <= PULLS_SERVED_PER_PEER_MAX);
const _: () = assert!(2 * PULLS_SERVED_PER_PEER_MAX <= PULLS_SERVED_MAX);
// What a guard is charged with for a large file, and what the coordinator takes for recorded, is what holds here.
const _: () = assert!(SEGMENTS_IN_FLIGHT_MAX as u64 * SEGMENT_BYTES == LARGE_FILE_WINDOW_BYTES);
const _: () = assert!(UNRECORDED_BYTES_MAX == LARGE_FILE_UNRECORDED_BYTES_MAX);
const _: () = assert!(
    (READ_JOBS_MAX + PACED_READ_JOBS_MAX + PARCEL_BUFFERS_KEPT_MAX) * (PARCEL_BYTES + SMALL_FILE_BYTES_MAX)
        <= 72 * MIB
);
// A probe finds a dead peer before the pull is given up for another reason.
const _: () = assert!(KEEPALIVE_INTERVAL.as_secs() + KEEPALIVE_TIMEOUT.as_secs() <= STALL_TIMEOUT.as_secs());
