//! Reads one file of a snapshot from the Star that has it, for a program that is not a Star.

use std::sync::Arc;

use orbit_shared::words::{JobId, SnapshotId, StarId};
use orbit_telemetry::Spans;

use crate::grpc::transfer_client::{Connections, PullError};
use crate::limits::{SEGMENT_BYTES, STALL_TIMEOUT};
use crate::transfer::{Fetch, FrameEnd, Open, Range};
use orbit_identity::network::Network;

/// The right to read a snapshot's tree, as the coordinator grants it.
#[derive(Debug, Clone)]
pub struct ReadGrant {
    /// The data plane of the Star, `host:port`.
    pub address: String,
    /// The token, signed by the coordinator.
    pub token: String,
    /// As in the token.
    pub job: JobId,
    /// As in the token.
    pub source_path: Vec<u8>,
    /// The name of the reader, as in the token.
    pub reader: StarId,
    /// As in the token.
    pub snapshot: SnapshotId,
}

/// Passes the content of a file to `write`, in order. Only verified content is passed.
///
/// # Errors
/// The error as text: the Star cannot be reached, refuses or breaks off, the file does not exist or is damaged, or
/// `write` failed.
pub async fn read_file(
    grant: ReadGrant,
    path: &[u8],
    network: Arc<dyn Network>,
    write: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    read_on(grant, path, &mut 0, network, write).await
}

/// Reads from an offset on, for more of the same file. A grant is valid for minutes, so a long file is read under
/// several.
///
/// # Errors
/// As those of [`read_file`].
pub async fn read_on(
    grant: ReadGrant,
    path: &[u8],
    offset: &mut u64,
    network: Arc<dyn Network>,
    mut write: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let open = Open {
        token: grant.token,
        job: grant.job,
        source_path: grant.source_path,
        destination_star: grant.reader,
        snapshot: Some(grant.snapshot),
    };
    let connections = Connections::new(network, Spans::default());
    let mut pull = connections.pull(&grant.address, open, None).await.map_err(words)?;
    let mut size = u64::MAX;
    let mut id = 0;
    while *offset < size {
        id += 1;
        let segment_end = *offset + SEGMENT_BYTES;
        let ranges = vec![Range { offset: *offset, length: SEGMENT_BYTES }];
        let fetch = Fetch {
            id,
            path: path.to_vec(),
            ranges,
            is_hashes_only: false,
            is_cut_by_content: false,
            is_look_only: false,
            accepts_changes: false,
            as_of: None,
            is_one_file_system: false,
        };
        pull.fetch(vec![fetch]).await.map_err(words)?;
        'segment: loop {
            let next = tokio::time::timeout(STALL_TIMEOUT, pull.next()).await;
            let parcel = next.map_err(|_| "nothing came".to_owned())?.map_err(words)?;
            let mut parcel = parcel.ok_or_else(|| "it ended before it had answered".to_owned())?;
            for frame in parcel.frames {
                size = frame.version.map_or(size, |version| version.size);
                for chunk in &frame.chunks {
                    let length = chunk.length as usize;
                    if parcel.payload.len() < length || size == u64::MAX {
                        return Err("it sent less than it announced".to_owned());
                    }
                    let content = parcel.payload.split_to(length);
                    if content.hash() != chunk.hash {
                        return Err("what arrived is not what was sent".to_owned());
                    }
                    content.pieces().try_for_each(|piece| write(piece))?;
                    *offset += u64::from(chunk.length);
                }
                match frame.end {
                    FrameEnd::More => {}
                    FrameEnd::Complete if *offset < size.min(segment_end) => {
                        return Err("it ended too early".to_owned());
                    }
                    FrameEnd::Complete | FrameEnd::Changed => break 'segment,
                    FrameEnd::Failed(failure) => return Err(failure.message),
                }
            }
        }
    }
    Ok(())
}

fn words(error: PullError) -> String {
    match error {
        PullError::Incompatible(text) | PullError::Unavailable(text) => text,
    }
}
