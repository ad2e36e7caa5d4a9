//! Fetches a good copy of a damaged chunk from another vault and puts it in the place of the bad one.

use std::sync::Arc;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::vault_call::{HealRequest, VaultFailure, VaultProblem, VaultReply};
use orbit_shared::words::JobId;
use orbit_telemetry::Spans;

use super::{VaultCalls, problem};
use crate::content::Content;
use crate::grpc::transfer_client::{Connections, Pull, PullError};
use crate::limits::STALL_TIMEOUT;
use crate::transfer::{Fetch, FrameEnd, Open, Range};

/// The largest chunk that is taken from another vault.
const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Heals one chunk.
pub(super) async fn heal(calls: Arc<VaultCalls>, request: HealRequest) -> Result<VaultReply, VaultProblem> {
    let hash = request.hash;
    let from = request.source_star.clone();
    let bytes = fetch(&calls, request).await.map_err(|text| VaultProblem {
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
    let HealRequest { hash, source_address, token, source_star: _ } = request;
    let open = Open {
        token,
        job: JobId(0),
        source_path: b"/".to_vec(),
        destination_star: calls.star_id.clone(),
        snapshot: None,
    };
    let connections = Connections::new(Arc::clone(&calls.network), Spans::default());
    let mut pull = connections.pull(&source_address, open, None).await.map_err(words)?;
    let path = hash.to_string().into_bytes();
    let fetch =
        Fetch { id: 1, path, ranges: vec![Range::WHOLE], is_hashes_only: false, is_cut_by_content: false };
    pull.fetch(vec![fetch]).await.map_err(words)?;
    let content = receive(&mut pull).await?;
    let bytes: Vec<u8> = content.pieces().flatten().copied().collect();
    // The store looks again; here it is the other vault that is to blame.
    if ChunkHash::of(&bytes) == hash { Ok(bytes) } else { Err("what it sent is another chunk".to_owned()) }
}

async fn receive(pull: &mut Pull) -> Result<Content, String> {
    let mut content = Content::default();
    loop {
        let next = tokio::time::timeout(STALL_TIMEOUT, pull.next()).await;
        let parcel = next.map_err(|_| "nothing came".to_owned())?.map_err(words)?;
        let parcel = parcel.ok_or_else(|| "it ended before it had answered".to_owned())?;
        parcel.payload.pieces().for_each(|piece| content.push(piece.clone()));
        if content.len() > CHUNK_BYTES_MAX {
            return Err("it sent more than a chunk can have".to_owned());
        }
        for frame in parcel.frames {
            match frame.end {
                FrameEnd::More => {}
                FrameEnd::Complete => return Ok(content),
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
