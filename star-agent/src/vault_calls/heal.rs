//! Fetches a good copy of a damaged chunk, from another vault or from the file that it came from, and replaces the
//! damaged one. A fetched copy is used only if its hash is right.

use std::sync::Arc;
use std::time::Duration;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{display_path, join_path};
use orbit_shared::vault_call::limits::CALL_PATIENCE;
use orbit_shared::vault_call::{HealOrigin, HealRequest, VaultFailure, VaultProblem, VaultReply};
use orbit_shared::words::JobId;
use orbit_telemetry::Spans;

use super::{VaultCalls, problem};
use crate::content::Content;
use crate::grpc::transfer_client::{Connections, Pull, PullError};
use crate::transfer::{Fetch, FileVersion, FrameEnd, Open, Range};

/// Maximum size of a chunk that is accepted, in bytes.
const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Timeout for fetching one chunk. The coordinator, which waits for the answer, then tries the next source.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

const _: () = assert!(FETCH_TIMEOUT.as_secs() + 5 <= CALL_PATIENCE.as_secs());

/// Heals one chunk.
pub(super) async fn heal(calls: Arc<VaultCalls>, request: HealRequest) -> Result<VaultReply, VaultProblem> {
    let hash = request.hash;
    let from = match &request.origin {
        None => request.source_star.to_string(),
        Some(origin) => {
            let path = join_path(&origin.source_path, &origin.part.path);
            format!("{}:{}", request.source_star, display_path(&path))
        }
    };
    let fetching = tokio::time::timeout(FETCH_TIMEOUT, fetch(&calls, request)).await;
    let fetched = fetching.unwrap_or_else(|_| Err(format!("it did not come within {FETCH_TIMEOUT:?}")));
    let bytes = fetched.map_err(|text| VaultProblem {
        failure: VaultFailure::Failed,
        message: format!("chunk {hash} could not be fetched from {from}: {text}"),
    })?;
    let replacing = tokio::task::spawn_blocking(move || calls.store.replace(&hash, &bytes));
    match replacing.await {
        Ok(Ok(())) => Ok(VaultReply::Done),
        Ok(Err(error)) => Err(problem(&error)),
        Err(error) => {
            let message = format!("replacing chunk {hash} did not end: {error}");
            Err(VaultProblem { failure: VaultFailure::Failed, message })
        }
    }
}

async fn fetch(calls: &VaultCalls, request: HealRequest) -> Result<Vec<u8>, String> {
    let HealRequest { hash, source_address, token, source_star: _, origin } = request;
    let open = Open {
        token,
        job: JobId(0),
        source_path: origin.as_ref().map_or_else(|| b"/".to_vec(), |origin| origin.source_path.clone()),
        destination_star: calls.star_id.clone(),
        snapshot: None,
    };
    let connections = Connections::new(Arc::clone(&calls.network), Spans::default());
    let mut pull = connections.pull(&source_address, open, None).await.map_err(words)?;
    let (path, range) = match &origin {
        None => (hash.to_string().into_bytes(), Range::WHOLE),
        Some(HealOrigin { part, .. }) => {
            (part.path.clone(), Range { offset: part.offset, length: part.length.into() })
        }
    };
    let fetch = Fetch {
        id: 1,
        path,
        ranges: vec![range],
        is_hashes_only: false,
        is_cut_by_content: false,
        is_look_only: false,
        accepts_changes: false,
        as_of: None,
        is_one_file_system: false,
    };
    pull.fetch(vec![fetch]).await.map_err(words)?;
    let (content, version) = receive(&mut pull).await?;
    let bytes: Vec<u8> = content.pieces().flatten().copied().collect();
    // The store verifies it again. Here the check decides whether the other side is at fault.
    if ChunkHash::of(&bytes) == hash {
        return Ok(bytes);
    }
    Err(match (origin, version) {
        (None, _) => "what it sent is another chunk".to_owned(),
        (Some(HealOrigin { part, .. }), Some(now))
            if (now.size, now.modified) == (part.size, part.modified) =>
        {
            "the file has other content there, though size and time are as they were".to_owned()
        }
        (Some(_), _) => "the file is not as it was when it was stored".to_owned(),
    })
}

async fn receive(pull: &mut Pull) -> Result<(Content, Option<FileVersion>), String> {
    let (mut content, mut version) = (Content::default(), None);
    loop {
        let parcel = pull.next().await.map_err(words)?;
        let parcel = parcel.ok_or_else(|| "it ended before it had answered".to_owned())?;
        parcel.payload.pieces().for_each(|piece| content.push(piece.clone()));
        if content.len() > CHUNK_BYTES_MAX {
            return Err("it sent more than a chunk can have".to_owned());
        }
        for frame in parcel.frames {
            version = version.or(frame.version);
            match frame.end {
                FrameEnd::More => {}
                FrameEnd::Complete | FrameEnd::Changed => return Ok((content, version)),
                FrameEnd::Failed(failure) => return Err(failure.message),
            }
        }
    }
}

fn words(error: PullError) -> String {
    match error {
        PullError::Incompatible(text) | PullError::Unavailable(text) => text,
    }
}
