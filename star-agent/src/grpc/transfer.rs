//! Between the wire of the data plane and its words. Whatever comes off the wire is checked here before it is used:
//! what a peer announces never decides how much memory is taken.

use bytes::{BufMut as _, Bytes, BytesMut};
use orbit_proto::data_plane as wire;
use orbit_shared::entry::is_confined;
use orbit_shared::session::{Failure, FailureCause, Fault};
use orbit_shared::time::WallTime;
use orbit_shared::words::{JobId, StarId};

use crate::chunker;
use crate::limits::{
    CHUNK_AVERAGE_BYTES, CHUNK_MAX_BYTES, CHUNK_MIN_BYTES, FETCHES_PER_REQUEST_MAX, PARCEL_FRAMES_MAX,
    RANGES_PER_FETCH_MAX,
};
use crate::transfer::{Chunk, ChunkHash, Fetch, FileVersion, Frame, FrameEnd, Open, Parcel, Range};

/// A message that breaks the rules of the protocol, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

fn malformed<T>(text: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(text.into()))
}

/// How this Star cuts chunks.
pub fn chunker_parameters() -> wire::ChunkerParameters {
    wire::ChunkerParameters {
        algorithm: chunker::ALGORITHM.to_owned(),
        min_chunk_bytes: CHUNK_MIN_BYTES as u32,
        average_chunk_bytes: CHUNK_AVERAGE_BYTES as u32,
        max_chunk_bytes: CHUNK_MAX_BYTES as u32,
    }
}

/// The first request of a pull.
pub fn encode_open(open: Open) -> wire::PullRequest {
    request(wire::pull_request::Request::Open(wire::PullOpen {
        token: open.token,
        job_id: open.job.0,
        source_path: open.source_path.into(),
        destination_star_id: open.destination_star.into(),
        chunker: Some(chunker_parameters()),
    }))
}

/// Reads the first request of a pull. The chunker is the caller's to compare.
pub fn decode_open(open: wire::PullOpen) -> Result<Open, Malformed> {
    Ok(Open {
        token: open.token,
        job: JobId(open.job_id),
        source_path: open.source_path.into(),
        destination_star: StarId::new(open.destination_star_id)
            .map_err(|error| Malformed(error.to_string()))?,
    })
}

/// A request for content.
pub fn encode_fetches(fetches: Vec<Fetch>) -> wire::PullRequest {
    let fetches = fetches.into_iter().map(|fetch| wire::PullFetch {
        fetch_id: fetch.id,
        path: fetch.path.into(),
        ranges: fetch
            .ranges
            .iter()
            .map(|range| wire::PullRange { offset_bytes: range.offset, length_bytes: range.length })
            .collect(),
        is_hashes_only: fetch.is_hashes_only,
    });
    request(wire::pull_request::Request::Fetches(wire::PullFetches { fetches: fetches.collect() }))
}

/// Reads a request for content.
pub fn decode_fetches(fetches: wire::PullFetches) -> Result<Vec<Fetch>, Malformed> {
    if fetches.fetches.len() > FETCHES_PER_REQUEST_MAX {
        return malformed(format!("{} fetches in one request", fetches.fetches.len()));
    }
    fetches.fetches.into_iter().map(decode_fetch).collect()
}

fn decode_fetch(fetch: wire::PullFetch) -> Result<Fetch, Malformed> {
    if !is_confined(&fetch.path) {
        return malformed("the path of a fetch leads out of the source path");
    }
    if fetch.ranges.len() > RANGES_PER_FETCH_MAX {
        return malformed(format!("{} ranges in one fetch", fetch.ranges.len()));
    }
    let mut ranges = Vec::with_capacity(fetch.ranges.len());
    let mut end = 0;
    for range in fetch.ranges {
        if range.offset_bytes < end {
            return malformed("the ranges of a fetch overlap or are out of order");
        }
        end = range.offset_bytes.saturating_add(range.length_bytes);
        ranges.push(Range { offset: range.offset_bytes, length: range.length_bytes });
    }
    Ok(Fetch { id: fetch.fetch_id, path: fetch.path.into(), ranges, is_hashes_only: fetch.is_hashes_only })
}

fn request(request: wire::pull_request::Request) -> wire::PullRequest {
    wire::PullRequest { request: Some(request) }
}

/// A message of a source.
pub fn encode_parcel(parcel: Parcel) -> wire::PullResponse {
    wire::PullResponse {
        frames: parcel.frames.into_iter().map(encode_frame).collect(),
        payload: parcel.payload,
    }
}

fn encode_frame(frame: Frame) -> wire::PullFrame {
    let mut hashes = BytesMut::with_capacity(frame.chunks.len() * size_of::<ChunkHash>());
    frame.chunks.iter().for_each(|chunk| hashes.put_slice(&chunk.hash));
    let (is_end, failure) = match frame.end {
        FrameEnd::More => (false, None),
        FrameEnd::Complete => (true, None),
        FrameEnd::Failed(failure) => (false, Some(encode_failure(failure))),
    };
    wire::PullFrame {
        fetch_id: frame.fetch,
        version: frame.version.map(encode_version),
        offset_bytes: frame.offset,
        hashes: hashes.freeze(),
        chunk_lengths: frame.chunks.iter().map(|chunk| chunk.length).collect(),
        is_end,
        failure,
    }
}

/// Reads a message of a source: every chunk of an allowed length and named. How the payload belongs to the frames is
/// the receiver's to check, who knows which fetches are for hashes only.
pub fn decode_parcel(response: wire::PullResponse) -> Result<Parcel, Malformed> {
    if response.frames.len() > PARCEL_FRAMES_MAX {
        return malformed(format!("{} frames in one message", response.frames.len()));
    }
    let frames = response.frames.iter().map(decode_frame).collect::<Result<_, _>>()?;
    Ok(Parcel { frames, payload: response.payload })
}

fn decode_frame(frame: &wire::PullFrame) -> Result<Frame, Malformed> {
    let end = match (&frame.failure, frame.is_end) {
        (Some(failure), _) => FrameEnd::Failed(decode_failure(failure)),
        (None, true) => FrameEnd::Complete,
        (None, false) => FrameEnd::More,
    };
    Ok(Frame {
        fetch: frame.fetch_id,
        version: frame.version.map(decode_version).transpose()?,
        offset: frame.offset_bytes,
        chunks: decode_chunks(&frame.hashes, &frame.chunk_lengths)?,
        end,
    })
}

fn decode_chunks(hashes: &Bytes, lengths: &[u32]) -> Result<Vec<Chunk>, Malformed> {
    let (names, rest) = hashes.as_chunks::<{ size_of::<ChunkHash>() }>();
    if !rest.is_empty() || names.len() != lengths.len() {
        return malformed(format!("{} bytes of hashes for {} chunks", hashes.len(), lengths.len()));
    }
    if let Some(length) = lengths.iter().find(|&&length| length == 0 || length as usize > CHUNK_MAX_BYTES) {
        return malformed(format!("a chunk of {length} bytes"));
    }
    Ok(names.iter().zip(lengths).map(|(&hash, &length)| Chunk { hash, length }).collect())
}

fn encode_version(version: FileVersion) -> wire::FileVersion {
    wire::FileVersion {
        size_bytes: version.size,
        modify_time_seconds: version.modified.seconds,
        modify_time_nanos: version.modified.nanos,
        change_time_seconds: version.changed.seconds,
        change_time_nanos: version.changed.nanos,
        mode: version.mode,
    }
}

fn decode_version(version: wire::FileVersion) -> Result<FileVersion, Malformed> {
    let time = |seconds, nanos| {
        WallTime::new(seconds, nanos).ok_or_else(|| Malformed(format!("{nanos} nanoseconds in a time")))
    };
    if i64::try_from(version.size_bytes).is_err() {
        return malformed(format!("a file of {} bytes", version.size_bytes));
    }
    Ok(FileVersion {
        size: version.size_bytes,
        modified: time(version.modify_time_seconds, version.modify_time_nanos)?,
        changed: time(version.change_time_seconds, version.change_time_nanos)?,
        mode: version.mode & 0o7777,
    })
}

fn encode_failure(failure: Failure) -> wire::PullFailure {
    let cause = match failure.cause {
        FailureCause::SourceMissing => wire::PullFailureCause::SourceMissing,
        FailureCause::Permanent => wire::PullFailureCause::Permanent,
        FailureCause::Transient
        | FailureCause::ChecksumMismatch
        | FailureCause::DestinationError
        | FailureCause::DataCorruption => wire::PullFailureCause::Transient,
    };
    wire::PullFailure {
        cause: cause.into(),
        message: failure.message,
        is_source_at_fault: failure.fault == Fault::Source,
    }
}

fn decode_failure(failure: &wire::PullFailure) -> Failure {
    let cause = match failure.cause() {
        wire::PullFailureCause::SourceMissing => FailureCause::SourceMissing,
        wire::PullFailureCause::Permanent => FailureCause::Permanent,
        wire::PullFailureCause::Transient | wire::PullFailureCause::Unspecified => FailureCause::Transient,
    };
    let fault = if failure.is_source_at_fault { Fault::Source } else { Fault::Item };
    // A peer's words are shown to people; their length is bounded here.
    let message = failure.message.chars().take(8192).collect();
    Failure { cause, fault, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            fetch: 3,
            version: Some(FileVersion {
                size: 7,
                modified: WallTime { seconds: -1, nanos: 5 },
                changed: WallTime { seconds: 9, nanos: 0 },
                mode: 0o644,
            }),
            offset: 4,
            chunks: vec![Chunk { hash: [1; 32], length: 5 }, Chunk { hash: [2; 32], length: 2 }],
            end: FrameEnd::Complete,
        }
    }

    #[test]
    fn a_parcel_comes_back_from_the_wire_as_it_was() {
        let mut failed = frame();
        failed.end = FrameEnd::Failed(Failure {
            cause: FailureCause::SourceMissing,
            fault: Fault::Item,
            message: "gone".to_owned(),
        });
        let parcel = Parcel { frames: vec![frame(), failed], payload: Bytes::from_static(b"abcdefg") };
        assert_eq!(decode_parcel(encode_parcel(parcel.clone())), Ok(parcel));
    }

    #[test]
    fn fetches_come_back_from_the_wire_as_they_were() {
        let fetch =
            Fetch { id: 1, path: b"a/\xff".to_vec(), ranges: vec![Range::WHOLE], is_hashes_only: true };
        let Some(wire::pull_request::Request::Fetches(fetches)) = encode_fetches(vec![fetch.clone()]).request
        else {
            panic!("not fetches")
        };
        assert_eq!(decode_fetches(fetches), Ok(vec![fetch]));
    }

    #[test]
    fn fetches_that_lead_out_or_overlap_are_malformed() {
        let fetch = |path: &'static [u8], ranges: &[(u64, u64)]| wire::PullFetch {
            path: Bytes::from_static(path),
            ranges: ranges
                .iter()
                .map(|&(offset_bytes, length_bytes)| wire::PullRange { offset_bytes, length_bytes })
                .collect(),
            ..Default::default()
        };
        for bad in [fetch(b"../x", &[]), fetch(b"/x", &[]), fetch(b"x", &[(5, 5), (9, 1)])] {
            assert!(decode_fetches(wire::PullFetches { fetches: vec![bad] }).is_err());
        }
    }

    #[test]
    fn chunks_of_impossible_lengths_are_malformed() {
        for (hashes, length) in [(32, 0), (32, CHUNK_MAX_BYTES as u32 + 1), (31, 5), (64, 5)] {
            let response = wire::PullResponse {
                frames: vec![wire::PullFrame {
                    hashes: vec![0; hashes].into(),
                    chunk_lengths: vec![length],
                    ..Default::default()
                }],
                ..Default::default()
            };
            assert!(decode_parcel(response).is_err(), "{hashes} {length}");
        }
    }
}
