//! The limits of the data plane, and how they depend on each other.
//!
//! Together they keep the memory of a busy Star well below 200 MiB, whatever the sizes of files and trees.

use std::time::Duration;

use orbit_shared::session::limits::{
    ASSIGNMENT_ITEMS_MAX, LARGE_FILE_UNRECORDED_BYTES_MAX, LARGE_FILE_WINDOW_BYTES,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Minimum size of a chunk, in bytes, except for the last one of a range.
pub const CHUNK_MIN_BYTES: usize = 16 * KIB;
/// Average size of a chunk that the cuts aim at, in bytes.
pub const CHUNK_AVERAGE_BYTES: usize = 64 * KIB;
/// Maximum size of a chunk, in bytes.
pub const CHUNK_MAX_BYTES: usize = 256 * KIB;

/// Target size of the payload of one response message, and size of the window for reading large files, in bytes.
pub const PARCEL_BYTES: usize = MIB;
/// Maximum number of frames in one response message.
pub const PARCEL_FRAMES_MAX: usize = 256;
/// Maximum size of a file that is always sent in one message, in bytes.
pub const SMALL_FILE_BYTES_MAX: usize = 512 * KIB;
/// Maximum number of frames, one for each range, of content that is always sent in one message.
pub const FRAMES_PER_SMALL_FILE_MAX: usize = 64;
/// Maximum encoded size of a message of the data plane in either direction, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * MIB;
/// Maximum number of chunk names in one response message.
pub const PARCEL_NAMES_MAX: usize = 8 * 1024;
/// Maximum number of chunk names in one frame without content.
pub const HASHES_PER_FRAME_MAX: usize = 1024;

/// Size of the segments in which a large file is fetched, in bytes.
pub const SEGMENT_BYTES: u64 = 32 * MIB as u64;
/// Bytes of a large file that are written between two checkpoints. A checkpoint syncs them and records the progress.
pub const CHECKPOINT_BYTES: u64 = 32 * MIB as u64;
/// Maximum number of bytes of a large file that no checkpoint covers. Beyond it writing waits. After a kill, at most
/// these bytes and those in flight are sent again.
pub const UNRECORDED_BYTES_MAX: u64 = 64 * MIB as u64;
/// Maximum number of segments of one assignment in flight.
pub const SEGMENTS_IN_FLIGHT_MAX: usize = 4;
/// Maximum number of chunks in a segment.
pub const SEGMENT_CHUNKS_MAX: usize = SEGMENT_BYTES as usize / CHUNK_MIN_BYTES + 1;
/// Maximum number of ranges in one fetch: every other chunk of a segment.
pub const RANGES_PER_FETCH_MAX: usize = SEGMENT_CHUNKS_MAX / 2 + 1;
/// Maximum number of fetches in one request message.
pub const FETCHES_PER_REQUEST_MAX: usize = 256;
/// Maximum number of unanswered fetches of one pull.
pub const FETCHES_PENDING_MAX: usize = 2 * ASSIGNMENT_ITEMS_MAX;
/// Maximum number of clones of changing files that one served pull holds at a time.
pub const CLONES_PER_PULL_MAX: usize = 64;
/// Maximum reported size, in bytes, of a file without blocks on the disk whose content is read to find its real size.
pub const HELD_SIZE_MAX: u64 = 64 * KIB as u64;
/// Maximum real size, in bytes, of a file whose reported size is meaningless. A larger one fails.
pub const HELD_BYTES_MAX: usize = 8 * MIB;
/// Maximum size of the unanswered fetches that a source holds for one pull, in bytes.
pub const FETCHES_PENDING_BYTES_MAX: usize = 6 * MIB;

/// Maximum number of pulls that one Star serves at a time.
pub const PULLS_SERVED_MAX: usize = 64;
/// Maximum number of pulls of one peer that a Star serves: far more than an honest peer opens, even if a restart left
/// some behind.
pub const PULLS_SERVED_PER_PEER_MAX: usize = 16;
/// A served pull must have been idle for this long before it is ended for a new one of another peer.
pub const PULL_IDLE_SPARED: Duration = Duration::from_secs(10);
/// Maximum number of jobs of one served pull that read and hash at a time.
pub const READ_JOBS_PER_PULL_MAX: usize = 2;
/// Maximum number of jobs of all served pulls that read and hash at a time.
pub const READ_JOBS_MAX: usize = 24;
/// As [`READ_JOBS_MAX`], for pulls of jobs with a bandwidth limit. They wait for their turns, and must not block other
/// readers.
pub const PACED_READ_JOBS_MAX: usize = 16;
/// Maximum number of fetches of small files, and of small parts, that one job answers.
pub const FETCHES_PER_READ_JOB_MAX: usize = 64;
/// Maximum number of response messages that one served pull keeps ready.
pub const PARCELS_READY_MAX: usize = 1;
/// Maximum number of response buffers that are kept for reuse, over all served pulls: those that two pulls use at a
/// time.
pub const PARCEL_BUFFERS_KEPT_MAX: usize = 2 * (READ_JOBS_PER_PULL_MAX + PARCELS_READY_MAX + 1);

/// Maximum number of assignments that a Star works on at a time, without those of large files. Further ones wait.
pub const PULLS_MAX: usize = 4;
/// Maximum number of those assignments from one source.
pub const PULLS_PER_SOURCE_MAX: usize = 3;
/// Maximum number of assignments of large files that a Star works on at a time. Further ones wait.
pub const LARGE_PULLS_MAX: usize = 3;
/// Maximum number of those assignments from one source.
pub const LARGE_PULLS_PER_SOURCE_MAX: usize = 2;
/// Maximum number of jobs of one pull that verify and write at a time.
pub const WRITE_JOBS_MAX: usize = 3;
/// Maximum number of old files that are indexed or used as a basis at a time, over all assignments.
pub const BASES_MAX: usize = 8;
/// Maximum number of small files with an older version that one pull works on at a time.
pub const BASES_IN_FLIGHT_MAX: usize = 64;
/// Maximum number of chunks of one file that are remembered as unchanged until all of the file is known to be. A file
/// with more is written again, from the old one.
pub const SAME_CHUNKS_MAX: usize = 512 * 1024;
/// Maximum size of an old file that is indexed completely, in bytes. In a larger one chunks are looked for only near
/// their position.
pub const BASIS_BYTES_MAX: u64 = 2048 * MIB as u64;
/// Maximum number of listings that are compared with a destination at a time. Further ones wait.
pub const COMPARISONS_MAX: usize = 2;
/// Number of written items after which a round of syncing and publishing begins.
pub const PUBLISH_ITEMS: usize = 512;
/// Number of written bytes after which a round of syncing and publishing begins.
pub const PUBLISH_BYTES: u64 = 64 * MIB as u64;
/// Maximum number of files, or directories, that are synced one by one. For more of them the file system is synced
/// once.
pub const SYNC_EACH_MAX: usize = 4;

/// Maximum number of streams that share one connection.
pub const STREAMS_PER_CONNECTION_MAX: usize = 2;
/// Maximum number of connections that are kept to one source.
pub const CONNECTIONS_PER_SOURCE_MAX: usize =
    (PULLS_PER_SOURCE_MAX + LARGE_PULLS_PER_SOURCE_MAX).div_ceil(STREAMS_PER_CONNECTION_MAX);
/// Maximum number of sources to which connections are kept.
pub const SOURCES_CONNECTED_MAX: usize = 64;
/// Maximum size of an HTTP/2 frame of the data plane, in bytes.
pub const HTTP2_FRAME_BYTES: u32 = MIB as u32;
/// Receive window of a destination for one stream, in bytes.
pub const STREAM_WINDOW_BYTES: u32 = 16 * MIB as u32;
/// Receive window of a destination for one connection, in bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 32 * MIB as u32;
/// Maximum number of streams that a client can open on one connection to a Star.
pub const SERVED_STREAMS_PER_CONNECTION_MAX: u32 = 16;
/// Receive window of a serving Star for one stream, in bytes. Requests are small.
pub const SERVED_STREAM_WINDOW_BYTES: u32 = 2 * MIB as u32;

/// Timeout of a pull or a send that moves no data.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A served pull without a request for this long is ended. The destination may be hashing a large old file meanwhile. A
/// dead destination is found much sooner by keepalive.
pub const IDLE_PULL_TIMEOUT: Duration = Duration::from_secs(600);
/// Timeout for making a connection, and for opening a pull.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of keepalive pings on a silent connection.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout for the answer to a keepalive ping.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of pairs of job and path for which the file system in which the job began is remembered.
pub const PINS_MAX: usize = 4096;
/// Maximum number of directory handles that one walk keeps open.
pub const DIRECTORY_HANDLES_MAX: usize = 32;
/// Maximum number of names of one directory that are held sorted at a time. A larger directory is listed again for the
/// next part.
pub const LISTED_NAMES_MAX: usize = 128 * 1024;
/// Maximum number of entries of one directory that are examined in one go.
pub const LISTED_BLOCK_MAX: usize = 1024;
/// Maximum number of directories that are listed ahead of the walk.
pub const LISTINGS_AHEAD_MAX: usize = 8;
/// Maximum number of retries of a listing that failed temporarily.
pub const LISTING_RETRIES_MAX: u32 = 5;
/// Pause before the first retry. It doubles with each further one.
pub const LISTING_RETRY_MIN: Duration = Duration::from_millis(200);
/// Number of entries in the first batch of a scan, so that dispatch starts early. Later batches double up to the
/// session's limit.
pub const FIRST_SCAN_BATCH_ENTRIES: usize = 64;
/// Maximum age of a batch that is not full. Then it is sent.
pub const SCAN_BATCH_AGE_MAX: Duration = Duration::from_millis(500);
/// A scan without results sends a message after this time, so that it is not taken for one that hangs.
pub const SCAN_SILENCE_MAX: Duration = Duration::from_secs(5);

// The fastcdc crate must support the chunker parameters on the wire.
const _: () = assert!(CHUNK_MIN_BYTES < CHUNK_AVERAGE_BYTES && CHUNK_AVERAGE_BYTES < CHUNK_MAX_BYTES);
// A checkpoint begins before writing must wait for it.
const _: () = assert!(CHECKPOINT_BYTES < UNRECORDED_BYTES_MAX);
// A window always holds more than one chunk, otherwise a large file could not be cut.
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
// An assignment of items with the longest paths can be requested at once.
const _: () = assert!(ASSIGNMENT_ITEMS_MAX * (4096 + 256) <= FETCHES_PENDING_BYTES_MAX);
// Streams that are not read must not block the others on their connection.
const _: () =
    assert!(STREAMS_PER_CONNECTION_MAX * STREAM_WINDOW_BYTES as usize <= CONNECTION_WINDOW_BYTES as usize);
const _: () = assert!(
    SERVED_STREAMS_PER_CONNECTION_MAX as usize * SERVED_STREAM_WINDOW_BYTES as usize
        <= CONNECTION_WINDOW_BYTES as usize
);
// The data that all pulls have received and not yet written stays far below 200 MiB, and so does the data that is read
// to be sent.
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
// These are the amounts that a guard is charged for a large file, and that the coordinator counts as recorded.
const _: () = assert!(SEGMENTS_IN_FLIGHT_MAX as u64 * SEGMENT_BYTES == LARGE_FILE_WINDOW_BYTES);
const _: () = assert!(UNRECORDED_BYTES_MAX == LARGE_FILE_UNRECORDED_BYTES_MAX);
const _: () = assert!(
    (READ_JOBS_MAX + PACED_READ_JOBS_MAX + PARCEL_BUFFERS_KEPT_MAX) * (PARCEL_BYTES + SMALL_FILE_BYTES_MAX)
        <= 72 * MIB
);
// Keepalive finds a dead peer before the pull times out for another reason.
const _: () = assert!(KEEPALIVE_INTERVAL.as_secs() + KEEPALIVE_TIMEOUT.as_secs() <= STALL_TIMEOUT.as_secs());
