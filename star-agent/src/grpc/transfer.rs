//! Converts messages of the data plane between their wire format and the types of this crate. All data from the wire is
//! checked here before it is used: a length that a peer announces never decides how much memory is allocated.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use orbit_proto::v1 as wire;
use orbit_shared::entry::is_confined;
use orbit_shared::session::{Failure, FailureCause, Fault};
use orbit_shared::time::WallTime;
use orbit_shared::words::{JobId, SnapshotIdError, StarId};
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint,
    key_len, skip_field,
};
use prost::{DecodeError, Message as _};

use crate::chunker;
use crate::content::Content;
use crate::limits::{
    CHUNK_AVERAGE_BYTES, CHUNK_MAX_BYTES, CHUNK_MIN_BYTES, FETCHES_PER_REQUEST_MAX, PARCEL_FRAMES_MAX,
    RANGES_PER_FETCH_MAX,
};
use crate::transfer::{Chunk, ChunkHash, Fetch, FileVersion, Frame, FrameEnd, Looked, Open, Parcel, Range};

/// The HTTP path of a pull.
pub(crate) const PULL_PATH: &str = "/orbit.v1.TransferService/Pull";
/// Length of gRPC's prefix of a message, in bytes: a compression flag and the length.
pub(crate) const MESSAGE_PREFIX_BYTES: usize = 5;
/// The tags of the fields of `PullResponse`. The payload is last, so that it can follow the head uncopied.
const FRAMES_TAG: u32 = 1;
const PAYLOAD_TAG: u32 = 2;

/// A message that violates the protocol, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

fn malformed<T>(text: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(text.into()))
}

/// The chunker parameters of this Star.
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
        snapshot_id: open.snapshot.map(|id| id.to_string()).unwrap_or_default(),
    }))
}

/// Reads the first request of a pull, or names every bad field. The caller compares the chunker parameters.
pub fn decode_open(open: wire::PullOpen) -> Result<Open, Vec<(&'static str, String)>> {
    let destination_star = StarId::new(open.destination_star_id)
        .map_err(|error| ("open.destination_star_id", error.to_string()));
    let snapshot = Some(&open.snapshot_id).filter(|text| !text.is_empty()).map(|text| text.parse());
    let snapshot =
        snapshot.transpose().map_err(|error: SnapshotIdError| ("open.snapshot_id", error.to_string()));
    match (destination_star, snapshot) {
        (Ok(destination_star), Ok(snapshot)) => Ok(Open {
            token: open.token,
            job: JobId(open.job_id),
            source_path: open.source_path.into(),
            destination_star,
            snapshot,
        }),
        (destination_star, snapshot) => {
            Err([destination_star.err(), snapshot.err()].into_iter().flatten().collect())
        }
    }
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
        is_cut_by_content: fetch.is_cut_by_content,
        is_look_only: fetch.is_look_only,
        accepts_changes: fetch.accepts_changes,
        as_of: fetch.as_of.map(encode_version),
        one_file_system: fetch.is_one_file_system,
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
    Ok(Fetch {
        id: fetch.fetch_id,
        path: fetch.path.into(),
        ranges,
        is_hashes_only: fetch.is_hashes_only,
        is_cut_by_content: fetch.is_cut_by_content,
        is_look_only: fetch.is_look_only,
        accepts_changes: fetch.accepts_changes,
        as_of: fetch.as_of.map(decode_version).transpose()?,
        is_one_file_system: fetch.one_file_system,
    })
}

fn request(request: wire::pull_request::Request) -> wire::PullRequest {
    wire::PullRequest { request: Some(request) }
}

/// A message of a source in gRPC's framing: its head, and its payload uncopied.
pub fn encode_parcel(parcel: Parcel) -> Content {
    let frames: Vec<wire::PullFrame> = parcel.frames.into_iter().map(encode_frame).collect();
    let payload_head = match parcel.payload.len() {
        0 => 0,
        length => key_len(PAYLOAD_TAG) + encoded_len_varint(length as u64),
    };
    let head = prost::encoding::message::encoded_len_repeated(FRAMES_TAG, &frames) + payload_head;
    let mut bytes = BytesMut::with_capacity(MESSAGE_PREFIX_BYTES + head);
    // The compression flag.
    bytes.put_u8(0);
    // The length of a parcel is limited to far less than 4 GiB.
    bytes.put_u32((head + parcel.payload.len()) as u32);
    prost::encoding::message::encode_repeated(FRAMES_TAG, &frames, &mut bytes);
    if payload_head > 0 {
        encode_key(PAYLOAD_TAG, WireType::LengthDelimited, &mut bytes);
        encode_varint(parcel.payload.len() as u64, &mut bytes);
    }
    let mut message = Content::from(bytes.freeze());
    parcel.payload.pieces().for_each(|piece| message.push(piece.clone()));
    message
}

fn encode_frame(frame: Frame) -> wire::PullFrame {
    let mut hashes = BytesMut::with_capacity(frame.chunks.len() * size_of::<ChunkHash>());
    frame.chunks.iter().for_each(|chunk| hashes.put_slice(&chunk.hash));
    let is_changed = frame.end == FrameEnd::Changed;
    let (is_end, failure) = match frame.end {
        FrameEnd::More => (false, None),
        FrameEnd::Complete | FrameEnd::Changed => (true, None),
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
        looked: match frame.looked {
            Some(Looked::Directory) => wire::LookedKind::Directory,
            Some(Looked::Other) => wire::LookedKind::Other,
            None => wire::LookedKind::Unspecified,
        }
        .into(),
        is_changed,
    }
}

/// Reads a message of a source, without gRPC's prefix. Checks that every chunk is named and has an allowed length. The
/// receiver checks how the payload is divided among the frames, since it knows which fetches are for hashes only.
pub fn decode_parcel(mut message: Content) -> Result<Parcel, Malformed> {
    let unreadable = |error: DecodeError| Malformed(error.to_string());
    let mut parcel = Parcel::default();
    while message.has_remaining() {
        match decode_key(&mut message).map_err(unreadable)? {
            (FRAMES_TAG, WireType::LengthDelimited) => {
                if parcel.frames.len() == PARCEL_FRAMES_MAX {
                    return malformed(format!("more than {PARCEL_FRAMES_MAX} frames in one message"));
                }
                let frame = wire::PullFrame::decode(take_field(&mut message)?).map_err(unreadable)?;
                parcel.frames.push(decode_frame(&frame)?);
            }
            (PAYLOAD_TAG, WireType::LengthDelimited) => parcel.payload = take_field(&mut message)?,
            (tag, wire_type) => {
                skip_field(wire_type, tag, &mut message, DecodeContext::default()).map_err(unreadable)?;
            }
        }
    }
    Ok(parcel)
}

/// The bytes of a length-delimited field.
fn take_field(message: &mut Content) -> Result<Content, Malformed> {
    let length = decode_varint(message).map_err(|error| Malformed(error.to_string()))?;
    match usize::try_from(length) {
        Ok(length) if length <= message.len() => Ok(message.split_to(length)),
        Ok(_) | Err(_) => {
            malformed(format!("a field of {length} bytes in a message that has {} left", message.len()))
        }
    }
}

fn decode_frame(frame: &wire::PullFrame) -> Result<Frame, Malformed> {
    let end = match (&frame.failure, frame.is_end) {
        (Some(failure), _) => FrameEnd::Failed(decode_failure(failure)),
        (None, true) if frame.is_changed => FrameEnd::Changed,
        (None, true) => FrameEnd::Complete,
        (None, false) => FrameEnd::More,
    };
    Ok(Frame {
        fetch: frame.fetch_id,
        version: frame.version.map(decode_version).transpose()?,
        offset: frame.offset_bytes,
        chunks: decode_chunks(&frame.hashes, &frame.chunk_lengths)?,
        end,
        looked: match frame.looked() {
            wire::LookedKind::Directory => Some(Looked::Directory),
            wire::LookedKind::Other => Some(Looked::Other),
            wire::LookedKind::Unspecified => None,
        },
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
        FailureCause::DataCorruption => wire::PullFailureCause::DataCorruption,
        FailureCause::Transient
        | FailureCause::ChecksumMismatch
        | FailureCause::DestinationError
        | FailureCause::InTheWay => wire::PullFailureCause::Transient,
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
        wire::PullFailureCause::DataCorruption => FailureCause::DataCorruption,
        wire::PullFailureCause::Transient | wire::PullFailureCause::Unspecified => FailureCause::Transient,
    };
    let fault = if failure.is_source_at_fault { Fault::Source } else { Fault::Item };
    // A peer's text is shown to people, so its length is limited here.
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
            looked: None,
        }
    }

    #[test]
    fn a_parcel_is_read_as_it_was_written() {
        let mut failed = frame();
        failed.end = FrameEnd::Failed(Failure {
            cause: FailureCause::SourceMissing,
            fault: Fault::Item,
            message: "gone".to_owned(),
        });
        let payload = Content::from(Bytes::from_static(b"abcdefg"));
        let mut changed = frame();
        changed.end = FrameEnd::Changed;
        for payload in [payload, Content::default()] {
            let frames = vec![frame(), failed.clone(), changed.clone()];
            let parcel = Parcel { frames, payload };
            assert_eq!(decode_parcel(message(parcel.clone())), Ok(parcel));
        }
    }

    /// Removes the prefix.
    fn message(parcel: Parcel) -> Content {
        let mut message = encode_parcel(parcel);
        let prefix = message.copy_to_bytes(MESSAGE_PREFIX_BYTES);
        assert_eq!((prefix[0], &prefix[1..]), (0, &(message.len() as u32).to_be_bytes()[..]));
        message
    }

    #[test]
    fn a_parcel_is_the_message_that_the_protocol_file_describes() {
        let payload = Content::from(Bytes::from_static(b"abcdefg"));
        let encoded = message(Parcel { frames: vec![frame()], payload });
        let known = wire::PullResponse::decode(encoded.clone()).expect("another program can read it");
        assert_eq!((known.frames.len(), known.payload.as_ref()), (1, &b"abcdefg"[..]));
        // A message of another program can be read as well, including fields of later versions.
        let mut written = known.encode_to_vec();
        prost::encoding::uint64::encode(99, &7, &mut written);
        assert_eq!(decode_parcel(Content::from(Bytes::from(written))), decode_parcel(encoded));
    }

    #[test]
    fn a_damaged_message_is_malformed_or_read_but_never_a_panic() {
        let payload = Content::from(Bytes::from_static(b"abcdefg"));
        let mut whole = message(Parcel { frames: vec![frame(), frame()], payload });
        let whole = whole.copy_to_bytes(whole.len());
        for index in 0..whole.len() {
            for damage in [0x01, 0x80, 0xff] {
                let mut damaged = whole.to_vec();
                damaged[index] ^= damage;
                let _ = decode_parcel(Content::from(Bytes::from(damaged)));
            }
            let _ = decode_parcel(Content::from(whole.slice(..index)));
        }
    }

    #[test]
    fn fetches_are_read_as_they_were_written() {
        let fetch = Fetch {
            id: 1,
            path: b"a/\xff".to_vec(),
            ranges: vec![Range::WHOLE],
            is_hashes_only: true,
            is_cut_by_content: true,
            is_look_only: true,
            accepts_changes: true,
            as_of: frame().version,
            is_one_file_system: true,
        };
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
            let message = Content::from(Bytes::from(response.encode_to_vec()));
            assert!(decode_parcel(message).is_err(), "{hashes} {length}");
        }
    }
}
